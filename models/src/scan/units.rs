//! The stream over units of segment batches: take, prune, read, filter, coalesce, limit.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::RecordBatchStream;
use futures::{FutureExt, Stream};
use parking_lot::Mutex;

use super::external;
use super::filter::{RowFilter, Selection};
use super::layout::Unit;
use super::metrics::ScanMetrics;
use super::output::Output;
use super::predicate::Predicate;
use super::pruning::DynamicPruner;
use super::residency::Residency;
use super::shape::TableShape;

/// Batches that a walk pulls in ahead of the stream.
const WALK_BATCHES: u32 = 8;

/// Where a stream's units come from.
pub(super) enum Work {
    /// Its own.
    Own(VecDeque<Unit>),
    /// A queue shared with the other partitions of one execution: the units, and how many are taken.
    Shared(Arc<[Unit]>, Arc<AtomicUsize>),
}

impl Work {
    fn next(&mut self) -> Option<Unit> {
        match self {
            Work::Own(units) => units.pop_front(),
            Work::Shared(units, taken) => units.get(taken.fetch_add(1, Ordering::Relaxed)).copied(),
        }
    }
}

/// The queues of one plan's executions. A plan may be executed again: a partition's n-th opening joins the n-th queue.
pub(super) struct SharedQueues {
    state: Mutex<(Vec<usize>, Vec<Arc<AtomicUsize>>)>,
}

impl SharedQueues {
    pub fn new(partitions: usize) -> SharedQueues {
        SharedQueues { state: Mutex::new((vec![0; partitions], Vec::new())) }
    }

    /// The queue that this opening of a partition takes from.
    pub fn join(&self, partition: usize) -> Arc<AtomicUsize> {
        let (opened, queues) = &mut *self.state.lock();
        let Some(round) = opened.get_mut(partition) else { return Arc::default() };
        let queue = match queues.get(*round) {
            Some(queue) => Arc::clone(queue),
            None => {
                queues.push(Arc::default());
                Arc::clone(&queues[*round])
            }
        };
        *round += 1;
        queue
    }
}

/// What a stream reads and hands out.
pub(super) struct Columns {
    /// Table columns of the predicate, and their relation columns.
    predicate: (Vec<usize>, Vec<usize>),
    /// Output columns that the predicate does not read, as relation columns.
    rest: Vec<usize>,
    /// All relation columns read.
    all: Vec<usize>,
    /// For each output column: where it is, in the predicate's columns or in the rest.
    source: Vec<Source>,
    schema: SchemaRef,
}

#[derive(Clone, Copy)]
enum Source {
    Predicate(usize),
    Rest(usize),
}

impl Columns {
    /// For output columns (table columns) under a predicate.
    pub fn new(shape: &TableShape, output: &[usize], predicate: &Predicate) -> Columns {
        let predicate_columns = predicate.columns();
        let mut rest: Vec<usize> = Vec::new();
        let source = output
            .iter()
            .map(|column| match predicate_columns.binary_search(column) {
                Ok(position) => Source::Predicate(position),
                Err(_) => Source::Rest(rest.iter().position(|r| r == column).unwrap_or_else(|| {
                    rest.push(*column);
                    rest.len() - 1
                })),
            })
            .collect();
        let rest = shape.relation_columns(&rest);
        let predicate_relation = shape.relation_columns(&predicate_columns);
        let all = predicate_relation.iter().chain(&rest).copied().collect();
        Columns { predicate: (predicate_columns, predicate_relation), rest, all, source, schema: shape.project(output) }
    }

    /// The output's schema.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Table columns of the predicate: the first ones of [`Self::relation_columns`].
    pub fn table_columns(&self) -> &[usize] {
        &self.predicate.0
    }

    /// All relation columns that are read.
    pub fn relation_columns(&self) -> &[usize] {
        &self.all
    }

