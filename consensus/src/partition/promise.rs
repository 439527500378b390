//! What a group's leader answers to who reads all groups at one timestamp (decision 0016).

use std::sync::atomic::Ordering;

use openraft::async_runtime::watch::WatchReceiver;
use pyralog_storage::Timestamp;
use serde::{Deserialize, Serialize};

use super::PartitionHandle;
use crate::raft::promises::{Leadership, Promises};
use crate::raft::proposal::{Proposal, Refusal};
use crate::raft::read_index::read_index;
use crate::runtime;

/// How far a leader lets the clock of a reader be ahead of its own, in milliseconds.
const AHEAD_LIMIT_MS: u64 = 1_000;
/// How far ahead of what is asked for a ceiling is set, in milliseconds: an entry of the log so often, while anybody reads. The clock of the
/// next leader may be ahead by as much.
const CEILING_MS: u64 = 1_000;
/// How long before a ceiling is reached the next one is set, in milliseconds.
const EARLY_MS: u64 = 400;

/// A leader's answer to who reads at a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promised {
    /// The newest commit, of all that any replica may have applied when the leader was asked.
    pub newest: Timestamp,
    /// The position (in Raft's log) that has all that is stamped at or before the timestamp, of which there will be no more. `None`: the
    /// timestamp is too far ahead of the leader's clock to promise that.
    pub index: Option<u64>,
}

fn later(timestamp: Timestamp, millis: u64) -> Timestamp {
    Timestamp::from_millis(timestamp.millis() + millis)
}

impl PartitionHandle {
    /// As the leader: promises that nothing more is stamped at or before a timestamp, which may be far ahead of this node's clock if it was
    /// given (`is_given`) to a commit. `None`: this node does not lead, or cannot prove it.
    pub(crate) async fn promise(&self, timestamp: Timestamp, is_given: bool) -> Result<Option<Promised>, String> {
        let Some(leadership) = self.leadership() else {
            return Ok(None);
        };
        let clock = &self.inner.clock;
        let is_ahead = !is_given && timestamp > later(clock.now(), AHEAD_LIMIT_MS);
        if !is_ahead {
            // What is stamped from now on lies above it.
            clock.observe(timestamp);
            if !self.raised(timestamp).await? {
                return Ok(None);
            }
        }
        let (landed, newest) = tokio::join!(
            async {
                match is_ahead {
                    true => None,
                    false => {
                        self.in_flight().landed(timestamp).await;
                        Some(self.inner.tables.applied.load(Ordering::Acquire))
                    }
                }
            },
            self.newest_committed()
        );
        // Another leader in between might have given up what is no longer in flight here, or not.
        let is_same = self.leadership() == Some(leadership);
        Ok(newest?.filter(|_| is_same).map(|(newest, committed)| Promised {
            newest,
            index: landed.map(|index| index.max(committed)),
        }))
    }

    /// The newest timestamp of all that is committed, and where in the log that ends.
    async fn newest_committed(&self) -> Result<Option<(Timestamp, u64)>, String> {
        let Some(id) = read_index(&self.work().raft).await? else {
            return Ok(None);
        };
        // A replica may be ahead of this one in applying what is committed.
        self.applied(id.index()).await.map_err(|error| error.to_string())?;
        Ok(Some((self.storage().last_timestamp(), id.index())))
    }

    /// The leadership of this node, if it leads and has applied all that earlier leaders left.
    fn leadership(&self) -> Option<Leadership> {
        let vote = {
            let metrics = self.work().raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.vote.leader_id
        };
        self.leads().then_some((vote.term, vote.node_id))
    }

    fn promises(&self) -> &Promises {
        &self.inner.tables.promises
    }

    /// Sees to a ceiling above a timestamp. `false`: this node does not lead.
    async fn raised(&self, timestamp: Timestamp) -> Result<bool, String> {
        let is_below = |timestamp: Timestamp| timestamp <= self.promises().get().ceiling();
        if is_below(later(timestamp, EARLY_MS)) {
            return Ok(true);
        }
        if is_below(timestamp) {
            if let Ok(alone) = self.inner.raising.clone().try_lock_owned() {
                let partition = self.clone();
                runtime::spawn(async move {
                    let _alone = alone;
                    if let Err(reason) = partition.raise(timestamp).await {
                        tracing::debug!(reason, "a ceiling could not be raised ahead of time");
                    }
                });
            }
            return Ok(true);
        }
        let _alone = self.inner.raising.lock().await;
        match is_below(timestamp) {
            true => Ok(true),
            false => self.raise(timestamp).await,
        }
    }

    async fn raise(&self, timestamp: Timestamp) -> Result<bool, String> {
        match self.propose_here(Proposal::Ceiling(later(timestamp, CEILING_MS))).await {
            Ok(_) => Ok(true),
            Err(Refusal::NotLeader) => Ok(false),
            Err(refusal) => Err(refusal.into_error().to_string()),
        }
    }
}
