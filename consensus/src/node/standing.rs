//! Whether this process may act as its node. A data directory that was copied makes two processes with one id, and two that vote under one
//! id elect two leaders. So a process first asks every member that it knows of, and the address that the members know its node by; where one
//! of them has another process as this node, it neither votes nor asks for votes, and does not start.
//!
//! It asks again all the time: thereby every two nodes are connected, and know which process the other one is; and two processes that
//! started on different sides of a partition both stop when it ends.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::cluster::Cluster;
use super::joining::stopped;
use super::membership;
use super::service::Groups;
use crate::error::{ConsensusError, Result};
use crate::meta::Meta;
use crate::peer::PeerError;
use crate::raft::wire::{self, Request};

/// How long another process may be known as this node: that of before a restart is forgotten when it has been silent for five seconds.
const OCCUPIED_LIMIT: Duration = Duration::from_secs(10);
/// How long a member is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How often the members are asked while nothing is wrong.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Whether this process may act as its node.
#[derive(Debug)]
pub struct Standing {
    /// Why not, if it may not.
    denied: Mutex<Option<String>>,
}

impl Default for Standing {
    /// Not before the members were asked.
    fn default() -> Self {
        Standing {
            denied: Mutex::new(Some("the node is opening; try again".to_owned())),
        }
    }
}

impl Standing {
    /// The error is why it may not.
    pub fn check(&self) -> Result<(), String> {
        self.denied.lock().clone().map_or(Ok(()), Err)
    }

    fn set(&self, denied: Option<String>) {
        *self.denied.lock() = denied;
    }
}

/// Finds out whether this process may act as its node, and fails where another one does.
pub async fn confirm(cluster: &Cluster, meta: &Meta) -> Result<()> {
    let begun = Instant::now();
    let mut told = false;
    while let Some(reason) = occupied(cluster, meta).await {
        if begun.elapsed() > OCCUPIED_LIMIT {
            return Err(ConsensusError::Unsupported(reason));
        }
        if !told {
            tracing::warn!(reason, "another process is this node; waiting for its end");
            told = true;
        }
        sleep(ASK_AGAIN).await;
    }
    cluster.standing.set(None);
    Ok(())
}

/// Asks again and again. A process that is not alone as its node for long does not come back: it ends its groups.
pub async fn watch(cluster: Arc<Cluster>, groups: Groups, mut stop: watch::Receiver<bool>) {
    let mut since = None;
    loop {
        let pause = if since.is_some() { ASK_AGAIN } else { ASK_EVERY };
        let found = tokio::select! {
            () = stopped(&mut stop) => return,
            found = async { sleep(pause).await; occupied(&cluster, &groups.meta).await } => found,
        };
        let Some(reason) = found else {
            if since.take().is_some() {
                tracing::info!("this process is the only one of its node again");
            }
            cluster.standing.set(None);
            continue;
        };
        let first = since.is_none();
        let begun = *since.get_or_insert_with(Instant::now);
        if first {
            tracing::error!(reason, "another process is this node; this one does nothing meanwhile");
        }
        if begun.elapsed() > OCCUPIED_LIMIT {
            tracing::error!(reason, "another process is this node; this one stops its groups for good");
            cluster.standing.set(Some(reason));
            let _ = groups.meta.raft().shutdown().await;
            for partition in &groups.partitions {
                let _ = partition.work().raft.shutdown().await;
            }
            return;
        }
        cluster.standing.set(Some(reason));
    }
}

/// Why this process is not alone as its node, if anybody says so. Who cannot be reached says nothing.
async fn occupied(cluster: &Cluster, meta: &Meta) -> Option<String> {
    let members = membership::members(meta);
    let asked = members
        .into_iter()
        .filter(|member| !member.address.is_empty() && member.address != cluster.address);
    let answers = asked.map(|member| async move {
        cluster.peers.set_address(member.node, member.address);
        let request = wire::encode(&Request::Members).ok()?;
        match timeout(ANSWER_LIMIT, cluster.peers.call(member.node, request, ANSWER_LIMIT)).await {
            Ok(Err(PeerError::Occupied(reason))) => Some(reason),
            _ => None,
        }
    });
    let answers = futures::future::join_all(answers).await;
    cluster.peers.remove(cluster.node);
    answers.into_iter().flatten().next()
}
