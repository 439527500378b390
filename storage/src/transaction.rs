//! A transaction's private writes over a snapshot: read-your-writes, savepoints, bulk writes staged as segments.

use arrow_array::RecordBatch;

use crate::error::Result;
use crate::ids::RelationId;
use crate::snapshot::{RelationView, Snapshot};
use crate::write_set::{ConflictPolicy, WriteSet};

/// Uncommitted writes over a [`Snapshot`] of one partition.
///
/// Writes go to a private memtable; past a threshold they are written as sorted segments into the partition's staging folder, so that a
/// transaction's memory is bounded. Dropping a transaction removes its staged files.
pub struct Transaction {}

/// A point within a transaction to which one can go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Savepoint(pub u64);

impl Transaction {
    /// The snapshot under the writes.
    pub fn snapshot(&self) -> &Snapshot {
        todo!()
    }

    /// A relation with this transaction's writes so far. Later writes do not show in a view taken before them.
    pub fn view(&self, _relation: RelationId) -> Result<RelationView> {
        todo!()
    }

    /// Adds rows; fails with [`crate::StorageError::DuplicateKey`] when a key is visible or occurs twice. After an error the caller goes back
    /// to a savepoint: part of `rows` may have been added.
    pub fn insert(&mut self, _relation: RelationId, _rows: &RecordBatch) -> Result<()> {
        todo!()
    }

    /// Adds or replaces rows. Where a key occurs twice in `rows`, the last one stands.
    pub fn put(&mut self, _relation: RelationId, _rows: &RecordBatch) -> Result<()> {
        todo!()
    }

    /// Removes rows by key (key columns in key order). Missing keys are no error. Returns how many visible rows went.
    pub fn delete(&mut self, _relation: RelationId, _keys: &RecordBatch) -> Result<u64> {
        todo!()
    }

    /// Sets what happens on concurrent change of a relation's keys; [`ConflictPolicy::FirstCommitterWins`] unless set.
    pub fn set_policy(&mut self, _relation: RelationId, _policy: ConflictPolicy) {
        todo!()
    }

    /// Marks a point to go back to.
    pub fn savepoint(&mut self) -> Savepoint {
        todo!()
    }

    /// Undoes every write after the savepoint, which stays usable.
    pub fn rollback_to(&mut self, _savepoint: Savepoint) -> Result<()> {
        todo!()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// Bytes held in memory.
    pub fn memory_bytes(&self) -> u64 {
        todo!()
    }

    /// Finishes: what is to be proposed. Staged files now belong to the write set; when its commit fails for good, give it to
    /// [`crate::Partition::discard`].
    pub fn into_write_set(self) -> Result<WriteSet> {
        todo!()
    }
}
