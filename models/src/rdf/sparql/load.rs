//! `LOAD`: the quads of a document from elsewhere, as part of an update's transaction.

use datafusion::arrow::array::RecordBatch;
use futures::StreamExt;
use oxrdf::NamedNode;
use spargebra::term::GraphName;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::rdf::dataset::DatasetDefinition;
use crate::rdf::ingest::encode;
use crate::rdf::remote::not_allowed;
use crate::rdf::term_id::{Encoded, Scope, TermId};
use crate::rdf::writer::{QuadIds, Writer};
use crate::session::OpenTransaction;

/// Adds a document to a graph; one of quads to the default graph's dataset goes to the graphs that it names. The inner error is the document's:
/// it is not to be had, or cannot be read; part of it may have been written then.
pub async fn load(
    engine: &Engine,
    dataset: &DatasetDefinition,
    writer: &mut Writer<'_>,
    transaction: &mut OpenTransaction,
    source: &NamedNode,
    destination: &GraphName,
) -> Result<Result<()>> {
    let Some(remote) = &engine.config.remote else {
        return Ok(Err(not_allowed(source.as_str())));
    };
    let mut rows = match remote.document(source.as_str()).await {
        Ok(rows) => rows,
        Err(error) => return Ok(Err(error)),
    };
    // Blank nodes of this document are no others'.
    let scope = Scope::new(engine.catalog.allocate_rows(dataset.terms.id, 1).await?);
    let graph = match destination {
        GraphName::DefaultGraph => None,
        GraphName::NamedNode(iri) => Some(Encoded::iri(iri.as_ref())),
    };
    if let Some(graph) = &graph {
        // Without triples, too, it is there then.
        let ids = writer.ids(transaction, std::slice::from_ref(graph)).await?;
        writer.add_graphs(transaction, ids).await?;
    }
    while let Some(batch) = rows.next().await {
        let terms = batch
            .map_err(Error::from)
            .and_then(|batch| terms(&batch, &scope, graph.as_ref(), source));
        let terms = match terms {
            Ok(terms) => terms,
            Err(error) => return Ok(Err(error)),
        };
        let ids = writer.ids(transaction, &terms).await?;
        let quads: Vec<QuadIds> = ids.chunks_exact(4).map(|quad| [quad[0], quad[1], quad[2], quad[3]]).collect();
        writer.put(transaction, &quads).await?;
    }
    Ok(Ok(()))
}

/// The terms of a batch, four a quad, in this graph if it is given.
fn terms(batch: &RecordBatch, scope: &Scope, graph: Option<&Encoded>, source: &NamedNode) -> Result<Vec<Encoded>> {
    let mut terms = encode(batch, scope)?;
    let Some(graph) = graph else { return Ok(terms) };
    for own in terms.iter_mut().skip(3).step_by(4) {
        if *own != Encoded::Inline(TermId::DEFAULT_GRAPH) {
            let message = format!("{source} has graphs of its own, which cannot go into one graph");
            return Err(Error::invalid("22000", message).with_hint("LOAD it without INTO GRAPH"));
        }
        *own = graph.clone();
    }
    Ok(terms)
}
