//! Queries: what is asked, of which graphs, in which form the answer comes.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::datasource::{TableProvider, ViewTable};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::ident;
use futures::StreamExt;
use oxrdf::NamedNode;
use spargebra::Query;
use spargebra::algebra::{GraphPattern, QueryDataset as Clauses};
use spargebra::term::Variable;
use tokio::time::Instant;

use super::context::QueryContext;
use super::growth::{self, Growth};
use super::pattern::{QueryDataset, Translator};
use super::plan::Runner;
use super::plan_cache::{self, Asks, Kept, Known};
use super::projected::projected;
use super::solutions::{Binding, Names, Solutions, unbound};
use super::triple::{Graphs, Quads};
use super::{describe, scope, template, text};
use crate::catalog::{DEFAULT_SCHEMA, Object, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::large_stack::OnLargeStack;
use crate::rdf::dataset::{DatasetDefinition, QUAD};
use crate::rdf::dictionary::Dictionary;
use crate::rdf::quad_index::QuadIndex;
use crate::rdf::remote::Remote;
use crate::rdf::term_id::{Encoded, TermId};
use crate::rdf::term_of::{Face, TermOf};
use crate::session::{Deadline, Reader, Session, timed_out};

/// Most scans, joins and other operators of one query: the time to plan them grows faster than they do.
const MAX_OPERATORS: usize = 200;

/// A query of SPARQL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct SparqlQuery {
    /// The dataset's name.
    pub dataset: String,
    /// The query.
    pub text: String,
    /// Against what its relative IRIs are resolved.
    pub base: Option<String>,
    /// IRIs of graphs that are the default graph together, in place of the query's own FROM.
    pub default_graphs: Vec<String>,
    /// IRIs of graphs that can be named, in place of the query's own FROM NAMED.
    pub named_graphs: Vec<String>,
    /// Whether all graphs together are the default graph of a query that names none.
    pub union_default_graph: bool,
    /// How triples are joined.
    pub join: SparqlJoin,
}

/// How the triples of patterns are joined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SparqlJoin {
    /// As is expected to be the fastest.
    #[default]
    Auto,
    /// By looking them up for each solution.
    Lookup,
    /// By hash, from scans.
    Hash,
    /// In the best of all orders, also where the search for it is not worth while.
    Search,
}

/// The answer to a query. Dropping a stream stops the work.
pub enum SparqlResult {
    /// Of ASK.
    Boolean(bool),
    /// Of SELECT: a column for each variable, null where it is unbound, with structs as in `kb.quads`.
    Solutions(SchemaRef, SendableRecordBatchStream),
    /// Of CONSTRUCT and DESCRIBE: quads without graph, as in `kb.quads`, each once.
    Graph(SendableRecordBatchStream),
}

/// One query about to be translated.
pub struct Evaluation<'a> {
    /// The dataset.
    pub dataset: &'a DatasetDefinition,
    /// The snapshot.
    pub reader: &'a Reader,
    /// The terms.
    pub context: QueryContext,
    /// How triples are joined.
    pub join: SparqlJoin,
}

impl<'a> Evaluation<'a> {
    /// One query at a snapshot.
    pub fn new(dataset: &'a DatasetDefinition, reader: &'a Reader, remote: Option<Arc<dyn Remote>>) -> Result<Evaluation<'a>> {
        Ok(Evaluation {
            dataset,
            reader,
            context: QueryContext::new(Dictionary::open(dataset, reader)?, remote),
            join: SparqlJoin::Auto,
        })
    }

    /// The solutions of a pattern.
    pub fn solutions(&self, pattern: &GraphPattern, graphs: QueryDataset, base: Option<NamedNode>) -> Result<Solutions> {
        let operators = scope::operators(pattern);
        if operators > MAX_OPERATORS {
            let message = format!("the query becomes {operators} scans, joins and other operators; at most {MAX_OPERATORS} are planned");
            return Err(Error::invalid("54001", message).with_hint("ask in several queries"));
        }
        growth::check_expressions(pattern)?;
        let default = graphs.default.clone();
        let index = QuadIndex::open(self.dataset, self.reader)?;
        let mut translator = Translator {
            quads: Quads {
                dataset: self.dataset,
                reader: self.reader,
                index: Some(Arc::clone(&index)),
            },
            context: self.context.clone(),
            dataset: graphs,
            names: Names::default(),
            base,
            join: self.join,
            index,
            injected: None,
            growth: Growth::default(),
        };
        let solutions = translator.pattern(pattern, &default)?.sorted()?;
        growth::check_plan(&solutions.plan)?;
        Ok(solutions)
    }

    /// The terms of some variables, in the order of the solutions.
    fn terms(&self, solutions: Solutions, variables: &[Variable], face: Face) -> Result<LogicalPlan> {
        let columns: Vec<_> = variables
            .iter()
            .map(|variable| {
                let binding = solutions.variables.get(variable.as_str());
                let value = binding.map_or_else(unbound, Binding::expr);
                TermOf::new(self.context.clone(), face).call(value).alias(variable.as_str())
            })
            .collect();
        projected(solutions.plan, columns)
    }

    /// The graphs of FROM and FROM NAMED, or all that are stored.
    pub fn graphs(&self, clauses: Option<&Clauses>, union_default_graph: bool) -> Result<QueryDataset> {
        let Some(clauses) = clauses else {
            let default = match union_default_graph {
                true => Graphs::Merged(None),
                false => Graphs::One(TermId::DEFAULT_GRAPH),
            };
            return Ok(QueryDataset { default, named: None });
        };
        let ids = |graphs: &[NamedNode]| -> Result<Vec<TermId>> {
            graphs.iter().map(|iri| self.context.id(Encoded::iri(iri.as_ref()))).collect()
        };
        let default = match ids(&clauses.default)?.as_slice() {
            [one] => Graphs::One(*one),
            several => Graphs::Merged(Some(several.to_vec())),
        };
        Ok(QueryDataset {
            default,
            // WITH leaves all of them.
            named: clauses.named.as_deref().map(ids).transpose()?,
        })
    }
}

