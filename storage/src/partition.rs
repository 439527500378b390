//! One partition: an LSM that holds every relation's rows of one hash range.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Result;
use crate::ids::{PartitionId, RelationId, Timestamp};
use crate::schema::RelationSchema;
use crate::snapshot::Snapshot;
use crate::transaction::Transaction;
use crate::write_set::WriteSet;

/// How a partition uses memory and disk.
#[derive(Debug, Clone)]
pub struct PartitionOptions {
    /// A memtable larger than this is sealed and flushed. Bytes.
    pub memtable_bytes: u64,
    /// A transaction holds at most this many bytes of new rows in memory before it stages a segment.
    pub transaction_bytes: u64,
    /// A transaction may hold at most this many bytes of deletes and in-place updates.
    pub transaction_limit_bytes: u64,
    /// Target size of a segment file, in bytes.
    pub segment_bytes: u64,
    /// Rows of one Arrow record batch within a segment.
    pub batch_rows: usize,
    /// How long superseded versions stay readable (`FOR SYSTEM_TIME AS OF`), in milliseconds.
    pub retention_ms: u64,
    /// Segments in level 0 that start a compaction.
    pub level0_segments: usize,
}

impl Default for PartitionOptions {
    fn default() -> Self {
        PartitionOptions {
            memtable_bytes: 64 << 20,
            transaction_bytes: 48 << 20,
            transaction_limit_bytes: 512 << 20,
            segment_bytes: 128 << 20,
            batch_rows: 8192,
            retention_ms: 0,
            level0_segments: 4,
        }
    }
}

/// The log position a partition has applied, with a payload of consensus' own that is stored and given back as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppliedState {
    /// Index of the last applied entry; 0 when none.
    pub index: u64,
    /// Opaque to storage (log id, membership).
    pub payload: Bytes,
}

/// What a log entry asks a partition to do.
#[derive(Debug, Clone)]
pub enum PartitionCommand {
    /// Apply a write set at a commit timestamp.
    Write(Timestamp, Arc<WriteSet>),
    /// Make a relation; no error if the same one exists.
    CreateRelation(RelationSchema),
    /// Change a relation's schema to a later version.
    AlterRelation(RelationSchema),
    /// Remove a relation and its files; no error if it is gone.
    DropRelation(RelationId),
    /// Only move the applied position.
    Nothing,
}

/// The answer to a [`PartitionCommand`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// Done.
    Applied,
    /// Refused by first-committer-wins; nothing changed.
    Conflict(WriteConflict),
}

/// Which key was changed by somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteConflict {
    /// The relation.
    pub relation: RelationId,
    /// The key, readable.
    pub key: String,
}

/// Counts for metrics and `SHOW`.
#[derive(Debug, Clone, Default)]
pub struct PartitionStatus {
    /// Segment files.
    pub segments: u64,
    /// Bytes of segment files.
    pub segment_bytes: u64,
    /// Bytes in memtables (active and sealed).
    pub memtable_bytes: u64,
    /// Flushes since start.
    pub flushes: u64,
    /// Compactions since start.
    pub compactions: u64,
    /// The highest commit timestamp applied.
    pub last_timestamp: Timestamp,
    /// The index up to which everything is in segments.
    pub flushed_index: u64,
}

/// One partition's LSM. All methods take `&self`; `apply` is called by one thread at a time.
pub struct Partition {}

impl Partition {
    /// Opens or makes a partition in `dir`. Recovers the state of the last manifest; the caller then replays the log from
    /// [`Self::flushed`] on, and calls [`Self::collect_garbage`].
    pub fn open(_id: PartitionId, _dir: &Path, _options: PartitionOptions) -> Result<Arc<Partition>> {
        todo!()
    }

    /// Which partition this is.
    pub fn id(&self) -> PartitionId {
        todo!()
    }

    /// What is durable in segments: replay starts behind it.
    pub fn flushed(&self) -> AppliedState {
        todo!()
    }

    /// What has been applied, in memory or on disk.
    pub fn applied(&self) -> AppliedState {
        todo!()
    }

    /// The highest commit timestamp applied: the newest snapshot.
    pub fn last_timestamp(&self) -> Timestamp {
        todo!()
    }

    /// Applies one committed entry. Deterministic. Entries at or below the applied index are ignored.
    pub fn apply(&self, _state: AppliedState, _command: &PartitionCommand) -> Result<ApplyOutcome> {
        todo!()
    }

    /// Pins the state at `timestamp` (at most [`Self::last_timestamp`]; `None`: the newest).
    pub fn snapshot(self: &Arc<Self>, _timestamp: Option<Timestamp>) -> Result<Snapshot> {
        todo!()
    }

    /// Starts a transaction over a snapshot.
    pub fn begin(self: &Arc<Self>, _snapshot: Snapshot) -> Transaction {
        todo!()
    }

    /// Removes the staged files of a write set that will never commit.
    pub fn discard(&self, _write_set: &WriteSet) {
        todo!()
    }

    /// Whether the active memtable is full, so that [`Self::flush`] is due.
    pub fn needs_flush(&self) -> bool {
        todo!()
    }

    /// Seals the memtable and writes it as segments; returns what is durable then. Long, blocking.
    pub fn flush(&self) -> Result<AppliedState> {
        todo!()
    }

    /// Does one step of compaction if one is due; `false` when there was nothing to do. Long, blocking. Runs beside everything else.
    pub fn compact_step(&self) -> Result<bool> {
        todo!()
    }

    /// Compacts one relation (or all) down to fully merged segments without masked rows.
    pub fn compact_all(&self, _relation: Option<RelationId>) -> Result<()> {
        todo!()
    }

    /// Removes files that no manifest and no staged write set names. Called after replay.
    pub fn collect_garbage(&self) -> Result<()> {
        todo!()
    }

    /// Reads every file whole and checks every checksum; each problem is one entry.
    pub fn verify(&self) -> Result<Vec<crate::StorageError>> {
        todo!()
    }

    /// Counts.
    pub fn status(&self) -> PartitionStatus {
        todo!()
    }

    /// Schemas of all relations.
    pub fn relations(&self) -> Vec<Arc<RelationSchema>> {
        todo!()
    }

    /// Where the partition's files are.
    pub fn dir(&self) -> &PathBuf {
        todo!()
    }
}
