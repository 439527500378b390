//! Rows that come in key order, written straight to staged segments: without a memtable, and so without being sorted or held.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_row::Rows;
use arrow_select::filter::filter_record_batch;

use super::Transaction;
use super::staging::{Staged, options};
use crate::error::{Result, StorageError};
use crate::ids::SegmentId;
use crate::partition::Partition;
use crate::projection::conform;
use crate::segment::{SegmentInfo, SegmentWriter};
use crate::snapshot::RelationView;

/// New rows of one relation on their way into a transaction, in strictly ascending key order. Rows whose keys the transaction saw when the run
/// began are left out.
///
/// A run works on its own, so those of several relations may be written by several threads. It counts once it is given to
/// [`Transaction::add_runs`]; dropping it before removes its files.
pub struct SortedRun {
    partition: Arc<Partition>,
    view: RelationView,
    /// The transaction's last write when the run began.
    statement: u64,
    writer: Option<(SegmentId, SegmentWriter)>,
    finished: Vec<SegmentInfo>,
    last_key: Vec<u8>,
    rows: u64,
}

impl Transaction {
    /// Begins a run of new rows of a relation. Until it is added, nothing else may be written.
    pub fn sorted_run(&self, relation: crate::RelationId) -> Result<SortedRun> {
        Ok(SortedRun {
            partition: Arc::clone(&self.partition),
            view: self.view(relation)?,
            statement: self.statement,
            writer: None,
            finished: Vec::new(),
            last_key: Vec::new(),
            rows: 0,
        })
    }

    /// Makes the rows of runs the transaction's, as one write; at most one run a relation. How many rows they are.
    ///
    /// # Errors
    /// Where the transaction has written since one of them began: a row might be there twice.
    pub fn add_runs(&mut self, runs: Vec<SortedRun>) -> Result<u64> {
        let mut rows = 0;
        let before = self.statement;
        for mut run in runs {
            let relation = run.view.schema().id;
            if run.statement != before {
                return Err(StorageError::SchemaMismatch {
                    relation,
                    detail: "the transaction has written since this run of rows began".to_owned(),
                });
            }
            run.finish_segment()?;
            rows += run.rows;
            self.write(relation, |buffer, statement| {
                let staged = |info: &SegmentInfo| Staged::written(&run.partition, info.clone(), statement.stamp);
                let segments: Vec<Staged> = run.finished.iter().map(staged).collect::<Result<_>>()?;
                // They are the transaction's to remove from here on.
                run.finished.clear();
                buffer.staged.extend(segments);
                Ok(())
            })?;
        }
        Ok(rows)
    }
}

impl SortedRun {
    /// Adds rows, whose keys are above all before them.
    pub fn append(&mut self, rows: &RecordBatch) -> Result<()> {
        let rows = conform(rows, self.view.schema())?;
        let keys = self.encode(&rows)?;
        let (Some(first), Some(last)) = (keys.iter().next(), keys.iter().next_back()) else {
            return Ok(());
        };
        let ascends = self.last_key.as_slice() < first.data() || self.last_key.is_empty();
        if !ascends || first.data() > last.data() {
            return Err(StorageError::SchemaMismatch {
                relation: self.view.schema().id,
                detail: "a run's rows are not in key order".to_owned(),
            });
        }
        self.last_key = last.data().to_vec();
        if self.view.avoids(first.data(), last.data()) {
            return self.write(&rows, &keys);
        }
        let is_new = keys.iter().map(|key| Ok(Some(self.view.find(key.data())?.is_none())));
        let is_new = is_new.collect::<Result<BooleanArray>>()?;
        if is_new.false_count() == 0 {
            return self.write(&rows, &keys);
        }
        let rows = filter_record_batch(&rows, &is_new)?;
        let keys = self.encode(&rows)?;
        self.write(&rows, &keys)
    }

    fn encode(&self, rows: &RecordBatch) -> Result<Rows> {
        let schema = self.view.schema();
        let columns: Vec<ArrayRef> = schema.key.iter().map(|&i| rows.column(i).clone()).collect();
        self.view.encoder().encode(&columns)
    }

    /// Writes rows, and ends the segment when it is large enough.
    fn write(&mut self, rows: &RecordBatch, keys: &Rows) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        if self.writer.is_none() {
            let schema = self.view.schema();
            let id = self.partition.claim_staged(schema.id);
            let writer = SegmentWriter::create(&self.partition.staging_dir(), id, schema, options(&self.partition))
                .inspect_err(|_| self.partition.release_claim(id))?;
            self.writer = Some((id, writer));
        }
        let Some((_, writer)) = &mut self.writer else { return Ok(()) };
        writer.append(rows, keys, None)?;
        self.rows += rows.num_rows() as u64;
        match writer.bytes() >= self.partition.options().segment_bytes {
            true => self.finish_segment(),
            false => Ok(()),
        }
    }

    /// Ends the segment that is being written, so that its files are whole.
    pub fn finish_segment(&mut self) -> Result<()> {
        if let Some((id, writer)) = self.writer.take() {
            let info = writer.finish().inspect_err(|_| self.partition.release_claim(id))?;
            self.finished.push(info);
        }
        Ok(())
    }
}

impl Drop for SortedRun {
    fn drop(&mut self) {
        if let Some((id, writer)) = self.writer.take() {
            // Its files go with it.
            drop(writer);
            self.partition.release_claim(id);
        }
        for info in &self.finished {
            if let Err(error) = self.partition.discard_staged(info.id) {
                tracing::warn!(%error, "a staged segment stays until the next collection of garbage");
            }
        }
    }
}
