//! openraft's wire between the nodes of one group, over the peer transport.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::entry::RaftEntry;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EntryPayload, OptionalSend};
use tokio::time::Instant;

use super::snapshot::{GroupSnapshot, Offer, SnapshotData};
use super::types::{Entry, Types, Vote};
use super::wire::{self, Answer, RaftRequest, Request};
use crate::log::GroupId;
use crate::node::cluster::Cluster;
use crate::peer::PeerError;

/// Bytes of entries in one append. One larger entry goes alone.
const APPEND_BYTES: usize = 16 << 20;
/// How long an append with entries may take, and more by its size: they must be written. A peer that is gone is known earlier, by its silence.
const APPEND_LIMIT: Duration = Duration::from_secs(10);
/// Added for each of so many bytes of entries.
const APPEND_LIMIT_PER: (usize, Duration) = (1 << 20, Duration::from_secs(1));
/// How long an append may take whose staged segments must be fetched first.
const STAGED_LIMIT: Duration = Duration::from_secs(120);

/// How long a snapshot may take to be fetched and installed.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(6 * 3600);

/// Makes clients of one group.
pub struct Network {
    group: GroupId,
    node: u64,
    /// `None`: this node is alone.
    cluster: Option<Arc<Cluster>>,
}

impl Network {
    /// A group's network, seen from `node`.
    pub fn new(group: GroupId, node: u64, cluster: Option<Arc<Cluster>>) -> Self {
        Network { group, node, cluster }
    }
}

/// A client for one other node.
pub struct Client {
    group: GroupId,
    node: u64,
    target: u64,
    cluster: Option<Arc<Cluster>>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Client {
        if let Some(cluster) = &self.cluster
            && !node.addr.is_empty()
        {
            cluster.peers.set_address(target, node.addr.clone());
        }
        Client {
            group: self.group,
            node: self.node,
            target,
            cluster: self.cluster.clone(),
        }
    }
}

impl Client {
    async fn call(&self, action: RPCTypes, request: RaftRequest, limit: Duration) -> Result<Answer, RPCError<Types>> {
        self.ask(action, &Request::Raft(self.group, request), limit).await
    }

    async fn ask(&self, action: RPCTypes, request: &Request, limit: Duration) -> Result<Answer, RPCError<Types>> {
        let cluster = self.cluster()?;
        cluster.standing.check().map_err(Unreachable::from_string)?;
        let peers = &cluster.peers;
        let bytes = wire::encode(request).map_err(|error| NetworkError::from_string(error.to_string()))?;
        let answer = peers.call(self.target, bytes, limit).await;
        let answer = answer.map_err(|error| self.failed(action, error, limit))?;
        wire::decode(&answer).map_err(|error| Unreachable::from_string(format!("node {}: {error}", self.target)).into())
    }

    async fn beat(&self, heartbeat: AppendEntriesRequest<Types>, limit: Duration) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let answer = self.cluster()?.beat(self.target, self.group, heartbeat, limit).await;
        answer.map_err(|error| self.failed(RPCTypes::AppendEntries, error, limit))
    }

    fn failed(&self, action: RPCTypes, error: PeerError, limit: Duration) -> RPCError<Types> {
        match error {
            PeerError::TimedOut => Timeout {
                action,
                id: self.node,
                target: self.target,
                timeout: limit,
            }
            .into(),
            PeerError::Lost(reason) => NetworkError::from_string(reason).into(),
            // Not at once again: neither a node that is away nor one that refuses gets better by it.
            error => Unreachable::from_string(error.to_string()).into(),
        }
    }

    fn cluster(&self) -> Result<&Arc<Cluster>, Unreachable<Types>> {
        self.cluster.as_ref().ok_or_else(|| {
            let target = self.target;
            Unreachable::from_string(format!(
                "no connection to node {target}: this node was started without an address for peers"
            ))
        })
    }

    fn wrong_answer(&self) -> RPCError<Types> {
        Unreachable::from_string(format!("node {} gave an answer to another question", self.target)).into()
    }
}

