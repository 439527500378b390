//! A transaction's private writes over a snapshot: read-your-writes, savepoints, bulk writes staged as segments.
//!
//! Each relation has a buffer: a memtable whose stamps are statement numbers, segments staged from it when it grows too large, and masks over
//! the rows of the snapshot that are deleted or replaced. A savepoint is a statement number. Views are stable: they see up to their statement.

mod buffer;
mod row_mask;
mod sorted_run;
mod staging;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_select::filter::filter_record_batch;

use crate::error::{Result, StorageError};
use crate::ids::RelationId;
use crate::memtable::{ALIVE, Gather, Version};
use crate::partition::Partition;
use crate::snapshot::{RelationView, RowAddress, Snapshot};
use crate::write_set::{ConflictPolicy, RelationWrites, StagedSegment, WriteSet};
use buffer::{Buffer, Statement};

pub use sorted_run::SortedRun;

/// At the end, what is left of a relation that has staged rows is staged too if it has more bytes than this.
const REST_BYTES: u64 = 1 << 20;

/// Uncommitted writes over a [`Snapshot`] of one partition.
///
/// Writes go to a private memtable; past a threshold they are written as sorted segments into the partition's staging folder, so that a
/// transaction's memory is bounded. Dropping a transaction removes its staged files.
pub struct Transaction {
    partition: Arc<Partition>,
    snapshot: Snapshot,
    buffers: BTreeMap<RelationId, Buffer>,
    policies: HashMap<RelationId, ConflictPolicy>,
    /// The number of the last write.
    statement: u64,
    /// Statement numbers to which one can go back, ascending.
    savepoints: Vec<u64>,
}

/// A point within a transaction to which one can go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Savepoint(pub u64);

impl Transaction {
    pub(crate) fn new(partition: Arc<Partition>, snapshot: Snapshot) -> Self {
        Transaction {
            partition,
            snapshot,
            buffers: BTreeMap::new(),
            policies: HashMap::new(),
            statement: 0,
            savepoints: Vec::new(),
        }
    }

    /// The snapshot under the writes.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// A relation with this transaction's writes so far. Later writes do not show in a view taken before them; going back to a savepoint
    /// before the view was taken ends its use.
    pub fn view(&self, relation: RelationId) -> Result<RelationView> {
        match self.buffers.get(&relation) {
            Some(buffer) => Ok(buffer.view(self.statement)),
            None => self.snapshot.relation(relation),
        }
    }

    /// Adds rows; fails with [`StorageError::DuplicateKey`] when a key is visible or occurs twice. After an error the caller goes back
    /// to a savepoint: part of `rows` may have been added.
    pub fn insert(&mut self, relation: RelationId, rows: &RecordBatch) -> Result<()> {
        self.write(relation, |buffer, statement| buffer.insert(rows, statement))
    }

    /// Adds or replaces rows. Where a key occurs twice in `rows`, the last one stands.
    pub fn put(&mut self, relation: RelationId, rows: &RecordBatch) -> Result<()> {
        self.write(relation, |buffer, statement| buffer.put(rows, statement))
    }

    /// Removes rows by key (key columns in key order). Missing keys are no error. Returns how many visible rows went.
    pub fn delete(&mut self, relation: RelationId, keys: &RecordBatch) -> Result<u64> {
        self.write(relation, |buffer, statement| buffer.delete(keys, statement))
    }

    /// Removes all rows; returns how many were visible. What the write set says of it does not grow with them.
    pub fn empty(&mut self, relation: RelationId) -> Result<u64> {
        self.write(relation, |buffer, statement| buffer.empty(statement))
    }

    /// Sets what happens on concurrent change of a relation's keys; [`ConflictPolicy::FirstCommitterWins`] unless set.
    pub fn set_policy(&mut self, relation: RelationId, policy: ConflictPolicy) {
        self.policies.insert(relation, policy);
    }

    /// Marks a point to go back to.
    pub fn savepoint(&mut self) -> Savepoint {
        if self.savepoints.last() != Some(&self.statement) {
            self.savepoints.push(self.statement);
        }
        Savepoint(self.statement)
    }