/// A `SELECT` query as a table: a column of text for each variable, null where it is unbound.
pub(crate) fn table(
    dataset: &DatasetDefinition,
    reader: &Reader,
    remote: Option<Arc<dyn Remote>>,
    query: &str,
) -> Result<Arc<dyn TableProvider>> {
    let Query::Select {
        dataset: clauses,
        pattern,
        base_iri,
    } = text::query(query, None)?
    else {
        return Err(Error::invalid("42601", "sparql() takes a SELECT query"));
    };
    let evaluation = Evaluation::new(dataset, reader, remote)?;
    let graphs = evaluation.graphs(clauses.as_ref(), false)?;
    let solutions = evaluation.solutions(&pattern, graphs, base_of(base_iri))?;
    let plan = evaluation.terms(solutions, &selected(query, &pattern)?, Face::Text)?;
    Ok(Arc::new(ViewTable::new(plan, Some(query.to_owned()))))
}

/// The variables of the outermost SELECT, in its order; for `*` in the order of the text.
pub fn selected(text: &str, pattern: &GraphPattern) -> Result<Vec<Variable>> {
    match pattern {
        GraphPattern::Project { variables, .. } => {
            let mut variables = variables.clone();
            if let Some(order) = text::star_order(text) {
                variables.sort_by_key(|variable| order.iter().position(|name| *name == variable.as_str()));
            }
            Ok(variables)
        }
        GraphPattern::Distinct { inner } | GraphPattern::Reduced { inner } | GraphPattern::Slice { inner, .. } => selected(text, inner),
        _ => Err(Error::internal("a SELECT query without a projection")),
    }
}

/// The base that a text has.
pub fn base_of(iri: Option<oxiri::Iri<String>>) -> Option<NamedNode> {
    iri.map(|iri| NamedNode::new_unchecked(iri.into_inner()))
}

fn named_nodes(iris: &[String]) -> Result<Vec<NamedNode>> {
    iris.iter()
        .map(|iri| NamedNode::new(iri.as_str()).map_err(|error| Error::invalid("22000", format!("the graph <{iri}> is no IRI: {error}"))))
        .collect()
}

/// The graphs that a request names, which go before those of the text.
pub fn clauses_of(query: &SparqlQuery) -> Result<Option<Clauses>> {
    if query.default_graphs.is_empty() && query.named_graphs.is_empty() {
        return Ok(None);
    }
    Ok(Some(Clauses {
        default: named_nodes(&query.default_graphs)?,
        named: Some(named_nodes(&query.named_graphs)?),
    }))
}

impl Asks {
    async fn answer(self, mut rows: SendableRecordBatchStream) -> Result<SparqlResult> {
        match self {
            Asks::Select => Ok(SparqlResult::Solutions(rows.schema(), rows)),
            Asks::Ask => {
                while let Some(batch) = rows.next().await {
                    if batch?.num_rows() > 0 {
                        return Ok(SparqlResult::Boolean(true));
                    }
                }
                Ok(SparqlResult::Boolean(false))
            }
        }
    }
}

impl Session {
    /// Runs a query of SPARQL: in the open transaction, or at the newest snapshot.
    pub async fn sparql(&self, query: SparqlQuery) -> Result<SparqlResult> {
        let started = Instant::now();
        let limit = self.statement_timeout();
        let work = OnLargeStack::new(self.run_sparql(&query));
        let result = match limit {
            None => work.await,
            Some(limit) => match tokio::time::timeout_at(started + limit, work).await {
                Ok(Ok(SparqlResult::Solutions(schema, stream))) => {
                    Ok(SparqlResult::Solutions(schema, Deadline::wrap(stream, started, limit)))
                }
                Ok(Ok(SparqlResult::Graph(stream))) => Ok(SparqlResult::Graph(Deadline::wrap(stream, started, limit))),
                Ok(result) => result,
                Err(_) => Err(timed_out(limit)),
            },
        };
        self.engine().count(&result);
        result
    }

