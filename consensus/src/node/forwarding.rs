//! Proposals on their way to the node that leads: those that wait while others are under way go out together.

use std::sync::Arc;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Semaphore, oneshot};

use super::cluster::Cluster;
use crate::log::GroupId;
use crate::raft::proposal::{Proposal, Refusal};
use crate::raft::types::Outcome;
use crate::runtime;

/// A larger proposal goes alone, so that small ones do not wait for it. Bytes.
pub const MAX_TOGETHER_BYTES: usize = 64 << 10;
/// Proposals that go together. The queue itself is bounded by admission.
const BATCH: usize = 256;
/// Messages under way to one node: one more only makes batches smaller.
const UNDER_WAY: usize = 3;

/// What waits to be sent to one node for one group.
pub type Queue = UnboundedSender<Forwarded>;

/// A proposal, and where its answer goes.
pub struct Forwarded {
    proposal: Proposal,
    answer: oneshot::Sender<Result<Outcome, Refusal>>,
}

/// Starts a queue. It ends when its sender is dropped.
pub fn start(cluster: &Arc<Cluster>, node: u64, group: GroupId) -> Queue {
    let (queue, waiting) = mpsc::unbounded_channel();
    // Not kept alive by what it serves.
    runtime::spawn(run(Arc::downgrade(cluster), node, group, waiting));
    queue
}

/// Sends a proposal with others. Given up, it may still be carried out.
pub async fn send(queue: &Queue, proposal: Proposal) -> Result<Outcome, Refusal> {
    let (answer, answered) = oneshot::channel();
    let stopped = || Refusal::Unavailable("this node is stopping".to_owned());
    queue.send(Forwarded { proposal, answer }).map_err(|_| stopped())?;
    // Dropped unanswered where the task ended in the midst of it.
    answered
        .await
        .unwrap_or_else(|_| Err(Refusal::Unknown("this node is stopping".to_owned())))
}

async fn run(cluster: std::sync::Weak<Cluster>, node: u64, group: GroupId, mut waiting: UnboundedReceiver<Forwarded>) {
    let under_way = Arc::new(Semaphore::new(UNDER_WAY));
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let Ok(permit) = under_way.clone().acquire_owned().await else {
            return;
        };
        // What came while the permit did.
        while batch.len() < BATCH
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        let Some(cluster) = cluster.upgrade() else { return };
        let (proposals, answers): (Vec<_>, Vec<_>) = batch.drain(..).map(|one| (one.proposal, one.answer)).unzip();
        runtime::spawn(async move {
            let outcomes = cluster.propose_all(node, group, proposals).await;
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // Its author may have left.
                let _ = answer.send(outcome);
            }
            drop(permit);
        });
    }
}
