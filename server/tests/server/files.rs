//! `pyralog import` and `pyralog export`: every format there and back, embedded and remote.

use super::process::{Scratch, Server, run, succeed};

const CSV: &str = "id,name,score,day\n1,a,1.5,2020-01-01\n2,,2.5,2020-01-02\n3,\"c,d\",,2020-01-03\n";

fn round(scratch: &Scratch, target: &[&str]) {
    let source = scratch.path("source.csv");
    std::fs::write(&source, CSV).unwrap();
    let sql = |query: &str| succeed(&[&["sql"], target, &["--format", "csv", "-c", query]].concat());
    succeed(&[&["import"], target, &["--into", "t", &source]].concat());
    let expected = sql("SELECT * FROM t ORDER BY id");
    assert!(
        expected.starts_with("id,name,score,day\r\n1,a,1.5,2020-01-01\r\n2,,2.5,"),
        "{expected}"
    );
    for format in ["parquet", "csv", "json", "ndjson", "arrow"] {
        let file = scratch.path(&format!("t.{format}"));
        succeed(&[&["export"], target, &["--from", "t", "--output", &file]].concat());
        let table = format!("t_{format}");
        succeed(&[&["import"], target, &["--into", &table, &file]].concat());
        assert_eq!(sql(&format!("SELECT * FROM {table} ORDER BY id")), expected, "{format}");
    }
    // A second import appends; the table's types win.
    succeed(&[&["sql"], target, &["-c", "CREATE TABLE codes (zip VARCHAR)"]].concat());
    let codes = scratch.path("codes.csv");
    std::fs::write(&codes, "zip\n00123\n").unwrap();
    succeed(&[&["import"], target, &["--into", "codes", &codes, &codes]].concat());
    assert_eq!(sql("SELECT * FROM codes"), "zip\r\n00123\r\n00123\r\n");
}

#[test]
fn embedded() {
    let scratch = Scratch::new("files-embedded");
    let db = scratch.path("db");
    round(&scratch, &["--data-dir", &db]);
}

#[test]
fn remote() {
    let scratch = Scratch::new("files-remote");
    let server = Server::start(&scratch.0.join("db"));
    round(&scratch, &["--url", &server.url()]);
}

#[test]
fn failures_leave_nothing() {
    let scratch = Scratch::new("files-failures");
    let db = scratch.path("db");
    let output = scratch.path("x.parquet");
    let failed = run(&["export", "--data-dir", &db, "--from", "nowhere", "--output", &output]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(!std::path::Path::new(&output).exists());
    let damaged = scratch.path("d.ndjson");
    std::fs::write(&damaged, "{\"a\": 1}\n{\"a\": ").unwrap();
    assert_eq!(run(&["import", "--data-dir", &db, "--into", "d", &damaged]).status.code(), Some(1));
    let turtle = scratch.path("x.ttl");
    std::fs::write(&turtle, "").unwrap();
    let unsupported = run(&["import", "--data-dir", &db, "--into", "d", &turtle]);
    assert_eq!(unsupported.status.code(), Some(1));
    assert!(
        String::from_utf8(unsupported.stderr)
            .unwrap()
            .contains("not supported by this version")
    );
}
