//! Invalid UTF-8, wrong media types, charsets, codings and parameters, on every way of the protocols.

use std::io::Write;

use pyralog_tests::memory::PeakMemory;

use super::{CSV, Endpoint, QUERY, UPDATE, problem};

const FORM: &str = "application/x-www-form-urlencoded";
const STORE: &str = "/rdf/kb/store?graph=urn:g";

#[test]
fn what_is_not_utf_8_is_refused() {
    let mut kb = Endpoint::start();
    let get = |path: &str| kb.server.http("GET", path, &[], b"");
    for path in [
        "/rdf/kb/query?query=ASK%20%7B%FF%7D",
        "/rdf/kb/query?query=ASK%7B%7D&default-graph-uri=%FF",
        "/rdf/kb/store?graph=%FF",
        "/rdf/kb/query?query=ASK%7B%7",
        "/rdf/kb/query?query=%",
        "/rdf/kb/query?query=ASK%7B%7D&timeout=soon",
        "/rdf/kb/query?query=ASK%7B%7D&named-graph-uri=no%20iri",
        "/rdf/kb/store?graph=no%20iri",
        "/rdf/kb/store?graph=urn:a&graph=urn:b",
        "/rdf/kb/store?graph=urn:a&default",
    ] {
        problem(&get(path), 400, path);
    }
    assert!(matches!(get("/rdf/%FF/query?query=ASK%7B%7D").status, 400 | 404));
    assert!(matches!(get("/rdf/kb/store/%FF").status, 400 | 404));
    for (path, media, body) in [
        ("/rdf/kb/query", QUERY, &b"ASK { '\xff' }"[..]),
        ("/rdf/kb/update", UPDATE, b"INSERT DATA { <urn:a> <urn:b> '\xff' }"),
        ("/rdf/kb/query", FORM, b"query=ASK%20%7B%FF%7D"),
        ("/rdf/kb/query", FORM, b"query=ASK{\xff}"),
        ("/rdf/kb/query", FORM, b"query=%zz"),
        (STORE, "application/n-triples", b"<urn:a> <urn:b> \"\xff\" .\n"),
        (STORE, "application/n-triples", b"<urn:\xff> <urn:b> 'x' .\n"),
        (STORE, "application/n-triples", b"<urn:a> <urn:b> \"\xed\xa0\x80\" .\n"),
        (STORE, "text/turtle", b"<urn:a> <urn:b> '\xc3' .\n"),
        (STORE, "application/ld+json", b"{\"urn:a\": \"\xff\"}"),
        (
            STORE,
            "application/rdf+xml",
            b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe9</a>",
        ),
        (STORE, "text/turtle", b"\xfe\xff\0<\0u"),
    ] {
        problem(&kb.post(path, media, "*/*", body), 400, &String::from_utf8_lossy(body));
    }
    kb.is_well("no UTF-8");
    assert_eq!(
        kb.value("SELECT (COUNT(*) AS ?n) { { ?s ?p ?o } UNION { GRAPH ?g { ?s ?p ?o } } }"),
        "0"
    );
}

#[test]
fn what_cannot_be_read_or_given_has_its_status() {
    let mut kb = Endpoint::start();
    let triple = b"<urn:a> <urn:b> <urn:c> .";
    for (path, media, body) in [
        ("/rdf/kb/query", "text/plain", &b"ASK {}"[..]),
        ("/rdf/kb/query", "application/sparql-update", b"CLEAR ALL"),
        ("/rdf/kb/update", "application/sparql-query", b"ASK {}"),
        ("/rdf/kb/query", "application/sparql-query; charset=utf-16", b"ASK {}"),
        ("/rdf/kb/query", "", b"ASK {}"),
        (STORE, "application/pdf", triple),
        (STORE, "text/turtle;charset=ISO-8859-1", triple),
        (STORE, "application/xml", triple),
        (STORE, "", triple),
        (STORE, "\u{1f600}", triple),
    ] {
        problem(&kb.post(path, media, "*/*", body), 415, media);
    }
    let without = kb.server.http("POST", STORE, &[], triple);
    problem(&without, 415, "no Content-Type");
    assert_eq!(kb.post(STORE, "Text/Turtle; charset=\"UTF-8\"", "*/*", triple).status, 201);
    for (path, accept) in [
        ("/rdf/kb/query?query=ASK%20%7B%7D", "image/png"),
        ("/rdf/kb/query?query=SELECT%20*%20%7B%7D", "text/turtle"),
        ("/rdf/kb/query?query=CONSTRUCT%20%7B%7D%20%7B%7D", "text/csv"),
        ("/rdf/kb/query?query=ASK%20%7B%7D", "text/csv;q=0, */*;q=0"),
        ("/rdf/kb/query", "image/png"),
        (STORE, "image/png"),
        ("/rdf/kb/store", "text/turtle"),
    ] {
        let answer = kb.server.http("GET", path, &[("Accept", accept)], b"");
        problem(&answer, 406, &format!("{path} as {accept}"));
    }
    for accept in ["", ";;;,,,q=", "*/*;q=high", "text/csv;q=-1, */*"] {
        let answer = kb
            .server
            .http("GET", "/rdf/kb/query?query=ASK%20%7B%7D", &[("Accept", accept)], b"");
        assert!(matches!(answer.status, 200 | 406), "{accept}: {}", answer.text());
    }
    kb.is_well("types");
}

