//! Bodies that are RDF, as batches of quads.

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use oxrdf::GraphName;
use oxrdfio::{RdfFormat, RdfParser};
use pyralog_models::rdf::{quad_batch, quad_fields};
use pyralog_models::{Error, ErrorKind};

use crate::import::rdf::{BATCH_BYTES, fault, term_bytes};

/// Most quads of one batch.
const BATCH: usize = 8192;

/// A body that is RDF.
pub struct Upload {
    /// Its syntax.
    pub format: RdfFormat,
    /// Against what its relative IRIs are resolved.
    pub base: String,
    /// Its text.
    pub body: Bytes,
}

/// The quads of a body, all of them in one graph if it is given.
pub fn rows(upload: Upload, graph: Option<GraphName>) -> Result<SendableRecordBatchStream, Error> {
    let mut parser = RdfParser::from_format(upload.format)
        .with_base_iri(upload.base.as_str())
        .map_err(|error| {
            Error::new(
                ErrorKind::InvalidInput,
                "22000",
                format!("the base <{}> is no IRI: {error}", upload.base),
            )
        })?;
    if let Some(graph) = graph {
        parser = parser.without_named_graphs().with_default_graph(graph);
    }
    let schema: SchemaRef = Schema::new(quad_fields()).into();
    let mut quads = parser.for_reader(std::io::Cursor::new(upload.body)).fuse();
    let batches = std::iter::from_fn(move || {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            match quads.next() {
                Some(Ok(quad)) => {
                    bytes += term_bytes(&quad);
                    batch.push(quad);
                }
                Some(Err(error)) => return Some(Err(fault(error).into())),
                None => break,
            }
        }
        (!batch.is_empty()).then(|| quad_batch(&batch).map_err(DataFusionError::from))
    });
    let batches: Box<dyn Iterator<Item = Result<RecordBatch, DataFusionError>> + Send> = Box::new(batches);
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches))))
}
