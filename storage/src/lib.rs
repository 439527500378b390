//! The storage engine of Pyralog: keyed Arrow relations in a log-structured merge tree (LSM), one tree a partition.
//!
//! The crate knows Arrow schemas, keys, versions, memtables, segments, manifests, compaction and scans. It knows nothing of Raft, SQL,
//! data models or the network.

mod bloom;
pub mod deletes;
pub mod error;
pub mod file;
mod hex;
pub mod ids;
pub mod key;
pub mod manifest;
pub mod partition;
pub mod schema;
pub mod segment;
pub mod snapshot;
pub mod transaction;
pub mod write_set;
pub mod zone_map;

pub use error::{Result, StorageError};
pub use ids::{PartitionId, RelationId, SegmentId, Timestamp};
pub use partition::{AppliedState, ApplyOutcome, Partition, PartitionCommand, PartitionOptions, PartitionStatus, WriteConflict};
pub use schema::RelationSchema;
pub use snapshot::{KeyRange, RelationView, RowAddress, ScanPiece, Snapshot};
pub use transaction::{Savepoint, Transaction};
pub use write_set::{ConflictPolicy, RelationWrites, StagedSegment, WriteSet};
pub use zone_map::{ColumnSummary, ZoneMaps};
