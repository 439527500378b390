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

const FACTS: &str = "INSERT DATA { <urn:ann> <urn:name> \"Ann, A.\"@en ; <urn:age> 42 . <urn:bob> <urn:name> \"B'b\" }";

/// What is typed in SPARQL gives the same text in this process and over the wire.
fn check_sparql(target: &[&str]) {
    let made = succeed(&sql(
        target,
        &["-c", "CREATE COLLECTION kb AS RDF", "-c", &format!("\\sparql kb {FACTS}")],
    ));
    assert!(made.ends_with("done\n"), "{made}");
    let select = "SELECT ?s ?name ?age { ?s <urn:name> ?name OPTIONAL { ?s <urn:age> ?age } } ORDER BY DESC(?s)";
    let boxed = succeed(&sql(target, &["-c", "\\sparql", "-c", select]));
    assert!(
        boxed.contains("│ <urn:bob> │ \"B'b\"        │ NULL │\n│ <urn:ann> │ \"Ann, A.\"@en │ 42   │\n") && boxed.ends_with("2 rows\n"),
        "{boxed}"
    );
    let csv = succeed(&sql(target, &["--format", "csv", "-c", &format!("\\sparql kb {select}")]));
    assert_eq!(csv, "s,name,age\r\nurn:bob,B'b,\r\nurn:ann,\"Ann, A.\",42\r\n");
    let json = succeed(&sql(
        target,
        &["--format", "json", "-c", "\\sparql kb SELECT ?o { <urn:ann> <urn:name> ?o }"],
    ));
    let term = serde_json::json!({
        "kind": "literal", "value": "Ann, A.", "datatype": "http://www.w3.org/1999/02/22-rdf-syntax-ns#langString", "language": "en"
    });
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&json).unwrap(),
        serde_json::json!([{"o": term}])
    );
    let triples = succeed(&sql(target, &["-c", "\\sparql kb CONSTRUCT WHERE { <urn:ann> <urn:age> ?age }"]));
    assert_eq!(
        triples,
        "<urn:ann> <urn:age> \"42\"^^<http://www.w3.org/2001/XMLSchema#integer> .\n# 1 triple\n"
    );
    let truths = succeed(&sql(
        target,
        &["-c", "\\sparql kb ASK { ?s <urn:age> 42 }; ASK { ?s <urn:age> 43 };"],
    ));
    assert_eq!(truths, "true\nfalse\n");

    // A transaction goes across the languages.
    let script = "BEGIN;\n\\sparql kb\nDELETE WHERE { <urn:ann> ?p ?o } ;\n\nSELECT ?s\n\n{ ?s ?p ?o }\n\\sql\nROLLBACK;\n\\sparql kb SELECT (COUNT(*) AS ?n) {\n?s ?p ?o\n}\n";
    let both = succeed(&sql(target, &["--format", "csv", "-c", script]));
    assert_eq!(both, "s\r\nurn:bob\r\nn\r\n3\r\n");

    let failed = run(&sql(target, &["-c", "\\sparql kb\nSELECT *\n{ ?s ?p \n"]));
    assert_eq!(failed.status.code(), Some(1));
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(
        said.starts_with("error [42601]: syntax error") && said.contains("\nline 2: { ?s ?p"),
        "{said}"
    );
    let failed = run(&sql(target, &["-c", "\\sparql nowhere"]));
    assert_eq!(failed.status.code(), Some(1));
    assert_eq!(String::from_utf8(failed.stderr).unwrap(), "no dataset nowhere: there are kb\n");
}

#[test]
fn sparql_embedded() {
    let scratch = Scratch::new("shell-sparql-embedded");
    check_sparql(&["--data-dir", &scratch.path("db")]);
}

#[test]
fn sparql_remote() {
    let scratch = Scratch::new("shell-sparql-remote");
    let server = Server::start(&scratch.0.join("db"));
    check_sparql(&["--url", &server.url()]);
}

#[test]
fn the_shell_tells_its_commands() {
    let scratch = Scratch::new("shell-help");
    let help = succeed(&["sql", "--data-dir", &scratch.path("db"), "-c", "\\?"]);
    assert!(help.contains(".sparql [DATASET [TEXT]]") && help.contains("\n.sql "), "{help}");
}
