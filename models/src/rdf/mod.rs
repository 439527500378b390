//! RDF: datasets of quads over a dictionary of terms.
//!
//! A collection of kind RDF is a [`DatasetDefinition`]: relations of ids, and a dictionary of what the ids stand for.

pub(crate) mod dataset;
pub(crate) mod date_time;
pub(crate) mod dictionary;
mod ingest;
mod quads;
pub(crate) mod term_column;
pub(crate) mod term_id;
mod writer;

pub(crate) use dataset::DatasetDefinition;
pub(crate) use ingest::ingest;
pub(crate) use quads::{QUADS, quads_table};
pub use term_column::{quad_batch, quad_fields};

#[cfg(test)]
mod tests;
