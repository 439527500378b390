//! Key-value buckets: bytes under ordered keys, with versions, time to live and compare-and-set.
//!
//! A bucket is a relation (key → value, expires_at) like any other: written by the same transactions, read at the same snapshots, visible
//! in SQL. The version of an entry is the commit timestamp that storage keeps with every row.

mod bucket;
mod expiry;
mod group_commit;
mod table;

pub use bucket::Bucket;
pub(crate) use expiry::run_expiry;
pub(crate) use group_commit::GroupCommit;
pub(crate) use table::{bucket_source, delete_expired};

/// The key's column.
pub(crate) const KEY: &str = "key";
/// The value's column.
pub(crate) const VALUE: &str = "value";
/// When an entry goes.
pub(crate) const EXPIRES_AT: &str = "expires_at";
/// The commit timestamp of the entry.
pub(crate) const VERSION: &str = "version";

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEntry {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// Commit timestamp of the write that set it; grows with every write.
    pub version: u64,
    /// When it goes, in milliseconds since the Unix epoch.
    pub expires_at: Option<u64>,
}

/// A condition of a put or delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvPrecondition {
    /// None: the last write wins.
    Any,
    /// The key must not exist.
    Absent,
    /// The key must exist.
    Present,
    /// The key must have this version.
    Version(u64),
}

/// A scan. Keys are compared as bytes.
#[derive(Debug, Clone, Default)]
pub struct KvScan {
    /// Only keys that begin with this.
    pub prefix: Vec<u8>,
    /// Only keys at or behind this.
    pub start: Option<Vec<u8>>,
    /// Only keys before this.
    pub end: Option<Vec<u8>>,
    /// At most so many entries.
    pub limit: usize,
}
