//! A dataset in a syntax of RDF.

use std::io::{self, Write};

use futures::StreamExt;
use oxrdf::GraphName;
use oxrdfio::{RdfFormat, RdfSerializer};
use pyralog_models::rdf::quads;

use crate::progress::Progress;
use crate::shell::connection::Outcome;

/// Writes the quads of a dataset; how many they were.
pub async fn write(mut outcome: Outcome, format: RdfFormat, target: &mut impl Write, progress: &Progress) -> Result<u64, String> {
    let failed = |error: io::Error| error.to_string();
    let mut serializer = RdfSerializer::from_format(format).for_writer(target);
    let mut count = 0;
    while let Some(batch) = outcome.rows.next().await {
        let batch = batch.map_err(|error| error.to_string())?;
        for quad in quads(&batch).map_err(|error| error.to_string())? {
            if quad.graph_name != GraphName::DefaultGraph && !format.supports_datasets() {
                return Err(format!(
                    "{} holds one graph, and the dataset has {} too: write nq, trig or jsonld",
                    format.name(),
                    quad.graph_name
                ));
            }
            serializer.serialize_quad(&quad).map_err(failed)?;
        }
        count += batch.num_rows() as u64;
        progress.add_rows(batch.num_rows() as u64);
    }
    serializer.finish().and_then(|target| target.flush()).map_err(failed)?;
    Ok(count)
}
