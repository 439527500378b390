//! What a reader pins: a timestamp together with the segments, delete bitmaps and memtables that are visible at it.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};

use crate::error::Result;
use crate::ids::{RelationId, Timestamp};
use crate::schema::RelationSchema;
use crate::zone_map::{ColumnSummary, ZoneMaps};

/// A pinned state of one partition. Cheap to clone; files and row versions stay while a clone lives.
#[derive(Clone)]
pub struct Snapshot {}

impl Snapshot {
    /// The timestamp of this snapshot.
    pub fn timestamp(&self) -> Timestamp {
        todo!()
    }

    /// One relation as of this snapshot.
    pub fn relation(&self, _id: RelationId) -> Result<RelationView> {
        todo!()
    }
}

/// One relation at one snapshot, perhaps with a transaction's own writes over it. Cheap to clone, `Send + Sync`.
#[derive(Clone)]
pub struct RelationView {}

/// Where a row lies within a view (only valid for that view and its clones).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowAddress {
    /// Which piece of [`RelationView::pieces`].
    pub piece: u32,
    /// Which row of the piece, counted before masking.
    pub row: u32,
}

/// A range of keys, as arrow-row encoded bytes from [`RelationView::encode_keys`].
#[derive(Debug, Clone, Default)]
pub struct KeyRange {
    /// Inclusive lower end.
    pub start: Option<Vec<u8>>,
    /// Exclusive upper end.
    pub end: Option<Vec<u8>>,
}

impl RelationView {
    /// The relation's schema.
    pub fn schema(&self) -> &Arc<RelationSchema> {
        todo!()
    }

    /// The exact number of visible rows.
    pub fn row_count(&self) -> u64 {
        todo!()
    }

    /// Bytes of the visible data, estimated.
    pub fn byte_size(&self) -> u64 {
        todo!()
    }

    /// What is known of a column without reading rows.
    pub fn column_summary(&self, _column: usize) -> ColumnSummary {
        todo!()
    }

    /// The pieces that together hold every visible row exactly once.
    pub fn pieces(&self) -> &[ScanPiece] {
        todo!()
    }

    /// Key columns (one array a key column, in key order) as arrow-row bytes, one a row. Byte order is key order.
    pub fn encode_keys(&self, _columns: &[ArrayRef]) -> Result<Vec<Box<[u8]>>> {
        todo!()
    }

    /// The addresses of visible rows with these keys (arrays as in [`Self::encode_keys`]), one answer a key.
    pub fn lookup(&self, _columns: &[ArrayRef]) -> Result<Vec<Option<RowAddress>>> {
        todo!()
    }

    /// Reads rows by address, in the order asked for. `projection` as in [`ScanPiece::read`].
    pub fn fetch(&self, _addresses: &[RowAddress], _projection: &[usize]) -> Result<RecordBatch> {
        todo!()
    }

    /// Visible rows in key order within a range, as batches of at most `batch_rows`, lazily.
    pub fn scan_ordered(
        &self,
        _range: &KeyRange,
        _projection: &[usize],
        _batch_rows: usize,
    ) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>> + Send>> {
        todo!()
    }
}

/// A unit of scanning: one segment, or one memtable's rows.
#[derive(Clone)]
pub struct ScanPiece {}

impl ScanPiece {
    /// Number of batches.
    pub fn batch_count(&self) -> usize {
        todo!()
    }

    /// Rows before masking in one batch.
    pub fn batch_rows(&self, _batch: usize) -> usize {
        todo!()
    }

    /// Visible rows over all batches.
    pub fn visible_rows(&self) -> u64 {
        todo!()
    }

    /// Whether rows lie in key order, across batches.
    pub fn is_sorted(&self) -> bool {
        todo!()
    }

    /// First and last key (arrow-row encoded), masked rows included; `None` when empty or unsorted.
    pub fn key_range(&self) -> Option<(&[u8], &[u8])> {
        todo!()
    }

    /// Zone maps, in the positions of the relation's schema; `None` for memtables.
    pub fn zone_maps(&self) -> Option<Arc<ZoneMaps>> {
        todo!()
    }

    /// Reads the visible rows of one batch; `None` when there are none. May block on page faults: call it from a blocking thread.
    ///
    /// `projection` are positions in the relation's schema; [`RelationSchema::timestamp_column`] stands for the commit timestamp.
    /// Columns are zero-copy views of the memory map where no row is masked.
    pub fn read(&self, _batch: usize, _projection: &[usize]) -> Result<Option<RecordBatch>> {
        todo!()
    }

    /// As [`Self::read`], and the row numbers (for [`RowAddress::row`]) of the rows that were read.
    pub fn read_with_rows(&self, _batch: usize, _projection: &[usize]) -> Result<Option<(RecordBatch, Vec<u32>)>> {
        todo!()
    }
}
