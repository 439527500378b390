//! The stream over overlapping pieces in key order: storage merges, this filters and limits.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;

use super::columns::Columns;
use super::external;
use super::filter::RowFilter;
use super::layout::MergePart;
use super::metrics::ScanMetrics;
use super::output::Output;
use super::predicate::Predicate;
use super::shape::TableShape;

/// Batches that wait for the consumer.
const CHANNEL_BATCHES: usize = 2;

/// Merges one part on a blocking thread of its own, at most a few batches ahead of the consumer. The thread ends when the stream is dropped.
pub(super) fn merge_stream(
    shape: Arc<TableShape>,
    columns: Columns,
    predicate: Predicate,
    part: MergePart,
    mut output: Output,
    batch_size: usize,
    metrics: ScanMetrics,
) -> SendableRecordBatchStream {
    let mut builder = RecordBatchReceiverStream::builder(Arc::clone(columns.schema()), CHANNEL_BATCHES);
    let sender = builder.tx();
    builder.spawn_blocking(move || -> Result<()> {
        let mut filter = RowFilter::try_new(&predicate, columns.table_columns())?;
        let view = &shape.views[part.view];
        let mut merged = view
            .scan_ordered(&part.range, columns.relation_columns(), batch_size)
            .map_err(external)?;
        loop {
            let timer = metrics.baseline.elapsed_compute().timer();
            match merged.next().filter(|_| !output.is_done()) {
                Some(rows) => {
                    let rows = rows.map_err(external)?;
                    metrics.batches_read.add(1);
                    metrics.read(&rows);
                    columns.filter_into(&rows, filter.as_mut(), &mut output, &metrics)?;
                }
                None => output.finish()?,
            }
            timer.done();
            while let Some(batch) = output.next() {
                metrics.baseline.record_output(batch.num_rows());
                if sender.blocking_send(Ok(batch)).is_err() {
                    return Ok(());
                }
            }
            if output.is_done() {
                return Ok(());
            }
            // A filter that drops everything sends nothing, and would not notice that nobody waits.
            if sender.is_closed() {
                return Ok(());
            }
        }
    });
    builder.build()
}
