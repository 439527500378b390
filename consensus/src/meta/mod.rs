//! The meta group: a small replicated, ordered key-value state that holds the catalog, placement and membership.
//!
//! Reads are served from memory. sled (`meta/state`) saves replay after a restart; it is never trusted for durability: the log and the
//! dump files (`meta/SNAPSHOT-n`) are.

pub(crate) mod contents;
pub(crate) mod dump;
pub(crate) mod state;

use std::sync::Arc;

use openraft::Raft;

use crate::error::{ConsensusError, Result};
use crate::log::{GroupId, Log};
use crate::node::cluster::Cluster;
use crate::raft::leadership::{Leader, Search};
use crate::raft::meta_machine::MetaMachine;
use crate::raft::proposal::{self, Proposal, Refusal};
use crate::raft::read_index::ReadBarrier;
use crate::raft::types::{Command, Outcome, Reply, Types};
use state::MetaState;

/// Keys of [`Meta::allocate`] start with this.
const SEQUENCE_PREFIX: &str = "sequence/";
/// How long a change that another node acknowledged may take to arrive here.
const APPLY_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);
/// Attempts of [`Meta::allocate`] against others that allocate under the same name.
const ALLOCATE_ATTEMPTS: usize = 1000;

/// Counts committed meta changes; every change has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct MetaRevision(pub u64);

/// An atomic change of the meta state: applied only if every condition holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MetaChange {
    /// Conditions.
    pub expect: Vec<MetaExpect>,
    /// Keys to set.
    pub put: Vec<(String, Vec<u8>)>,
    /// Keys to remove.
    pub delete: Vec<String>,
}

impl MetaChange {
    /// About how many bytes it takes.
    pub(crate) fn byte_size(&self) -> usize {
        let puts = self.put.iter().map(|(key, value)| key.len() + value.len());
        puts.chain(self.delete.iter().map(String::len)).sum()
    }
}

/// A condition on one key.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MetaExpect {
    /// The key.
    pub key: String,
    /// The revision at which it was last set; `None`: it must be absent.
    pub revision: Option<MetaRevision>,
}

/// The meta group as seen from this node. Cheap to clone.
#[derive(Clone)]
pub struct Meta {
    inner: Arc<Inner>,
}

struct Inner {
    state: Arc<MetaState>,
    raft: Raft<Types, MetaMachine>,
    log: Log,
    barrier: ReadBarrier<MetaMachine>,
    cluster: Option<Arc<Cluster>>,
}

/// The group's name in messages.
pub(crate) const GROUP_NAME: &str = "meta";

impl Meta {
    pub(crate) fn new(state: Arc<MetaState>, raft: Raft<Types, MetaMachine>, log: Log, cluster: Option<Arc<Cluster>>) -> Meta {
        let barrier = ReadBarrier::new(GROUP_NAME.to_owned(), GroupId::META, raft.clone(), cluster.clone());
        Meta {
            inner: Arc::new(Inner {
                state,
                raft,
                log,
                barrier,
                cluster,
            }),
        }
    }

    /// Returns once reads here see every change that was acknowledged, by any node, before the call.
    pub async fn barrier(&self) -> Result<()> {
        self.inner.barrier.pass().await
    }

    pub(crate) fn raft(&self) -> &Raft<Types, MetaMachine> {
        &self.inner.raft
    }

    pub(crate) fn state(&self) -> &Arc<MetaState> {
        &self.inner.state
    }

    /// The revision of the applied state.
    pub fn revision(&self) -> MetaRevision {
        self.inner.state.revision()
    }

    /// A value and the revision at which it was set.
    pub fn get(&self, key: &str) -> Result<Option<(Vec<u8>, MetaRevision)>> {
        Ok(self.inner.state.get(key))
    }

    /// All keys with a prefix, in order, with values and revisions.
    pub fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>, MetaRevision)>> {
        Ok(self.inner.state.scan(prefix))
    }

    /// Replicates a change; returns its revision once it is durable and applied here.
    pub async fn change(&self, change: MetaChange) -> Result<MetaRevision> {
        let mut search = Search::new(GROUP_NAME, &self.inner.raft);
        loop {
            let proposal = Proposal::Meta(change.clone());
            let answer = match (search.find().await?, &self.inner.cluster) {
                (Leader::There(node), Some(cluster)) => cluster.propose(node, GroupId::META, proposal).await,
                _ => self.propose_here(proposal).await,
            };
            match answer {
                Ok(Outcome::MetaChanged(revision)) => {
                    self.applied(revision).await?;
                    return Ok(revision);
                }
                Ok(other) => {
                    other.into_commit()?;
                    return Err(ConsensusError::Unknown("unexpected answer of the meta group".to_owned()));
                }
                Err(Refusal::NotLeader) => search.refused(None).await?,
                Err(refusal) => return Err(refusal.into_error()),
            }
        }
    }

    /// Proposes at this node, if it leads.
    pub(crate) async fn propose_here(&self, proposal: Proposal) -> Result<Outcome, Refusal> {
        if let Some(failure) = self.inner.log.failure() {
            return Err(Refusal::Unavailable(failure));
        }
        let Proposal::Meta(change) = proposal else {
            return Err(Refusal::Unavailable("a data command for the meta group".to_owned()));
        };
        let (reply, receiver) = Reply::new(None);
        let sent = self.inner.raft.client_write_ff(Command::Meta(change), Some(reply)).await;
        sent.map_err(|fatal| Refusal::Unavailable(fatal.to_string()))?;
        proposal::outcome(receiver, &self.inner.raft, &self.inner.log).await
    }

    /// Waits until this node has applied a change that was acknowledged elsewhere.
    async fn applied(&self, revision: MetaRevision) -> Result<()> {
        let mut revisions = self.watch();
        let applied = revisions.wait_for(|applied| *applied >= revision);
        let late = |detail: &str| ConsensusError::Unknown(format!("the change was made, but this node does not see it yet: {detail}"));
        match tokio::time::timeout(APPLY_LIMIT, applied).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(late("it is stopping")),
            Err(_) => Err(late("it is behind")),
        }
    }

    /// The first of `count` numbers never given out before under this name (1, 2, …), durable.
    pub async fn allocate(&self, name: &str, count: u64) -> Result<u64> {
        let key = format!("{SEQUENCE_PREFIX}{name}");
        for _ in 0..ALLOCATE_ATTEMPTS {
            let (used, revision) = match self.get(&key)? {
                Some((value, revision)) => (decode_sequence(&key, &value)?, Some(revision)),
                None => (0, None),
            };
            let next = used.checked_add(count.max(1));
            let next = next.ok_or_else(|| ConsensusError::Unsupported(format!("the sequence {name} is used up")))?;
            let change = MetaChange {
                expect: vec![MetaExpect {
                    key: key.clone(),
                    revision,
                }],
                put: vec![(key.clone(), next.to_le_bytes().to_vec())],
                delete: Vec::new(),
            };
            match self.change(change).await {
                Ok(_) => return Ok(used + 1),
                Err(ConsensusError::MetaConflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ConsensusError::MetaConflict { key })
    }

    /// Tells of every new revision.
    pub fn watch(&self) -> tokio::sync::watch::Receiver<MetaRevision> {
        self.inner.state.watch()
    }
}

fn decode_sequence(key: &str, value: &[u8]) -> Result<u64> {
    let bytes: [u8; 8] = value
        .try_into()
        .map_err(|_| ConsensusError::Unsupported(format!("meta key {key} holds no number")))?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests;
