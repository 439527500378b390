//! Proposals on their way to the node that leads.

use std::sync::Arc;

use super::cluster::Cluster;
use super::together;
use crate::log::GroupId;
use crate::raft::proposal::{Proposal, Refusal};
use crate::raft::types::Outcome;

/// A larger proposal goes alone, so that small ones do not wait for it. Bytes.
pub const MAX_TOGETHER_BYTES: usize = 64 << 10;
/// Proposals that go together. The queue itself is bounded by admission.
const BATCH: usize = 256;
/// Messages under way to one node: one more only makes batches smaller.
const UNDER_WAY: usize = 3;

/// What waits to be sent to one node for one group.
pub type Queue = together::Queue<Proposal, Result<Outcome, Refusal>>;

/// Starts a queue.
pub fn start(cluster: &Arc<Cluster>, node: u64, group: GroupId) -> Queue {
    // Not kept alive by what it serves.
    let cluster = Arc::downgrade(cluster);
    Queue::start(BATCH, UNDER_WAY, move |proposals| {
        let cluster = cluster.upgrade()?;
        Some(async move { cluster.propose_all(node, group, proposals).await })
    })
}

/// Sends a proposal with others. Given up, it may still be carried out.
pub async fn send(queue: &Queue, proposal: Proposal) -> Result<Outcome, Refusal> {
    let answer = queue.send(proposal).await;
    answer.unwrap_or_else(|| Err(Refusal::Unknown("this node is stopping".to_owned())))
}
