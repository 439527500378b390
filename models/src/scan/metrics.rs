//! What a scan counts, as EXPLAIN ANALYZE shows it.

use arrow::array::{Array, RecordBatch};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder};

/// Counters of one partition's stream.
pub(super) struct ScanMetrics {
    /// Rows out, time.
    pub baseline: BaselineMetrics,
    /// Batches read.
    pub batches_read: Count,
    /// Batches dropped by zone maps, when planned (counted at partition 0) or while running.
    pub batches_pruned: Count,
    /// Rows in them.
    pub rows_pruned: Count,
    /// Rows read that the predicate dropped.
    pub rows_filtered: Count,
    /// Bytes of the columns handed on or looked at.
    pub bytes_scanned: Count,
}

impl ScanMetrics {
    /// Counters for one partition, registered in `set`.
    pub fn new(set: &ExecutionPlanMetricsSet, partition: usize) -> ScanMetrics {
        let counter = |name: &'static str| MetricBuilder::new(set).counter(name, partition);
        ScanMetrics {
            baseline: BaselineMetrics::new(set, partition),
            batches_read: counter("batches_read"),
            batches_pruned: counter("batches_pruned"),
            rows_pruned: counter("rows_pruned"),
            rows_filtered: counter("rows_filtered"),
            bytes_scanned: counter("bytes_scanned"),
        }
    }

    /// Counts one batch that was read.
    pub fn read(&self, batch: &RecordBatch) {
        self.bytes_scanned
            .add(batch.columns().iter().map(|column| column_bytes(column.as_ref())).sum());
    }
}

/// Bytes of an array's own rows (not of the memory map it lies in).
fn column_bytes(column: &dyn Array) -> usize {
    match column.data_type().primitive_width() {
        Some(width) => width * column.len(),
        None => column.to_data().get_slice_memory_size().unwrap_or(0),
    }
}
