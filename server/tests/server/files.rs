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
    let array = scratch.path("x.npy");
    std::fs::write(&array, "").unwrap();
    let unsupported = run(&["import", "--data-dir", &db, "--into", "d", &array]);
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

/// The same triples in every syntax of RDF, plain and compressed.
fn rdf(scratch: &Scratch, target: &[&str]) {
    let sql = |query: &str| succeed(&[&["sql"], target, &["--format", "csv", "-c", query]].concat());
    let write = |name: &str, bytes: &[u8]| {
        let file = scratch.path(name);
        std::fs::write(&file, bytes).unwrap();
        file
    };
    let import = |into: &str, file: &str| run(&[&["import"], target, &["--into", into, file]].concat());
    let triples = "<urn:a> <urn:p> <urn:b> .\n<urn:a> <urn:p> \"caf\u{e9}\"@fr .\n<urn:a> <urn:q> \"01\"^^<http://www.w3.org/2001/XMLSchema#integer> .\n";
    let turtle = "@prefix : <urn:> . :a :p :b, \"caf\u{e9}\"@fr ; :q \"01\"^^<http://www.w3.org/2001/XMLSchema#integer> .";
    let xml = "<?xml version='1.0'?><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' xmlns:u='urn:'><rdf:Description rdf:about='urn:a'>\
        <u:p rdf:resource='urn:b'/><u:p xml:lang='fr'>caf\u{e9}</u:p><u:q rdf:datatype='http://www.w3.org/2001/XMLSchema#integer'>01</u:q></rdf:Description></rdf:RDF>";
    let json = "{\"@id\": \"urn:a\", \"urn:p\": [{\"@id\": \"urn:b\"}, {\"@value\": \"caf\u{e9}\", \"@language\": \"fr\"}],\
        \"urn:q\": {\"@value\": \"01\", \"@type\": \"http://www.w3.org/2001/XMLSchema#integer\"}}";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, triples.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(turtle.as_bytes(), 3).unwrap();
    let files: [(&str, &[u8]); 9] = [
        ("a.nt", triples.as_bytes()),
        ("a.nq", triples.as_bytes()),
        ("a.ttl", turtle.as_bytes()),
        ("a.trig", turtle.as_bytes()),
        ("a.n3", turtle.as_bytes()),
        ("a.rdf", xml.as_bytes()),
        ("a.jsonld", json.as_bytes()),
        ("a.nt.gz", &gzip),
        ("a.ttl.zst", &zstd),
    ];
    let rows = "SELECT subject['value'] AS s, predicate['value'] AS p, object['kind'] AS k, object['value'] AS o, object['datatype'] AS d, \
                object['language'] AS l, graph['value'] AS g FROM kb.quads ORDER BY o";
    let expected = "s,p,k,o,d,l,g\r\n\
        urn:a,urn:q,literal,01,http://www.w3.org/2001/XMLSchema#integer,,\r\n\
        urn:a,urn:p,literal,caf\u{e9},http://www.w3.org/1999/02/22-rdf-syntax-ns#langString,fr,\r\n\
        urn:a,urn:p,iri,urn:b,,,\r\n";
    for (name, bytes) in files {
        let imported = import("kb", &write(name, bytes));
        assert!(imported.status.success(), "{name}: {}", String::from_utf8_lossy(&imported.stderr));
        assert_eq!(sql(rows), expected, "{name}");
        let again = scratch.path(&format!("again.{}", name.trim_start_matches("a.")));
        succeed(&[&["export"], target, &["--from", "kb", "--output", &again]].concat());
        sql("DROP COLLECTION kb");
        assert!(import("kb", &again).status.success(), "{again}");
        assert_eq!(sql(rows), expected, "{again}");
        sql("DROP COLLECTION kb");
    }
    sql("CREATE COLLECTION kb AS RDF");
    let quads = write("b.nq", b"<urn:a> <urn:p> _:n <urn:g> .\n<urn:a> <urn:p> _:n .\n");
    assert!(import("kb", &quads).status.success());
    let counts = "SELECT count(*) AS n, count(graph) AS g, count(DISTINCT object['value']) AS o FROM kb.quads";
    assert_eq!(sql(counts), "n,g,o\r\n2,1,1\r\n");
    // Out and in again: the same quads, but for the labels of blank nodes. One graph is not several.
    let all = "SELECT subject['value'] AS s, predicate['value'] AS p, object['kind'] AS k, graph['value'] AS g FROM kb.quads ORDER BY g";
    let before = sql(all);
    for name in ["c.nq", "c.trig", "c.jsonld", "c.nq.gz", "c.trig.zst"] {
        let file = scratch.path(name);
        succeed(&[&["export"], target, &["--from", "kb", "--output", &file]].concat());
        sql("DROP COLLECTION kb");
        assert!(import("kb", &file).status.success(), "{name}");
        assert_eq!((sql(all), sql(counts)), (before.clone(), "n,g,o\r\n2,1,1\r\n".to_owned()), "{name}");
    }
    let file = scratch.path("c.ttl");
    let failed = run(&[&["export"], target, &["--from", "kb", "--output", &file]].concat());
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(said.contains("Turtle holds one graph, and the dataset has <urn:g> too"), "{said}");
    assert!(!std::path::Path::new(&file).exists());
    // Faults have a place, and keep the whole file out; a dataset that was made for it goes again.
    let bad = write("bad.nt", format!("{triples}<urn:a> <urn:p> .\n").as_bytes());
    for into in ["kb", "other"] {
        let failed = import(into, &bad);
        assert_eq!(failed.status.code(), Some(1));
        let said = String::from_utf8(failed.stderr).unwrap();
        assert!(said.contains("bad.nt: line 4, column"), "{said}");
    }
    assert_eq!(sql(counts), "n,g,o\r\n2,1,1\r\n");
    assert!(!sql("SHOW COLLECTIONS").contains("other"));
    sql("CREATE TABLE plain (a INT)");
    let failed = import("plain", &quads);
    assert!(String::from_utf8(failed.stderr).unwrap().contains("plain exists already"));
}

#[test]
fn rdf_of_every_syntax() {
    let scratch = Scratch::new("files-rdf");
    let db = scratch.path("db");
    rdf(&scratch, &["--data-dir", &db]);
    let server = Server::start(&scratch.0.join("served"));
    rdf(&scratch, &["--url", &server.url()]);
}
