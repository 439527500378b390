//! `pyralog sql`, embedded and remote: the same statements give the same text.

use std::io::Write;
use std::process::Stdio;

use super::process::{Scratch, Server, pyralog, run, succeed};

const SCRIPT: &str =
    "CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR);\nINSERT INTO t VALUES (1, 'a;b'), (2, NULL);\nSELECT * FROM t ORDER BY id;\n";

fn sql<'a>(target: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [&["sql"], target, more].concat()
}

fn check_target(target: &[&str]) {
    let mut child = pyralog()
        .args(sql(target, &["--format", "csv"]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(SCRIPT.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "id,name\r\n1,a;b\r\n2,\r\n");

    let boxed = succeed(&sql(
        target,
        &["-c", "SELECT * FROM t ORDER BY id", "-c", "DELETE FROM t WHERE id = 2"],
    ));
    assert!(
        boxed.contains("│  2 │ NULL │\n") && boxed.contains("2 rows\n") && boxed.contains("DELETE 1\n"),
        "{boxed}"
    );
    let json = succeed(&sql(target, &["--format", "json", "-c", "SELECT id FROM t"]));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&json).unwrap(),
        serde_json::json!([{"id": 1}])
    );

    let transaction = succeed(&sql(
        target,
        &[
            "--format",
            "csv",
            "-c",
            "BEGIN; INSERT INTO t VALUES (9, 'x'); ROLLBACK; SELECT count(*) AS n FROM t",
        ],
    ));
    assert_eq!(transaction, "n\r\n1\r\n");

    let failed = run(&sql(target, &["-c", "SELECT 1;\nSELECT nope FROM t; SELECT 2"]));
    assert_eq!(failed.status.code(), Some(1));
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(said.starts_with("error [42703]") && said.contains("nope"), "{said}");
    assert!(!String::from_utf8(failed.stdout).unwrap().contains("Int64(2)"));
}

#[test]
fn embedded() {
    let scratch = Scratch::new("shell-embedded");
    check_target(&["--data-dir", &scratch.path("db")]);
}

#[test]
fn remote() {
    let scratch = Scratch::new("shell-remote");
    let server = Server::start(&scratch.0.join("db"));
    check_target(&["--url", &server.url()]);
}

#[test]
fn files_and_dot_commands() {
    let scratch = Scratch::new("shell-files");
    let (db, script, included, output) = (
        scratch.path("db"),
        scratch.path("s.sql"),
        scratch.path("i.sql"),
        scratch.path("o.csv"),
    );
    std::fs::write(&included, SCRIPT).unwrap();
    std::fs::write(
        &script,
        format!(".mode csv\n.output {output}\n.read {included}\n.output\n.mode line\nSELECT 1 AS x;\n.tables\n.schema t\n"),
    )
    .unwrap();
    let printed = succeed(&["sql", "--data-dir", &db, "-f", &script]);
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "id,name\r\n1,a;b\r\n2,\r\n");
    assert!(
        printed.contains("x = 1\n") && printed.contains("table_name = t\n") && printed.contains("column_name = name\n"),
        "{printed}"
    );
    std::fs::write(&script, "SELECT 1;\n\nSELECT FORM;\n").unwrap();
    let failed = run(&["sql", "--data-dir", &db, "-f", &script]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        String::from_utf8(failed.stderr)
            .unwrap()
            .starts_with(&format!("{script}:3: error ["))
    );
}
