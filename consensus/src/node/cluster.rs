//! A node among others: what it asks them, beside Raft.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use parking_lot::Mutex;
use pyralog_storage::{Timestamp, TransactionId};
use tokio::time::timeout;

use super::heartbeats::Heartbeat;
use super::standing::Standing;
use super::streams::Streams;
use super::{forwarding, heartbeats};
use crate::codec::EncodedWriteSet;
use crate::log::GroupId;
use crate::partition::promise::Promised;
use crate::peer::{Pace, PeerError, Peers};
use crate::raft::counts::SnapshotCounts;
use crate::raft::proposal::{Proposal, Refusal};
use crate::raft::snapshot::Export;
use crate::raft::types::{LogId, Outcome, Types};
use crate::raft::wire::{self, Admission, Answer, Member, Request};
use crate::runtime;

/// How long a forwarded proposal may take: the leader may have to fetch staged segments first. A leader that is gone is known earlier.
const PROPOSE_LIMIT: Duration = Duration::from_secs(300);
/// How long a node may take to become a voter before it is asked again.
const ADMIT_LIMIT: Duration = Duration::from_secs(60);
const MEMBERS_LIMIT: Duration = Duration::from_secs(5);

/// The other nodes.
pub struct Cluster {
    /// This node.
    pub node: u64,
    /// Where other nodes reach it.
    pub address: String,
    /// Calls them.
    pub peers: Peers,
    /// Folders whose files other nodes may fetch, by ticket.
    pub exports: Exports,
    /// Whether this process may act as the node.
    pub standing: Standing,
    /// Who takes the streams that other nodes open.
    pub streams: Streams,
    /// Snapshots sent and installed.
    pub snapshots: SnapshotCounts,
    /// How fast snapshots leave this node, all together.
    pub snapshot_pace: Arc<Pace>,
    /// Proposals on their way to other nodes.
    pub forwarding: Mutex<HashMap<(u64, GroupId), forwarding::Queue>>,
    /// Heartbeats on their way to other nodes.
    pub heartbeats: Mutex<HashMap<u64, heartbeats::Queue>>,
    /// Held while this node changes the membership of a group that it leads.
    pub changing: tokio::sync::Mutex<()>,
}

/// Folders by ticket.
#[derive(Default)]
pub struct Exports {
    next: AtomicU64,
    dirs: Mutex<HashMap<u64, PathBuf>>,
}

/// A folder that is open for fetching until this is dropped.
pub struct Ticket {
    cluster: Arc<Cluster>,
    number: u64,
}

impl Ticket {
    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cluster.exports.dirs.lock().remove(&self.number);
    }
}

fn wrong_answer(node: u64) -> Refusal {
    Refusal::Unknown(format!("node {node} gave an answer to another question"))
}

fn not_proposed(error: PeerError) -> Refusal {
    match error {
        PeerError::Unreachable(_) | PeerError::Refused(_) | PeerError::Occupied(_) => Refusal::NotLeader,
        // A service that refuses says so in its answer; one that failed may have failed after the write.
        error @ (PeerError::Failed(_) | PeerError::Lost(_) | PeerError::TimedOut) => Refusal::Unknown(error.to_string()),
    }
}

impl Cluster {
    /// Makes an export and opens it for fetching.
    pub async fn export(
        self: &Arc<Self>,
        make: impl FnOnce(u64) -> io::Result<Export> + Send + 'static,
    ) -> Result<(Ticket, Export), String> {
        let number = self.exports.next.fetch_add(1, Ordering::Relaxed);
        let made = runtime::blocking(move || make(number)).await.map_err(|error| error.to_string())?;
        let export = made.map_err(|error| format!("the snapshot cannot be exported: {error}"))?;
        self.exports.dirs.lock().insert(number, export.dir.clone());
        let cluster = self.clone();
        Ok((Ticket { cluster, number }, export))
    }

    /// The file of an export.
    pub fn exported(&self, ticket: u64, name: &str) -> Option<PathBuf> {
        self.exports.dirs.lock().get(&ticket).map(|dir| dir.join(name))
    }

    async fn call(&self, node: u64, request: &Request, limit: Duration) -> Result<Answer, PeerError> {
        self.standing.check().map_err(PeerError::Unreachable)?;
        let bytes = wire::encode(request).map_err(|error| PeerError::Failed(error.to_string()))?;
        let answer = self.peers.call(node, bytes, limit).await?;
        wire::decode(&answer).map_err(|error| PeerError::Lost(format!("the answer of node {node} cannot be read: {error}")))
    }

    /// Forwards a proposal to a group's leader. [`Refusal::NotLeader`] also stands for a leader that is out of reach.
    pub async fn propose(&self, node: u64, group: GroupId, proposal: Proposal) -> Result<Outcome, Refusal> {
        match self.call(node, &Request::Propose(group, proposal), PROPOSE_LIMIT).await {
            Ok(Answer::Propose(answer)) => answer,
            Ok(_) => Err(wrong_answer(node)),
            Err(error) => Err(not_proposed(error)),
        }
    }

    /// As [`Cluster::propose`]; small proposals go together.
    pub async fn forward(self: &Arc<Self>, node: u64, group: GroupId, proposal: Proposal) -> Result<Outcome, Refusal> {
        if !proposal.is_plain() || proposal.byte_size() > forwarding::MAX_TOGETHER_BYTES {
            return self.propose(node, group, proposal).await;
        }
        let queue = {
            let mut queues = self.forwarding.lock();
            queues
                .entry((node, group))
                .or_insert_with(|| forwarding::start(self, node, group))
                .clone()
        };
        forwarding::send(&queue, proposal).await
    }

