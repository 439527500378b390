//! `LOAD`: the quads of a document from elsewhere, as part of an update's transaction.

use oxrdf::NamedNode;
use spargebra::term::GraphName;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::rdf::dataset::DatasetDefinition;
use crate::rdf::load::{self, RdfLoad};
use crate::rdf::remote::not_allowed;
use crate::rdf::term_id::Encoded;
use crate::rdf::writer::Writer;
use crate::session::OpenTransaction;

/// Adds a document to a graph; one of quads to the default graph's dataset goes to the graphs that it names. Where this fails, part of it may
/// have been written.
pub async fn load(
    engine: &Engine,
    dataset: &DatasetDefinition,
    writer: &mut Writer<'_>,
    transaction: &mut OpenTransaction,
    source: &NamedNode,
    destination: &GraphName,
) -> Result<()> {
    let Some(remote) = &engine.config.remote else {
        return Err(not_allowed(source.as_str()));
    };
    let document = remote.document(source.as_str()).await?;
    let graph = match destination {
        GraphName::DefaultGraph => None,
        GraphName::NamedNode(iri) => Some(iri),
    };
    if let Some(graph) = graph {
        // Without triples, too, it is there then.
        let ids = writer.ids(transaction, &[Encoded::iri(graph.as_ref())]).await?;
        writer.add_graphs(transaction, ids).await?;
    }
    let how = RdfLoad {
        dataset: (None, String::new()),
        format: document.format,
        base: Some(document.base.clone()),
        graph: graph.map(|graph| graph.clone().into()),
        lenient: false,
    };
    let loaded = load::load(engine, transaction, dataset, how, document.text).await;
    loaded.map(|_| ()).map_err(|error| in_document(error, &document.base))
}

/// The error with its place in the document, which is none in the update's text.
fn in_document(error: Error, document: &str) -> Error {
    match error.position {
        Some(place) => Error {
            message: format!("<{document}>, line {}, column {}: {}", place.line, place.column, error.message),
            position: None,
            ..error
        },
        None if error.code == "22000" => Error {
            message: format!("<{document}>: {}", error.message),
            ..error
        },
        None => error,
    }
}
