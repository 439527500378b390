//! Results as the files of the suites and as answers have them, and when two of them are the same.

use std::collections::HashMap;
use std::fs;

use oxrdf::dataset::CanonicalizationAlgorithm;
use oxrdf::vocab::{rdf, xsd};
use oxrdf::{BlankNode, Dataset, Graph, GraphName, Literal, NamedNode, NamedOrBlankNodeRef, Quad, Term, TermRef};
use oxrdfio::{RdfFormat, RdfParser};
use sparesults::{QueryResultsFormat, QueryResultsParser, SliceQueryResultsParserOutput};

use super::manifest::File;

const RS: &str = "http://www.w3.org/2001/sw/DataAccess/tests/result-set#";

/// What a query gave, or must give.
#[derive(Debug, Clone)]
pub enum Results {
    /// Of ASK.
    Boolean(bool),
    /// Of SELECT.
    Solutions {
        /// The variables.
        variables: Vec<String>,
        /// The solutions, in their order.
        rows: Vec<HashMap<String, Term>>,
        /// Whether the order counts.
        ordered: bool,
    },
    /// Of CONSTRUCT and DESCRIBE.
    Graph(Dataset),
}

impl Results {
    /// From an answer's or a file's text.
    pub fn parse(format: QueryResultsFormat, bytes: &[u8]) -> Results {
        let parser = QueryResultsParser::from_format(format);
        match parser
            .for_slice(bytes)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
        {
            SliceQueryResultsParserOutput::Boolean(value) => Results::Boolean(value),
            SliceQueryResultsParserOutput::Solutions(solutions) => {
                let variables = solutions.variables().iter().map(|variable| variable.as_str().to_owned()).collect();
                let rows = solutions.map(|solution| {
                    let solution = solution.unwrap_or_else(|error| panic!("{error}"));
                    solution
                        .iter()
                        .map(|(variable, term)| (variable.as_str().to_owned(), term.clone()))
                        .collect()
                });
                Results::Solutions {
                    variables,
                    rows: rows.collect(),
                    ordered: false,
                }
            }
        }
    }

    /// From a file of a suite.
    pub fn read(file: &File) -> Results {
        let bytes = fs::read(&file.path).unwrap_or_else(|error| panic!("{}: {error}", file.path.display()));
        let extension = file.path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if let Some(format) = QueryResultsFormat::from_extension(extension) {
            return Results::parse(format, &bytes);
        }
        let data = dataset(file, GraphName::DefaultGraph);
        let graph: Graph = data
            .iter()
            .map(|quad| oxrdf::TripleRef::new(quad.subject, quad.predicate, quad.object))
            .collect();
        from_graph(&graph).unwrap_or(Results::Graph(data))
    }

    /// Whether both are the same, up to the names of blank nodes.
    pub fn is(&self, other: &Results) -> bool {
        match (self, other) {
            (Results::Boolean(one), Results::Boolean(other)) => one == other,
            (Results::Graph(one), Results::Graph(other)) => same_dataset(one, other),
            (
                Results::Solutions { variables, rows, ordered },
                Results::Solutions {
                    variables: other_variables,
                    rows: other_rows,
                    ..
                },
            ) => {
                let sorted = |names: &[String]| {
                    let mut names = names.to_vec();
                    names.sort();
                    names
                };
                // A file may leave out variables that no solution binds.
                let binds = |name: &String| rows.iter().chain(other_rows).any(|row| row.contains_key(name));
                let bound = |names: &[String]| sorted(&names.iter().filter(|name| binds(name)).cloned().collect::<Vec<_>>());
                bound(variables) == bound(other_variables)
                    && rows.len() == other_rows.len()
                    && matches(
                        rows,
                        other_rows,
                        &mut vec![false; other_rows.len()],
                        *ordered,
                        &mut Names::default(),
                    )
            }
            _ => false,
        }
    }
}

/// Which blank node of one side is which of the other.
#[derive(Default, Clone)]
struct Names {
    there: HashMap<BlankNode, BlankNode>,
    back: HashMap<BlankNode, BlankNode>,
}

impl Names {
    fn same(&mut self, one: &Term, other: &Term) -> bool {
        match (one, other) {
            (Term::BlankNode(one), Term::BlankNode(other)) => match (self.there.get(one), self.back.get(other)) {
                (None, None) => {
                    self.there.insert(one.clone(), other.clone());
                    self.back.insert(other.clone(), one.clone());
                    true
                }
                (Some(known), Some(_)) => known == other,
                _ => false,
            },
            (Term::Literal(one), Term::Literal(other)) if one.language().is_some() => {
                one.value() == other.value() && one.language().map(str::to_lowercase) == other.language().map(str::to_lowercase)
            }
            (Term::Literal(one), Term::Literal(other)) => one == other || same_number(one, other),
            _ => one == other,
        }
    }
}

