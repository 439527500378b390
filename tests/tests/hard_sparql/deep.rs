//! Texts that are nested, chained or repeated 100,000 times, over every way that takes them.

use std::time::Duration;

use pyralog_tests::runtime::block_on;
use serde_json::json;

use super::{CSV, Endpoint, problem, shown, within};

const DEEP: usize = 100_000;
/// Rows and triples of what is long but right; a debug build reads them slowly.
const LONG: usize = if cfg!(debug_assertions) { 20_000 } else { 100_000 };
const SOON: Duration = Duration::from_secs(10);

/// Queries that must be refused. They need no more than this prologue.
fn refused_queries() -> Vec<String> {
    let p = "PREFIX e: <urn:> ";
    let deep = |open: &str| open.repeat(DEEP);
    let nested = |before: &str, open: &str, middle: &str, close: &str, after: &str, depth: usize| {
        format!("{p}{before}{}{middle}{}{after}", open.repeat(depth), close.repeat(depth))
    };
    vec![
        format!("SELECT * {}", deep("{")),
        format!("SELECT *\n{}{}", deep("{"), deep("}")),
        format!("ASK {{ FILTER {}", deep("(")),
        format!("ASK {{ ?s ?p {}", deep("[")),
        format!("ASK {{ ?s ?p {}", deep("( ")),
        format!("ASK {{ {}", deep("<< ")),
        format!("ASK {{ {}", deep("<< ?s ?p ")),
        format!("ASK {{ FILTER({}", deep("<<( ")),
        format!("ASK {{ {{}} {} }}", deep(" UNION {}")),
        format!("ASK {{ {} }}", deep("{ {} UNION ")),
        format!("ASK {{ {}", deep("OPTIONAL { ")),
        format!("ASK {{ {}", deep("FILTER EXISTS { ")),
        format!("ASK {{ {}", deep("{ SELECT * ")),
        format!("ASK {{ ?s {} ?o }}", deep("(<urn:p>/")),
        format!("ASK {{ ?s <urn:p>{} ?o }}", deep("|<urn:p>")),
        format!("ASK {{ ?s {}<urn:p> ?o }}", deep("^")),
        format!("ASK {{ FILTER({}?x) }}", deep("!")),
        format!("ASK {{ FILTER({}?x) }}", deep("-")),
        format!("ASK {{ FILTER({}?x) }}", deep("!#\n")),
        format!("ASK {{ FILTER(1{} > 0) }}", deep("+1")),
        format!("ASK {{ FILTER(1{} > 0) }}", deep("-1")),
        format!("ASK {{ FILTER(?x{}) }}", deep(" || ?x")),
        format!("ASK {{ {} }}", deep("VALUES ?x { 1 } ")),
        format!("ASK {{ {} }}", deep("?a e:p? ?b . ")),
        format!("{p}DESCRIBE {}", deep("e:a ")),
        format!("ASK {{ FILTER{}", deep("\\u0028")),
        format!(r"{p}ASK {{ e:a\' e:p ?x FILTER{}", deep("(")),
        format!("{p}ASK {{ FILTER(?x<e:f{}1{}>?y) }}", deep("("), deep(")")),
        format!(
            "SELECT * {{ VALUES ({}) {{}} }}",
            (0..DEEP).map(|i| format!("?v{i} ")).collect::<String>()
        ),
        format!(
            "PREFIX p: <urn:{}> ASK {{ {} }}",
            "x".repeat(1 << 20),
            "p:a p:b p:c . ".repeat(1000)
        ),
        // What takes the longer the deeper it is, long before it is 100,000 deep.
        nested("ASK { FILTER(", "!(", "?x", ")", ") }", 60),
        nested("ASK { FILTER(", "REPLACE(", "?x", ",'a','b')", ") }", 60),
        nested("ASK { FILTER(", "(", "?x", " IN (1, 2, 3, 4))", ") }", 60),
        nested(
            "ASK { ?s ?p ?o ",
            "FILTER EXISTS { ?a ?b ?o OPTIONAL { ?o ?p ?s } ",
            "",
            "}",
            "}",
            40,
        ),
    ]
}

/// Whether a query is refused for what becomes of all of it, which has no place.
fn is_of_plan(message: &str) -> bool {
    message.contains("the query becomes ")
}

