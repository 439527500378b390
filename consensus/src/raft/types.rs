//! The types that openraft is instantiated with. One configuration serves all groups; a command names what kind of group it is for.

use std::fmt;

use openraft::OptionalSend;
use openraft::impls::{BasicNode, BoxedErrorSource, InlineBatch};
use openraft::raft::ClientWriteResult;
use openraft::raft::responder::Responder;
use openraft::type_config::alias;
use pyralog_storage::{RelationId, StorageError, Timestamp, WriteConflict};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::requests::{Done, Known, Request, RequestId};
use super::transactions::Part;
use crate::codec::{Blob, EncodedWriteSet};
use crate::error::ConsensusError;
use crate::meta::{MetaChange, MetaRevision};
use crate::runtime::Runtime;

/// The type configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Types;

impl openraft::RaftTypeConfig for Types {
    type D = Command;
    type R = Outcome;
    type NodeId = u64;
    type Node = BasicNode;
    type Term = u64;
    type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Command, u64, BasicNode>;
    type Entry = openraft::Entry<alias::CommittedLeaderIdOf<Self>, Self::Payload>;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = Reply<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// A log entry.
pub type Entry = alias::EntryOf<Types>;
/// A position in the log.
pub type LogId = alias::LogIdOf<Types>;
/// A vote.
pub type Vote = alias::VoteOf<Types>;
/// A membership.
pub type Membership = openraft::Membership<u64, BasicNode>;
/// A membership and where it stands in the log.
pub type StoredMembership = alias::StoredMembershipOf<Types>;
/// What a snapshot covers.
pub type SnapshotMeta = alias::SnapshotMetaOf<Types>;
/// What a proposal comes to.
pub type WriteResult = ClientWriteResult<Types>;

/// What a log entry asks its group to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Command {
    /// Data: apply a write set at a commit timestamp.
    Write(Timestamp, EncodedWriteSet),
    /// Data: make a relation (an encoded schema).
    CreateRelation(Blob),
    /// Data: change a relation's schema (an encoded schema).
    AlterRelation(Blob),
    /// Data: remove a relation.
    DropRelation(RelationId),
    /// Meta: change keys.
    Meta(MetaChange),
    /// Data: no transaction that began before this commits any more, so that the traces of deleted keys below it can go.
    AdvanceConflictFloor(Timestamp),
    /// Data: as a write, unless this request was carried out before.
    Request(Timestamp, Request, EncodedWriteSet),
    /// Data: this request is not carried out any more, if it was not so far.
    Void(RequestId),
    /// Data: check and keep a part of a transaction over several groups, which commits at this timestamp or later.
    Prepare(Timestamp, Part, EncodedWriteSet),
    /// Data: a prepared part commits at this timestamp.
    Decide(Timestamp, Part),
    /// Data: a transaction is aborted, unless it is committed.
    Abort(Part),
    /// Data: the group's leaders may promise readers that nothing is stamped at or before timestamps up to this one any more.
    Ceiling(Timestamp),
}

impl Command {
    /// The commit timestamp and the rows of a write.
    pub fn write(&self) -> Option<(Timestamp, &EncodedWriteSet)> {
        match self {
            Command::Write(timestamp, write_set)
            | Command::Request(timestamp, _, write_set)
            | Command::Prepare(timestamp, _, write_set) => Some((*timestamp, write_set)),
            _ => None,
        }
    }

    /// A timestamp below which no later commit of the group may be.
    pub fn timestamp(&self) -> Option<Timestamp> {
        match self {
            Command::Decide(timestamp, _) => Some(*timestamp),
            other => other.write().map(|(timestamp, _)| timestamp),
        }
    }

    /// About how many bytes it takes in a message.
    pub fn byte_size(&self) -> usize {
        match self {
            Command::Write(_, write_set) | Command::Request(_, _, write_set) | Command::Prepare(_, _, write_set) => write_set.byte_size(),
            Command::CreateRelation(schema) | Command::AlterRelation(schema) => schema.0.len(),
            Command::DropRelation(_)
            | Command::AdvanceConflictFloor(_)
            | Command::Void(_)
            | Command::Decide(..)
            | Command::Abort(_)
            | Command::Ceiling(_) => 0,
            Command::Meta(change) => change.byte_size(),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Write(timestamp, write_set) | Command::Request(timestamp, _, write_set) => {
                write!(f, "write {} bytes at {timestamp}", write_set.byte_size())
            }
            Command::Void(request) => write!(f, "void request {}", request.serial),
            Command::Prepare(timestamp, part, write_set) => {
                write!(f, "prepare {}, {} bytes at {timestamp}", part.id, write_set.byte_size())
            }
            Command::Decide(timestamp, part) => write!(f, "commit {} at {timestamp}", part.id),
            Command::Abort(part) => write!(f, "abort {}", part.id),
            Command::Ceiling(ceiling) => write!(f, "promises up to {ceiling}"),
            Command::CreateRelation(_) => f.write_str("create relation"),
            Command::AlterRelation(_) => f.write_str("alter relation"),
            Command::DropRelation(relation) => write!(f, "drop relation {relation}"),
            Command::AdvanceConflictFloor(floor) => write!(f, "advance the conflict floor to {floor}"),
            Command::Meta(change) => write!(f, "meta: {} puts, {} deletes", change.put.len(), change.delete.len()),
        }
    }
}

