//! What one transaction changes in one partition.

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::ids::{RelationId, SegmentId, Timestamp};
use crate::reads::RelationReads;

/// The changes of one transaction in one partition. Applied whole or not at all.
#[derive(Debug, Clone)]
pub struct WriteSet {
    /// The timestamp at which the transaction read.
    pub start: Timestamp,
    /// Changes a relation; each relation occurs once.
    pub relations: Vec<RelationWrites>,
    /// What the transaction has read, if it is to be serializable. It is applied only where nobody changed that after `start`.
    pub reads: Vec<RelationReads>,
}

/// The changes to one relation. A key occurs once over `puts`, `deletes` and `staged`.
#[derive(Debug, Clone)]
pub struct RelationWrites {
    /// The relation.
    pub relation: RelationId,
    /// Whether all rows go, before `puts` and `staged` are added; `deletes` is empty then. Every change of the relation after `start`, also of
    /// a key that is new, is a concurrent change.
    pub emptied: bool,
    /// Whole rows that replace or add, in the relation's schema.
    pub puts: Vec<RecordBatch>,
    /// Key columns (in key order) of rows that go.
    pub deletes: Vec<RecordBatch>,
    /// Rows already sorted into segment files in the partition's staging folder: bulk writes do not pass through the log.
    pub staged: Vec<StagedSegment>,
    /// What happens when somebody else changed a key after `start`.
    pub policy: ConflictPolicy,
}

/// Concurrent change of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConflictPolicy {
    /// The write set is refused ([`crate::ApplyOutcome::Conflict`]): snapshot isolation.
    FirstCommitterWins,
    /// The later commit overwrites: blind puts of key-value data.
    LastWriteWins,
}

/// A segment written and synced ahead of its commit, in the partition's staging folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedSegment {
    /// The segment's id, allotted by the partition.
    pub segment: SegmentId,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of the segment file.
    pub bytes: u64,
    /// Checksum of its side-car, which in turn holds the checksums of the segment.
    pub sidecar_crc: u32,
    /// First key, arrow-row encoded.
    pub first_key: Vec<u8>,
    /// Last key, arrow-row encoded.
    pub last_key: Vec<u8>,
}
