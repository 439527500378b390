//! Key-value buckets: bytes under ordered keys, with versions, time to live and compare-and-set.

use crate::error::Result;

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

/// A key-value bucket. Cheap to clone.
#[derive(Clone)]
pub struct Bucket {}

impl Bucket {
    /// The entry of a key, if it is there and has not expired.
    pub async fn get(&self, _key: &[u8]) -> Result<Option<KvEntry>> {
        todo!()
    }

    /// Sets a key; returns its version. `ttl_ms`: time to live in milliseconds. Errors with `PreconditionFailed`.
    pub async fn put(&self, _key: &[u8], _value: &[u8], _ttl_ms: Option<u64>, _condition: KvPrecondition) -> Result<u64> {
        todo!()
    }

    /// Removes a key; whether it was there. Errors with `PreconditionFailed`.
    pub async fn delete(&self, _key: &[u8], _condition: KvPrecondition) -> Result<bool> {
        todo!()
    }

    /// Entries in key order, and the key to start the next page from.
    pub async fn scan(&self, _scan: KvScan) -> Result<(Vec<KvEntry>, Option<Vec<u8>>)> {
        todo!()
    }
}