    async fn run_sparql(&self, query: &SparqlQuery) -> Result<SparqlResult> {
        let plans = &self.engine().plans;
        let known = plans.find(query);
        if let Known::Kept(kept) = &known {
            self.fresh_to_read().await?;
            let dataset = self.dataset(&query.dataset)?;
            if kept.is_of(&dataset, &self.reader().await?)
                && let Some(plan) = kept.plan.again()?
            {
                plans.count_run();
                return kept.asks.answer(plan.run()?).await;
            }
        }
        let parsed = text::query(&query.text, query.base.as_deref())?;
        self.fresh_to_read().await?;
        let is_kept = !matches!(known, Known::New) && plan_cache::is_repeatable(&query.text);
        self.evaluate(query, parsed, is_kept).await
    }

    /// Answers a query of which the text is parsed, from what is fresh.
    pub(crate) async fn answer(&self, query: &SparqlQuery, parsed: Query) -> Result<SparqlResult> {
        self.evaluate(query, parsed, false).await
    }

    /// Answers a query; its plan is kept if that is wanted and possible.
    async fn evaluate(&self, query: &SparqlQuery, parsed: Query, is_kept: bool) -> Result<SparqlResult> {
        let dataset = self.dataset(&query.dataset)?;
        let reader = self.reader().await?;
        let mut evaluation = Evaluation::new(&dataset, &reader, self.engine().config.remote.clone())?;
        evaluation.join = query.join;
        let given = clauses_of(query)?;
        let graphs_of = |clauses: Option<&Clauses>| evaluation.graphs(given.as_ref().or(clauses), query.union_default_graph);
        let runner = Runner::new(self);
        let (asks, plan) = match parsed {
            Query::Select {
                dataset: clauses,
                pattern,
                base_iri,
            } => {
                let solutions = evaluation.solutions(&pattern, graphs_of(clauses.as_ref())?, base_of(base_iri))?;
                let plan = evaluation.terms(solutions, &selected(&query.text, &pattern)?, Face::Parts)?;
                (Asks::Select, plan)
            }
            Query::Ask {
                dataset: clauses,
                pattern,
                base_iri,
            } => {
                let solutions = evaluation.solutions(&pattern, graphs_of(clauses.as_ref())?, base_of(base_iri))?;
                (Asks::Ask, solutions.slice(0, Some(1))?.plan)
            }
            Query::Construct {
                template,
                dataset: clauses,
                pattern,
                base_iri,
            } => {
                let solutions = evaluation.solutions(&pattern, graphs_of(clauses.as_ref())?, base_of(base_iri))?;
                let stream = template::construct(&evaluation.context, &template, solutions, &runner).await?;
                return Ok(SparqlResult::Graph(stream));
            }
            Query::Describe {
                dataset: clauses,
                pattern,
                base_iri,
            } => {
                let graphs = graphs_of(clauses.as_ref())?;
                let default = graphs.default.clone();
                let solutions = evaluation.solutions(&pattern, graphs, base_of(base_iri))?;
                let stream = describe::describe(&evaluation, solutions, &default, &runner).await?;
                return Ok(SparqlResult::Graph(stream));
            }
        };
        let prepared = runner.prepare(&plan).await?;
        if is_kept
            && matches!(reader, Reader::Snapshot { .. })
            && let Some(plan) = prepared.again()?
        {
            let context = evaluation.context.clone();
            let kept = Kept {
                asks,
                plan,
                context,
                dataset,
                reader,
            };
            self.engine().plans.keep(self.engine(), query, kept);
        }
        asks.answer(prepared.run()?).await
    }

    /// All quads of a dataset, as rows of `kb.quads`: in the open transaction, or at the newest snapshot.
    pub async fn rdf_quads(&self, dataset: &str) -> Result<SendableRecordBatchStream> {
        self.fresh_to_read().await?;
        let dataset = self.dataset(dataset)?;
        let reader = self.reader().await?;
        let evaluation = Evaluation::new(&dataset, &reader, None)?;
        let quads = Quads {
            dataset: &dataset,
            reader: &reader,
            index: None,
        };
        let columns = QUAD.map(|place| TermOf::new(evaluation.context.clone(), Face::Parts).call(ident(place)).alias(place));
        let plan = LogicalPlanBuilder::from(quads.all(&Graphs::Merged(None))?)
            .project(columns)?
            .build()?;
        Runner::new(self).start(&plan).await
    }

    /// A dataset by its name.
    pub(crate) fn dataset(&self, name: &str) -> Result<DatasetDefinition> {
        let name = ObjectName {
            schema: DEFAULT_SCHEMA.to_owned(),
            name: name.to_owned(),
        };
        let catalog = self.engine().catalog.snapshot()?;
        match catalog.get(&name).map(|entry| entry.object.as_ref()) {
            Some(Object::Dataset(dataset)) => Ok(dataset.clone()),
            Some(_) => Err(Error::invalid("42809", format!("{name} is not a dataset of RDF"))),
            None => Err(Error::new(ErrorKind::NotFound, "42P01", format!("dataset {name} does not exist"))
                .with_hint(format!("CREATE COLLECTION {} AS RDF makes it", name.name))),
        }
    }
}
