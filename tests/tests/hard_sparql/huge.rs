//! IRIs and literals of 16 MB: stored, read back byte by byte, computed with; and what would make more of them than there is memory.

use std::time::Duration;

use pyralog_tests::memory::PeakMemory;
use pyralog_tests::server::ServerOptions;

use super::{CSV, Endpoint, problem, shown, within};

/// 16 MB are as much as one token of a document may have.
const HUGE: usize = 16_000_000;
/// What is read back in each syntax, which a debug build does slowly.
const LARGE: usize = if cfg!(debug_assertions) { 1_000_000 } else { HUGE };
const MEMORY_BYTES: u64 = 2 << 30;

fn text(bytes: usize) -> String {
    "0123456789abcdef".chars().cycle().take(bytes).collect()
}

#[test]
fn huge_terms_are_stored_and_read_back() {
    let mut kb = Endpoint::start();
    let (literal, iri) = (text(HUGE), format!("urn:{}", text(HUGE)));
    let document = format!("<urn:s> <urn:literal> \"{literal}\" .\n<urn:s> <urn:iri> <{iri}> .\n");
    let answer = kb.upload("urn:huge", "application/n-triples", document.as_bytes());
    assert_eq!(answer.status, 201, "{}", answer.text());
    let graph = |pattern: &str| format!("FROM <urn:huge> {{ {pattern} }}");
    for (predicate, expected) in [("literal", &literal), ("iri", &iri)] {
        let answer = kb.query(&format!("SELECT ?o {}", graph(&format!("<urn:s> <urn:{predicate}> ?o"))), CSV);
        assert!(
            answer.status == 200 && answer.text() == format!("o\r\n{expected}\r\n"),
            "{predicate}"
        );
    }
    let answer = kb.query(&format!("CONSTRUCT {{ ?s ?p ?o }} {}", graph("?s ?p ?o")), "application/n-triples");
    let answer = answer.text();
    let (mut lines, mut expected): (Vec<&str>, Vec<&str>) = (answer.lines().collect(), document.lines().collect());
    lines.sort_unstable();
    expected.sort_unstable();
    assert!(lines == expected, "CONSTRUCT gives {} lines", lines.len());
    for (query, expected) in [
        (
            "SELECT (STRLEN(?o) AS ?n) FROM <urn:huge> { ?s <urn:literal> ?o }",
            HUGE.to_string(),
        ),
        (
            "SELECT (COUNT(*) AS ?n) FROM <urn:huge> { ?s ?p ?o FILTER(CONTAINS(STR(?o), 'cdef01')) }",
            "2".to_owned(),
        ),
        (
            "SELECT (COUNT(*) AS ?n) FROM <urn:huge> { ?s ?p ?o FILTER(REGEX(STR(?o), 'f0')) }",
            "2".to_owned(),
        ),
        (
            "SELECT (COUNT(DISTINCT ?o) AS ?n) FROM <urn:huge> { ?s ?p ?o . ?s ?q ?r }",
            "2".to_owned(),
        ),
        (
            "SELECT (COUNT(*) AS ?n) FROM <urn:huge> { { SELECT ?o { ?s ?p ?o } GROUP BY ?o } }",
            "2".to_owned(),
        ),
        (
            "SELECT ?p FROM <urn:huge> { ?s ?p ?o } ORDER BY DESC(?o) LIMIT 1",
            "urn:literal".to_owned(),
        ),
        (
            "SELECT (STRLEN(CONCAT(?o, ?o)) AS ?n) FROM <urn:huge> { ?s <urn:literal> ?o }",
            (2 * HUGE).to_string(),
        ),
    ] {
        assert_eq!(kb.value(query), expected, "{query}");
    }
    kb.is_well("huge terms");
}

#[test]
fn large_terms_have_every_form() {
    let mut kb = Endpoint::start();
    let literal = text(LARGE);
    let document = format!("<urn:s> <urn:p> \"{literal}\" .\n");
    assert_eq!(kb.upload("urn:g", "text/turtle", document.as_bytes()).status, 201);
    let select = "SELECT ?o { GRAPH <urn:g> { ?s ?p ?o } }";
    let json = kb.query(select, "application/sparql-results+json").json();
    assert!(json["results"]["bindings"][0]["o"]["value"] == literal.as_str());
    let xml = kb.query(select, "application/sparql-results+xml").text();
    assert!(xml.contains(&format!("<literal>{literal}</literal>")), "{}", shown(&xml));
    let tsv = kb.query(select, "text/tab-separated-values").text();
    assert_eq!(tsv.lines().nth(1).map(|line| line == format!("\"{literal}\"")), Some(true));
    for media in ["text/turtle", "application/rdf+xml", "application/ld+json", "application/n-triples"] {
        let graph = kb.query("CONSTRUCT { ?s ?p ?o } { GRAPH <urn:g> { ?s ?p ?o } }", media).text();
        assert!(graph.contains(&literal), "{media}: {}", shown(&graph));
    }
    // A text that is too long is refused, and says so.
    let answer = kb.update(&format!("INSERT DATA {{ <urn:s> <urn:q> \"{}\" }}", text(HUGE)));
    assert_eq!(problem(&answer, 400, "INSERT DATA of 16 MB"), "54001");
    assert!(
        answer.text().contains("8388608") && answer.json()["error"]["position"]["line"] == 1,
        "{}",
        answer.text()
    );
    let long = " ".repeat(50 << 20);
    assert_eq!(problem(&kb.query(&format!("ASK {{}} {long}"), CSV), 400, "50 MB"), "54001");
    // The server may hang up before all of it is sent.
    if let Ok(answer) = kb.try_post("/rdf/kb/query", super::QUERY, " ".repeat(65 << 20).as_bytes()) {
        assert_eq!(problem(&answer, 413, "65 MB"), "BODY_TOO_LARGE");
    }
    let answer = kb.upload(
        "urn:h",
        "application/n-triples",
        format!("<urn:s> <urn:p> \"{} .\n", text(HUGE)).as_bytes(),
    );
    problem(&answer, 400, "a literal without its end");
    kb.is_well("large terms");
}

