//! Linearizable reads at any replica: the leader confirms that it leads and names the position that a read must have seen; the replica
//! waits until it has applied that (the read index of Ongaro's thesis, 6.4). Reads that come while a round is under way share the next.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::RaftError;
use openraft::storage::RaftStateMachine;
use openraft::{Raft, ReadPolicy};
use tokio::time::timeout;

use super::leadership::{Leader, Search, leads};
use super::rounds::Rounds;
use super::types::{LogId, Types};
use crate::error::{ConsensusError, Result};
use crate::log::GroupId;
use crate::node::cluster::Cluster;

/// How long a replica may take to apply what the leader had committed.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(10);
/// How long a read may wait in all, for the round before its own too.
const PASS_LIMIT: Duration = Duration::from_secs(12);
/// How long one question to the leader may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(5);

/// The read barrier of one group at this node.
pub struct ReadBarrier<SM: RaftStateMachine<Types>> {
    inner: Arc<Inner<SM>>,
    rounds: Rounds<Result<(), Arc<ConsensusError>>>,
}

struct Inner<SM: RaftStateMachine<Types>> {
    name: String,
    group: GroupId,
    raft: Raft<Types, SM>,
    cluster: Option<Arc<Cluster>>,
}

impl<SM: RaftStateMachine<Types>> ReadBarrier<SM> {
    /// A barrier over a group.
    pub fn new(name: String, group: GroupId, raft: Raft<Types, SM>, cluster: Option<Arc<Cluster>>) -> Self {
        let inner = Inner {
            name,
            group,
            raft,
            cluster,
        };
        ReadBarrier {
            inner: Arc::new(inner),
            rounds: Rounds::default(),
        }
    }

    /// Returns once this replica has applied everything that was acknowledged before the call.
    pub async fn pass(&self) -> Result<()> {
        if self.inner.is_alone() {
            return Ok(());
        }
        let inner = self.inner.clone();
        let round = self.rounds.join(async move { inner.round().await.map_err(Arc::new) });
        let passed = timeout(PASS_LIMIT, round).await.unwrap_or_else(|_| {
            let reason = format!(
                "group {} does not answer: a majority of its nodes may be down; nothing was done, retry later",
                self.inner.name
            );
            Err(Arc::new(ConsensusError::Unavailable(reason)))
        });
        passed.map_err(|error| match error.as_ref() {
            ConsensusError::Unavailable(reason) => ConsensusError::Unavailable(reason.clone()),
            other => ConsensusError::Unavailable(other.to_string()),
        })
    }

    /// Waits until this replica has applied an entry.
    pub async fn applied(&self, index: u64) -> Result<()> {
        self.inner.applied(index).await
    }

    /// Whether this node is the only voter: it has seen all there is.
    pub fn is_alone(&self) -> bool {
        self.inner.is_alone()
    }
}

impl<SM: RaftStateMachine<Types>> Inner<SM> {
    /// Whether this node is the only voter and leads, or led until its group stopped (say, on a full disk): then what it has applied is all
    /// that was acknowledged, and nobody need be asked.
    fn is_alone(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let mut voters = metrics.membership_config.membership().voter_ids();
        let settled = leads(&metrics) || metrics.running_state.is_err();
        settled && voters.next() == Some(metrics.id) && voters.next().is_none()
    }

    async fn round(&self) -> Result<()> {
        let mut search = Search::new(&self.name, &self.raft);
        loop {
            let answer = match search.find().await? {
                Leader::Here => match timeout(QUESTION_LIMIT, read_index(&self.raft)).await {
                    Ok(answer) => answer.map_err(ConsensusError::Unavailable)?,
                    Err(_) => None,
                },
                Leader::There(node) => match &self.cluster {
                    Some(cluster) => match cluster.read_index(node, self.group, QUESTION_LIMIT).await {
                        Ok(answer) => answer,
                        Err(reason) => {
                            search.refused(Some(reason)).await?;
                            continue;
                        }
                    },
                    None => None,
                },
            };
            match answer {
                Some(id) => return self.applied(id.index()).await,
                None => search.refused(None).await?,
            }
        }
    }

    async fn applied(&self, index: u64) -> Result<()> {
        let mut metrics = self.raft.metrics();
        let caught_up = async {
            loop {
                {
                    let now = metrics.borrow_watched();
                    if let Err(fatal) = &now.running_state {
                        return Err(ConsensusError::Unavailable(fatal.to_string()));
                    }
                    if now.last_applied.is_some_and(|id| id.index() >= index) {
                        return Ok(());
                    }
                }
                if metrics.changed().await.is_err() {
                    return Err(ConsensusError::Unavailable("the node is stopping".to_owned()));
                }
            }
        };
        timeout(CATCH_UP_LIMIT, caught_up).await.unwrap_or_else(|_| {
            Err(ConsensusError::Unavailable(format!(
                "this node is behind in group {}: it has not applied entry {index} yet; retry later, or ask another node",
                self.name
            )))
        })
    }
}

/// As the leader: the position that a read which begins now must have seen. `None`: this node does not lead, or cannot prove it.
pub async fn read_index<SM: RaftStateMachine<Types>>(raft: &Raft<Types, SM>) -> Result<Option<LogId>, String> {
    match raft.get_read_log_id(ReadPolicy::ReadIndex).await {
        Ok((id, _)) => Ok(Some(*id.log_id())),
        Err(RaftError::APIError(_)) => Ok(None),
        Err(RaftError::Fatal(fatal)) => Err(fatal.to_string()),
    }
}