/// What applying a command came to. The same on every replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Nothing to tell.
    Done,
    /// Written at this timestamp.
    Committed(Timestamp),
    /// A first-committer-wins conflict; nothing changed.
    Conflict {
        /// The relation.
        relation: RelationId,
        /// The key, readable.
        key: String,
    },
    /// The command does not fit the state; nothing changed.
    Rejected(Rejection),
    /// The meta state has this revision now.
    MetaChanged(MetaRevision),
    /// A condition on this meta key failed; nothing changed.
    MetaConflict(String),
    /// The request was carried out before; nothing changed now.
    Repeated(Done),
    /// The request is void, or settled long ago, or the transaction is aborted; nothing changed.
    Void,
    /// Prepared, to be committed at this timestamp or later.
    Prepared(Timestamp),
    /// A key is locked by a transaction that is prepared and not decided yet; nothing changed.
    Locked {
        /// The relation.
        relation: RelationId,
        /// The key, readable.
        key: String,
    },
    /// Stamped by a leader whose time is over, too low for what a later one may have promised; nothing changed, and it may be asked again.
    Stale,
}

/// Why storage refused a command for what it says, not for what the machine did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rejection {
    /// The relation is gone or was never made.
    UnknownRelation(RelationId),
    /// Rows do not fit the relation.
    SchemaMismatch(RelationId, String),
    /// A key exists already.
    DuplicateKey(RelationId, String),
    /// Anything else.
    Other(String),
}

impl Rejection {
    /// Sorts an error of apply: a refusal of the command, or (given back) a failure that must stop the group.
    pub fn of(error: StorageError) -> Result<Rejection, StorageError> {
        Ok(match error {
            StorageError::UnknownRelation(relation) => Rejection::UnknownRelation(relation),
            StorageError::SchemaMismatch { relation, detail } => Rejection::SchemaMismatch(relation, detail),
            StorageError::DuplicateKey { relation, key } => Rejection::DuplicateKey(relation, key),
            StorageError::SnapshotTooOld { .. }
            | StorageError::TransactionTooLarge { .. }
            | StorageError::UnknownTransaction(_)
            | StorageError::DecidedTooEarly { .. }
            | StorageError::UnknownSavepoint(_)
            | StorageError::Arrow(_) => Rejection::Other(error.to_string()),
            StorageError::Damaged { .. }
            | StorageError::NewerFormat { .. }
            | StorageError::Io { .. }
            | StorageError::Poisoned { .. }
            | StorageError::InUse { .. } => return Err(error),
        })
    }
}

impl From<Rejection> for ConsensusError {
    fn from(rejection: Rejection) -> Self {
        ConsensusError::Storage(match rejection {
            Rejection::UnknownRelation(relation) => StorageError::UnknownRelation(relation),
            Rejection::SchemaMismatch(relation, detail) => StorageError::SchemaMismatch { relation, detail },
            Rejection::DuplicateKey(relation, key) => StorageError::DuplicateKey { relation, key },
            Rejection::Other(detail) => StorageError::Arrow(arrow_schema::ArrowError::ComputeError(detail)),
        })
    }
}

impl From<Known> for Outcome {
    fn from(known: Known) -> Self {
        match known {
            Known::Done(done) => Outcome::Repeated(done),
            Known::Nothing | Known::Void | Known::Settled => Outcome::Void,
        }
    }
}

/// A write that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// When.
    pub timestamp: Timestamp,
    /// Where an earlier try of the same request had done it: how many rows that changed.
    pub repeated: Option<u64>,
}

impl Outcome {
    /// The outcome of a data command as its proposer sees it.
    pub fn into_commit(self) -> Result<Option<Commit>, ConsensusError> {
        match self {
            Outcome::Committed(timestamp) => Ok(Some(Commit { timestamp, repeated: None })),
            Outcome::Repeated(Done { timestamp, rows }) => Ok(Some(Commit {
                timestamp,
                repeated: Some(rows),
            })),
            Outcome::Void => Err(ConsensusError::Void),
            Outcome::Stale => Err(ConsensusError::Unavailable(
                "the group's leader changed while the write was on its way; nothing was written, retry".to_owned(),
            )),
            Outcome::Done | Outcome::MetaChanged(_) | Outcome::Prepared(_) => Ok(None),
            Outcome::Conflict { relation, key } => Err(ConsensusError::Conflict(WriteConflict {
                relation,
                key,
                is_locked: false,
            })),
            Outcome::Locked { relation, key } => Err(ConsensusError::Conflict(WriteConflict {
                relation,
                key,
                is_locked: true,
            })),
            Outcome::Rejected(rejection) => Err(rejection.into()),
            Outcome::MetaConflict(key) => Err(ConsensusError::MetaConflict { key }),
        }
    }
}

/// Carries a proposal's result to who waits for it. Nobody may wait any more: the write completes all the same.
pub struct Reply<T> {
    sender: oneshot::Sender<T>,
    /// Released when the proposal has come to an end.
    permit: Option<Box<dyn Send>>,
}

impl<T> Reply<T> {
    /// A reply and its receiver; `permit` is dropped once the proposal has ended, whoever still waits.
    pub fn new(permit: Option<Box<dyn Send>>) -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Reply { sender, permit }, receiver)
    }

    /// Holds something more until the proposal has ended.
    pub fn hold(&mut self, more: impl Send + 'static) {
        self.permit = Some(match self.permit.take() {
            Some(permit) => Box::new((permit, more)),
            None => Box::new(more),
        });
    }
}

impl<T: OptionalSend + 'static> Responder<Types, T> for Reply<T> {
    fn on_complete(self, result: T) {
        drop(self.permit);
        // A dropped receiver is a client that went away.
        let _ = self.sender.send(result);
    }
}
