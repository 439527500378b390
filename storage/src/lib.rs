//! The storage engine of Pyralog: keyed Arrow relations in a log-structured merge tree (LSM), one tree a partition.
//!
//! The crate knows Arrow schemas, keys, versions, memtables, segments, manifests, compaction and scans. It knows nothing of Raft, SQL,
//! data models or the network.

mod bloom;
mod compaction;
pub mod deletes;
pub mod error;
pub mod file;
mod hex;
pub mod ids;
pub mod key;
pub mod manifest;
mod memory_size;
mod memtable;
mod merge;
mod own_rows;
pub mod partition;
pub mod placement;
mod projection;
pub mod reads;
pub mod schema;
pub mod segment;
mod selection;
pub mod snapshot;
pub mod transaction;
pub mod write_set;
pub mod zone_map;

pub use error::{Result, StorageError};
pub use ids::{PartitionId, RelationId, SegmentId, Timestamp, TransactionId};
pub use own_rows::own_rows;
pub use partition::{
    AppliedPayload, AppliedState, ApplyOutcome, Partition, PartitionCommand, PartitionOptions, PartitionStatus, Pinned, ReplicaFile,
    WriteConflict,
};
pub use placement::Placement;
pub use reads::{KeySpan, RelationReads};
pub use schema::{RelationSchema, field_id, with_field_id};
pub use segment::{set_resident_limit, set_unpacked_limit};
pub use snapshot::{IntegerIndex, IntegerRange, KeyRange, RelationView, RowAddress, ScanPiece, Snapshot};
pub use transaction::{Savepoint, SortedRun, Transaction};
pub use write_set::{ConflictPolicy, RelationWrites, StagedSegment, WriteSet};
pub use zone_map::{ColumnSummary, ZoneMaps};
