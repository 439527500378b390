//! What nodes say to each other, as bytes of the peer transport.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use pyralog_storage::{Timestamp, TransactionId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::proposal::{Proposal, Refusal};
use super::snapshot::Offer;
use super::types::{LogId, Outcome, Types};
use crate::codec::{self, CodecError, EncodedWriteSet};
use crate::error::{ConsensusError, Result};
use crate::log::GroupId;
use crate::node::runs::Runs;
use crate::partition::promise::Promised;

/// A request to another node.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Raft of one group.
    Raft(GroupId, RaftRequest),
    /// Take this snapshot of a group.
    Install(Offer),
    /// To a group's leader: replicate this.
    Propose(GroupId, Proposal),
    /// To a group's leader: what must a replica have applied so that a read that begins now sees everything acknowledged before?
    ReadIndex(GroupId),
    /// Of a node that belongs to no cluster yet.
    Join(JoinRequest),
    /// To a group's leader: make this node a voter at this address.
    Admit(GroupId, Member),
    /// To a group's leader: this node votes no more, and gets nothing more.
    Remove(GroupId, u64),
    /// The nodes of the cluster.
    Members,
    /// To a group's leader: replicate these. None of them names staged segments.
    ProposeAll(GroupId, Vec<Proposal>),
    /// Whether a node has run since from another directory than the one that knows these runs.
    Superseded(u64, Runs),
    /// Raft's heartbeats of several groups.
    Heartbeats(Vec<(GroupId, AppendEntriesRequest<Types>)>),
    /// To the leader of data groups: promise that nothing more is stamped at or before this, which was given to a commit, or is a reader's
    /// clock.
    ReadAt(Vec<GroupId>, Timestamp, bool),
    /// Which of these transactions the node coordinates, and may still commit.
    Coordinates(Vec<TransactionId>),
    /// Whether the node would lead a data group: it is not about to stop.
    MayLead(GroupId),
    /// To a group's voter: fetch the files of the staged segments that this names.
    Stage(GroupId, EncodedWriteSet),
}

/// What openraft asks a group's member.
#[derive(Debug, Serialize, Deserialize)]
pub enum RaftRequest {
    /// Entries.
    Append(AppendEntriesRequest<Types>),
    /// A vote.
    Vote(VoteRequest<Types>),
    /// Whether a vote would be given.
    PreVote(VoteRequest<Types>),
    /// To lead.
    TransferLeader(TransferLeaderRequest<Types>),
}

/// A node that wants to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The id that it wants; `None`: any.
    pub node: Option<u64>,
    /// Where other nodes reach it, as `host:port`.
    pub address: String,
    /// Made by the node before it first asked, so that asking again gives the same answer.
    pub token: String,
}

/// What a node that joins is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The database's id.
    pub database: String,
    /// The new node's id.
    pub node: u64,
    /// Data partitions of the database.
    pub partitions: u32,
    /// The other nodes.
    pub members: Vec<Member>,
}

/// A node and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub node: u64,
    /// Where other nodes reach it, as `host:port`.
    pub address: String,
}

/// The answer to a [`Request`], of the same name.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// To an append.
    Append(AppendEntriesResponse<Types>),
    /// To a vote or pre-vote.
    Vote(VoteResponse<Types>),
    /// To a transfer.
    TransferLeader(TransferLeaderResponse<Types>),
    /// To a snapshot.
    Install(SnapshotResponse<Types>),
    /// To a proposal.
    Propose(Result<Outcome, Refusal>),
    /// To a read index; `None`: this node does not lead the group.
    ReadIndex(Option<LogId>),
    /// To a join: an error is why not.
    Join(Result<Joined, String>),
    /// To an admission, or to a removal (then a voter is one that is gone).
    Admit(Admission),
    /// To a question for members.
    Members(Vec<Member>),
    /// To several proposals, in their order.
    ProposeAll(Vec<Result<Outcome, Refusal>>),
    /// To a question for a node's runs, as far as the replica knows.
    Superseded(bool),
    /// To heartbeats, in their order.
    Heartbeats(Vec<Result<AppendEntriesResponse<Types>, String>>),
    /// To readers, a promise for each group; `None`: this node does not lead it.
    ReadAt(Vec<Option<Promised>>),
    /// To a question about transactions, in their order.
    Coordinates(Vec<bool>),
    /// To the question whether it would lead.
    MayLead(bool),
    /// The files are here.
    Staged,
}

/// What came of an admission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Admission {
    /// The node is a voter.
    Voter,
    /// Not now: this node does not lead the group, or another change is under way. Ask again, here or elsewhere.
    NotNow(String),
    /// Never.
    Refused(String),
}

/// Encodes a message.
pub fn encode<T: Serialize>(message: &T) -> Result<Bytes> {
    codec::encode(message).map_err(|error| ConsensusError::Unavailable(format!("a message to another node cannot be encoded: {error}")))
}

/// Decodes a message.
pub fn decode<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, CodecError> {
    codec::decode(bytes)
}
