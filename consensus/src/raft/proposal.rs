//! Proposals, and from a proposal's fate to the error that its author sees: above all, whether the write may be there.

use std::time::Duration;

use openraft::Instant as OpenraftInstant;
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::ClientWriteError;
use openraft::storage::RaftStateMachine;
use pyralog_storage::{RelationId, Timestamp, WriteSet};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::requests::{Request, RequestId};
use super::transactions::Part;
use super::types::{Outcome, Types, WriteResult};
use crate::codec::{self, Blob, CodecError, EncodedWriteSet};
use crate::error::ConsensusError;
use crate::log::Log;
use crate::meta::MetaChange;

/// How often a proposal that waits looks whether there is a majority.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a majority may have been silent.
const RECENT: Duration = Duration::from_secs(2);
/// How long a proposal waits without one.
const MAJORITY_LIMIT: Duration = Duration::from_secs(8);

/// What to propose; the leader adds the timestamp.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Proposal {
    /// Data: a write set.
    Write(EncodedWriteSet),
    /// Data: an encoded schema of a new relation.
    CreateRelation(Blob),
    /// Data: an encoded later schema.
    AlterRelation(Blob),
    /// Data: a relation to remove.
    DropRelation(RelationId),
    /// Data: a promise that no transaction from before this commits.
    AdvanceConflictFloor(Timestamp),
    /// Meta: a change of keys.
    Meta(MetaChange),
    /// Data: a write set of a request.
    Request(Request, EncodedWriteSet),
    /// Data: a request that is not to be carried out any more.
    Void(RequestId),
    /// Data: a part of a transaction over several groups.
    Prepare(Part, EncodedWriteSet),
    /// Data: the commit of one.
    Decide(Timestamp, Part),
    /// Data: the end of one, unless it is committed.
    Abort(Part),
    /// Data: a ceiling of promises.
    Ceiling(Timestamp),
}

impl Proposal {
    /// About how many bytes it takes in the log.
    pub fn byte_size(&self) -> usize {
        match self {
            Proposal::Write(write_set) | Proposal::Request(_, write_set) | Proposal::Prepare(_, write_set) => write_set.byte_size(),
            Proposal::CreateRelation(schema) | Proposal::AlterRelation(schema) => schema.0.len(),
            Proposal::DropRelation(_)
            | Proposal::AdvanceConflictFloor(_)
            | Proposal::Void(_)
            | Proposal::Decide(..)
            | Proposal::Abort(_)
            | Proposal::Ceiling(_) => 0,
            Proposal::Meta(change) => change.byte_size(),
        }
    }

    /// Whether it may be proposed again when its outcome is not known: the group tells that it was first already.
    pub fn is_repeatable(&self) -> bool {
        match self {
            Proposal::Request(..) | Proposal::Void(_) | Proposal::Prepare(..) | Proposal::Decide(..) | Proposal::Abort(_) => true,
            Proposal::Write(_)
            | Proposal::CreateRelation(_)
            | Proposal::AlterRelation(_)
            | Proposal::DropRelation(_)
            | Proposal::AdvanceConflictFloor(_)
            | Proposal::Ceiling(_)
            | Proposal::Meta(_) => false,
        }
    }

    /// Whether it waits where a key is locked. A part of a transaction does not: it holds locks that another one may wait for.
    pub fn waits(&self) -> bool {
        matches!(self, Proposal::Write(_) | Proposal::Request(..))
    }

    /// Whether it is known to name no staged segments.
    pub fn is_plain(&self) -> bool {
        match self {
            Proposal::Write(write_set) | Proposal::Request(_, write_set) | Proposal::Prepare(_, write_set) => write_set.is_plain(),
            _ => true,
        }
    }

    /// The write set, if it names staged segments, whose files must be where it is replicated.
    pub fn staged(&self) -> Result<Option<WriteSet>, CodecError> {
        match self {
            Proposal::Write(write_set) | Proposal::Request(_, write_set) | Proposal::Prepare(_, write_set) => codec::staged_only(write_set),
            _ => Ok(None),
        }
    }
}

/// Why a proposal has no outcome, as one node tells another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The node does not lead the group: nothing was written, and another node may take it.
    NotLeader,
    /// Too many wait: nothing was written.
    Overloaded(usize),
    /// The node cannot take it: nothing was written.
    Unavailable(String),
    /// It may be written, or not.
    Unknown(String),
}

impl Refusal {
    /// The error that the author sees.
    pub fn into_error(self) -> ConsensusError {
        match self {
            Refusal::NotLeader => ConsensusError::Unavailable("the group's leader changed; retry".to_owned()),
            Refusal::Overloaded(waiting) => ConsensusError::Overloaded { waiting },
            Refusal::Unavailable(reason) => ConsensusError::Unavailable(reason),
            Refusal::Unknown(reason) => ConsensusError::Unknown(reason),
        }
    }
}

/// Waits for a proposal that was handed to Raft. Where the group loses its majority, not for ever.
pub async fn outcome<SM: RaftStateMachine<Types>>(
    mut receiver: oneshot::Receiver<WriteResult>,
    raft: &Raft<Types, SM>,
    log: &Log,
) -> Result<Outcome, Refusal> {
    let mut alone_since = None;
    let received = loop {
        match timeout(LOOK_EVERY, &mut receiver).await {
            Ok(received) => break received,
            Err(_) if has_majority(raft) => alone_since = None,
            Err(_) if alone_since.get_or_insert_with(Instant::now).elapsed() < MAJORITY_LIMIT => {}
            Err(_) => {
                return Err(Refusal::Unknown(
                    "a majority of the group's nodes does not answer; the write comes through if they come back before it is overwritten"
                        .to_owned(),
                ));
            }
        }
    };
    match received {
        Ok(Ok(response)) => Ok(response.data),
        // Rejected before it was appended.
        Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(Refusal::NotLeader),
        // Among these an entry that was appended and then cut off here. Another node may still have it, and bring it through.
        Ok(Err(error)) => Err(Refusal::Unknown(error.to_string())),
        // Raft stopped with the proposal in flight.
        Err(_) => Err(Refusal::Unknown(match log.failure() {
            Some(failure) => format!("{failure}; it shows after a restart"),
            None => "the node stopped before the answer; it shows after a restart".to_owned(),
        })),
    }
}

/// Whether this node leads and has lately heard from a majority.
pub fn has_majority<SM: RaftStateMachine<Types>>(raft: &Raft<Types, SM>) -> bool {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let mut voters = metrics.membership_config.membership().voter_ids();
    let alone = voters.next() == Some(metrics.id) && voters.next().is_none();
    let heard = metrics
        .last_quorum_acked
        .as_ref()
        .is_some_and(|heard| OpenraftInstant::elapsed(&**heard) < RECENT);
    metrics.state.is_leader() && (alone || heard)
}
