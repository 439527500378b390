//! Heartbeats of all groups to one node, coalesced: what one node has to tell another one at a time goes in one message (as in CockroachDB's
//! and TiKV's stores). The first goes at once; those that come while it is under way go in the next.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::time::timeout;

use super::cluster::Cluster;
use super::together;
use crate::log::GroupId;
use crate::peer::PeerError;
use crate::raft::types::Types;

/// Heartbeats in one message.
const BATCH: usize = 4096;
/// Messages under way to one node. With one, a lost answer would hold all groups up; more make batches smaller.
const UNDER_WAY: usize = 2;
/// How long a node may take to answer. Groups give a heartbeat up earlier.
const LIMIT: Duration = Duration::from_millis(500);
/// How long one group may take to answer, before the others' answers go without it.
const GROUP_LIMIT: Duration = Duration::from_millis(100);

/// A heartbeat of one group.
pub type Heartbeat = (GroupId, AppendEntriesRequest<Types>);
/// What waits to be sent to one node.
pub type Queue = together::Queue<Heartbeat, Result<AppendEntriesResponse<Types>, PeerError>>;

/// Starts the queue to a node.
pub fn start(cluster: &Arc<Cluster>, node: u64) -> Queue {
    // Not kept alive by what it serves.
    let cluster = Arc::downgrade(cluster);
    Queue::start(BATCH, UNDER_WAY, move |heartbeats| {
        let cluster = cluster.upgrade()?;
        Some(async move { cluster.beat_all(node, heartbeats, LIMIT).await })
    })
}

/// Answers the heartbeats of several groups; one that is slow does not keep the others waiting.
pub async fn answer<F>(
    heartbeats: Vec<Heartbeat>,
    take: impl Fn(GroupId, AppendEntriesRequest<Types>) -> F,
) -> Vec<Result<AppendEntriesResponse<Types>, String>>
where
    F: Future<Output = Result<AppendEntriesResponse<Types>, String>>,
{
    let answers = heartbeats.into_iter().map(|(group, heartbeat)| {
        let answer = timeout(GROUP_LIMIT, take(group, heartbeat));
        async move { answer.await.unwrap_or_else(|_| Err(format!("group {} is busy", group.0))) }
    });
    join_all(answers).await
}
