//! A partition as the layers above use it: its LSM for reading, its Raft group for writing.

use std::sync::Arc;

use pyralog_storage::{Partition, PartitionId, RelationId, RelationSchema, Snapshot, Timestamp, WriteSet};

use crate::error::Result;

/// A handle on one partition. Cheap to clone.
#[derive(Clone)]
pub struct PartitionHandle {}

impl PartitionHandle {
    /// Which partition.
    pub fn id(&self) -> PartitionId {
        todo!()
    }

    /// Its LSM, for scans and transactions. Never write through it.
    pub fn storage(&self) -> &Arc<Partition> {
        todo!()
    }

    /// Pins the newest acknowledged state (or that at `timestamp`).
    pub fn snapshot(&self, _timestamp: Option<Timestamp>) -> Result<Snapshot> {
        todo!()
    }

    /// Replicates and applies a write set; returns its commit timestamp once it is durable and visible.
    pub async fn commit(&self, _write_set: WriteSet) -> Result<Timestamp> {
        todo!()
    }

    /// Makes a relation (idempotent).
    pub async fn create_relation(&self, _schema: RelationSchema) -> Result<()> {
        todo!()
    }

    /// Changes a relation's schema.
    pub async fn alter_relation(&self, _schema: RelationSchema) -> Result<()> {
        todo!()
    }

    /// Removes a relation (idempotent).
    pub async fn drop_relation(&self, _relation: RelationId) -> Result<()> {
        todo!()
    }

    /// Flushes the memtable, so that every row applied before is in segments; then lets the log go up to there.
    pub async fn checkpoint(&self) -> Result<()> {
        todo!()
    }

    /// Compacts one relation, or all.
    pub async fn compact(&self, _relation: Option<RelationId>) -> Result<()> {
        todo!()
    }
}
