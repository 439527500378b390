//! What can go wrong between a proposal and its acknowledgement.

use std::path::PathBuf;

use pyralog_storage::{StorageError, WriteConflict};

/// The result of a consensus call.
pub type Result<T, E = ConsensusError> = std::result::Result<T, E>;

/// An error of the consensus layer.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// Somebody else changed a key after the transaction began. Retry the transaction.
    #[error("write conflict on key {} of relation {}", .0.key, .0.relation)]
    Conflict(WriteConflict),
    /// A condition of a meta change did not hold. Read again and retry.
    #[error("meta key {key} changed in between")]
    MetaConflict {
        /// The key whose condition failed.
        key: String,
    },
    /// The partition's queue is full. Retry later; nothing was written.
    #[error("partition overloaded: {waiting} writes wait already; retry later")]
    Overloaded {
        /// How many wait.
        waiting: usize,
    },
    /// The outcome is not known (the node stops, or the answer was lost): the write may or may not be there.
    #[error("the outcome of the write is unknown: {0}")]
    Unknown(String),
    /// The request was given up before, and somebody was told that it will not be carried out. Nothing was written.
    #[error("the request was given up before this try of it; ask again as a new request")]
    Void,
    /// The node is stopping or a fatal error stopped it; nothing was written.
    #[error("the node is not available: {0}")]
    Unavailable(String),
    /// The log is damaged in its middle.
    #[error("{}: damaged log at offset {offset}: {detail}", path.display())]
    DamagedLog {
        /// The log file.
        path: PathBuf,
        /// Byte offset of the first bad frame.
        offset: u64,
        /// How that shows.
        detail: String,
    },
    /// A setting that this version cannot serve.
    #[error("{0}")]
    Unsupported(String),
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
