//! The steps of a transaction over several groups, as one of its groups takes them.

use std::sync::Arc;

use pyralog_storage::{Timestamp, WriteSet};

use super::{PartitionHandle, Unproposed, encode};
use crate::error::{ConsensusError, Result};
use crate::raft::proposal::Proposal;
use crate::raft::transactions::{Part, Transactions};
use crate::raft::types::Outcome;

impl PartitionHandle {
    /// What this replica knows of transactions.
    pub(crate) fn transactions(&self) -> &Transactions {
        &self.inner.tables.transactions
    }

    /// Makes a part ready to be prepared: it is encoded, and the partition takes writes.
    pub(crate) async fn ready(&self, part: Part, write_set: WriteSet) -> Result<Ready> {
        let staged = Unproposed {
            partition: self.storage().clone(),
            write_set: Some(Arc::new(write_set)),
        };
        self.check()?;
        self.inner.work.pressure.admit().await?;
        let Some(write_set) = staged.write_set.clone() else {
            return Err(ConsensusError::Unavailable("the write set is gone".to_owned()));
        };
        let proposal = Proposal::Prepare(part, encode(write_set).await?);
        // Before any part is prepared, since readers wait for all parts from then on.
        self.spread_staged(&proposal).await;
        Ok(Ready {
            partition: self.clone(),
            proposal,
            staged,
        })
    }

    /// Commits a part at `timestamp`; `None`: the transaction is aborted.
    pub(crate) async fn decide(&self, part: Part, timestamp: Timestamp) -> Result<Option<Timestamp>> {
        ended(self.outcome(Proposal::Decide(timestamp, part), None).await?)
    }

    /// Aborts a transaction, as far as it concerns this group; `Some`: it is committed.
    pub(crate) async fn abort(&self, part: Part) -> Result<Option<Timestamp>> {
        ended(self.outcome(Proposal::Abort(part), None).await?)
    }
}

/// A part that is ready to be prepared. Its staged files go when it is dropped.
pub(crate) struct Ready {
    partition: PartitionHandle,
    proposal: Proposal,
    staged: Unproposed,
}

impl Ready {
    /// Checks and locks it; the timestamp before which the transaction does not commit.
    pub(crate) async fn prepare(mut self) -> Result<Timestamp> {
        match self.partition.outcome(self.proposal, Some(&mut self.staged)).await? {
            Outcome::Prepared(timestamp) => Ok(timestamp),
            other => Err(unexpected(other)),
        }
    }
}

fn ended(outcome: Outcome) -> Result<Option<Timestamp>> {
    match outcome {
        Outcome::Committed(timestamp) => Ok(Some(timestamp)),
        Outcome::Void => Ok(None),
        other => Err(unexpected(other)),
    }
}

fn unexpected(outcome: Outcome) -> ConsensusError {
    match outcome.into_commit() {
        Err(error) => error,
        Ok(_) => ConsensusError::Unknown("unexpected answer of the group".to_owned()),
    }
}