/// One long term in many rows, and functions that make much of little.
#[test]
fn what_would_multiply_is_bounded() {
    let mut kb = Endpoint::start_with(ServerOptions::default().memory_limit("512MB"));
    let megabytes = 4;
    let literal = text(megabytes << 20);
    let many: String = (0..200).map(|i| format!("<urn:s{i}> <urn:n> {i} .\n")).collect();
    let document = format!("<urn:s> <urn:p> \"{literal}\" .\n{many}");
    assert_eq!(
        kb.post("/rdf/kb/store?default", "text/turtle", "*/*", document.as_bytes()).status,
        204
    );
    let peak = PeakMemory::watch(kb.server.pid());
    // 800 MB of answer go out, a few at a time.
    let rows = kb.try_post(
        "/rdf/kb/query",
        super::QUERY,
        b"SELECT ?o { <urn:s> <urn:p> ?o . ?s <urn:n> ?n } LIMIT 50",
    );
    assert!(rows.is_ok_and(|answer| answer.status == 200 && answer.body.len() > 50 * literal.len()));
    println!("rows: {} MB", peak.peak_bytes() >> 20);
    let doubling: String = (0..40).map(|i| format!("BIND(CONCAT(?x{i}, ?x{i}) AS ?x{}) ", i + 1)).collect();
    let arguments = vec!["?o"; 10_000].join(",");
    for (text, codes) in [
        (
            format!("SELECT (STRLEN(?x40) AS ?n) {{ BIND('x' AS ?x0) {doubling} }}"),
            ["53200", "54000"],
        ),
        (
            format!("SELECT (STRLEN(?x40) AS ?n) {{ BIND('x' AS ?x0) {doubling} FILTER(STRLEN(?x40) > 1) }}"),
            ["53200", "54000"],
        ),
        (
            format!("SELECT (STRLEN(CONCAT({arguments})) AS ?n) {{ <urn:s> <urn:p> ?o }}"),
            ["54000", "54000"],
        ),
        (
            format!(
                "SELECT (STRLEN(REPLACE(?o, '.', '{}')) AS ?n) {{ <urn:s> <urn:p> ?o }}",
                "$0".repeat(1_000_000)
            ),
            ["54000", "54000"],
        ),
        (
            "SELECT (STRLEN(GROUP_CONCAT(?o)) AS ?n) { <urn:s> <urn:p> ?o . ?s <urn:n> ?n }".to_owned(),
            ["53200", "53200"],
        ),
        (
            "SELECT ?s { <urn:s> <urn:p> ?o . ?s <urn:n> ?n } ORDER BY ?o".to_owned(),
            ["53200", "53200"],
        ),
        (
            "SELECT (CONCAT(?o, STR(?n)) AS ?c) { <urn:s> <urn:p> ?o . ?s <urn:n> ?n }".to_owned(),
            ["53200", "53200"],
        ),
    ] {
        let answer = within(Duration::from_secs(30), &shown(&text), || kb.query(&text, CSV));
        let code = problem(&answer, 429, &shown(&text));
        assert!(codes.contains(&code.as_str()), "{}: {code}", shown(&text));
        println!("{}: {} MB", shown(&text), peak.peak_bytes() >> 20);
        kb.is_well(&shown(&text));
    }
    // A long subject comes with each of its objects, a long prefix with each name.
    let objects = (0..300).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    let answer = kb.upload("urn:g", "text/turtle", format!("<urn:{literal}> <urn:p> {objects} .").as_bytes());
    assert_eq!(answer.status, 201, "{}", answer.text());
    println!("long subject: {} MB", peak.peak_bytes() >> 20);
    assert!(peak.peak_bytes() < MEMORY_BYTES, "{} MB", peak.peak_bytes() >> 20);
    kb.is_well("what multiplies");
}
