//! Reading a segment.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{RecordBatch, UInt64Array};
use arrow_row::Rows;

use super::{DistinctSketch, SegmentInfo};
use crate::error::Result;
use crate::ids::{SegmentId, Timestamp};
use crate::key::KeyEncoder;
use crate::schema::RelationSchema;
use crate::zone_map::ZoneMaps;

/// Commit timestamps of the rows of a batch.
#[derive(Debug, Clone)]
pub enum Timestamps {
    /// All rows have the same.
    Uniform(Timestamp),
    /// One a row.
    Column(UInt64Array),
}

impl Timestamps {
    /// The timestamp of one row.
    pub fn at(&self, row: usize) -> Timestamp {
        match self {
            Timestamps::Uniform(ts) => *ts,
            Timestamps::Column(column) => Timestamp(column.value(row)),
        }
    }
}

/// An open segment.
#[derive(Debug)]
pub struct Segment {}

impl Segment {
    /// Opens a segment: checks the side-car whole and the ends of the segment file; reads no rows. `uniform_ts` is needed iff
    /// `!info.timestamps`.
    pub fn open(_dir: &Path, _info: SegmentInfo, _uniform_ts: Option<Timestamp>) -> Result<Arc<Segment>> {
        todo!()
    }

    /// The segment's id.
    pub fn id(&self) -> SegmentId {
        todo!()
    }

    /// What the manifest knows.
    pub fn info(&self) -> &SegmentInfo {
        todo!()
    }

    /// The segment file.
    pub fn path(&self) -> &PathBuf {
        todo!()
    }

    /// The commit timestamp of all rows, if they share one.
    pub fn uniform_ts(&self) -> Option<Timestamp> {
        todo!()
    }

    /// The newest commit timestamp of a row.
    pub fn max_timestamp(&self) -> Timestamp {
        todo!()
    }

    /// Record batches.
    pub fn batch_count(&self) -> usize {
        todo!()
    }

    /// Rows of a batch.
    pub fn batch_rows(&self, _batch: usize) -> usize {
        todo!()
    }

    /// The first row of a batch, counted over the segment.
    pub fn batch_start(&self, _batch: usize) -> u32 {
        todo!()
    }

    /// The batch that holds a row, and its position there.
    pub fn locate(&self, _row: u32) -> (usize, usize) {
        todo!()
    }

    /// First key of a batch.
    pub fn first_key(&self, _batch: usize) -> &[u8] {
        todo!()
    }

    /// Last key of a batch.
    pub fn last_key(&self, _batch: usize) -> &[u8] {
        todo!()
    }

    /// All rows of a batch. `schema` is the current one: columns are mapped by field id, missing ones are null; `projection` are positions in
    /// it, [`RelationSchema::timestamp_column`] gives `_ts`.
    pub fn read(&self, _batch: usize, _schema: &RelationSchema, _projection: &[usize]) -> Result<RecordBatch> {
        todo!()
    }

    /// Commit timestamps of a batch.
    pub fn timestamps(&self, _batch: usize) -> Result<Timestamps> {
        todo!()
    }

    /// Newest commit timestamp within a batch (without reading it).
    pub fn batch_max_timestamp(&self, _batch: usize) -> Timestamp {
        todo!()
    }

    /// Encoded keys of a batch.
    pub fn keys(&self, _batch: usize, _encoder: &KeyEncoder) -> Result<Rows> {
        todo!()
    }

    /// Rows (counted over the segment) that hold versions of `key`, newest first; empty if none. `hash` is [`crate::key::key_hash`].
    pub fn find(&self, _key: &[u8], _hash: u64, _encoder: &KeyEncoder) -> Result<Range<u32>> {
        todo!()
    }

    /// The first row whose key is not below `key`.
    pub fn lower_bound(&self, _key: &[u8], _encoder: &KeyEncoder) -> Result<u32> {
        todo!()
    }

    /// Zone maps in the positions of `schema`. Cached.
    pub fn zone_maps(&self, _schema: &RelationSchema) -> Arc<ZoneMaps> {
        todo!()
    }

    /// Whether the zone maps of a column give its exact bounds (no truncated string, no NaN).
    pub fn zones_exact(&self, _field_id: u32) -> bool {
        todo!()
    }

    /// Estimated distinct values of a column.
    pub fn distinct(&self, _field_id: u32) -> Option<u64> {
        todo!()
    }

    /// The sketch behind [`Self::distinct`], to merge over segments.
    pub fn distinct_sketch(&self, _field_id: u32) -> Option<&DistinctSketch> {
        todo!()
    }

    /// Removes the files when the last user lets go.
    pub fn remove_on_drop(&self) {
        todo!()
    }

    /// Reads both files whole and checks every checksum.
    pub fn verify(&self) -> Result<()> {
        todo!()
    }
}
