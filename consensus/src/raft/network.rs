//! The wire between the nodes of a group. This version runs groups of one voter; every peer is unreachable.

use std::future::Future;
use std::marker::PhantomData;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{OptionalSend, type_config::alias};

use super::types::{Types, Vote};

/// Makes clients that reach nobody. `S` is the group's snapshot type.
pub struct NoPeers<S>(PhantomData<fn() -> S>);

impl<S> Default for NoPeers<S> {
    fn default() -> Self {
        NoPeers(PhantomData)
    }
}

/// A client that reaches nobody.
pub struct NoPeer<S> {
    target: u64,
    snapshot: PhantomData<fn() -> S>,
}

impl<S> NoPeer<S> {
    fn unreachable(&self) -> Unreachable<Types> {
        Unreachable::from_string(format!("no connection to node {}: this version runs one node", self.target))
    }
}

impl<S: OptionalSend + 'static> RaftNetworkFactory<Types> for NoPeers<S> {
    type Network = NoPeer<S>;

    async fn new_client(&mut self, target: u64, _node: &BasicNode) -> NoPeer<S> {
        NoPeer {
            target,
            snapshot: PhantomData,
        }
    }
}

impl<S: OptionalSend + 'static> RaftNetworkV2<Types> for NoPeer<S> {
    type SnapshotData = S;

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        Err(self.unreachable().into())
    }

    async fn vote(&mut self, _rpc: VoteRequest<Types>, _option: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(self.unreachable().into())
    }

    async fn pre_vote(&mut self, _rpc: VoteRequest<Types>, _option: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: alias::SnapshotOf<Types, S>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(self.unreachable().into())
    }
}