    /// Filters a batch of [`Self::relation_columns`] into the output.
    pub fn filter_into(
        &self,
        rows: &RecordBatch,
        filter: Option<&mut RowFilter>,
        output: &mut Output,
        metrics: &ScanMetrics,
    ) -> Result<()> {
        let count = rows.num_rows();
        let split = self.predicate.1.len();
        let looked_at = rows.project(&(0..split).collect::<Vec<_>>())?;
        let rest = rows.project(&(split..self.all.len()).collect::<Vec<_>>())?;
        let selection = match filter {
            Some(filter) => filter.select(&looked_at)?,
            None => Selection::All,
        };
        match selection {
            Selection::None => metrics.rows_filtered.add(count),
            Selection::All => output.push(self.assemble(Some(&looked_at), Some(&rest), count)?)?,
            Selection::Some(mask, passed) => {
                metrics.rows_filtered.add(count - passed);
                output.push_selected(self.assemble(Some(&looked_at), Some(&rest), count)?, &mask, passed)?;
            }
        }
        Ok(())
    }

    fn assemble(&self, predicate: Option<&RecordBatch>, rest: Option<&RecordBatch>, rows: usize) -> Result<RecordBatch> {
        let column = |source: &Source| -> Option<ArrayRef> {
            match *source {
                Source::Predicate(i) => predicate?.columns().get(i).cloned(),
                Source::Rest(i) => rest?.columns().get(i).cloned(),
            }
        };
        let columns = self.source.iter().filter_map(column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

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
        let filter = RowFilter::try_new(predicate, &columns.predicate.0)?;
        let pruner = if predicate.dynamics.is_empty() { None } else { predicate.dynamic_conjunction().map(DynamicPruner::new) };
        Ok(UnitStream { shape, columns: Arc::new(columns), work, unit: None, filter, pruner, output, walk: None, metrics })
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
            let Some(pruner) = &mut self.pruner else { return Ok(Some((piece, batch))) };
            if !pruner.skips(&self.shape, piece, batch)? {
                return Ok(Some((piece, batch)));
            }
            unit.start += 1;
            self.metrics.batches_pruned.add(1);
            self.metrics.rows_pruned.add(self.shape.pieces[piece].scan.batch_rows(batch));
        }
    }

    /// Waits until the batch at the cursor is resident; starts a walk where it is not.
    fn poll_resident(&mut self, cx: &mut Context<'_>, piece: usize, batch: usize) -> Poll<Result<()>> {
        loop {
            if let Some(walk) = &mut self.walk {
                let done = ready!(walk.poll_unpin(cx));
                self.walk = None;
                done.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
            }
            let Some((unit, Some(residency))) = &self.unit else { return Poll::Ready(Ok(())) };
            if residency.is_resident(batch, &self.columns.all) {
                return Poll::Ready(Ok(()));
            }
            let (residency, columns, shape) = (Arc::clone(residency), Arc::clone(&self.columns), Arc::clone(&self.shape));
            let end = unit.end.min(unit.start + WALK_BATCHES) as usize;
            self.walk = Some(SpawnedTask::spawn_blocking(move || {
                (batch..end).try_for_each(|batch| residency.walk(&shape.pieces[piece].scan, batch, &columns.all))
            }));
        }
    }

    /// Reads and filters one batch into the output.
    fn read(&mut self, piece: usize, batch: usize) -> Result<()> {
        let columns = Arc::clone(&self.columns);
        let scan = &self.shape.pieces[piece].scan;
        self.metrics.batches_read.add(1);
        let Some(filter) = &mut self.filter else {
            let Some(rows) = scan.read(batch, &columns.rest).map_err(external)? else { return Ok(()) };
            self.metrics.read(&rows);
            return self.output.push(columns.assemble(None, Some(&rows), rows.num_rows())?);
        };
        let Some(looked_at) = scan.read(batch, &columns.predicate.1).map_err(external)? else { return Ok(()) };
        self.metrics.read(&looked_at);
        let count = looked_at.num_rows();
        let selection = filter.select(&looked_at)?;
        let rest = match selection {
            Selection::None => None,
            _ if columns.rest.is_empty() => None,
            _ => scan.read(batch, &columns.rest).map_err(external)?,
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
                self.output.push_selected(columns.assemble(Some(&looked_at), rest.as_ref(), count)?, &mask, passed)
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
            if let Err(error) = ready!(self.poll_resident(cx, step.0, step.1)) {
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
        Arc::clone(&self.columns.schema)
    }
}
