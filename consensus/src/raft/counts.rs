//! What a node has done for its groups since it started, for metrics.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::log::GroupId;

/// Snapshots of one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotCount {
    /// Sent to a replica, which installed them.
    pub sent: u64,
    /// Installed here.
    pub installed: u64,
    /// Bytes fetched for them, also for those that were given up.
    pub fetched_bytes: u64,
}

/// Snapshots of all groups.
#[derive(Debug, Default)]
pub struct SnapshotCounts {
    groups: Mutex<BTreeMap<GroupId, SnapshotCount>>,
}

impl SnapshotCounts {
    /// Of one group.
    pub fn of(&self, group: GroupId) -> SnapshotCount {
        self.groups.lock().get(&group).copied().unwrap_or_default()
    }

    /// Counts something of a group.
    pub fn count(&self, group: GroupId, change: impl FnOnce(&mut SnapshotCount)) {
        change(self.groups.lock().entry(group).or_default());
    }
}
