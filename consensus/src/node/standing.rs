//! Whether this process may act as its node. A data directory that was copied makes two processes with one id, and two that vote under one
//! id elect two leaders. So a process first asks every member that it knows of, and the address that the members know its node by; where one
//! of them has another process as this node, it neither votes nor asks for votes, and does not start.
//!
//! A directory that was copied or put back from a backup, and is not the node's newest one any more, is refused likewise (see `runs`).
//!
//! It asks again all the time: thereby every two nodes are connected, and know which process the other one is; and two processes that
//! started on different sides of a partition both stop when it ends.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::NodeConfig;
use super::cluster::Cluster;
use super::membership;
use super::opening::blocking;
use super::opening::stopped;
use super::runs::{Runs, superseded};
use super::service::Groups;
use crate::error::{ConsensusError, Result};
use crate::meta::Meta;
use crate::peer::PeerError;
use crate::raft::wire::{self, Answer, Request};

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
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// The members were not asked yet.
    Opening,
    Confirmed,
    /// Another process is this node.
    Denied(String),
}

impl Default for Standing {
    fn default() -> Self {
        Standing {
            state: Mutex::new(State::Opening),
        }
    }
}

impl Standing {
    /// The error is why it may not.
    pub fn check(&self) -> Result<(), String> {
        match &*self.state.lock() {
            State::Opening => Err("the node is opening; try again".to_owned()),
            State::Confirmed => Ok(()),
            State::Denied(reason) => Err(reason.clone()),
        }
    }

    /// Why this process may not act as its node though it has opened, if so.
    pub fn denied(&self) -> Option<String> {
        match &*self.state.lock() {
            State::Denied(reason) => Some(reason.clone()),
            State::Opening | State::Confirmed => None,
        }
    }

    fn set(&self, state: State) {
        *self.state.lock() = state;
    }
}

/// Finds out whether this process may act as its node, and fails where another one does, or did since with a newer directory.
pub async fn confirm(cluster: &Cluster, meta: &Meta, runs: &Runs) -> Result<()> {
    let mut occupied = Occupied::begin();
    let mut told = false;
    loop {
        let reason = match ask(cluster, meta, runs, true).await {
            Found::Nothing | Found::Alone => break,
            Found::Superseded => return Err(ConsensusError::Unsupported(superseded(cluster.node))),
            Found::Other(reason) if occupied.for_long() => return Err(ConsensusError::Unsupported(reason)),
            Found::Other(reason) => reason,
        };
        if !told {
            tracing::warn!(reason, "another process is this node; waiting for its end");
            told = true;
        }
        sleep(ASK_AGAIN).await;
    }
    cluster.standing.set(State::Confirmed);
    Ok(())
}

/// How long another process was found to be this node.
struct Occupied {
    last: Instant,
    long: Duration,
}

impl Occupied {
    fn begin() -> Occupied {
        Occupied {
            last: Instant::now(),
            long: Duration::ZERO,
        }
    }

    /// To be asked at each look. A process that stood still in between has seen nothing of that time: it counts as one look.
    fn for_long(&mut self) -> bool {
        self.long += self.last.elapsed().min(ANSWER_LIMIT + ASK_EVERY);
        self.last = Instant::now();
        self.long > OCCUPIED_LIMIT
    }
}

/// What the members say of this process.
enum Found {
    /// Nothing: they cannot be reached.
    Nothing,
    /// That they know no other one.
    Alone,
    /// Another process is this node, with the reason that they give.
    Other(String),
    /// The node has run since from another directory.
    Superseded,
}

/// Asks again and again, and has the cluster take this process as the node's newest. A process that is not alone as its node for long, or not
/// the newest, does not come back: it ends its groups.
pub async fn watch(config: Arc<NodeConfig>, cluster: Arc<Cluster>, groups: Groups, mut runs: Runs, mut stop: watch::Receiver<bool>) {
    let mut since = None;
    let mut taken = false;
    loop {
        let pause = if since.is_some() || !taken { ASK_AGAIN } else { ASK_EVERY };
        let look = async {
            sleep(pause).await;
            match ask(&cluster, &groups.meta, &runs, false).await {
                // Without a majority it waits long, and the members are to be asked meanwhile. To take a run twice does no harm.
                Found::Alone if !taken => {
                    let take = take(&config, &cluster, &groups.meta, &mut runs, &mut taken);
                    timeout(ANSWER_LIMIT, take).await.unwrap_or(Found::Alone)
                }
                found => found,
            }
        };
        let found = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            found = look => found,
        };
        let reason = match found {
            Found::Nothing | Found::Alone => {
                if since.take().is_some() {
                    tracing::info!("this process is the only one of its node again");
                }
                cluster.standing.set(State::Confirmed);
                continue;
            }
            Found::Superseded => return end(&cluster, &groups, superseded(cluster.node)).await,
            Found::Other(reason) => reason,
        };
        let occupied = since.get_or_insert_with(|| {
            tracing::error!(reason, "another process is this node; this one does nothing meanwhile");
            Occupied::begin()
        });
        if occupied.for_long() {
            return end(&cluster, &groups, reason).await;
        }
        deny(&cluster, reason);
    }
}

