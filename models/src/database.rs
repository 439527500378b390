//! The embedded database: everything but sockets.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::kv::Bucket;
use crate::session::Session;

/// How a database is opened.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Memory for memtables, caches and queries together, in bytes.
    pub memory_limit: u64,
    /// Threads (and plan partitions) of a query; 0: as many as cores.
    pub threads: usize,
    /// Data partitions of a new directory; 0: default.
    pub partitions: u32,
    /// Where sorts and joins spill; `None`: `DATA/spill`.
    pub spill_dir: Option<PathBuf>,
    /// Folder that `COPY` and `CREATE EXTERNAL TABLE` may touch; `None`: anywhere (embedded and loopback use).
    pub file_root: Option<PathBuf>,
}

impl DatabaseConfig {
    /// Defaults for a directory: 4 GB of memory, all cores.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        DatabaseConfig { data_dir: data_dir.into(), memory_limit: 4 << 30, threads: 0, partitions: 0, spill_dir: None, file_root: None }
    }
}

/// State for `/health`, `/metrics` and `SHOW`.
#[derive(Debug, Clone, Default)]
pub struct DatabaseStatus {
    /// Software version.
    pub version: String,
    /// The consensus node's state (groups, log, storage).
    pub node: pyralog_consensus::NodeStatus,
    /// Open sessions.
    pub sessions: u64,
    /// Statements since start.
    pub statements: u64,
    /// Statements that failed since start.
    pub statement_errors: u64,
    /// Bytes of query memory in use.
    pub query_memory_bytes: u64,
    /// Bytes of query memory allowed.
    pub query_memory_limit: u64,
}

/// A database in this process. Cheap to clone; the last clone's drop does not wait: call [`Database::close`].
#[derive(Clone)]
pub struct Database {}

impl Database {
    /// Opens (or makes) a database in a directory with default settings.
    pub async fn open(dir: impl AsRef<Path>) -> Result<Database> {
        Self::open_with(DatabaseConfig::new(dir.as_ref())).await
    }

    /// Opens (or makes) a database.
    pub async fn open_with(_config: DatabaseConfig) -> Result<Database> {
        todo!()
    }

    /// A new session: settings, and at most one open transaction.
    pub fn session(&self) -> Session {
        todo!()
    }

    /// A key-value bucket by name.
    pub fn kv(&self, _bucket: &str) -> Result<Bucket> {
        todo!()
    }

    /// Counts and states.
    pub fn status(&self) -> DatabaseStatus {
        todo!()
    }

    /// Reads every file and checks every checksum; each line is one problem.
    pub async fn verify(&self) -> Result<Vec<String>> {
        todo!()
    }

    /// Stops background work and closes files.
    pub async fn close(&self) -> Result<()> {
        todo!()
    }
}