#[test]
fn several_texts_are_refused() {
    let mut kb = Endpoint::start();
    let ask = "query=ASK%20%7B%7D";
    let clear = "update=CLEAR%20ALL";
    for (path, media, body) in [
        (format!("/rdf/kb/query?{ask}"), FORM, ask.to_owned()),
        ("/rdf/kb/query".to_owned(), FORM, format!("{ask}&{ask}")),
        ("/rdf/kb/query".to_owned(), FORM, format!("{ask}&{clear}")),
        ("/rdf/kb/update".to_owned(), FORM, format!("{ask}&{clear}")),
        ("/rdf/kb/update".to_owned(), FORM, format!("{clear}&{clear}")),
        ("/sparql".to_owned(), FORM, format!("{ask}&{clear}")),
        (format!("/rdf/kb/query?{ask}"), QUERY, "ASK {}".to_owned()),
        (format!("/sparql?{clear}"), QUERY, "ASK {}".to_owned()),
        ("/rdf/kb/query".to_owned(), FORM, String::new()),
        ("/rdf/kb/query".to_owned(), FORM, "query".to_owned()),
        (format!("/rdf/kb/update?{clear}"), FORM, String::new()),
    ] {
        let answer = kb.post(&path, media, "*/*", body.as_bytes());
        problem(&answer, 400, &format!("{path} {body}"));
    }
    problem(
        &kb.server.http("GET", &format!("/sparql?{clear}"), &[], b""),
        400,
        "an update in a link",
    );
    kb.is_well("several texts");
}

#[test]
fn codings_are_bounded_and_read_whole() {
    let mut kb = Endpoint::start();
    let document: String = (0..2000).map(|i| format!("<urn:a> <urn:b> {i} .\n")).collect();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let send = |coding: &str, body: &[u8]| {
        let headers = [("Content-Type", "text/turtle"), ("Content-Encoding", coding)];
        kb.server.http("POST", "/rdf/kb/store?graph=urn:g", &headers, body)
    };
    let halves = [gzip(&document.as_bytes()[..20]), gzip(&document.as_bytes()[20..])].concat();
    for (coding, body) in [("gzip", gzip(document.as_bytes())), ("zstd", zstd(document.as_bytes()))] {
        for end in [1, 10, body.len() / 2, body.len() - 1] {
            problem(&send(coding, &body[..end]), 400, &format!("{coding} cut at {end}"));
        }
        problem(&send(coding, document.as_bytes()), 400, "not compressed");
    }
    for coding in ["br", "compress", "gzip, zstd", "\u{e9}"] {
        problem(&send(coding, document.as_bytes()), 415, coding);
    }
    assert_eq!(kb.query("ASK { GRAPH <urn:g> {} }", CSV).text(), "false");
    assert_eq!(send("gzip", &halves).status, 201);
    assert_eq!(send("zstd", &zstd(document.as_bytes())).status, 204);
    assert_eq!(send("identity", document.as_bytes()).status, 204);
    assert_eq!(kb.value("SELECT (COUNT(*) AS ?n) { GRAPH ?g { ?s ?p ?o } }"), "2000");
    let before = kb.server.resident_memory_bytes();
    let peak = PeakMemory::watch(kb.server.pid());
    let zeros = vec![b' '; 64 << 20];
    // 2 GB of blanks, as frames and members behind each other.
    for (coding, part) in [("zstd", zstd(&zeros)), ("gzip", gzip(&zeros))] {
        problem(&send(coding, &part.repeat(32)), 413, coding);
    }
    let grown = peak.peak_bytes().saturating_sub(before) >> 20;
    assert!(grown < 400, "{grown} MB for what would be 2 GB");
    kb.is_well("bombs");
    let query = |body: &[u8]| {
        let headers = [("Content-Type", QUERY), ("Content-Encoding", "zstd"), ("Accept", CSV)];
        kb.server.http("POST", "/rdf/kb/query", &headers, body)
    };
    assert_eq!(query(&zstd(b"ASK {}")).status, 200);
}