/// Whether both are one number of one type: how a computed one is written is left to the engine.
fn same_number(one: &Literal, other: &Literal) -> bool {
    let is_number = [xsd::DECIMAL, xsd::DOUBLE, xsd::FLOAT].contains(&one.datatype());
    is_number && one.datatype() == other.datatype() && one.value().parse::<f64>().is_ok_and(|value| other.value().parse() == Ok(value))
}

fn matches(rows: &[HashMap<String, Term>], others: &[HashMap<String, Term>], taken: &mut [bool], ordered: bool, names: &mut Names) -> bool {
    let Some((row, rest)) = rows.split_first() else { return true };
    let at = others.len() - rows.len();
    let candidates = if ordered { at..at + 1 } else { 0..others.len() };
    for i in candidates {
        let other = &others[i];
        if taken[i] || row.len() != other.len() {
            continue;
        }
        let mut tried = names.clone();
        if !row
            .iter()
            .all(|(name, term)| other.get(name).is_some_and(|other| tried.same(term, other)))
        {
            continue;
        }
        taken[i] = true;
        // Without blank nodes any match is as good as another.
        let is_free = tried.there.len() == names.there.len();
        if matches(rest, others, taken, ordered, &mut tried) {
            return true;
        }
        taken[i] = false;
        if is_free {
            return false;
        }
    }
    false
}

/// Results in the vocabulary of result sets; `None` if the graph has none.
fn from_graph(graph: &Graph) -> Option<Results> {
    let name = |name: &str| NamedNode::new(format!("{RS}{name}")).unwrap();
    let set = graph.subject_for_predicate_object(rdf::TYPE, &name("ResultSet"))?;
    let of = |subject: NamedOrBlankNodeRef<'_>, property: &str| -> Vec<Term> {
        let objects = graph
            .objects_for_subject_predicate(subject, &name(property))
            .map(TermRef::into_owned);
        objects.collect()
    };
    if let Some(Term::Literal(value)) = of(set, "boolean").first() {
        return Some(Results::Boolean(value.value() == "true"));
    }
    let text = |term: &Term| match term {
        Term::Literal(literal) => literal.value().to_owned(),
        other => panic!("{other} is no text"),
    };
    let mut rows: Vec<(Option<i64>, HashMap<String, Term>)> = Vec::new();
    for solution in of(set, "solution") {
        let solution = super::manifest::node(&solution).unwrap();
        let mut row = HashMap::new();
        for binding in of(solution.as_ref(), "binding") {
            let binding = super::manifest::node(&binding).unwrap();
            row.insert(text(&of(binding.as_ref(), "variable")[0]), of(binding.as_ref(), "value")[0].clone());
        }
        let index = of(solution.as_ref(), "index").first().map(|index| text(index).parse().unwrap());
        rows.push((index, row));
    }
    rows.sort_by_key(|(index, _)| *index);
    Some(Results::Solutions {
        variables: of(set, "resultVariable").iter().map(text).collect(),
        ordered: rows.iter().all(|(index, _)| index.is_some()) && !rows.is_empty(),
        rows: rows.into_iter().map(|(_, row)| row).collect(),
    })
}

/// The syntax of a file.
pub fn format(file: &File) -> RdfFormat {
    let extension = file.path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    RdfFormat::from_extension(extension).unwrap_or_else(|| panic!("{} is no RDF", file.path.display()))
}

/// A file's triples, in a graph.
pub fn dataset(file: &File, graph: GraphName) -> Dataset {
    let bytes = fs::read(&file.path).unwrap_or_else(|error| panic!("{}: {error}", file.path.display()));
    let parser = RdfParser::from_format(format(file))
        .with_base_iri(&file.iri)
        .unwrap()
        .with_default_graph(graph);
    quads(parser, &bytes)
}

/// The quads of a text.
pub fn quads(parser: RdfParser, bytes: &[u8]) -> Dataset {
    let quads: Result<Vec<Quad>, _> = parser.rename_blank_nodes().for_slice(bytes).collect();
    quads.unwrap_or_else(|error| panic!("{error}")).into_iter().collect()
}

/// Whether both are the same, up to the names of blank nodes.
pub fn same_dataset(one: &Dataset, other: &Dataset) -> bool {
    let canonical = |dataset: &Dataset| {
        let mut dataset: Dataset = dataset.iter().map(lower_case).collect();
        dataset.canonicalize(CanonicalizationAlgorithm::Unstable);
        dataset
    };
    canonical(one) == canonical(other)
}

/// Tags of languages in lower case.
fn lower_case(quad: oxrdf::QuadRef<'_>) -> Quad {
    let mut quad = quad.into_owned();
    if let Term::Literal(literal) = &quad.object
        && let Some(language) = literal.language()
    {
        quad.object = oxrdf::Literal::new_language_tagged_literal_unchecked(literal.value(), language.to_lowercase()).into();
    }
    quad
}
