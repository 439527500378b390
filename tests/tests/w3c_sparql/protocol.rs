//! The suites for the protocol, the graph store and the service description: requests as RDF, sent as they stand.

use oxrdf::vocab::rdf;
use oxrdf::{GraphName, NamedOrBlankNode, Term};
use oxrdfio::{RdfFormat, RdfParser};
use pyralog_tests::http::Response;
use sparesults::QueryResultsFormat;

use super::manifest::{BASE, Data, Manifest, node};
use super::results::{Results, quads, same_dataset};
use super::{EXCLUDED, Endpoint, root};
use crate::w3c_sparql::manifest::excluded;

const MF: &str = "http://www.w3.org/2001/sw/DataAccess/tests/test-manifest#";
const HT: &str = "http://www.w3.org/2011/http#";
const CNT: &str = "http://www.w3.org/2011/content#";
/// The host of the suites' requests.
const HOST: &str = "www.example";

struct Reader<'a> {
    manifest: Manifest<'a>,
}

impl Reader<'_> {
    fn texts(&self, node: &NamedOrBlankNode, vocabulary: &str, name: &str) -> Vec<String> {
        let objects = self.manifest.objects(node.as_ref(), vocabulary, name);
        let text = |term: Term| match term {
            Term::Literal(literal) => literal.value().to_owned(),
            Term::NamedNode(iri) => iri.as_str().rsplit('#').next().unwrap().to_owned(),
            other => panic!("{other} is no text"),
        };
        objects.into_iter().map(text).collect()
    }

    fn text(&self, node: &NamedOrBlankNode, vocabulary: &str, name: &str) -> Option<String> {
        self.texts(node, vocabulary, name).into_iter().next()
    }

    fn child(&self, parent: &NamedOrBlankNode, vocabulary: &str, name: &str) -> Option<NamedOrBlankNode> {
        node(self.manifest.objects(parent.as_ref(), vocabulary, name).first()?)
    }

    fn headers(&self, holder: &NamedOrBlankNode) -> Vec<(String, String)> {
        let headers = self.manifest.list(holder.as_ref(), HT, "headers");
        let header = |header: Term| {
            let header = node(&header).unwrap();
            Some((self.text(&header, HT, "fieldName")?, self.text(&header, HT, "fieldValue")?))
        };
        headers.into_iter().filter_map(header).collect()
    }

    /// The bytes of a body, in the encoding that it names.
    fn body(&self, holder: &NamedOrBlankNode) -> Option<Vec<u8>> {
        let body = self.child(holder, HT, "body")?;
        let text = self.text(&body, CNT, "chars")?;
        Some(match self.text(&body, CNT, "characterEncoding").as_deref() {
            Some("UTF-16") => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            _ => text.into_bytes(),
        })
    }
}

/// A place in the suites' requests, and what it is here.
struct Place<'a> {
    there: &'a str,
    here: &'a str,
}

impl Place<'_> {
    fn path(&self, path: &str, host: &str) -> String {
        let path = path.strip_prefix(self.there).unwrap_or_else(|| panic!("{path} is elsewhere"));
        format!("{}{}", self.here, self.replace(path, host))
    }

    /// IRIs of the place, also where they are escaped.
    fn replace(&self, text: &str, host: &str) -> String {
        let escape = |text: &str| text.replace('/', "%2F").replace(':', "%3A");
        let (there, here) = (format!("{HOST}{}", self.there), format!("{host}{}", self.here));
        text.replace(&there, &here).replace(&escape(&there), &escape(&here))
    }
}

