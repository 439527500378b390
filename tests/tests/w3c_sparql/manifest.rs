//! W3C's manifests: RDF that lists tests, what each takes and what it must give.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use oxrdf::vocab::rdf;
use oxrdf::{Graph, NamedNode, NamedNodeRef, NamedOrBlankNode, NamedOrBlankNodeRef, Term, TermRef};
use oxrdfio::{RdfFormat, RdfParser};

/// The IRI that the suites' folder stands for.
pub const BASE: &str = "https://w3c.github.io/rdf-tests/sparql/";
const MF: &str = "http://www.w3.org/2001/sw/DataAccess/tests/test-manifest#";
const QT: &str = "http://www.w3.org/2001/sw/DataAccess/tests/test-query#";
const UT: &str = "http://www.w3.org/2009/sparql/tests/test-update#";

/// A file of the suites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its IRI.
    pub iri: String,
    /// Where it is.
    pub path: PathBuf,
}

/// A dataset before or after a test.
#[derive(Debug, Clone, Default)]
pub struct Data {
    /// Files of the default graph.
    pub default: Vec<File>,
    /// Named graphs.
    pub named: Vec<(String, File)>,
}

/// One test.
#[derive(Debug, Clone)]
pub struct Test {
    /// Its IRI behind [`BASE`]'s end or the last `/`: what the list of excluded ones names.
    pub name: String,
    /// The kind, such as `QueryEvaluationTest`.
    pub kind: String,
    /// The query or update.
    pub text: File,
    /// What is there before.
    pub before: Data,
    /// The file with the results.
    pub result: Option<File>,
    /// Other endpoints, and their data.
    pub services: Vec<(String, Vec<File>)>,
    /// What an update must leave.
    pub after: Data,
}

/// The tests of some manifests and those that they include.
pub fn tests(root: &Path, manifests: &[&str]) -> Vec<Test> {
    let mut tests = Vec::new();
    let mut left: Vec<String> = manifests.iter().rev().map(|manifest| format!("{BASE}{manifest}")).collect();
    while let Some(iri) = left.pop() {
        let manifest = Manifest::read(root, &iri);
        let node = NamedNode::new(iri.as_str()).unwrap();
        for included in manifest.list(node.as_ref().into(), MF, "include").into_iter().rev() {
            left.push(manifest.file(&included).iri);
        }
        for entry in manifest.list(node.as_ref().into(), MF, "entries") {
            tests.push(manifest.test(&entry));
        }
    }
    tests
}

/// One manifest.
pub struct Manifest<'a> {
    root: &'a Path,
    graph: Graph,
    iri: String,
}

impl<'a> Manifest<'a> {
    /// Reads one.
    pub fn read(root: &'a Path, iri: &str) -> Manifest<'a> {
        let path = path_of(root, iri);
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let parser = RdfParser::from_format(RdfFormat::Turtle).with_base_iri(iri).unwrap();
        let mut graph = Graph::new();
        for quad in parser.for_slice(&bytes) {
            let quad = quad.unwrap_or_else(|error| panic!("{iri}: {error}"));
            graph.insert(&oxrdf::Triple::new(quad.subject, quad.predicate, quad.object));
        }
        Manifest {
            root,
            graph,
            iri: iri.to_owned(),
        }
    }

    fn object(&self, subject: NamedOrBlankNodeRef<'_>, vocabulary: &str, name: &str) -> Option<Term> {
        self.objects(subject, vocabulary, name).into_iter().next()
    }

    /// The objects of a property.
    pub fn objects(&self, subject: NamedOrBlankNodeRef<'_>, vocabulary: &str, name: &str) -> Vec<Term> {
        let predicate = NamedNode::new(format!("{vocabulary}{name}")).unwrap();
        let objects = self.graph.objects_for_subject_predicate(subject, &predicate);
        objects.map(TermRef::into_owned).collect()
    }

    /// The items of the lists that are a property's objects.
    pub fn list(&self, subject: NamedOrBlankNodeRef<'_>, vocabulary: &str, name: &str) -> Vec<Term> {
        let mut items = Vec::new();
        for list in self.objects(subject, vocabulary, name) {
            let mut rest = list;
            while let Some(node) = node(&rest) {
                let of = |name: NamedNodeRef<'_>| {
                    self.graph
                        .object_for_subject_predicate(node.as_ref(), name)
                        .map(TermRef::into_owned)
                };
                let Some(first) = of(rdf::FIRST) else { break };
                items.push(first);
                let Some(next) = of(rdf::REST) else { break };
                rest = next;
            }
        }
        items
    }

