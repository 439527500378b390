//! openraft's wire between the nodes of one group, over the peer transport.

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use openraft::entry::RaftEntry;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EntryPayload, OptionalSend, type_config::alias};

use super::types::{Entry, Types, Vote};
use super::wire::{self, Answer, RaftRequest, Request};
use crate::log::GroupId;
use crate::peer::{PeerError, Peers};

/// Bytes of entries in one append. One larger entry goes alone.
const APPEND_BYTES: usize = 16 << 20;
/// How long an append with entries may take: large ones must be written, and staged segments fetched. A peer that is gone is known earlier,
/// by its silence.
const APPEND_LIMIT: Duration = Duration::from_secs(120);

/// Makes clients of one group. `S` is the group's snapshot type.
pub struct Network<S> {
    group: GroupId,
    node: u64,
    /// `None`: this node is alone.
    peers: Option<Peers>,
    snapshot: PhantomData<fn() -> S>,
}

impl<S> Network<S> {
    /// A group's network, seen from `node`.
    pub fn new(group: GroupId, node: u64, peers: Option<Peers>) -> Self {
        Network {
            group,
            node,
            peers,
            snapshot: PhantomData,
        }
    }
}

/// A client for one other node.
pub struct Client<S> {
    group: GroupId,
    node: u64,
    target: u64,
    peers: Option<Peers>,
    snapshot: PhantomData<fn() -> S>,
}

impl<S: OptionalSend + 'static> RaftNetworkFactory<Types> for Network<S> {
    type Network = Client<S>;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Client<S> {
        if let Some(peers) = &self.peers
            && !node.addr.is_empty()
        {
            peers.set_address(target, node.addr.clone());
        }
        Client {
            group: self.group,
            node: self.node,
            target,
            peers: self.peers.clone(),
            snapshot: PhantomData,
        }
    }
}

impl<S> Client<S> {
    async fn call(&self, action: RPCTypes, request: RaftRequest, limit: Duration) -> Result<Answer, RPCError<Types>> {
        let Some(peers) = &self.peers else {
            let reason = format!(
                "no connection to node {}: this node was started without an address for peers",
                self.target
            );
            return Err(Unreachable::from_string(reason).into());
        };
        let bytes = wire::encode(&Request::Raft(self.group, request)).map_err(|error| NetworkError::from_string(error.to_string()))?;
        let answer = match peers.call(self.target, bytes, limit).await {
            Ok(answer) => answer,
            Err(PeerError::TimedOut) => {
                return Err(Timeout {
                    action,
                    id: self.node,
                    target: self.target,
                    timeout: limit,
                }
                .into());
            }
            Err(PeerError::Lost(reason)) => return Err(NetworkError::from_string(reason).into()),
            // Not at once again: neither a node that is away nor one that refuses gets better by it.
            Err(error) => return Err(Unreachable::from_string(error.to_string()).into()),
        };
        wire::decode(&answer).map_err(|error| Unreachable::from_string(format!("node {}: {error}", self.target)).into())
    }

    fn wrong_answer(&self) -> RPCError<Types> {
        Unreachable::from_string(format!("node {} gave an answer to another question", self.target)).into()
    }
}

/// How many of the entries go in one append.
fn fitting(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let size = |entry: &Entry| match &entry.payload {
        EntryPayload::Normal(command) => command.byte_size(),
        _ => 0,
    };
    let fits = entries.iter().take_while(|entry| {
        bytes += size(entry);
        bytes <= APPEND_BYTES
    });
    fits.count().max(1)
}

impl<S: OptionalSend + 'static> RaftNetworkV2<Types> for Client<S> {
    type SnapshotData = S;

    async fn append_entries(
        &mut self,
        mut rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let limit = if rpc.entries.is_empty() { option.soft_ttl() } else { APPEND_LIMIT };
        let sent = fitting(&rpc.entries).min(rpc.entries.len());
        let cut = sent < rpc.entries.len();
        rpc.entries.truncate(sent);
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
        _vote: Vote,
        _snapshot: alias::SnapshotOf<Types, S>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(Unreachable::from_string("snapshots are not sent in this version").into())
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
