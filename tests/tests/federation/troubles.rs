//! SERVICE that fails, in time and in bounds.

use std::thread;
use std::time::{Duration, Instant};

use pyralog_tests::server::{Server, free_port};

use super::{Place, code};

#[test]
fn nothing_may_be_reached_by_default() {
    let server = Server::start();
    server.http_sql("CREATE COLLECTION kb AS RDF");
    let own = format!("http://127.0.0.1:{}/rdf/kb", server.first_http_port());
    let post = |kind: &str, text: String| {
        let headers = [("Content-Type", format!("application/sparql-{kind}"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        server.http("POST", &format!("/rdf/kb/{kind}"), &headers, text.as_bytes())
    };
    for refused in [
        post("query", format!("ASK {{ SERVICE <{own}/query> {{ ?s ?p ?o }} }}")),
        post("update", format!("LOAD <{own}/store>")),
    ] {
        assert_eq!(code(&refused), (400, "42501".to_owned()));
        assert!(refused.json()["error"]["hint"].as_str().unwrap().contains("sparql-fetch"));
    }
    let silent = post("query", format!("ASK {{ SERVICE SILENT <{own}/query> {{ ?s ?p ?o }} }}"));
    assert_eq!(silent.json()["boolean"], true);
    assert_eq!(post("update", format!("LOAD SILENT <{own}/store>")).status, 204);
}

#[test]
fn a_service_that_fails_is_an_error_or_one_empty_solution() {
    let place = Place::start();
    let gone = format!("http://127.0.0.1:{}/", free_port());
    let refused_port = Place::start_allowing(&gone);
    // Sorted, so that no row is given before the failure.
    let of = |silent: &str, iri: &str| {
        format!("SELECT ?name ?x {{ ?s <urn:name> ?name SERVICE {silent} <{iri}> {{ ?x <urn:p> <urn:o> }} }} ORDER BY ?name")
    };
    let unharmed = ["Ann,", "Bob,", "Cid,"];
    for (path, expected) in [
        ("/open/missing", (400, "HV000")),
        ("/open/picture", (400, "HV000")),
        ("/open/yes", (400, "HV000")),
        ("/open/cut", (400, "HV000")),
        ("/open/unbound", (400, "HV000")),
        ("/open/endless", (400, "54000")),
        ("/open/away", (400, "42501")),
        ("/closed", (400, "42501")),
    ] {
        let iri = place.mock.url(path);
        let (status, code) = place.refusal(&of("", &iri));
        assert_eq!((status, code.as_str()), expected, "{path}");
        if path != "/open/unbound" {
            assert_eq!(place.rows(&of("SILENT", &iri)), unharmed, "{path}");
        }
    }
    assert_eq!(refused_port.refusal(&of("", &gone)), (503, "08001".to_owned()));
    assert_eq!(refused_port.rows(&of("SILENT", &gone)), unharmed);
    for (text, expected) in [
        ("SERVICE ?e { ?s ?p ?o }", "42703"),
        ("?s <urn:name> ?n OPTIONAL { ?s <urn:none> ?e } SERVICE ?e { ?x ?y ?z }", "22004"),
        ("?s <urn:name> ?e SERVICE ?e { ?x ?y ?z }", "22000"),
        ("?s <urn:name> ?n SERVICE <urn:a> { ?x ?y ?z }", "0A000"),
    ] {
        assert_eq!(place.refusal(&format!("SELECT * {{ {text} }}")).1, expected, "{text}");
        let silent = text.replace("SERVICE", "SERVICE SILENT");
        assert!(!place.rows(&format!("SELECT * {{ {silent} }}")).is_empty(), "{silent}");
    }
}

#[test]
fn the_time_limit_stops_the_request() {
    let place = Place::start();
    let never = place.mock.url("/open/never");
    let begun = Instant::now();
    let query = place.ask(&format!("SELECT * {{ SERVICE <{never}> {{ ?s ?p ?o }} }}"), "?timeout=0.5");
    assert_eq!(code(&query), (504, "57014".to_owned()));
    let silent = place.ask(&format!("SELECT * {{ SERVICE SILENT <{never}> {{ ?s ?p ?o }} }}"), "?timeout=0.5");
    assert_eq!(code(&silent), (504, "57014".to_owned()));
    let headers = [("Content-Type", "application/sparql-update"), ("X-Pyralog-Timeout-Ms", "500")];
    let text = format!("LOAD SILENT <{never}>");
    let update = place.server.http("POST", "/rdf/kb/update", &headers, text.as_bytes());
    assert_eq!(code(&update), (504, "57014".to_owned()));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let ended = Instant::now();
    while place.mock.open() > 0 {
        assert!(ended.elapsed() < Duration::from_secs(10), "requests go on after their statements");
        thread::sleep(Duration::from_millis(20));
    }
}