    /// A file by its IRI.
    pub fn file(&self, term: &Term) -> File {
        let Term::NamedNode(iri) = term else {
            panic!("{}: {term} is no file", self.iri);
        };
        File {
            path: path_of(self.root, iri.as_str()),
            iri: iri.as_str().to_owned(),
        }
    }

    fn test(&self, entry: &Term) -> Test {
        let subject = node(entry).unwrap();
        let kind = self.graph.object_for_subject_predicate(subject.as_ref(), rdf::TYPE);
        let kind = kind.map(|kind| kind.to_string().trim_end_matches('>').rsplit('#').next().unwrap().to_owned());
        let action = self
            .object(subject.as_ref(), MF, "action")
            .unwrap_or_else(|| panic!("{entry} has no action"));
        let text = match &action {
            Term::NamedNode(_) => action.clone(),
            action => {
                let action = node(action).unwrap();
                let query = self.object(action.as_ref(), QT, "query");
                query
                    .or_else(|| self.object(action.as_ref(), UT, "request"))
                    .unwrap_or_else(|| panic!("{entry} has no text"))
            }
        };
        let result = self.object(subject.as_ref(), MF, "result");
        let folder = self
            .iri
            .strip_prefix(BASE)
            .unwrap()
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder);
        let own = entry.to_string();
        let own = own.trim_end_matches('>').rsplit('#').next().unwrap();
        Test {
            name: format!("{folder}#{own}"),
            kind: kind.unwrap_or_default(),
            text: self.file(&text),
            before: self.data(&action),
            services: self.services(&action),
            after: result.as_ref().map(|result| self.data(result)).unwrap_or_default(),
            result: result
                .filter(|result| matches!(result, Term::NamedNode(_)))
                .map(|result| self.file(&result)),
        }
    }

    /// `qt:serviceData`.
    fn services(&self, holder: &Term) -> Vec<(String, Vec<File>)> {
        let Some(holder) = node(holder) else { return Vec::new() };
        let services = self.objects(holder.as_ref(), QT, "serviceData").into_iter();
        services
            .map(|service| {
                let service = node(&service).unwrap();
                let Some(Term::NamedNode(endpoint)) = self.object(service.as_ref(), QT, "endpoint") else {
                    panic!("{}: a service without its endpoint", self.iri)
                };
                let files = self.objects(service.as_ref(), QT, "data");
                (endpoint.into_string(), files.iter().map(|file| self.file(file)).collect())
            })
            .collect()
    }

    /// `qt:data`, `ut:data` and the named graphs.
    pub fn data(&self, holder: &Term) -> Data {
        let Some(holder) = node(holder) else { return Data::default() };
        let mut data = Data::default();
        for vocabulary in [QT, UT] {
            for file in self.objects(holder.as_ref(), vocabulary, "data") {
                data.default.push(self.file(&file));
            }
            for graph in self.objects(holder.as_ref(), vocabulary, "graphData") {
                match &graph {
                    Term::NamedNode(iri) => data.named.push((iri.as_str().to_owned(), self.file(&graph))),
                    other => {
                        let other = node(other).unwrap();
                        let file = self
                            .object(other.as_ref(), UT, "graph")
                            .or_else(|| self.object(other.as_ref(), UT, "data"));
                        let label = self.object(other.as_ref(), "http://www.w3.org/2000/01/rdf-schema#", "label");
                        if let (Some(file), Some(Term::Literal(label))) = (file, label) {
                            data.named.push((label.value().to_owned(), self.file(&file)));
                        }
                    }
                }
            }
        }
        data
    }
}

/// A term as a subject.
pub fn node(term: &Term) -> Option<NamedOrBlankNode> {
    match term {
        Term::NamedNode(iri) => Some(iri.clone().into()),
        Term::BlankNode(node) => Some(node.clone().into()),
        _ => None,
    }
}

fn path_of(root: &Path, iri: &str) -> PathBuf {
    let relative = iri.strip_prefix(BASE).unwrap_or_else(|| panic!("{iri} is not in the suites"));
    root.join(relative)
}

/// Excluded tests by name, with the reason.
pub fn excluded(text: &str) -> HashMap<&str, &str> {
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines
        .map(|line| line.split_once(' ').unwrap_or_else(|| panic!("no reason: {line}")))
        .collect()
}
