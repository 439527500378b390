//! Where a group's leader is.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::storage::RaftStateMachine;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{Raft, RaftMetrics};
use tokio::time::{Instant, timeout};

use super::types::Types;
use crate::error::{ConsensusError, Result};

/// How long a call looks for a leader that takes it. An election takes up to some seconds; longer means that a majority is away.
const SEARCH_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait before a node that refused is asked again, if no change of leader is seen earlier.
const PAUSE: Duration = Duration::from_millis(20);

/// Who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leader {
    /// This node, and it has applied all that earlier leaders left.
    Here,
    /// Another node.
    There(u64),
}

/// The search of one call for its leader.
pub struct Search {
    group: String,
    node: u64,
    metrics: WatchReceiverOf<Types, RaftMetrics<Types>>,
    deadline: Instant,
    reason: Option<String>,
}

impl Search {
    /// Begins.
    pub fn new<SM: RaftStateMachine<Types>>(group: impl Into<String>, raft: &Raft<Types, SM>) -> Search {
        Search {
            group: group.into(),
            node: *raft.node_id(),
            metrics: raft.metrics(),
            deadline: Instant::now() + SEARCH_LIMIT,
            reason: None,
        }
    }

    /// Waits until a leader is known. Fails when Raft has stopped, or after a bounded time; nothing was done then.
    pub async fn find(&mut self) -> Result<Leader> {
        loop {
            if let Some(leader) = self.look()? {
                return Ok(leader);
            }
            self.wait(Duration::MAX).await?;
        }
    }

    /// Tells that the leader found did not take it, and waits a little for another one.
    pub async fn refused(&mut self, reason: Option<String>) -> Result<()> {
        self.reason = reason.or(self.reason.take());
        let (refused, until) = (self.look()?, Instant::now() + PAUSE);
        // Metrics change with every refusal too: a leader without a majority would be asked again and again without a pause.
        while self.look()? == refused && Instant::now() < until {
            self.wait(until.saturating_duration_since(Instant::now())).await?;
        }
        Ok(())
    }

    fn look(&self) -> Result<Option<Leader>> {
        let metrics = self.metrics.borrow_watched();
        if let Err(fatal) = &metrics.running_state {
            return Err(ConsensusError::Unavailable(fatal.to_string()));
        }
        Ok(match metrics.current_leader {
            Some(leader) if leader != self.node => Some(Leader::There(leader)),
            Some(_) if leads(&metrics) => Some(Leader::Here),
            _ => None,
        })
    }

    async fn wait(&mut self, at_most: Duration) -> Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let reason = self.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
            return Err(ConsensusError::Unavailable(format!(
                "group {} has no leader that this node can reach{reason}: a majority of its nodes may be down; nothing was done, retry later",
                self.group
            )));
        }
        // An elapsed time only means to look again.
        match timeout(left.min(at_most), self.metrics.changed()).await {
            Ok(Err(_)) => Err(ConsensusError::Unavailable("the node is stopping".to_owned())),
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }
}

/// Whether this node leads and has applied an entry of its own: then it has applied all entries before, and its clock has seen them. An entry
/// of its term is not enough: openraft orders leaders by term and node, so one term may have several.
pub fn leads(metrics: &RaftMetrics<Types>) -> bool {
    let applied = metrics.last_applied.as_ref().map(|id| id.committed_leader_id());
    metrics.state.is_leader() && applied == Some(&metrics.vote.leader_id)
}

#[cfg(test)]
mod tests {
    use openraft::ServerState;

    use super::*;
    use crate::raft::types::{LogId, Vote};

    #[test]
    fn an_entry_of_an_earlier_leader_of_the_same_term_is_not_enough() {
        let mut metrics = RaftMetrics::new_initial(2);
        metrics.state = ServerState::Leader;
        metrics.current_term = 5;
        metrics.vote = Vote::new_committed(5, 2);
        for (node, expected) in [(1, false), (2, true)] {
            metrics.last_applied = Some(LogId::new(Vote::new(5, node).leader_id, 9));
            assert_eq!(leads(&metrics), expected, "an entry of node {node}");
        }
    }
}
