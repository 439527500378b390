//! Queries that would give 10^12 rows: a time limit or the client's leaving ends them, and until then they take bounded memory.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use pyralog_tests::memory::PeakMemory;
use pyralog_tests::server::ServerOptions;

use super::{Endpoint, QUERY, UPDATE, problem};

/// Triples: three patterns of all of them have their cube of solutions.
const TRIPLES: usize = 10_000;
const LIMIT: &str = "timeout=1";
/// One batch may still be at work then, which a debug build takes seconds for.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
const IDLE_WITHIN: Duration = Duration::from_secs(20);
const MEMORY_LIMIT: &str = "512MB";
const MEMORY_BYTES: u64 = 1 << 30;

const CUBE: &str = "?a ?b ?c . ?d ?e ?f . ?g ?h ?i";

fn endless() -> Vec<(&'static str, String)> {
    let query = |text: String| (QUERY, text);
    vec![
        query(format!("SELECT * {{ {CUBE} }}")),
        query(format!("SELECT * {{ {CUBE} }} ORDER BY ?c ?f DESC(?i)")),
        query(format!("SELECT DISTINCT ?a ?d ?g {{ {CUBE} }}")),
        query(format!("SELECT ?a (COUNT(*) AS ?n) {{ {CUBE} }} GROUP BY ?a")),
        query(format!("SELECT ?a ?d ?g (COUNT(*) AS ?n) {{ {CUBE} }} GROUP BY ?a ?d ?g")),
        query(format!("SELECT (COUNT(*) AS ?n) {{ {CUBE} }}")),
        query(format!("SELECT (COUNT(DISTINCT *) AS ?n) {{ {CUBE} }}")),
        query(format!("SELECT (GROUP_CONCAT(?c) AS ?n) {{ {CUBE} }}")),
        query(format!("SELECT (SUM(?c) AS ?n) {{ {CUBE} FILTER(?c + ?f > ?i) }}")),
        query("SELECT * { ?a (<urn:p>|!<urn:p>)* ?c . ?d (<urn:p>|!<urn:p>)* ?f }".to_owned()),
        query("SELECT (COUNT(*) AS ?n) { ?a (<urn:p>|!<urn:p>)* ?c . ?d (<urn:p>|!<urn:p>)+ ?f . ?g ?h ?i . ?j ?k ?l }".to_owned()),
        query(format!("SELECT (COUNT(*) AS ?n) {{ {{ {CUBE} }} UNION {{ {CUBE} }} }}")),
        query("SELECT (COUNT(*) AS ?n) { ?a ?b ?c OPTIONAL { ?d ?e ?f OPTIONAL { ?g ?h ?i } } }".to_owned()),
        query("SELECT * { ?a ?b ?c . ?d ?e ?f MINUS { ?a ?x ?y . ?g ?h ?i FILTER(?y != ?c) } }".to_owned()),
        // Pairs of which none is taken.
        query(
            "SELECT (COUNT(*) AS ?n) { ?a ?b ?c OPTIONAL { ?d ?e ?f OPTIONAL { ?g ?h ?i FILTER(?c + ?i < 0) } FILTER(?c + ?f < 0) } }"
                .to_owned(),
        ),
        query("ASK { ?a ?b ?c . ?d ?e ?f MINUS { ?a ?x ?y . ?g ?h ?i . ?j ?k ?l FILTER(?y + ?i < ?l) } }".to_owned()),
        query(format!("ASK {{ {CUBE} FILTER(?c + ?f + ?i < 0) }}")),
        query("CONSTRUCT { ?a ?e ?i } WHERE { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i }".to_owned()),
        query(format!("DESCRIBE ?a {{ {CUBE} FILTER(?c + ?f + ?i < 0) }}")),
        query(format!(
            "CONSTRUCT {{ {} }} WHERE {{ ?a ?b ?c . ?d ?e ?f }}",
            (0..5000).map(|i| format!("?a <urn:p{i}> ?f . ")).collect::<String>()
        )),
        (UPDATE, format!("INSERT {{ ?a ?e ?i }} WHERE {{ {CUBE} }}")),
        (
            UPDATE,
            format!("DELETE {{ ?a <urn:no> ?i }} INSERT {{ GRAPH ?d {{ ?a ?e ?i }} }} WHERE {{ {CUBE} }}"),
        ),
    ]
}

/// Time that the process has worked, over all threads.
fn worked(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Behind the name, which may have blanks in it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Waits until the server does nothing.
fn assert_idle(kb: &Endpoint, after: &str) {
    let begun = Instant::now();
    loop {
        let before = worked(kb.server.pid());
        std::thread::sleep(Duration::from_millis(200));
        let took = worked(kb.server.pid()) - before;
        if took <= Duration::from_millis(40) {
            return;
        }
        assert!(begun.elapsed() < IDLE_WITHIN, "{after}: goes on, {took:?} of 200 ms");
    }
}

fn with_triples() -> Endpoint {
    let kb = Endpoint::start_with(ServerOptions::default().memory_limit(MEMORY_LIMIT));
    let data: String = (0..TRIPLES).map(|i| format!("<urn:s{i}> <urn:p> {i} .\n")).collect();
    let answer = kb.post("/rdf/kb/store?default", "text/turtle", "*/*", data.as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text());
    kb
}

#[test]
fn a_time_limit_ends_what_would_not_end() {
    let mut kb = with_triples();
    let peak = PeakMemory::watch(kb.server.pid());
    for (media, text) in endless() {
        let path = match media {
            QUERY => format!("/rdf/kb/query?{LIMIT}"),
            _ => format!("/rdf/kb/update?{LIMIT}"),
        };
        let begun = Instant::now();
        // Without an answer, it has begun and broke off.
        if let Ok(answer) = kb.try_post(&path, media, text.as_bytes()) {
            match answer.status {
                429 => drop(problem(&answer, 429, &text)),
                _ => assert_eq!(problem(&answer, 504, &text), "57014", "{text}"),
            }
        }
        let took = begun.elapsed();
        println!(
            "{:4} ms, {:4} MB  {}",
            took.as_millis(),
            peak.peak_bytes() >> 20,
            super::shown(&text)
        );
        assert!(took < ENDS_WITHIN, "{text}: {took:?}");
        assert_idle(&kb, &text);
        kb.is_well(&text);
        assert!(peak.peak_bytes() < MEMORY_BYTES, "{text}: {} MB", peak.peak_bytes() >> 20);
    }
    assert_eq!(kb.value("SELECT (COUNT(*) AS ?n) { ?s ?p ?o }"), TRIPLES.to_string());
}

#[test]
fn a_client_that_leaves_ends_its_query() {
    let mut kb = with_triples();
    for text in [
        format!("SELECT * {{ {CUBE} }}"),
        format!("SELECT (COUNT(*) AS ?n) {{ {CUBE} }}"),
        format!("CONSTRUCT {{ ?a ?e ?i }} WHERE {{ {CUBE} }}"),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", kb.server.http_port())).unwrap();
        let head = format!(
            "POST /rdf/kb/query HTTP/1.1\r\nHost: x\r\nContent-Type: {QUERY}\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut some = [0; 4096];
        // A count has nothing to say before its end.
        let _ = stream.read(&mut some);
        drop(stream);
        assert_idle(&kb, &text);
        kb.is_well(&text);
    }
}
