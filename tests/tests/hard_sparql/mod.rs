//! SPARQL and RDF that is meant to break the server: too deep, endless, malformed, huge, in wrong encodings. Each has a clear answer in bounded time
//! and memory, and the server goes on.

mod deep;
mod encoded;
mod endless;
mod huge;
mod malformed;

use std::time::{Duration, Instant};

use pyralog_tests::http::{Response, escaped, try_request_within};
use pyralog_tests::server::{Server, ServerOptions};

const QUERY: &str = "application/sparql-query";
const UPDATE: &str = "application/sparql-update";
const CSV: &str = "text/csv";

/// A server with an empty dataset.
struct Endpoint {
    server: Server,
}

impl Endpoint {
    fn start() -> Endpoint {
        Endpoint::start_with(ServerOptions::default())
    }

    fn start_with(options: ServerOptions) -> Endpoint {
        let server = Server::start_with(options);
        server.http_sql("CREATE COLLECTION kb AS RDF");
        Endpoint { server }
    }

    fn post(&self, path: &str, media: &str, accept: &str, body: &[u8]) -> Response {
        let headers = [("Content-Type", media), ("Accept", accept)];
        self.server.http("POST", path, &headers, body)
    }

    /// As [`Self::post`]; an error where the answer broke off.
    fn try_post(&self, path: &str, media: &str, body: &[u8]) -> std::io::Result<Response> {
        let headers = [("Content-Type", media)];
        try_request_within(Duration::from_secs(60), self.server.http_port(), "POST", path, &headers, body)
    }

    fn query(&self, text: &str, accept: &str) -> Response {
        self.post("/rdf/kb/query", QUERY, accept, text.as_bytes())
    }

    fn update(&self, text: &str) -> Response {
        self.post("/rdf/kb/update", UPDATE, "*/*", text.as_bytes())
    }

    /// Adds triples to a graph.
    fn upload(&self, graph: &str, media: &str, body: &[u8]) -> Response {
        let path = format!("/rdf/kb/store?graph={}", escaped(graph.as_bytes()));
        self.post(&path, media, "*/*", body)
    }

    /// The one value that a query gives.
    fn value(&self, text: &str) -> String {
        let answer = self.query(text, CSV);
        assert_eq!(answer.status, 200, "{}: {}", shown(text), answer.text());
        let text = answer.text();
        text.lines().nth(1).unwrap_or_default().to_owned()
    }

    fn is_well(&mut self, after: &str) {
        assert!(self.server.is_alive(), "{after}: the server is gone:\n{}", self.server.output());
        self.server.assert_no_panic();
        assert_eq!(self.server.http("GET", "/health", &[], b"").status, 200, "{after}");
    }
}

/// The beginning of a text.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// An answer with this status that says what was wrong; its code.
fn problem(answer: &Response, status: u16, what: &str) -> String {
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    assert!(answer.body.len() < 20_000, "{what}: {} bytes of error", answer.body.len());
    let error = &answer.json()["error"];
    assert!(!error["message"].as_str().unwrap_or_default().is_empty(), "{what}: {error}");
    error["code"].as_str().unwrap_or_default().to_owned()
}

/// Runs it within a time.
fn within<T>(limit: Duration, what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = work();
    assert!(begun.elapsed() < limit, "{what}: {:?}", begun.elapsed());
    result
}
