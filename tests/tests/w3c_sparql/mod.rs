//! The suites of W3C for SPARQL 1.0 and 1.1, over HTTP.
//!
//! `PYRALOG_W3C=sparql11/exists` runs only the tests whose name has this in it, and tells what each got.

mod federation;
mod manifest;
mod protocol;
pub mod results;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use oxrdf::{Dataset, GraphName, NamedNode};
use oxrdfio::{RdfFormat, RdfParser};
use pyralog_tests::http::{Response, escaped};
use pyralog_tests::server::{Server, ServerOptions};
use pyralog_tests::shared;
use sparesults::QueryResultsFormat;

use self::manifest::{BASE, Data, File, Test, excluded, tests};
use self::results::{Results, dataset, format, quads, same_dataset};

/// Tests that are left out, each with the reason.
const EXCLUDED: &str = include_str!("excluded.txt");

fn root() -> Option<PathBuf> {
    shared::require("conformance/sparql/sparql")
}

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
        server.http_sql("CREATE COLLECTION w3c AS RDF");
        Endpoint { server }
    }

    fn update(&self, text: &str) -> Response {
        let headers = [("Content-Type", "application/sparql-update")];
        self.server.http("POST", "/rdf/w3c/update", &headers, text.as_bytes())
    }

    fn query(&self, text: &str, accept: &str) -> Response {
        self.query_joined(text, accept, "auto")
    }

    /// With triples joined in a certain way.
    fn query_joined(&self, text: &str, accept: &str, join: &str) -> Response {
        let headers = [("Content-Type", "application/sparql-query"), ("Accept", accept)];
        self.server
            .http("POST", &format!("/rdf/w3c/query?join={join}"), &headers, text.as_bytes())
    }

    /// Empties the dataset and fills it.
    fn prepare(&self, data: &Data) -> Result<(), String> {
        let cleared = self.update("DROP ALL");
        if cleared.status != 204 {
            return Err(format!("DROP ALL: {}", cleared.text()));
        }
        for file in &data.default {
            self.load("default", file)?;
        }
        for (name, file) in &data.named {
            self.load(&format!("graph={}", escaped(name.as_bytes())), file)?;
        }
        Ok(())
    }

    fn load(&self, graph: &str, file: &File) -> Result<(), String> {
        let mut text = fs::read(&file.path).map_err(|error| format!("{}: {error}", file.path.display()))?;
        let format = format(file);
        if matches!(format, RdfFormat::Turtle | RdfFormat::TriG) {
            // The store resolves against the graph's name.
            text = [format!("@base <{}> .\n", file.iri).as_bytes(), &text].concat();
        } else if format == RdfFormat::RdfXml {
            let data = dataset(file, GraphName::DefaultGraph);
            text = data
                .iter()
                .map(|quad| format!("{} .\n", oxrdf::TripleRef::from(quad)))
                .collect::<String>()
                .into_bytes();
            return self.post(graph, "application/n-triples", &text, file);
        }
        self.post(graph, format.media_type(), &text, file)
    }

    fn post(&self, graph: &str, media: &str, text: &[u8], file: &File) -> Result<(), String> {
        let answer = self
            .server
            .http("POST", &format!("/rdf/w3c/store?{graph}"), &[("Content-Type", media)], text);
        match answer.status {
            201 | 204 => Ok(()),
            status => Err(format!("{}: {status} {}", file.path.display(), answer.text())),
        }
    }

    fn stored(&self) -> Dataset {
        let answer = self.server.http("GET", "/rdf/w3c/store", &[("Accept", "application/n-quads")], b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        quads(RdfParser::from_format(RdfFormat::NQuads), &answer.body)
    }

    fn run(&self, test: &Test) -> Result<(), String> {
        let text = fs::read_to_string(&test.text.path).map_err(|error| format!("{}: {error}", test.text.path.display()))?;
        let based = format!("BASE <{}>\n{text}", test.text.iri);
        match test.kind.as_str() {
            "PositiveSyntaxTest" | "PositiveSyntaxTest11" => self.reads(self.query(&based, "*/*"), true),
            "NegativeSyntaxTest" | "NegativeSyntaxTest11" => self.reads(self.query(&based, "*/*"), false),
            "PositiveUpdateSyntaxTest11" => self.reads(self.update(&based), true),
            "NegativeUpdateSyntaxTest11" => self.reads(self.update(&based), false),
            "UpdateEvaluationTest" => self.updates(test, &based),
            "QueryEvaluationTest" => self.evaluates(test, &text, &based),
            "CSVResultFormatTest" => {
                self.prepare(&test.before)?;
                let answer = self.query(&based, "text/csv");
                let expected = fs::read_to_string(&test.result.as_ref().ok_or("no result")?.path).map_err(|error| error.to_string())?;
                // Blank nodes have other labels; those of one file are one node each.
                let cell = |cell: &str| if cell.starts_with("_:") { "_:".to_owned() } else { cell.to_owned() };
                let line = |line: &str| line.split(',').map(cell).collect::<Vec<_>>();
                let lines = |text: &str| text.lines().map(line).collect::<BTreeSet<_>>();
                match answer.status == 200 && lines(&answer.text()) == lines(&expected) {
                    true => Ok(()),
                    false => Err(format!("{} {}\nexpected {expected}", answer.status, answer.text())),
                }
            }
            other => Err(format!("no test is of kind {other}")),
        }
    }

    /// Whether a text is read, whatever comes of it then.
    fn reads(&self, answer: Response, expected: bool) -> Result<(), String> {
        let is_read = answer.status != 400 || answer.json()["error"]["code"] != "42601";
        match is_read == expected && answer.status != 500 {
            true => Ok(()),
            false => Err(format!("{} {}", answer.status, answer.text())),
        }
    }

    fn updates(&self, test: &Test, text: &str) -> Result<(), String> {
        self.prepare(&test.before)?;
        let answer = self.update(text);
        if answer.status != 204 {
            return Err(format!("{} {}", answer.status, answer.text()));
        }
        let mut expected = Dataset::new();
        for file in &test.after.default {
            expected.extend(dataset(file, GraphName::DefaultGraph).iter());
        }
        for (name, file) in &test.after.named {
            let name = NamedNode::new(name.as_str()).map_err(|error| error.to_string())?;
            expected.extend(dataset(file, name.into()).iter());
        }
        let stored = self.stored();
        match same_dataset(&stored, &expected) {
            true => Ok(()),
            false => Err(format!("there is\n{stored}\nexpected\n{expected}")),
        }
    }

    fn evaluates(&self, test: &Test, text: &str, based: &str) -> Result<(), String> {
        let mut before = test.before.clone();
        for name in named_in(text, &test.text.iri) {
            let path = root().ok_or("no suites")?.join(name.strip_prefix(BASE).ok_or("a graph elsewhere")?);
            if !before.named.iter().any(|(known, _)| *known == name) {
                before.named.push((name.clone(), File { iri: name, path }));
            }
        }
        self.prepare(&before)?;
        self.prepare_services(&test.services)?;
        let file = test.result.as_ref().ok_or("no result")?;
        let expected = Results::read(file);
        // Results are asked for in the form that the file has, so that each form is tested.
        let extension = file.path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let form = match QueryResultsFormat::from_extension(extension) {
            Some(form) if form != QueryResultsFormat::Csv => form,
            _ => QueryResultsFormat::Json,
        };
        // Small as the data is, all of it would be looked up.
        for join in ["auto", "hash"] {
            let answer = match &expected {
                Results::Graph(_) => self.query_joined(based, "application/n-triples", join),
                _ => self.query_joined(based, form.media_type(), join),
            };
            if answer.status != 200 {
                return Err(format!("{} {}", answer.status, answer.text()));
            }
            let got = match &expected {
                Results::Graph(_) => Results::Graph(quads(RdfParser::from_format(RdfFormat::NTriples), &answer.body)),
                _ => Results::parse(form, &answer.body),
            };
            if !expected.is(&got) {
                return Err(format!("join={join} {based}\ngot {got:#?}\nexpected {expected:#?}"));
            }
        }
        Ok(())
    }
}

