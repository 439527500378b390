//! What a state machine has applied: the position in the log, and the last membership up to there.

use std::sync::Arc;

use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use serde::{Deserialize, Serialize};

use super::types::{Entry, LogId, SnapshotMeta, StoredMembership};

/// An applied position.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The last applied entry.
    pub log_id: Option<LogId>,
    /// The last applied membership.
    pub membership: Arc<StoredMembership>,
}

impl Position {
    /// Moves over one entry.
    pub fn advance(&mut self, entry: &Entry) {
        let id = entry.log_id();
        self.log_id = Some(id);
        if let EntryPayload::Membership(membership) = &entry.payload {
            self.membership = Arc::new(StoredMembership::new(Some(id), membership.clone()));
        }
    }

    /// Raft index of the last applied entry.
    pub fn index(&self) -> Option<u64> {
        self.log_id.map(|id| id.index())
    }

    /// The position as a snapshot's metadata.
    pub fn snapshot_meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.log_id,
            last_membership: self.membership.as_ref().clone(),
        }
    }
}
