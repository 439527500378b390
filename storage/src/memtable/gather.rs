//! Rows of a memtable in another order, as batches.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_select::interleave::interleave_record_batch;

use super::{Chunk, Memtable, Version};
use crate::error::Result;
use crate::projection::project;
use crate::schema::RelationSchema;

/// The chunks of a memtable in the columns of a schema.
pub(crate) struct Gather {
    chunks: Vec<Arc<Chunk>>,
    rows: Vec<RecordBatch>,
}

impl Gather {
    /// What is in `memtable` now, as rows of `schema`.
    pub fn new(memtable: &Memtable, schema: &RelationSchema) -> Result<Self> {
        let all: Vec<usize> = (0..schema.schema.fields().len()).collect();
        let chunks = memtable.chunks();
        let rows = chunks
            .iter()
            .map(|chunk| project(chunk.rows(), chunk.schema(), schema, &all, || chunk.begin_column()));
        Ok(Gather {
            rows: rows.collect::<Result<_>>()?,
            chunks,
        })
    }

    /// The rows of `versions`, in their order; a slice where they lie together.
    pub fn rows(&self, versions: &[Version]) -> Result<RecordBatch> {
        let place = |version: &Version| {
            let chunk = self.chunks.partition_point(|chunk| chunk.start() <= version.ordinal) - 1;
            (chunk, (version.ordinal - self.chunks[chunk].start()) as usize)
        };
        let places: Vec<(usize, usize)> = versions.iter().map(place).collect();
        if let Some((chunk, start)) = places.first().copied()
            && places.iter().enumerate().all(|(i, place)| *place == (chunk, start + i))
        {
            return Ok(self.rows[chunk].slice(start, places.len()));
        }
        let rows: Vec<&RecordBatch> = self.rows.iter().collect();
        Ok(interleave_record_batch(&rows, &places)?)
    }

    /// The rows of `versions` in batches of at most `batch_rows`.
    pub fn pages<'a>(&'a self, versions: &'a [Version], batch_rows: usize) -> impl Iterator<Item = Result<RecordBatch>> {
        versions.chunks(batch_rows.max(1)).map(|page| self.rows(page))
    }
}
