//! The stream of the point path: rows of listed keys.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};

use super::columns::Columns;
use super::external;
use super::filter::RowFilter;
use super::metrics::ScanMetrics;
use super::output::Output;
use super::predicate::Predicate;
use super::shape::TableShape;

/// Looks `keys` up in every view on a blocking thread (bloom filters and indexes may fault), then applies the whole predicate.
pub(super) fn point_stream(
    shape: Arc<TableShape>,
    columns: Columns,
    predicate: Predicate,
    keys: Arc<[ArrayRef]>,
    output: Output,
    metrics: ScanMetrics,
) -> SendableRecordBatchStream {
    let schema = Arc::clone(columns.schema());
    let rows = async move {
        let found = SpawnedTask::spawn_blocking(move || look_up(&shape, &columns, &predicate, &keys, output, &metrics));
        found.await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?
    };
    let batches = stream::once(rows).flat_map(|found| match found {
        Ok(batches) => stream::iter(batches.into_iter().map(Ok).collect::<Vec<_>>()),
        Err(error) => stream::iter(vec![Err(error)]),
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

fn look_up(
    shape: &TableShape,
    columns: &Columns,
    predicate: &Predicate,
    keys: &[ArrayRef],
    mut output: Output,
    metrics: &ScanMetrics,
) -> Result<Vec<RecordBatch>> {
    let timer = metrics.baseline.elapsed_compute().timer();
    let mut filter = RowFilter::try_new(predicate, columns.table_columns())?;
    let mut batches = Vec::new();
    for view in &shape.views {
        let found: Vec<_> = view.lookup(keys).map_err(external)?.into_iter().flatten().collect();
        if found.is_empty() || output.is_done() {
            continue;
        }
        let rows = view.fetch(&found, columns.relation_columns()).map_err(external)?;
        metrics.read(&rows);
        columns.filter_into(&rows, filter.as_mut(), &mut output, metrics)?;
    }
    output.finish()?;
    while let Some(batch) = output.next() {
        metrics.baseline.record_output(batch.num_rows());
        batches.push(batch);
    }
    timer.done();
    Ok(batches)
}