    /// Undoes every write after the savepoint, which stays usable. Later savepoints are gone.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        let Ok(position) = self.savepoints.binary_search(&savepoint.0) else {
            return Err(StorageError::UnknownSavepoint(savepoint.0));
        };
        self.savepoints.truncate(position + 1);
        for buffer in self.buffers.values_mut() {
            buffer.memtable.roll_back(savepoint.0);
            buffer.hidden.values_mut().for_each(|mask| mask.roll_back(savepoint.0));
            buffer.deleted.values_mut().for_each(|mask| mask.roll_back(savepoint.0));
            buffer.emptied = buffer.emptied.filter(|stamp| *stamp <= savepoint.0);
            let (left, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut buffer.staged)
                .into_iter()
                .map(|mut staged| (staged.roll_back(savepoint.0), staged))
                .partition(|(left, _)| *left);
            buffer.staged = left.into_iter().map(|(_, staged)| staged).collect();
            gone.iter().try_for_each(|(_, staged)| self.partition.discard_staged(staged.id()))?;
        }
        Ok(())
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.buffers.values().all(Buffer::is_empty)
    }

    /// Bytes held in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.buffers.values().map(Buffer::bytes).sum()
    }

    /// Whether nothing but memory is touched when this many more bytes are written, and when it finishes after that.
    pub fn stays_in_memory(&self, more: u64) -> bool {
        self.buffers.values().all(|buffer| buffer.staged.is_empty())
            && self.memory_bytes() + more < self.partition.options().transaction_bytes
    }

    fn write<T>(&mut self, relation: RelationId, write: impl FnOnce(&mut Buffer, Statement) -> Result<T>) -> Result<T> {
        self.statement += 1;
        let statement = Statement {
            stamp: self.statement,
            savepoint: self.savepoints.last().copied(),
        };
        if !self.buffers.contains_key(&relation) {
            let base = self.snapshot.relation(relation)?;
            self.buffers
                .insert(relation, Buffer::new(base, self.partition.options().batch_rows));
        }
        let Some(buffer) = self.buffers.get_mut(&relation) else {
            return Err(StorageError::UnknownRelation(relation));
        };
        let answer = write(buffer, statement)?;
        self.bound_memory()?;
        Ok(answer)
    }

    /// Stages the largest buffer when all together are too large; refuses more deletes than may be held.
    fn bound_memory(&mut self) -> Result<()> {
        let held: u64 = self
            .buffers
            .values()
            .map(|buffer| buffer.hidden_bytes + buffer.retained_bytes)
            .sum();
        let limit = self.partition.options().transaction_limit_bytes;
        if held > limit {
            return Err(StorageError::TransactionTooLarge { bytes: held, limit });
        }
        while self.buffers.values().map(Buffer::stageable_bytes).sum::<u64>() > self.partition.options().transaction_bytes {
            let largest = self.buffers.values_mut().max_by_key(|buffer| buffer.stageable_bytes());
            let Some(buffer) = largest.filter(|buffer| buffer.stageable_bytes() > 0) else {
                break;
            };
            staging::stage(buffer, &self.partition, &self.savepoints)?;
        }
        Ok(())
    }

    /// Finishes: what is to be proposed. Staged files now belong to the write set; when its commit fails for good, give it to
    /// [`crate::Partition::discard`].
    pub fn into_write_set(mut self) -> Result<WriteSet> {
        let mut relations = Vec::new();
        let ids: Vec<RelationId> = self.buffers.keys().copied().collect();
        for id in ids {
            let policy = self.policies.get(&id).copied().unwrap_or(ConflictPolicy::FirstCommitterWins);
            let Some(buffer) = self.buffers.get_mut(&id) else { continue };
            let writes = finish(buffer, &self.partition, policy)?;
            if writes.emptied || !(writes.puts.is_empty() && writes.deletes.is_empty() && writes.staged.is_empty()) {
                relations.push(writes);
            }
        }
        // From here on the staged files are the write set's: nothing below can fail.
        self.buffers.clear();
        Ok(WriteSet {
            start: self.snapshot.timestamp(),
            relations,
            reads: Vec::new(),
        })
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        for staged in self.buffers.values().flat_map(|buffer| &buffer.staged) {
            if let Err(error) = self.partition.discard_staged(staged.id()) {
                tracing::warn!(%error, "a staged segment stays until the next collection of garbage");
            }
        }
    }
}

/// One relation's part of the write set.
fn finish(buffer: &mut Buffer, partition: &Partition, policy: ConflictPolicy) -> Result<RelationWrites> {
    if !buffer.staged.is_empty() && buffer.memtable.bytes() > REST_BYTES {
        staging::stage(buffer, partition, &[])?;
    }
    let deletes = match buffer.emptied {
        Some(_) => Vec::new(),
        None => deleted_keys(buffer, partition.options().batch_rows)?,
    };
    let staged = finish_staged(buffer, partition)?;
    let mut live: Vec<Version> = Vec::new();
    buffer.memtable.for_each_version(|_, version, _| {
        if version.end == ALIVE {
            live.push(version);
        }
    });
    let puts = Gather::new(&buffer.memtable, buffer.base.schema())?
        .pages(&live, partition.options().batch_rows)
        .collect::<Result<_>>()?;
    Ok(RelationWrites {
        relation: buffer.base.schema().id,
        emptied: buffer.emptied.is_some(),
        puts,
        deletes,
        staged,
        policy,
    })
}

/// Staged segments as they are, or written anew where rows in them no longer count.
fn finish_staged(buffer: &mut Buffer, partition: &Partition) -> Result<Vec<StagedSegment>> {
    let mut finished = Vec::with_capacity(buffer.staged.len());
    for i in 0..buffer.staged.len() {
        let staged = &buffer.staged[i];
        if staged.mask.rows().is_empty() {
            finished.push(staged.info().staged());
            continue;
        }
        let info = staged.rewritten(partition, buffer.base.schema(), buffer.base.encoder())?;
        partition.discard_staged(staged.id())?;
        if let Some(info) = info {
            finished.push(info.staged());
            buffer.staged[i] = staging::Staged::reopened(partition, info)?;
        }
    }
    Ok(finished)
}

/// Keys of rows of the snapshot that are deleted and not written again.
fn deleted_keys(buffer: &Buffer, batch_rows: usize) -> Result<Vec<RecordBatch>> {
    let masks = if buffer.deleted_own { &buffer.hidden } else { &buffer.deleted };
    let addresses: Vec<RowAddress> = masks
        .iter()
        .flat_map(|(piece, mask)| mask.rows().iter().map(|row| RowAddress { piece: *piece, row }))
        .collect();
    let has_own = !buffer.memtable.is_empty() || !buffer.staged.is_empty();
    let mut batches = Vec::new();
    for page in addresses.chunks(batch_rows.max(1)) {
        let mut keys = buffer.base.fetch(page, &buffer.base.schema().key)?;
        if has_own {
            let gone = buffer
                .base
                .encoder()
                .encode(keys.columns())?
                .iter()
                .map(|key| Ok(Some(buffer.own_row(key.data())?.is_none())))
                .collect::<Result<arrow_array::BooleanArray>>()?;
            keys = filter_record_batch(&keys, &gone)?;
        }
        if keys.num_rows() > 0 {
            batches.push(keys);
        }
    }
    Ok(batches)
}