#[test]
fn deep_queries_are_refused_with_their_place() {
    let mut kb = Endpoint::start();
    for text in refused_queries() {
        let answer = within(SOON, &shown(&text), || kb.query(&text, CSV));
        let code = problem(&answer, 400, &shown(&text));
        assert!(matches!(code.as_str(), "54001" | "42601"), "{}: {}", shown(&text), answer.text());
        let is_placed = answer.json()["error"]["position"]["line"].as_u64().is_some();
        assert!(is_placed || is_of_plan(&answer.text()), "{}: {}", shown(&text), answer.text());
        kb.is_well(&shown(&text));
    }
}

/// Each of these OPTIONALs reads what is before it several times: that is made once.
#[test]
fn long_chains_of_optional_with_exists_are_planned_in_time() {
    let mut kb = Endpoint::start();
    for count in [4, 24, 50, 100] {
        let text = format!(
            "ASK {{ ?s ?p ?o {} }}",
            "OPTIONAL { ?o ?p ?x FILTER EXISTS { ?x ?p ?s } } ".repeat(count)
        );
        let answer = within(SOON, &shown(&text), || kb.query(&text, CSV));
        match count {
            4 | 24 => assert_eq!(answer.status, 200, "{count}: {}", answer.text()),
            50 if answer.status == 200 => {}
            _ => assert_eq!(problem(&answer, 400, &shown(&text)), "54001", "{count}"),
        }
        kb.is_well(&shown(&text));
    }
}

#[test]
fn deep_texts_are_refused_on_every_way() {
    let mut kb = Endpoint::start();
    let queries: Vec<String> = refused_queries().into_iter().step_by(4).collect();
    let updates = [
        format!("INSERT DATA {}", "{".repeat(DEEP)),
        format!("INSERT DATA {{ {}", "<< ".repeat(DEEP)),
        format!("INSERT DATA {{ <urn:a> <urn:b> {}", "[ <urn:b> ".repeat(DEEP)),
        format!("INSERT DATA {{ <urn:a> <urn:b> {}", "( ".repeat(DEEP)),
        format!("DELETE WHERE {{ GRAPH ?g {{ {} }} }}", "?a ?b ?c . ".repeat(DEEP)),
        format!("INSERT {{ ?s ?p ?o }} WHERE {}", "{".repeat(DEEP)),
        format!("INSERT {{ ?s ?p ?o }} WHERE {{ BIND(1{} AS ?s) }}", "-1".repeat(DEEP)),
    ];
    for text in &updates {
        let answer = within(SOON, &shown(text), || kb.update(text));
        assert_eq!(problem(&answer, 400, &shown(text)), "54001");
        assert!(answer.json()["error"]["position"]["line"].is_u64(), "{}", answer.text());
        kb.is_well(&shown(text));
    }
    let quoted = |text: &str| text.replace('\'', "''");
    let calls = updates.iter().map(|text| format!("CALL sparql_update('kb', '{}')", quoted(text)));
    let selects = queries.iter().map(|text| {
        let select = text.replacen("ASK", "SELECT *", 1);
        format!("SELECT * FROM sparql('kb', '{}')", quoted(&select))
    });
    let statements: Vec<String> = selects.chain(calls).collect();
    for sql in &statements {
        let body = json!({ "query": sql }).to_string();
        let answer = within(SOON, &shown(sql), || kb.post("/sql", "application/json", "*/*", body.as_bytes()));
        problem(&answer, 400, &shown(sql));
        kb.is_well(&shown(sql));
    }
    block_on(async {
        let db = kb.server.client().await;
        for sql in &statements {
            let error = db.sql(sql).timeout(SOON).fetch_all().await.map(|rows| rows.len()).unwrap_err();
            assert!(
                matches!(error.code(), Some("54001" | "42601")) && (error.message().contains("line") || is_of_plan(error.message())),
                "{}: {error:?}",
                shown(sql)
            );
            assert!(error.message().len() < 4096, "{}", shown(sql));
        }
    });
    kb.is_well("Flight");
}

