//! What a stream hands out: batches of a good size, up to a limit.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

/// Collects batches: large ones pass as they are (zero-copy), small ones are put together; stops at the limit.
pub(super) struct Output {
    ready: VecDeque<RecordBatch>,
    /// `None` where there are no columns: then batches are row counts only.
    coalescer: Option<BatchCoalescer>,
    schema: SchemaRef,
    /// Rows still wanted and not yet pushed.
    wanted: usize,
    finished: bool,
    /// Batches above this many rows pass as they are.
    large: usize,
}

impl Output {
    /// For batches of about `batch_size` rows and at most `limit` in all.
    pub fn new(schema: SchemaRef, batch_size: usize, limit: Option<usize>) -> Output {
        let coalescer = (!schema.fields().is_empty())
            .then(|| BatchCoalescer::new(Arc::clone(&schema), batch_size).with_biggest_coalesce_batch_size(Some(batch_size / 2)));
        Output {
            ready: VecDeque::new(),
            coalescer,
            schema,
            wanted: limit.unwrap_or(usize::MAX),
            finished: limit == Some(0),
            large: batch_size / 2,
        }
    }

    /// Takes a batch.
    pub fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let batch = if batch.num_rows() > self.wanted {
            batch.slice(0, self.wanted)
        } else {
            batch
        };
        self.wanted -= batch.num_rows();
        match &mut self.coalescer {
            Some(coalescer) if batch.num_rows() > self.large => {
                // Else a few rows held back would make the coalescer copy every large batch that follows.
                coalescer.finish_buffered_batch()?;
                coalescer.push_batch(batch)?;
            }
            Some(coalescer) if batch.num_rows() > 0 => coalescer.push_batch(batch)?,
            None if batch.num_rows() > 0 => self.ready.push_back(batch),
            _ => {}
        }
        self.drain()
    }

    /// Takes the `count` rows of a batch that `mask` selects.
    pub fn push_selected(&mut self, batch: RecordBatch, mask: &BooleanArray, count: usize) -> Result<()> {
        if count > self.wanted {
            return self.push(arrow::compute::filter_record_batch(&batch, mask)?);
        }
        self.wanted -= count;
        match &mut self.coalescer {
            Some(coalescer) => coalescer.push_batch_with_filter(batch, mask)?,
            None => self.ready.push_back(RecordBatch::try_new_with_options(
                Arc::clone(&self.schema),
                Vec::new(),
                &RecordBatchOptions::new().with_row_count(Some(count)),
            )?),
        }
        self.drain()
    }

    fn drain(&mut self) -> Result<()> {
        if self.wanted == 0 {
            return self.finish();
        }
        if let Some(coalescer) = &mut self.coalescer {
            while let Some(batch) = coalescer.next_completed_batch() {
                self.ready.push_back(batch);
            }
        }
        Ok(())
    }

    /// There is no more input.
    pub fn finish(&mut self) -> Result<()> {
        self.finished = true;
        if let Some(coalescer) = &mut self.coalescer {
            coalescer.finish_buffered_batch()?;
            while let Some(batch) = coalescer.next_completed_batch() {
                self.ready.push_back(batch);
            }
        }
        Ok(())
    }

    /// Gives up after an error: nothing more comes out.
    pub fn abandon(&mut self) {
        self.finished = true;
        self.ready.clear();
    }

    /// A batch to hand out.
    pub fn next(&mut self) -> Option<RecordBatch> {
        self.ready.pop_front()
    }

    /// Whether no more input is wanted, and none is held back.
    pub fn is_done(&self) -> bool {
        self.finished && self.ready.is_empty()
    }
}