/// The graphs that FROM and FROM NAMED name, which tests without data of their own take theirs from.
fn named_in(text: &str, base: &str) -> Vec<String> {
    let base = oxiri::Iri::parse(base).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut names = Vec::new();
    for (i, word) in words.iter().enumerate() {
        if word.eq_ignore_ascii_case("from") {
            let next = match words.get(i + 1) {
                Some(next) if next.eq_ignore_ascii_case("named") => words.get(i + 2),
                next => next,
            };
            if let Some(iri) = next.and_then(|next| next.strip_prefix('<')?.split('>').next()) {
                names.push(base.resolve(iri).unwrap().into_inner());
            }
        }
    }
    names.retain(|name| name.starts_with(BASE));
    names
}

/// Runs suites: every test must pass but the excluded ones, and these must fail, or they are no exceptions any more.
fn hold(manifests: &[&str]) {
    let Some(root) = root() else { return };
    hold_at(&Endpoint::start(), tests(&root, manifests));
}

fn hold_at(endpoint: &Endpoint, tests: Vec<Test>) {
    let only = std::env::var("PYRALOG_W3C").ok();
    let all: Vec<Test> = tests
        .into_iter()
        .filter(|test| only.as_ref().is_none_or(|only| test.name.contains(only)))
        .collect();
    let excluded = excluded(EXCLUDED);
    let mut failures = Vec::new();
    let mut passed = 0;
    for test in &all {
        match (endpoint.run(test), excluded.contains_key(test.name.as_str())) {
            (Ok(()), false) => passed += 1,
            (Err(_), true) => {}
            (Ok(()), true) => failures.push(format!("{}: passes, but is excluded", test.name)),
            (Err(error), false) => failures.push(format!("{}: {error}", test.name)),
        }
    }
    println!("{passed} of {} tests passed, {} failed", all.len(), failures.len());
    assert!(!all.is_empty() || only.is_some(), "the suites have no tests");
    assert!(failures.is_empty(), "{}", failures.join("\n---\n"));
}

#[test]
fn sparql_10_syntax() {
    hold(&["sparql10/manifest-syntax.ttl"]);
}

#[test]
fn sparql_10_evaluation() {
    hold(&["sparql10/manifest-evaluation.ttl", "sparql10/extended-manifest-evaluation.ttl"]);
}

#[test]
fn sparql_11_query() {
    hold(&["sparql11/manifest-sparql11-query.ttl"]);
}

#[test]
fn sparql_11_update() {
    hold(&["sparql11/manifest-sparql11-update.ttl"]);
}

#[test]
fn sparql_11_results() {
    hold(&["sparql11/csv-tsv-res/manifest.ttl", "sparql11/json-res/manifest.ttl"]);
}
