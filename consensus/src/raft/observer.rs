//! Tells the log what becomes of a group: who leads it, who votes in it, whether it has a majority, that it stopped. One line a change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::storage::RaftStateMachine;
use tokio::sync::watch;

use super::group;
use super::types::Types;
use crate::log::{GroupId, Log};
use crate::node::GroupStatus;
use crate::node::cluster::Cluster;

/// How often a group is looked at though Raft tells of no change: a majority goes without a word.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many looks without a majority are told of: an election takes up to two seconds.
const LOOKS_WITHOUT_QUORUM: u32 = 3;

/// The observer of one group.
pub struct Observer<SM: RaftStateMachine<Types>> {
    group: GroupId,
    raft: Raft<Types, SM>,
    log: Log,
    cluster: Option<Arc<Cluster>>,
    leader_changes: Arc<AtomicU64>,
}

/// What was told last.
#[derive(Default)]
struct Told {
    leader: Option<(u64, u64)>,
    voters: Vec<u64>,
    learners: Vec<u64>,
    stopped: bool,
    looks_without_quorum: u32,
}

impl<SM: RaftStateMachine<Types>> Observer<SM> {
    /// Observes a group, and counts its leaders.
    pub fn new(group: GroupId, raft: Raft<Types, SM>, log: Log, cluster: Option<Arc<Cluster>>, leader_changes: Arc<AtomicU64>) -> Self {
        Observer {
            group,
            raft,
            log,
            cluster,
            leader_changes,
        }
    }

    /// Until the node stops.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut changes = self.raft.server_metrics();
        let mut told = Told::default();
        loop {
            let status = group::status(self.group, &self.raft, &self.log, self.cluster.as_deref());
            self.tell(&mut told, status);
            // Raft that has stopped tells of nothing any more; the clock then paces the looks.
            let changed = async {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                _ = stop.wait_for(|&stop| stop) => return,
                () = changed => {}
                () = tokio::time::sleep(LOOK_EVERY) => told.looks_without_quorum += 1,
            }
        }
    }

    fn tell(&self, told: &mut Told, status: GroupStatus) {
        let (group, term) = (self.group, status.term);
        if let Some(reason) = &status.stopped
            && !std::mem::replace(&mut told.stopped, true)
        {
            tracing::error!(%group, term, reason, "a group stopped on this node");
        }
        if let Some(leader) = status.leader_id
            && told.leader != Some((leader, term))
        {
            self.leader_changes.fetch_add(1, Ordering::Relaxed);
            told.leader = Some((leader, term));
            tracing::info!(%group, term, leader, here = status.leader, "a group has a new leader");
        }
        if !status.voters.is_empty() && (status.voters != told.voters || status.learners != told.learners) {
            told.voters = status.voters;
            told.learners = status.learners;
            tracing::info!(%group, term, voters = ?told.voters, learners = ?told.learners, "a group has other members");
        }
        if status.quorum {
            if told.looks_without_quorum > LOOKS_WITHOUT_QUORUM {
                tracing::info!(%group, term, leader = status.leader_id, "a group has a majority again");
            }
            told.looks_without_quorum = 0;
        } else if told.looks_without_quorum == LOOKS_WITHOUT_QUORUM && !told.stopped && !told.voters.is_empty() {
            // Counted on, so that this is told once.
            told.looks_without_quorum += 1;
            tracing::warn!(%group, term, voters = ?told.voters, "a group has no majority that this node reaches: it can neither write nor read");
        }
    }
}
