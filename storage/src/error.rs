//! What can go wrong in storage, precisely; callers see few kinds through [`StorageError::code`].

use std::path::PathBuf;

use crate::ids::{RelationId, Timestamp, TransactionId};

/// The result of a storage call.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// An error of the storage engine.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A file does not say what it said when it was written.
    #[error("{}: damaged {what}: {detail}", path.display())]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// What part of it.
        what: &'static str,
        /// How that shows.
        detail: String,
    },
    /// A file was written by a newer version of the software.
    #[error("{}: format version {found} is newer than the supported version {supported}; use a newer pyralog", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version this build reads.
        supported: u32,
    },
    /// The operating system refused an operation.
    #[error("{}: {operation}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was attempted.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A write or sync failed earlier, so that the state on disk is unknown; nothing more is written until a restart.
    #[error("the store stopped after a failed write: {reason}; free the cause and restart")]
    Poisoned {
        /// The first failure.
        reason: String,
    },
    /// No such relation in this partition.
    #[error("unknown relation {0}")]
    UnknownRelation(RelationId),
    /// A decision about a transaction of which no part is prepared in this partition.
    #[error("no part of transaction {0} is prepared here")]
    UnknownTransaction(TransactionId),
    /// A transaction was decided with a commit timestamp below that of one of its parts.
    #[error("transaction {transaction} cannot commit at {commit}: it was prepared at {prepared}")]
    DecidedTooEarly {
        /// Which.
        transaction: TransactionId,
        /// The commit timestamp.
        commit: Timestamp,
        /// The part's own.
        prepared: Timestamp,
    },
    /// A snapshot was asked for that compaction has already folded.
    #[error("snapshot {requested} is older than the oldest kept version {horizon}")]
    SnapshotTooOld {
        /// The timestamp asked for.
        requested: Timestamp,
        /// The oldest timestamp that can still be read.
        horizon: Timestamp,
    },
    /// Rows do not fit their relation's schema.
    #[error("rows do not fit relation {relation}: {detail}")]
    SchemaMismatch {
        /// The relation.
        relation: RelationId,
        /// What differs.
        detail: String,
    },
    /// An insert met a key that exists.
    #[error("duplicate key {key} in relation {relation}")]
    DuplicateKey {
        /// The relation.
        relation: RelationId,
        /// The key's columns and values, readable.
        key: String,
    },
    /// A transaction holds more than it may hold in memory.
    #[error("the transaction holds {bytes} bytes of deletes or updates, more than the limit of {limit}; split it")]
    TransactionTooLarge {
        /// Bytes held.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A savepoint was never made, or went with an earlier rollback.
    #[error("no savepoint {0} in this transaction")]
    UnknownSavepoint(u64),
    /// Another process uses the directory.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// An Arrow kernel failed.
    #[error(transparent)]
    Arrow(#[from] arrow_schema::ArrowError),
}

impl StorageError {
    /// Whether this is an answer to the request that every replica gives alike, after which the partition is as sound as before.
    pub fn is_refusal(&self) -> bool {
        use StorageError::{
            DecidedTooEarly, DuplicateKey, SchemaMismatch, SnapshotTooOld, TransactionTooLarge, UnknownRelation, UnknownTransaction,
        };
        matches!(
            self,
            UnknownRelation(_)
                | UnknownTransaction(_)
                | DecidedTooEarly { .. }
                | SchemaMismatch { .. }
                | SnapshotTooOld { .. }
                | DuplicateKey { .. }
                | TransactionTooLarge { .. }
        )
    }

    /// Makes an [`StorageError::Io`], for `map_err`.
    pub fn io(path: impl Into<PathBuf>, operation: &'static str) -> impl FnOnce(std::io::Error) -> StorageError {
        let path = path.into();
        move |source| StorageError::Io { path, operation, source }
    }

    /// Makes an [`StorageError::Damaged`].
    pub fn damaged(path: impl Into<PathBuf>, what: &'static str, detail: impl Into<String>) -> StorageError {
        StorageError::Damaged {
            path: path.into(),
            what,
            detail: detail.into(),
        }
    }
}