#[test]
fn what_is_long_but_right_works() {
    let mut kb = Endpoint::start();
    let data: String = (0..LONG).map(|i| format!("<urn:s{i}> <urn:p> {i} .\n")).collect();
    let answer = kb.update(&format!("INSERT DATA {{ {data} }}"));
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert_eq!(kb.value("SELECT (COUNT(*) AS ?n) { ?s ?p ?o }"), LONG.to_string());
    let rows: String = (0..LONG).map(|i| format!("(<urn:s{i}> {i})")).collect();
    let joined = format!("SELECT (COUNT(*) AS ?n) {{ VALUES (?s ?o) {{ {rows} }} ?s <urn:p> ?o }}");
    assert_eq!(kb.value(&joined), LONG.to_string());
    let template: String = (0..LONG / 2).map(|i| format!("<urn:t{i}> <urn:p> ?o .\n")).collect();
    let answer = kb.query(
        &format!("CONSTRUCT {{ {template} }} WHERE {{ <urn:s7> <urn:p> ?o }}"),
        "application/n-triples",
    );
    assert_eq!(
        (answer.status, answer.text().lines().count()),
        (200, LONG / 2),
        "{}",
        shown(&answer.text())
    );
    let prefixes = "PREFIX e: <urn:>\n".repeat(LONG);
    assert_eq!(kb.value(&format!("{prefixes} SELECT ?o {{ e:s7 e:p ?o }}")), "7");
    let graphs: String = (0..1000).map(|i| format!("FROM <urn:g{i}> ")).collect();
    assert_eq!(kb.value(&format!("SELECT (COUNT(*) AS ?n) {graphs} {{ ?s ?p ?o }}")), "0");
    let list = (0..100).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    let among = format!("SELECT (COUNT(*) AS ?n) {{ ?s ?p ?o FILTER(?o IN ({list})) }}");
    assert_eq!(kb.value(&among), "100");
    kb.is_well("what is long");
}

/// Sizes at which an exponential reading, translation or planning would not end.
#[test]
fn what_is_nested_but_right_is_fast() {
    let mut kb = Endpoint::start();
    kb.update("INSERT DATA { <urn:a> <urn:p> <urn:b> . <urn:b> <urn:p> 'x' }");
    let doubling: String = (0..40).map(|i| format!("BIND(CONCAT(?x{i}, ?x{i}) AS ?x{}) ", i + 1)).collect();
    let nested = |open: &str, middle: &str, close: &str| format!("{}{middle}{}", open.repeat(60), close.repeat(60));
    for (text, expected) in [
        (format!("SELECT (1 AS ?n) {{ FILTER {} }}", nested("(", "true", ")")), "1"),
        (format!("SELECT (1 AS ?n) {{ {} }}", nested("{ ", "<urn:a> ?p ?o", " }")), "1"),
        (
            format!(
                "SELECT (1 AS ?n) {{ ?x <urn:p> 'x' FILTER({}) }}",
                nested("(", "(?x = <urn:b>)", " = true)")
            ),
            "1",
        ),
        (
            format!("SELECT (1 AS ?n) {{ FILTER({}) }}", nested("IF(", "true", ", true, false)")),
            "1",
        ),
        (
            format!("SELECT (COUNT(*) AS ?n) {{ <urn:a> {} ?o }}", nested("(", "<urn:p>", ")?")),
            "2",
        ),
        (
            format!("SELECT (COUNT(*) AS ?n) {{ <urn:a> {} ?o }}", nested("(", "<urn:p>", ")*")),
            "3",
        ),
        (
            format!(
                "SELECT (COUNT(*) AS ?n) {{ <urn:a> ?p ?o {} }}",
                nested("OPTIONAL { ?o ?p ?x ", "", "}")
            ),
            "1",
        ),
        (
            format!(
                "SELECT (COUNT(*) AS ?n) {{ <urn:a> ?p ?o {} }}",
                nested("MINUS { ?o ?p <urn:c> ", "", "}")
            ),
            "1",
        ),
        (
            format!("SELECT (COUNT(*) AS ?n) {{ {} }}", nested("{ SELECT * { ", "<urn:a> ?p ?o", "} }")),
            "1",
        ),
        // The BINDs are not written out in the conditions on the last one, which is never computed.
        (
            format!("SELECT (COUNT(*) AS ?n) {{ <urn:a> <urn:q> ?x0 {doubling} FILTER(STRLEN(?x40) > 1 && ?x40 != ?x39) }}"),
            "0",
        ),
    ] {
        let value = within(SOON, &shown(&text), || kb.value(&text));
        assert_eq!(value, expected, "{text}");
    }
    kb.is_well("nesting");
}
