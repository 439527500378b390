//! Zone maps: the smallest and largest value and the null count of each column in each batch of a segment.

use arrow_array::{ArrayRef, UInt64Array};

/// Zone maps of one scan piece, in the positions of the relation's current schema.
#[derive(Debug, Clone)]
pub struct ZoneMaps {
    /// Rows of each batch, masked ones included.
    pub row_counts: UInt64Array,
    /// Per column; `None` where the type has no order or the column is newer than the segment.
    pub columns: Vec<Option<ColumnZones>>,
}

/// The zones of one column: arrays with one element a batch.
#[derive(Debug, Clone)]
pub struct ColumnZones {
    /// Smallest values, in the column's type (null: unknown or all null).
    pub min: ArrayRef,
    /// Largest values, in the column's type (null: unknown or all null).
    pub max: ArrayRef,
    /// Null counts.
    pub null_counts: UInt64Array,
}

/// What is known of a column over a whole relation view, without reading rows.
#[derive(Debug, Clone, Default)]
pub struct ColumnSummary {
    /// Smallest value as an array of one element; a lower bound where `exact` is false.
    pub min: Option<ArrayRef>,
    /// Largest value as an array of one element; an upper bound where `exact` is false.
    pub max: Option<ArrayRef>,
    /// Number of nulls.
    pub null_count: Option<u64>,
    /// Estimated number of distinct values.
    pub distinct: Option<u64>,
    /// Whether `min`, `max` and `null_count` are exact (no masked rows, no unflushed ones).
    pub exact: bool,
}
