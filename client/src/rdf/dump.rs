//! All quads of a dataset, or of one of its graphs.

use std::future::IntoFuture;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::query::Query;
use super::term::{Term, is_foreign_to_iris};
use super::{Dataset, Quads};
use crate::error::{ClientError, Result};
use crate::text::quoted_name;

/// A dump that has not begun; `.await` its quads.
///
/// ```no_run
/// # async fn f(db: pyralog_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let quads = db.rdf("kb").dump().graph("urn:people").await?;
/// let written = quads.write_nquads(&mut tokio::fs::File::create("people.nq").await?).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a dump begins only when it is awaited"]
pub struct Dump {
    dataset: Dataset,
    part: Part,
    limit: Option<Duration>,
}

#[derive(Debug)]
enum Part {
    All,
    DefaultGraph,
    Graph(String),
}

impl Dump {
    pub(super) fn new(dataset: Dataset) -> Self {
        Dump {
            dataset,
            part: Part::All,
            limit: None,
        }
    }

    /// Only the graph with this IRI.
    pub fn graph(mut self, iri: impl Into<String>) -> Self {
        self.part = Part::Graph(iri.into());
        self
    }

    /// Only the default graph.
    pub fn default_graph(mut self) -> Self {
        self.part = Part::DefaultGraph;
        self
    }

    /// How long it may take, up to its last quad.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    fn query(&self) -> Result<Query<Quads>> {
        // A graph is asked for in SPARQL, which finds its quads without reading the others.
        match &self.part {
            Part::All => {
                let quads = format!("{}.quads", quoted_name(&self.dataset.name));
                Ok(self
                    .dataset
                    .ask_sql(format!("SELECT subject, predicate, object, graph FROM {quads}")))
            }
            Part::DefaultGraph => Ok(self
                .dataset
                .call("SELECT ?subject ?predicate ?object ?graph { ?subject ?predicate ?object }")),
            Part::Graph(iri) if iri.is_empty() || iri.contains(is_foreign_to_iris) => {
                Err(ClientError::usage(format!("the graph {iri:?} is no IRI")))
            }
            Part::Graph(iri) => {
                let graph = Term::iri(iri);
                Ok(self.dataset.call(&format!(
                    "SELECT ?subject ?predicate ?object ({graph} AS ?graph) {{ GRAPH {graph} {{ ?subject ?predicate ?object }} }}"
                )))
            }
        }
    }
}

impl IntoFuture for Dump {
    type Output = Result<Quads>;
    type IntoFuture = BoxFuture<'static, Result<Quads>>;

    fn into_future(self) -> Self::IntoFuture {
        async move {
            let query = self.query()?;
            match self.limit {
                Some(limit) => query.timeout(limit).await,
                None => query.await,
            }
        }
        .boxed()
    }
}
