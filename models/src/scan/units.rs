//! The stream over units of segment batches: take, prune, read, filter, coalesce, limit.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::RecordBatchStream;
use futures::{FutureExt, Stream};

use super::columns::Columns;
use super::external;
use super::filter::{RowFilter, Selection};
use super::layout::Unit;
use super::metrics::ScanMetrics;
use super::output::Output;
use super::predicate::Predicate;
use super::pruning::DynamicPruner;
use super::residency::Residency;
use super::shape::TableShape;
use super::work::Work;

/// Batches that a walk pulls in ahead of the stream.
const WALK_BATCHES: u32 = 8;

/// The stream of one partition.
pub(super) struct UnitStream {
    shape: Arc<TableShape>,
    columns: Arc<Columns>,
    work: Work,
    unit: Option<(Unit, Option<Arc<Residency>>)>,
    filter: Option<RowFilter>,
    pruner: Option<DynamicPruner>,
    output: Output,
    walk: Option<SpawnedTask<Result<()>>>,
    metrics: ScanMetrics,
}

impl UnitStream {
    pub fn try_new(
        shape: Arc<TableShape>,
        columns: Columns,
        predicate: &Predicate,
        work: Work,
        output: Output,
        metrics: ScanMetrics,
    ) -> Result<UnitStream> {
        let filter = RowFilter::try_new(predicate, columns.table_columns())?;
        let pruner = if predicate.dynamics.is_empty() {
            None
        } else {
            predicate.dynamic_conjunction().map(DynamicPruner::new)
        };
        Ok(UnitStream {
            shape,
            columns: Arc::new(columns),
            work,
            unit: None,
            filter,
            pruner,
            output,
            walk: None,
            metrics,
        })
    }

    /// The next batch to read; moves the cursor onto it. `None` at the end.
    fn cursor(&mut self) -> Result<Option<(usize, usize)>> {
        loop {
            let Some((unit, _)) = &mut self.unit else {
                let Some(unit) = self.work.next() else { return Ok(None) };
                self.unit = Some((unit, Residency::of(&self.shape.pieces[unit.piece].scan)));
                continue;
            };
            if unit.start >= unit.end {
                self.unit = None;
                continue;
            }
            let (piece, batch) = (unit.piece, unit.start as usize);
            let Some(pruner) = &mut self.pruner else {
                return Ok(Some((piece, batch)));
            };
            if !pruner.skips(&self.shape, piece, batch)? {
                return Ok(Some((piece, batch)));
            }
            unit.start += 1;
            self.metrics.batches_pruned.add(1);
            self.metrics.rows_pruned.add(self.shape.pieces[piece].scan.batch_rows(batch));
        }
    }

    /// Waits until the batch at the cursor is resident. Where batches are not, walks go ahead of the stream.
    fn poll_resident(&mut self, cx: &mut Context<'_>, piece: usize, batch: u32) -> Poll<Result<()>> {
        loop {
            let Some((unit, Some(residency))) = &self.unit else {
                return Poll::Ready(Ok(()));
            };
            let end = unit.end;
            let is_resident = residency.is_resident(batch as usize, self.columns.relation_columns());
            if let Some(walk) = &mut self.walk {
                match walk.poll_unpin(cx) {
                    Poll::Ready(done) => {
                        self.walk = None;
                        done.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
                        continue;
                    }
                    Poll::Pending if is_resident => return Poll::Ready(Ok(())),
                    Poll::Pending => return Poll::Pending,
                }
            }
            let ahead = batch + WALK_BATCHES / 2;
            if !is_resident {
                self.walk = Some(self.start_walk(Arc::clone(residency), piece, batch, end));
            } else if ahead < end && !residency.is_resident(ahead as usize, self.columns.relation_columns()) {
                self.walk = Some(self.start_walk(Arc::clone(residency), piece, ahead, end));
            } else {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn start_walk(&self, residency: Arc<Residency>, piece: usize, start: u32, end: u32) -> SpawnedTask<Result<()>> {
        let (columns, shape) = (Arc::clone(&self.columns), Arc::clone(&self.shape));
        let end = end.min(start + WALK_BATCHES);
        SpawnedTask::spawn_blocking(move || {
            (start..end).try_for_each(|batch| residency.walk(&shape.pieces[piece].scan, batch as usize, columns.relation_columns()))
        })
    }

    /// Reads and filters one batch into the output.
    fn read(&mut self, piece: usize, batch: usize) -> Result<()> {
        let columns = Arc::clone(&self.columns);
        let scan = &self.shape.pieces[piece].scan;
        self.metrics.batches_read.add(1);
        let Some(filter) = &mut self.filter else {
            let Some(rows) = scan.read(batch, columns.rest()).map_err(external)? else {
                return Ok(());
            };
            self.metrics.read(&rows);
            return self.output.push(columns.assemble(None, Some(&rows), rows.num_rows())?);
        };
        let Some(looked_at) = scan.read(batch, columns.predicate_columns()).map_err(external)? else {
            return Ok(());
        };
        self.metrics.read(&looked_at);
        let count = looked_at.num_rows();
        let selection = filter.select(&looked_at)?;
        let rest = match selection {
            Selection::None => None,
            _ if columns.rest().is_empty() => None,
            _ => scan.read(batch, columns.rest()).map_err(external)?,
        };
        if let Some(rest) = &rest {
            self.metrics.read(rest);
        }
        match selection {
            Selection::None => {
                self.metrics.rows_filtered.add(count);
                Ok(())
            }
            Selection::All => self.output.push(columns.assemble(Some(&looked_at), rest.as_ref(), count)?),
            Selection::Some(mask, passed) => {
                self.metrics.rows_filtered.add(count - passed);
                self.output
                    .push_selected(columns.assemble(Some(&looked_at), rest.as_ref(), count)?, &mask, passed)
            }
        }
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<RecordBatch>>> {
        loop {
            if let Some(batch) = self.output.next() {
                return Poll::Ready(Some(Ok(batch)));
            }
            if self.output.is_done() {
                return Poll::Ready(None);
            }
            // One unit of the task's budget a batch, so that a scan that finds nothing yields too.
            let budget = ready!(tokio::task::coop::poll_proceed(cx));
            let step = match self.cursor() {
                Ok(Some(step)) => step,
                Ok(None) => {
                    budget.made_progress();
                    match self.output.finish() {
                        Ok(()) => continue,
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    }
                }
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            if let Err(error) = ready!(self.poll_resident(cx, step.0, step.1 as u32)) {
                return Poll::Ready(Some(Err(error)));
            }
            budget.made_progress();
            let time = self.metrics.baseline.elapsed_compute().clone();
            let timer = time.timer();
            let result = self.read(step.0, step.1);
            timer.done();
            if let Some((unit, _)) = &mut self.unit {
                unit.start += 1;
            }
            if let Err(error) = result {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

impl Stream for UnitStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let poll = self.poll_batch(cx);
        if matches!(poll, Poll::Ready(Some(Err(_)))) {
            self.output.abandon();
        }
        self.metrics.baseline.record_poll(poll)
    }
}

impl RecordBatchStream for UnitStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.columns.schema())
    }
}
