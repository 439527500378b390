//! Writing a segment.

use std::path::Path;

use arrow_array::{RecordBatch, UInt64Array};
use arrow_row::Rows;

use super::SegmentInfo;
use crate::error::Result;
use crate::ids::SegmentId;
use crate::schema::RelationSchema;

/// How a segment is written.
#[derive(Debug, Clone, Copy)]
pub struct SegmentWriteOptions {
    /// Rows of a record batch.
    pub batch_rows: usize,
    /// Whether rows carry commit timestamps of their own.
    pub timestamps: bool,
}

/// Writes one segment. Dropping it before [`Self::finish`] removes its files.
pub struct SegmentWriter {}

impl SegmentWriter {
    /// Starts `<id>.arrow` in `dir`.
    pub fn create(_dir: &Path, _id: SegmentId, _schema: &RelationSchema, _options: SegmentWriteOptions) -> Result<Self> {
        todo!()
    }

    /// Adds rows in file order (key ascending, timestamp descending), continuing earlier calls. `keys`: one a row; `ts`: one a row iff
    /// `options.timestamps`. Rows are cut anew into batches of `batch_rows`.
    pub fn append(&mut self, _rows: &RecordBatch, _keys: &Rows, _ts: Option<&UInt64Array>) -> Result<()> {
        todo!()
    }

    /// Bytes so far, roughly.
    pub fn bytes(&self) -> u64 {
        todo!()
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        todo!()
    }

    /// Writes what is left and the side-car, and syncs both files and the directory.
    pub fn finish(self) -> Result<SegmentInfo> {
        todo!()
    }
}