    /// Forwards several proposals; an outcome for each.
    pub async fn propose_all(&self, node: u64, group: GroupId, proposals: Vec<Proposal>) -> Vec<Result<Outcome, Refusal>> {
        let count = proposals.len();
        match self.call(node, &Request::ProposeAll(group, proposals), PROPOSE_LIMIT).await {
            Ok(Answer::ProposeAll(answers)) if answers.len() == count => answers,
            Ok(_) => vec![Err(wrong_answer(node)); count],
            Err(error) => vec![Err(not_proposed(error)); count],
        }
    }

    /// Sends a group's heartbeat, together with those of other groups.
    pub async fn beat(
        self: &Arc<Self>,
        node: u64,
        group: GroupId,
        heartbeat: AppendEntriesRequest<Types>,
        limit: Duration,
    ) -> Result<AppendEntriesResponse<Types>, PeerError> {
        let queue = {
            let mut queues = self.heartbeats.lock();
            queues.entry(node).or_insert_with(|| heartbeats::start(self, node)).clone()
        };
        match timeout(limit, queue.send((group, heartbeat))).await {
            Ok(answer) => answer.unwrap_or_else(|| Err(PeerError::Unreachable("this node is stopping".to_owned()))),
            Err(_) => Err(PeerError::TimedOut),
        }
    }

    /// Sends heartbeats of several groups; an answer for each.
    pub async fn beat_all(
        &self,
        node: u64,
        heartbeats: Vec<Heartbeat>,
        limit: Duration,
    ) -> Vec<Result<AppendEntriesResponse<Types>, PeerError>> {
        let count = heartbeats.len();
        match self.call(node, &Request::Heartbeats(heartbeats), limit).await {
            Ok(Answer::Heartbeats(answers)) if answers.len() == count => {
                answers.into_iter().map(|answer| answer.map_err(PeerError::Failed)).collect()
            }
            Ok(_) => vec![Err(PeerError::Failed(format!("node {node} gave an answer to another question"))); count],
            Err(error) => vec![Err(error); count],
        }
    }

    /// Asks a group's leader for a read index. `Ok(None)`: it does not lead. An error is why there is no answer.
    pub async fn read_index(&self, node: u64, group: GroupId, limit: Duration) -> Result<Option<LogId>, String> {
        match self.call(node, &Request::ReadIndex(group), limit).await {
            Ok(Answer::ReadIndex(answer)) => Ok(answer),
            Ok(_) => Err(format!("node {node} gave an answer to another question")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Asks the leader of groups for a promise in each. An error is why there is no answer.
    pub async fn read_at(
        &self,
        node: u64,
        groups: Vec<GroupId>,
        timestamp: Timestamp,
        is_given: bool,
        limit: Duration,
    ) -> Result<Vec<Option<Promised>>, String> {
        let count = groups.len();
        match self.call(node, &Request::ReadAt(groups, timestamp, is_given), limit).await {
            Ok(Answer::ReadAt(answers)) if answers.len() == count => Ok(answers),
            Ok(_) => Err(format!("node {node} gave an answer to another question")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Which transactions a node says it coordinates and may still commit. One that cannot be asked says none.
    pub async fn coordinates(&self, node: u64, transactions: &[TransactionId], limit: Duration) -> Vec<TransactionId> {
        match self.call(node, &Request::Coordinates(transactions.to_vec()), limit).await {
            Ok(Answer::Coordinates(answers)) => {
                let coordinated = transactions.iter().zip(answers).filter(|(_, is_coordinated)| *is_coordinated);
                coordinated.map(|(transaction, _)| *transaction).collect()
            }
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    /// Whether a node says that it would lead a data group.
    pub async fn may_lead(&self, node: u64, group: GroupId, limit: Duration) -> bool {
        let answer = self.call(node, &Request::MayLead(group), limit).await;
        matches!(answer, Ok(Answer::MayLead(true)))
    }

    /// Has a voter of a group fetch the files of staged segments from this node. An error is why they are not there.
    pub async fn stage(&self, node: u64, group: GroupId, staged: EncodedWriteSet, limit: Duration) -> Result<(), String> {
        match self.call(node, &Request::Stage(group, staged), limit).await {
            Ok(Answer::Staged) => Ok(()),
            Ok(_) => Err(format!("node {node} gave an answer to another question")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Asks a node to make `member` a voter of a group that it leads.
    pub async fn admit(&self, node: u64, group: GroupId, member: Member) -> Admission {
        match self.call(node, &Request::Admit(group, member), ADMIT_LIMIT).await {
            Ok(Answer::Admit(answer)) => answer,
            Ok(_) => Admission::NotNow(format!("node {node} gave an answer to another question")),
            Err(error) => Admission::NotNow(error.to_string()),
        }
    }

    /// Asks a node to take another one out of a group that it leads.
    pub async fn remove(&self, node: u64, group: GroupId, removed: u64) -> Admission {
        match self.call(node, &Request::Remove(group, removed), ADMIT_LIMIT).await {
            Ok(Answer::Admit(answer)) => answer,
            Ok(_) => Admission::NotNow(format!("node {node} gave an answer to another question")),
            Err(error) => Admission::NotNow(error.to_string()),
        }
    }

    /// Asks a node for all nodes.
    pub async fn members(&self, node: u64) -> Result<Vec<Member>, String> {
        match self.call(node, &Request::Members, MEMBERS_LIMIT).await {
            Ok(Answer::Members(members)) => Ok(members),
            Ok(_) => Err(format!("node {node} gave an answer to another question")),
            Err(error) => Err(error.to_string()),
        }
    }
}
