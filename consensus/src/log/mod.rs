//! The node's one write-ahead log, shared by all its groups: what a group proposes goes here before anybody is told that it is durable.
//!
//! ```text
//! submit ─▶ queue ─▶ writer thread: one frame, one pwrite, one fdatasync for all that wait ─▶ SYNCED marker ─▶ index ─▶ callbacks
//! ```
//!
//! The log knows bytes and record kinds, not Raft. Invariants:
//! - One ordered queue: votes, entries, truncations and purges of all groups reach the disk in the order of [`Log::submit`].
//! - A frame is written only after its predecessor was synced. So a bad frame with a later valid one, or below the SYNCED marker, is
//!   damage and never cut off; a bad frame at the very end was never acknowledged and is cut off.
//! - After a failed write or sync nothing is written any more, and every waiter and later caller gets the first failure.
//! - The index names durable records only.

mod collection;
pub mod disk;
mod file;
mod frame;
mod index;
mod marker;
mod recovery;
mod writer;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::Result;
use disk::Disk;
pub use frame::MAX_PAYLOAD_BYTES;
use writer::{Running, Shared};

/// A group's number within the node's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct GroupId(pub u32);

impl GroupId {
    /// The log's own records.
    pub(crate) const LOG: GroupId = GroupId(u32::MAX);
    /// The meta group.
    pub const META: GroupId = GroupId(0);

    /// The group of a data partition.
    pub fn data(partition: u32) -> GroupId {
        GroupId(partition + 1)
    }
}

impl fmt::Display for GroupId {
    /// `meta`, or `p0`, `p1`, …
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.checked_sub(1) {
            None => f.write_str("meta"),
            Some(partition) => write!(f, "p{partition}"),
        }
    }
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// A Raft entry at `index`; whatever the group had from `index` on is gone.
    Entry,
    /// The group's vote.
    Vote,
    /// The group's committed position.
    Committed,
    /// Entries from `index` on are gone.
    Truncate,
    /// Entries up to `index` are gone; the payload is the purged position.
    Purge,
    /// An entry written once more so that its old file can go; entries behind it stay.
    Moved,
    /// Log files before the one that holds sequence number `index` may be missing from now on.
    Collected,
}

/// One record to write.
#[derive(Debug, Clone)]
pub struct Record {
    /// Whose.
    pub group: GroupId,
    /// What.
    pub kind: RecordKind,
    /// Raft log index; see [`RecordKind`].
    pub index: u64,
    /// Bytes; at most [`MAX_PAYLOAD_BYTES`].
    pub payload: Bytes,
}

/// Why the log did not take a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// A write or sync failed; whether the records in flight are on disk is not known.
    #[error("the log stopped: {0}")]
    Failed(String),
    /// The log was closed before the record was written.
    #[error("the log is closed")]
    Closed,
    /// A record could not be read back.
    #[error("{}: {detail}", path.display())]
    Unreadable {
        /// The log file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
}

/// Told once the records are durable (or never will be, as far as is known). Runs on the writer thread: it must not block.
pub type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// Whether a submission waits for its own sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Write and sync as soon as possible.
    Now,
    /// Ride along with the next frame.
    WithNext,
}

/// How a log is opened.
pub struct LogConfig {
    /// The `log/` directory.
    pub dir: PathBuf,
    /// Size at which a file is closed and the next one begun, in bytes.
    pub file_bytes: u64,
    /// Whether an empty or missing directory may be initialised. False where other state proves that there was a log.
    pub may_create: bool,
    /// Where bytes go.
    pub disk: Arc<dyn Disk>,
}

/// What a group has in the log, durably.
#[derive(Debug, Clone, Default)]
pub struct GroupRecords {
    /// Last vote.
    pub vote: Option<Bytes>,
    /// Last committed position.
    pub committed: Option<Bytes>,
    /// Last purged position.
    pub purged: Option<Bytes>,
    /// First and last entry.
    pub entries: Option<(u64, u64)>,
}

/// A handle on the log. Cheap to clone. Dropping the last one ends the writer thread.
#[derive(Clone)]
pub struct Log {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
    writer: Mutex<Option<Running>>,
}

impl Log {
    /// Recovers the log and starts its writer thread. Blocking.
    pub fn open(config: LogConfig) -> Result<Log> {
        let recovered = recovery::recover(&config)?;
        let (shared, writer) = writer::start(config, recovered)?;
        Ok(Log {
            owner: Arc::new(Owner {
                shared,
                writer: Mutex::new(Some(writer)),
            }),
        })
    }

    /// Queues records; they are written in the order of the calls. Never blocks on the disk.
    pub fn submit(&self, records: Vec<Record>, urgency: Urgency, done: Option<Done>) {
        self.owner.shared.submit(records, urgency, done);
    }

    /// What a group has in the log.
    pub fn group(&self, group: GroupId) -> GroupRecords {
        self.owner.shared.index.read().group_records(group)
    }

    /// Reads the durable entries of a range, with their indexes, in order and without a hole. Blocking.
    pub fn read(&self, group: GroupId, range: Range<u64>) -> Result<Vec<(u64, Bytes)>, LogError> {
        self.owner.shared.read(group, range)
    }

    /// The first failure, after which nothing is written.
    pub fn failure(&self) -> Option<String> {
        self.owner.shared.failure.borrow().clone()
    }

    /// Returns once the log has failed.
    pub async fn failed(&self) {
        let mut failure = self.owner.shared.failure.subscribe();
        // An error means that the log is gone, and then so is its node.
        let _ = failure.wait_for(Option::is_some).await;
    }

    /// Bytes of log files on disk.
    pub fn bytes(&self) -> u64 {
        self.owner.shared.bytes.load(Ordering::Relaxed)
    }

    /// fdatasync calls for frames since the log was opened.
    pub fn syncs(&self) -> u64 {
        self.owner.shared.syncs.load(Ordering::Relaxed)
    }

    /// Writes what is queued, then ends the writer thread. Later submissions fail with [`LogError::Closed`]. Blocking.
    pub fn close(&self) {
        self.owner.shared.close();
        let writer = self.owner.writer.lock().take();
        if let Some(writer) = writer {
            writer.end();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // No join: a callback may hold the last handle, and then this runs on the writer thread itself.
        self.shared.close();
    }
}

/// Path of the file whose first frame has sequence number `first`.
fn file_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:016x}.log"))
}

#[cfg(test)]
mod tests;
