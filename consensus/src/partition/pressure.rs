//! What the apply side, the flush side and proposers of one partition tell each other: that a flush is due, and that writes must wait.

use std::time::Duration;

use parking_lot::Mutex;
use pyralog_storage::Partition;
use tokio::sync::{Notify, watch};

use crate::error::{ConsensusError, Result};

/// Memtables may grow to this many times their configured size before proposals wait.
const STALL_FACTOR: u64 = 4;
/// How often a waiting proposal looks whether flushing failed.
const STALL_POLL: Duration = Duration::from_millis(200);

/// Signals of one partition.
pub struct Pressure {
    /// Memtable bytes at which proposals wait.
    limit: u64,
    flush_due: Notify,
    compaction_due: Notify,
    stalled: watch::Sender<bool>,
    failure: Mutex<Option<String>>,
}

impl Pressure {
    /// Signals for a partition whose memtables are sealed at `memtable_bytes`.
    pub fn new(memtable_bytes: u64) -> Pressure {
        Pressure {
            limit: memtable_bytes.saturating_mul(STALL_FACTOR),
            flush_due: Notify::new(),
            compaction_due: Notify::new(),
            stalled: watch::channel(false).0,
            failure: Mutex::new(None),
        }
    }

    /// Called after entries were applied.
    pub fn after_apply(&self, partition: &Partition) {
        if partition.needs_flush() {
            self.flush_due.notify_one();
            self.measure(partition);
        }
    }

    /// Called after a flush.
    pub fn after_flush(&self, partition: &Partition) {
        *self.failure.lock() = None;
        self.measure(partition);
        self.compaction_due.notify_one();
    }

    /// Called when a flush failed.
    pub fn flush_failed(&self, reason: String) {
        *self.failure.lock() = Some(reason);
    }

    fn measure(&self, partition: &Partition) {
        let stalled = partition.status().memtable_bytes > self.limit;
        self.stalled.send_if_modified(|old| std::mem::replace(old, stalled) != stalled);
    }

    /// Waits until a flush is due.
    pub async fn flush_due(&self) {
        self.flush_due.notified().await;
    }

    /// Waits until a compaction may be due.
    pub async fn compaction_due(&self) {
        self.compaction_due.notified().await;
    }

    /// Returns once memtables have room.
    pub async fn admit(&self) -> Result<()> {
        if !*self.stalled.borrow() {
            return Ok(());
        }
        let mut stalled = self.stalled.subscribe();
        while *stalled.borrow_and_update() {
            if let Some(reason) = self.failure.lock().clone() {
                return Err(ConsensusError::Unavailable(format!(
                    "memory for new rows is full and flushing fails: {reason}"
                )));
            }
            // A time-out only looks at the failure again.
            let _ = tokio::time::timeout(STALL_POLL, stalled.changed()).await;
        }
        Ok(())
    }
}
