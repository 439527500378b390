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

/// A file whose rows go bad far behind its first batches: the fault is told, and no row is there.
fn bad_row(scratch: &Scratch, target: &[&str]) {
    let sql = |query: &str| succeed(&[&["sql"], target, &["--format", "csv", "-c", query]].concat());
    sql("CREATE TABLE o (id INT, w INT)");
    let import = |name: &str, text: String| {
        let file = scratch.path(name);
        std::fs::write(&file, text).unwrap();
        run(&[&["import"], target, &["--into", "o", &file]].concat())
    };
    for good in [1, 100_000] {
        let rows: String = (0..good).map(|i| format!("{i},1\n")).collect();
        let failed = import("bad.csv", format!("id,w\n{rows}x,3\n"));
        assert_eq!(failed.status.code(), Some(1));
        let said = String::from_utf8(failed.stderr).unwrap();
        assert!(said.contains("bad.csv") && said.contains('x'), "{said}");
        assert_eq!(sql("SELECT count(*) AS n FROM o"), "n\r\n0\r\n", "after {good} good rows");
    }
    let empty = import("empty.csv", "id,w\n".to_owned());
    assert!(empty.status.success(), "{}", String::from_utf8_lossy(&empty.stderr));
    assert_eq!(sql("SELECT count(*) AS n FROM o"), "n\r\n0\r\n");
}

#[test]
fn bad_rows_keep_all_out() {
    let scratch = Scratch::new("files-bad-rows");
    let db = scratch.path("db");
    bad_row(&scratch, &["--data-dir", &db]);
    let server = Server::start(&scratch.0.join("served"));
    bad_row(&scratch, &["--url", &server.url()]);
}
