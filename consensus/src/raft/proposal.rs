//! From a proposal's fate to the error that its author sees: above all, whether the write may be there.

use openraft::errors::ClientWriteError;
use tokio::sync::oneshot;

use super::types::{Outcome, WriteResult};
use crate::error::{ConsensusError, Result};
use crate::log::Log;

/// Waits for a proposal that was handed to Raft.
pub async fn outcome(receiver: oneshot::Receiver<WriteResult>, log: &Log) -> Result<Outcome> {
    match receiver.await {
        Ok(Ok(response)) => Ok(response.data),
        // Rejected before it was appended.
        Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(ConsensusError::Unavailable(
            "this node does not lead the group at the moment; retry".to_owned(),
        )),
        Ok(Err(error)) => Err(ConsensusError::Unknown(error.to_string())),
        // Raft stopped with the proposal in flight.
        Err(_) => Err(ConsensusError::Unknown(match log.failure() {
            Some(failure) => format!("{failure}; it shows after a restart"),
            None => "the node stopped before the answer; it shows after a restart".to_owned(),
        })),
    }
}
