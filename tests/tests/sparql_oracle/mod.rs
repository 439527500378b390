//! Random queries and updates, answered by Oxigraph too: the same multiset of solutions, or an error of both.
//!
//! Needs the oracle's binary (`cargo build --manifest-path tests/oracle/Cargo.toml`), which `PYRALOG_ORACLE` names. `PYRALOG_ORACLE_QUERIES` says how many
//! (2,000), `PYRALOG_ORACLE_SEED` begins at another seed.

mod generate;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use oxrdfio::{RdfFormat, RdfParser};
use pyralog_tests::http::Response;
use pyralog_tests::measure::setting;
use pyralog_tests::server::Server;
use serde_json::{Value, json};
use sparesults::QueryResultsFormat;

use self::generate::Generator;
use crate::w3c_sparql::results::{Results, quads, same_dataset};

/// Queries of one dataset.
const TOGETHER: u64 = 20;

struct Oracle {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Oracle {
    fn start(path: &str) -> Oracle {
        let mut child = Command::new(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        Oracle {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.input, "{request}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{request}: {error}: {line}"))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn update(server: &Server, text: &str) -> u16 {
    let headers = [("Content-Type", "application/sparql-update")];
    server.http("POST", "/rdf/kb/update", &headers, text.as_bytes()).status
}

/// What is different, if something is.
fn query_differs(server: &Server, oracle: &mut Oracle, query: &str) -> Option<String> {
    let headers = [
        ("Content-Type", "application/sparql-query"),
        ("Accept", "application/sparql-results+json, application/n-triples"),
    ];
    let expected = oracle.ask(&json!({ "query": query }));
    // However triples are joined, it is the same, and whether its plan is new or was kept when it was asked before.
    ["auto", "hash", "search", "auto", "auto"].into_iter().find_map(|join| {
        let answer = server.http("POST", &format!("/rdf/kb/query?join={join}"), &headers, query.as_bytes());
        Some(format!("join={join}: {}", answer_differs(&answer, &expected)?))
    })
}

fn answer_differs(answer: &Response, expected: &Value) -> Option<String> {
    let Some(expected) = expected["results"].as_str() else {
        return (answer.status == 200).then(|| format!("an error there: {expected}; here {}", answer.text()));
    };
    if answer.status != 200 {
        return Some(format!("{} here: {}; there {expected}", answer.status, answer.text()));
    }
    let parse = |text: &[u8]| match text.first() {
        Some(b'{') => Results::parse(QueryResultsFormat::Json, text),
        _ => Results::Graph(quads(RdfParser::from_format(RdfFormat::NTriples), text)),
    };
    let same = parse(expected.as_bytes()).is(&parse(&answer.body));
    (!same).then(|| format!("here {}\nthere {expected}", answer.text()))
}

fn update_differs(server: &Server, oracle: &mut Oracle, text: &str) -> Option<String> {
    let status = update(server, text);
    let expected = oracle.ask(&json!({ "update": text }));
    let Some(expected) = expected["quads"].as_str() else {
        return (status == 204).then(|| format!("an error there: {expected}"));
    };
    if status != 204 {
        return Some(format!("{status} here"));
    }
    let stored = server.http("GET", "/rdf/kb/store", &[("Accept", "application/n-quads")], b"");
    let parse = |text: &[u8]| quads(RdfParser::from_format(RdfFormat::NQuads), text);
    let same = same_dataset(&parse(expected.as_bytes()), &parse(&stored.body));
    let stored = stored.text();
    let without = |one: &str, other: &str| {
        one.lines()
            .filter(|line| !other.contains(line))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    (!same).then(|| {
        format!(
            "only here {:#?}\nonly there {:#?}",
            without(&stored, expected),
            without(expected, &stored)
        )
    })
}

#[test]
fn random_queries_are_answered_as_oxigraph_does() {
    let Ok(path) = std::env::var("PYRALOG_ORACLE") else {
        println!("skipped: no oracle (PYRALOG_ORACLE)");
        return;
    };
    let (count, first) = (setting("PYRALOG_ORACLE_QUERIES", 2000_u64), setting("PYRALOG_ORACLE_SEED", 1_u64));
    let server = Server::start();
    server.http_sql("CREATE COLLECTION kb AS RDF");
    let mut oracle = Oracle::start(&path);
    let mut differences = Vec::new();
    for seed in first..first + count.div_ceil(TOGETHER) {
        let mut generator = Generator::new(seed);
        let data = generator.data();
        assert_eq!(update(&server, "DROP ALL"), 204);
        assert_eq!(update(&server, &data), 204, "seed {seed}: {data}");
        assert_eq!(oracle.ask(&json!({"load": ""}))["ok"], true);
        assert!(oracle.ask(&json!({ "update": data }))["error"].is_null(), "seed {seed}: {data}");
        for i in 0..TOGETHER {
            let is_update = i + 2 >= TOGETHER;
            let text = if is_update { generator.update() } else { generator.query() };
            let difference = match is_update {
                true => update_differs(&server, &mut oracle, &text),
                false => query_differs(&server, &mut oracle, &text),
            };
            if let Some(difference) = difference {
                differences.push(format!("seed {seed}\n{data}\n{text}\n{difference}"));
            }
        }
    }
    println!("{} of {count} queries differ (seeds from {first})", differences.len());
    assert!(
        differences.is_empty(),
        "{}",
        differences[..differences.len().min(5)].join("\n---\n")
    );
}