/// From here on this process is not to act as its node.
fn deny(cluster: &Cluster, reason: String) {
    cluster.standing.set(State::Denied(reason));
    cluster.peers.roll().keep_streams(|_| false);
}

async fn end(cluster: &Cluster, groups: &Groups, reason: String) {
    tracing::error!(reason, "another process is this node; this one stops its groups for good");
    deny(cluster, reason);
    // A group that has stopped already is as well.
    let _ = groups.meta.raft().shutdown().await;
    for partition in &groups.partitions {
        let _ = partition.work().raft.shutdown().await;
    }
}

/// Has the cluster take this run as the node's last.
async fn take(config: &Arc<NodeConfig>, cluster: &Cluster, meta: &Meta, runs: &mut Runs, taken: &mut bool) -> Found {
    let number = match membership::take_run(meta, cluster.node, runs).await {
        Ok(Some(number)) => number,
        Ok(None) => return Found::Superseded,
        Err(error) => {
            tracing::debug!(error, "the cluster does not know of this run yet");
            return Found::Alone;
        }
    };
    let (config, mut noted) = (config.clone(), runs.clone());
    let note = blocking(move || noted.taken(&config.data_dir, number).map(|()| noted));
    match note.await {
        Ok(noted) => (*runs, *taken) = (noted, true),
        // The cluster knows this run, and so does the directory.
        Err(error) => {
            tracing::warn!(%error, "the list of the node's runs cannot be written");
            *taken = true;
        }
    }
    Found::Alone
}

/// Asks all members, and who is at the address that this node is known by. A process that starts heeds the latter always; one that runs only
/// where nobody else answers: it may have moved, and not have heard yet that the others know.
async fn ask(cluster: &Cluster, meta: &Meta, runs: &Runs, starts: bool) -> Found {
    let members = membership::members(meta);
    let asked = members
        .into_iter()
        .filter(|member| !member.address.is_empty() && member.address != cluster.address);
    let answers = asked.map(|member| async move {
        cluster.peers.set_address(member.node, member.address.clone());
        let Ok(request) = wire::encode(&Request::Superseded(cluster.node, runs.clone())) else {
            return (member.node, Found::Nothing);
        };
        let found = match cluster.peers.call(member.node, request, ANSWER_LIMIT).await {
            Err(PeerError::Occupied(reason)) => Found::Other(reason),
            Ok(answer) if matches!(wire::decode(&answer), Ok(Answer::Superseded(true))) => Found::Superseded,
            // A node that fails to answer has let this one in all the same.
            Ok(_) | Err(PeerError::Failed(_)) => Found::Alone,
            Err(_) => Found::Nothing,
        };
        (member.node, found)
    });
    let mut answers = futures::future::join_all(answers).await;
    cluster.peers.remove(cluster.node);
    let others_answer = answers
        .iter()
        .any(|(node, found)| *node != cluster.node && !matches!(found, Found::Nothing));
    answers.retain(|(node, _)| *node != cluster.node || starts || !others_answer);
    // That another one runs is told rather than that it did.
    let found = |found: &Found| match found {
        Found::Nothing => 0,
        Found::Alone => 1,
        Found::Superseded => 2,
        Found::Other(_) => 3,
    };
    // With nobody to ask there is nobody else.
    answers
        .into_iter()
        .map(|(_, found)| found)
        .max_by_key(found)
        .unwrap_or(Found::Alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_in_which_a_process_stood_still_does_not_count() {
        let mut occupied = Occupied::begin();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(!occupied.for_long());
        for _ in 0..30 {
            tokio::time::advance(ASK_AGAIN).await;
            assert!(!occupied.for_long());
        }
        for _ in 0..10 {
            tokio::time::advance(ASK_EVERY).await;
            occupied.for_long();
        }
        assert!(occupied.for_long());
    }
}
