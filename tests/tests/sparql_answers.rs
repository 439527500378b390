//! Answers of SPARQL over HTTP arrive whole, however long they are and in however many pieces they go out.

use pyralog_tests::http::Response;
use pyralog_tests::server::Server;

const DIGITS: &str = "0 1 2 3 4 5 6 7 8 9";

fn ask(server: &Server, query: &str, accept: &str) -> Response {
    let headers = [("Content-Type", "application/sparql-query"), ("Accept", accept)];
    let answer = server.http("POST", "/rdf/kb/query", &headers, query.as_bytes());
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer
}

/// All numbers of so many digits.
fn numbers(digits: usize) -> String {
    let values: String = (0..digits).map(|i| format!("VALUES ?x{i} {{ {DIGITS} }} ")).collect();
    format!("SELECT * {{ {values} }}")
}

#[test]
fn short_and_long_answers_are_whole() {
    let server = Server::start();
    server.http_sql("CREATE COLLECTION kb AS RDF");
    for digits in [1, 3, 5] {
        let csv = ask(&server, &numbers(digits), "text/csv");
        let expected = 10_usize.pow(digits as u32);
        assert_eq!(csv.text().lines().count(), expected + 1, "{digits} digits");
        let json = ask(&server, &numbers(digits), "application/sparql-results+json");
        assert_eq!(json.json()["results"]["bindings"].as_array().unwrap().len(), expected);
    }
    let nothing = ask(&server, "SELECT * { ?s ?p ?o }", "application/sparql-results+json");
    assert_eq!(nothing.json()["results"]["bindings"], serde_json::json!([]));
    assert!(nothing.header("content-length").is_some());
    let graph = numbers(4).replacen("SELECT *", "CONSTRUCT { [] <urn:p> ?x0, ?x1 }", 1);
    let triples = ask(&server, &graph, "application/n-triples");
    // Each solution has a blank node of its own; where both digits are one, so are its triples.
    assert_eq!(triples.text().lines().count(), 2 * 10_000 - 1_000);
    // A text that is larger than a piece by itself.
    let text = "x".repeat(100_000);
    let long = ask(
        &server,
        &format!("SELECT (CONCAT(?t, ?t) AS ?u) {{ VALUES ?t {{ \"{text}\" }} }}"),
        "text/csv",
    );
    assert_eq!(long.text().trim_end(), format!("u\r\n{text}{text}"));
}