/// Runs the requests of each test of some manifests.
fn hold(manifests: &[&str], place: &Place<'_>) {
    let Some(root) = root() else { return };
    let only = std::env::var("PYRALOG_W3C").ok();
    let excluded = excluded(EXCLUDED);
    let endpoint = Endpoint::start();
    let (mut failures, mut passed) = (Vec::new(), 0);
    for iri in manifests {
        let reader = Reader {
            manifest: Manifest::read(&root, &format!("{BASE}{iri}")),
        };
        let own = node(&oxrdf::NamedNode::new(format!("{BASE}{iri}")).unwrap().into()).unwrap();
        let entries = reader.manifest.list(own.as_ref(), MF, "entries");
        assert!(!entries.is_empty(), "{iri} has no tests");
        for entry in entries {
            let name = format!(
                "{}#{}",
                iri.rsplit_once('/').unwrap().0,
                entry.to_string().trim_end_matches('>').rsplit('#').next().unwrap()
            );
            if only.as_ref().is_some_and(|only| !name.contains(only)) {
                continue;
            }
            match (connection(&endpoint, &reader, &entry, place), excluded.contains_key(name.as_str())) {
                (Ok(()), false) => passed += 1,
                (Err(_), true) => {}
                (Ok(()), true) => failures.push(format!("{name}: passes, but is excluded")),
                (Err(error), false) => failures.push(format!("{name}: {error}")),
            }
        }
    }
    println!("{passed} tests passed, {} failed", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n---\n"));
}

/// The requests of one test, one after the other.
fn connection(endpoint: &Endpoint, reader: &Reader<'_>, entry: &Term, place: &Place<'_>) -> Result<(), String> {
    let data: Data = reader.manifest.data(entry);
    endpoint.prepare(&data)?;
    let test = node(entry).unwrap();
    let action = reader.child(&test, MF, "action").ok_or("no action")?;
    let port = endpoint.server.http_port();
    let host = format!("127.0.0.1:{port}");
    let mut known: Vec<(String, String)> = Vec::new();
    for request in reader.manifest.list(action.as_ref(), HT, "requests") {
        let request = node(&request).unwrap();
        let fill = |text: &str| {
            known
                .iter()
                .fold(place.replace(text, &host), |text, (name, value)| text.replace(name, value))
        };
        let method = reader.text(&request, HT, "methodName").ok_or("no method")?;
        let path = reader.text(&request, HT, "absolutePath").ok_or("no path")?;
        let path = known
            .iter()
            .fold(place.path(&path, &host), |path, (name, value)| path.replace(name, value));
        let headers = reader.headers(&request);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let body = reader.body(&request).unwrap_or_default();
        let body = match String::from_utf8(body) {
            Ok(text) => fill(&text).into_bytes(),
            Err(bytes) => bytes.into_bytes(),
        };
        let answer = pyralog_tests::http::request(port, &method, &path, &headers, &body);
        let expected = reader.child(&request, HT, "resp").ok_or("no response")?;
        check(reader, &expected, &answer, &fill)
            .map_err(|error| format!("{method} {path}: {error}; got {} {}", answer.status, answer.text()))?;
        if let Some(name) = reader.text(&expected, MF, "expectedLocation") {
            known.push((name, answer.header("location").ok_or("no Location")?.to_owned()));
        }
    }
    Ok(())
}

fn check(reader: &Reader<'_>, expected: &NamedOrBlankNode, answer: &Response, fill: &dyn Fn(&str) -> String) -> Result<(), String> {
    let statuses = reader.texts(expected, MF, "expectedStatus");
    let is_status = |name: &String| match name.as_str() {
        "StatusCode2xx" => answer.status / 100 == 2,
        "StatusCode3xx" => answer.status / 100 == 3,
        "StatusCode4xx" => answer.status / 100 == 4,
        "OK" => answer.status == 200,
        "Created" => answer.status == 201,
        "NoContent" => answer.status == 204,
        "NotFound" => answer.status == 404,
        other => panic!("status {other}"),
    };
    if !statuses.iter().any(is_status) {
        return Err(format!("expected one of {statuses:?}"));
    }
    let media = answer
        .header("content-type")
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .to_owned();
    let results = QueryResultsFormat::from_media_type(&media);
    let graph = RdfFormat::from_media_type(&media);
    match reader.text(expected, MF, "expectedFormat").as_deref() {
        Some("boolean" | "tabular") if results.is_none() => return Err(format!("{media} has no results")),
        Some("RDF") if graph.is_none() => return Err(format!("{media} is no RDF")),
        _ => {}
    }
    if let (Some(expected), Some(form)) = (reader.text(expected, MF, "expectedBoolean"), results)
        && !Results::parse(form, &answer.body).is(&Results::Boolean(expected == "true"))
    {
        return Err(format!("expected {expected}"));
    }
    if let Some(body) = reader.body(expected) {
        let wanted = reader.headers(expected);
        let wanted = wanted
            .iter()
            .find(|(name, _)| name == "content-type")
            .and_then(|(_, value)| RdfFormat::from_media_type(value));
        let (Some(wanted), Some(graph)) = (wanted, graph) else {
            return Err(format!("{media} is no RDF"));
        };
        let body = fill(&String::from_utf8_lossy(&body));
        let base = "http://base.example/";
        let parse = |form: RdfFormat, bytes: &[u8]| {
            let parser = RdfParser::from_format(form)
                .with_base_iri(base)
                .unwrap()
                .with_default_graph(GraphName::DefaultGraph);
            quads(parser, bytes)
        };
        if !same_dataset(&parse(wanted, body.as_bytes()), &parse(graph, &answer.body)) {
            return Err(format!("expected {body}"));
        }
    }
    Ok(())
}

#[test]
fn sparql_11_protocol() {
    let place = Place {
        there: "/sparql/",
        here: "/sparql",
    };
    hold(&["sparql11/protocol/manifest.ttl"], &place);
}

#[test]
fn sparql_11_graph_store_protocol() {
    let place = Place {
        there: "/gsp",
        here: "/rdf/w3c/store",
    };
    hold(
        &[
            "sparql11/graph-store-protocol/manifest-direct.ttl",
            "sparql11/graph-store-protocol/manifest-indirect.ttl",
        ],
        &place,
    );
}

/// The three tests of the suite, which has them as words: the endpoint answers with RDF, says its own IRI, and keeps to the schema.
#[test]
fn sparql_11_service_description() {
    const SD: &str = "http://www.w3.org/ns/sparql-service-description#";
    let endpoint = Endpoint::start();
    let port = endpoint.server.http_port();
    for path in ["/sparql", "/rdf/w3c/query"] {
        let answer = pyralog_tests::http::request(port, "GET", path, &[("Accept", "application/n-triples, */*;q=0.1")], b"");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/n-triples")));
        let description = quads(RdfParser::from_format(RdfFormat::NTriples), &answer.body);
        let property = |name: &str| oxrdf::NamedNode::new(format!("{SD}{name}")).unwrap();
        let services: Vec<_> = description
            .iter()
            .filter(|quad| quad.predicate == rdf::TYPE && quad.object == property("Service").as_ref().into())
            .map(|quad| quad.subject)
            .collect();
        let [service] = services.as_slice() else {
            panic!("{} services", services.len())
        };
        let endpoints: Vec<String> = description
            .quads_for_predicate(&property("endpoint"))
            .filter(|quad| quad.subject == *service)
            .map(|quad| quad.object.to_string())
            .collect();
        assert_eq!(endpoints, [format!("<http://127.0.0.1:{port}{path}>")]);
        for quad in description
            .iter()
            .filter(|quad| quad.subject == *service && quad.predicate != rdf::TYPE)
        {
            let known = [
                "endpoint",
                "supportedLanguage",
                "resultFormat",
                "inputFormat",
                "feature",
                "defaultDataset",
            ];
            let name = quad.predicate.as_str().strip_prefix(SD).unwrap_or_else(|| panic!("{quad}"));
            assert!(known.contains(&name), "{quad}");
            assert!(!quad.object.is_literal(), "{quad}");
        }
    }
}
