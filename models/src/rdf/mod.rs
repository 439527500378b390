//! RDF: datasets of quads over a dictionary of terms.
//!
//! A collection of kind RDF is a [`DatasetDefinition`]: relations of ids, and a dictionary of what the ids stand for.

pub(crate) mod dataset;
pub(crate) mod date_time;
pub(crate) mod dictionary;
mod ingest;
mod load;
pub(crate) mod quad_index;
mod quads_table;
mod remote;
pub(crate) mod sparql;
pub(crate) mod term_column;
mod term_entry;
pub(crate) mod term_id;
mod term_of;
mod values;
mod writer;

pub(crate) use dataset::DatasetDefinition;
pub(crate) use ingest::ingest;
pub(crate) use load::load;
pub use load::{RdfFault, RdfLoad, RdfLoaded};
pub(crate) use quads_table::{QUADS, quads_table};
pub use remote::{Document, Remote, not_allowed};
pub use sparql::{SparqlForm, SparqlJoin, SparqlQuery, SparqlResult};
pub use term_column::{TermColumn, quad_batch, quad_fields, quads, solution_batch, solution_fields};

use tokio::runtime::{Handle, RuntimeFlavor};

/// Rows below which a task does not make room for others while pages are faulted in: to make it takes longer than a few faults.
const FEW: usize = 256;

/// Runs what may fault pages in for so many rows, so that other tasks of this thread go on elsewhere meanwhile.
fn blocking<T>(rows: usize, work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) if rows > FEW => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests;
