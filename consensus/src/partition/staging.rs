//! Bringing the files of a bulk write to the group's voters before it is proposed.
//!
//! Once it is proposed it has a timestamp, and readers of all groups at a later one wait for it: they would wait for its files.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::async_runtime::watch::WatchReceiver;

use super::PartitionHandle;
use crate::codec::EncodedWriteSet;
use crate::raft::proposal::Proposal;

/// How long the files may take. What has not got them by then fetches them when the entry arrives.
const STAGE_LIMIT: Duration = Duration::from_secs(120);

impl PartitionHandle {
    /// Returns once so many voters have the files that a proposal names, the leader among them, that it can be committed, or cannot have them now.
    /// `false`: it names none. This node has them.
    pub(super) async fn spread_staged(&self, proposal: &Proposal) -> bool {
        let Some(cluster) = self.inner.cluster.as_ref().filter(|_| !proposal.is_plain()) else {
            return false;
        };
        // What cannot be read or encoded is refused when it is proposed.
        let Ok(Some(staged)) = proposal.staged() else { return false };
        let Ok(staged) = EncodedWriteSet::new(Arc::new(staged)) else {
            return false;
        };
        let (others, leader) = {
            let metrics = self.work().raft.metrics();
            let metrics = metrics.borrow_watched();
            let voters = metrics.membership_config.membership().voter_ids();
            let others: Vec<u64> = voters.filter(|voter| *voter != cluster.node).collect();
            (others, metrics.current_leader)
        };
        // With this node's own, a majority of all.
        let needed = others.len().div_ceil(2);
        let mut awaits_leader = leader.is_some_and(|leader| others.contains(&leader));
        let stage = |node| {
            let staged = cluster.stage(node, self.group(), staged.clone(), STAGE_LIMIT);
            async move { (node, staged.await) }
        };
        let mut staging: FuturesUnordered<_> = others.into_iter().map(stage).collect();
        let mut there = 0;
        while there < needed || awaits_leader {
            let Some((node, answer)) = staging.next().await else { break };
            awaits_leader &= Some(node) != leader;
            match answer {
                Ok(()) => there += 1,
                Err(reason) => tracing::debug!(partition = %self.id(), node, reason, "files of a bulk write are not at a voter yet"),
            }
        }
        true
    }
}