/// Bytes of an entry, about.
fn size(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(command) => command.byte_size(),
        _ => 0,
    }
}

/// How many of the entries go in one append.
fn fitting(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = entries.iter().take_while(|entry| {
        bytes += size(entry);
        bytes <= APPEND_BYTES
    });
    fits.count().max(1)
}

/// How long the append of these entries may take.
fn limit(entries: &[Entry]) -> Duration {
    let fetches = |entry: &Entry| match &entry.payload {
        EntryPayload::Normal(command) => command.write().is_some_and(|(_, write_set)| !write_set.names_no_files()),
        _ => false,
    };
    if entries.iter().any(fetches) {
        return STAGED_LIMIT;
    }
    let (bytes, more) = APPEND_LIMIT_PER;
    APPEND_LIMIT + more * u32::try_from(entries.iter().map(size).sum::<usize>() / bytes).unwrap_or(u32::MAX)
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        mut rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        if rpc.entries.is_empty() {
            return self.beat(rpc, option.soft_ttl()).await;
        }
        let sent = fitting(&rpc.entries).min(rpc.entries.len());
        let cut = sent < rpc.entries.len();
        rpc.entries.truncate(sent);
        let limit = limit(&rpc.entries);
        let last = rpc.entries.last().map(|entry| entry.log_id());
        match self.call(RPCTypes::AppendEntries, RaftRequest::Append(rpc), limit).await? {
            Answer::Append(AppendEntriesResponse::Success) if cut => Ok(AppendEntriesResponse::PartialSuccess(last)),
            Answer::Append(answer) => Ok(answer),
            _ => Err(self.wrong_answer()),
        }
    }

    async fn vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.call(RPCTypes::Vote, RaftRequest::Vote(rpc), option.soft_ttl()).await? {
            Answer::Vote(answer) => Ok(answer),
            _ => Err(self.wrong_answer()),
        }
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.call(RPCTypes::Vote, RaftRequest::PreVote(rpc), option.soft_ttl()).await? {
            Answer::Vote(answer) => Ok(answer),
            _ => Err(self.wrong_answer()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: GroupSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let cluster = self.cluster()?.clone();
        let begun = Instant::now();
        let data = snapshot.snapshot;
        let (ticket, export) = cluster
            .export(move |ticket| data.export(ticket))
            .await
            .map_err(|error| StreamingError::Unreachable(Unreachable::from_string(error)))?;
        let request = Request::Install(Offer {
            group: self.group,
            vote,
            meta: export.meta.clone().unwrap_or(snapshot.meta),
            ticket: ticket.number(),
            files: export.files.clone(),
        });
        let asked = self.ask(RPCTypes::InstallSnapshot, &request, SNAPSHOT_LIMIT);
        let answer = tokio::select! {
            biased;
            _ = cancel => None,
            answer = asked => Some(answer),
        };
        match answer {
            None => Err(StreamingError::Unreachable(Unreachable::from_string(
                "the snapshot is not wanted any more",
            ))),
            Some(Ok(Answer::Install(answer))) => {
                cluster.snapshots.count(self.group, |count| count.sent += 1);
                tracing::info!(
                    group = %self.group,
                    to = self.target,
                    files = export.files.len(),
                    bytes = export.files.iter().map(|file| file.bytes).sum::<u64>(),
                    duration_ms = begun.elapsed().as_millis() as u64,
                    "a node has installed a snapshot of this one"
                );
                Ok(answer)
            }
            Some(Ok(_)) => Err(StreamingError::from(self.wrong_answer())),
            Some(Err(error)) => Err(StreamingError::from(error)),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let request = RaftRequest::TransferLeader(rpc);
        match self.call(RPCTypes::TransferLeader, request, option.soft_ttl()).await? {
            Answer::TransferLeader(answer) => Ok(answer),
            _ => Err(self.wrong_answer()),
        }
    }
}
