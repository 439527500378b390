//! A node: the shared log, the meta group, the data groups, and the threads that flush and compact.

use std::path::PathBuf;
use std::sync::Arc;

use pyralog_storage::{PartitionOptions, PartitionStatus, Timestamp};

use crate::error::Result;
use crate::meta::Meta;
use crate::partition::PartitionHandle;

/// How a node is opened.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The database directory (`FORMAT`, `log/`, `meta/`, `partitions/`); made if it is not there.
    pub data_dir: PathBuf,
    /// Data partitions, fixed when the directory is initialised. 0: as initialised, or 1 for a new directory.
    pub partitions: u32,
    /// Options of every partition.
    pub partition_options: PartitionOptions,
    /// Size at which a log file is closed and the next one begun, in bytes.
    pub log_file_bytes: u64,
    /// Writes that may wait in a partition's queue before it answers "overloaded".
    pub queue_limit: usize,
}

impl NodeConfig {
    /// Defaults for a directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        NodeConfig {
            data_dir: data_dir.into(),
            partitions: 0,
            partition_options: PartitionOptions::default(),
            log_file_bytes: 64 << 20,
            queue_limit: 4096,
        }
    }
}

/// State for `/health`, metrics and `SHOW`.
#[derive(Debug, Clone, Default)]
pub struct NodeStatus {
    /// The node's id.
    pub node_id: u64,
    /// The database's id, made at initialisation.
    pub database_id: String,
    /// Per data group: partition number, whether this node leads it, term, last log index, applied index.
    pub groups: Vec<GroupStatus>,
    /// Bytes of log files.
    pub log_bytes: u64,
    /// fdatasync calls of the log since start.
    pub log_syncs: u64,
}

/// One group's state.
#[derive(Debug, Clone, Default)]
pub struct GroupStatus {
    /// `meta` or `p0`, `p1`, …
    pub name: String,
    /// Whether this node leads it.
    pub leader: bool,
    /// Raft term.
    pub term: u64,
    /// Last index in the log.
    pub last_index: u64,
    /// Last index applied.
    pub applied_index: u64,
    /// Storage counts (default for meta).
    pub storage: PartitionStatus,
}

/// The consensus half of a database in this process.
pub struct Node {}

impl Node {
    /// Opens or initialises a data directory, replays the log, elects, starts background work. Fails if another process has it open.
    pub async fn open(_config: NodeConfig) -> Result<Arc<Node>> {
        todo!()
    }

    /// The meta group.
    pub fn meta(&self) -> &Meta {
        todo!()
    }

    /// The data partitions, by number.
    pub fn partitions(&self) -> &[PartitionHandle] {
        todo!()
    }

    /// The present as a timestamp not below any given out or seen.
    pub fn now(&self) -> Timestamp {
        todo!()
    }

    /// Counts.
    pub fn status(&self) -> NodeStatus {
        todo!()
    }

    /// Stops proposals, flushes what is cheap, ends all threads. Acknowledged writes are durable without it.
    pub async fn close(&self) -> Result<()> {
        todo!()
    }
}
