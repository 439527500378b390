//! How a node comes to be a member: a new database, a directory that joins one, and a node that comes back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::storage::RaftStateMachine;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, Exports};
use super::format::{FOUNDER, Format};
use super::membership;
use super::opening::blocking;
use super::service::Groups;
use super::{NodeConfig, PeerConfig};
use crate::error::{ConsensusError, Result};
use crate::log::GroupId;
use crate::meta::Meta;
use crate::peer::transport::Transport;
use crate::peer::{PeerError, PeerIdentity, PeerServer, Peers};
use crate::raft::types::Types;
use crate::raft::wire::{self, Admission, Answer, JoinRequest, Joined, Member, Request};
use crate::runtime;

/// How long a node looks for a cluster to join before it gives up.
const JOIN_LIMIT: Duration = Duration::from_secs(60);
const JOIN_CALL_LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);
/// How often a node looks whether it is still a member at its address.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The file with the token of a join that is not finished.
const TOKEN_FILE: &str = "JOIN";

/// Whether the configuration fits a directory that was initialised before.
pub fn check(config: &NodeConfig, format: &Format) -> Result<()> {
    let wanted = config.peer.as_ref().and_then(|peer| peer.node_id);
    match wanted {
        Some(wanted) if wanted != format.node => Err(ConsensusError::Unsupported(format!(
            "{} belongs to node {}, and the configuration says node {wanted}; correct the id or the directory",
            config.data_dir.display(),
            format.node
        ))),
        _ => Ok(()),
    }
}

/// Initialises an empty directory: as the first node of a new database, or as a new node of the database that it joins.
pub async fn initialise(config: &Arc<NodeConfig>, transport: &Arc<dyn Transport>) -> Result<Format> {
    let Some(peer) = config.peer.as_ref().filter(|peer| !peer.join.is_empty()) else {
        let wanted = config.peer.as_ref().and_then(|peer| peer.node_id);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != FOUNDER) {
            return Err(ConsensusError::Unsupported(format!(
                "the first node of a database is node {FOUNDER}, not {wanted}; say which cluster the new node is to join, or leave out the id"
            )));
        }
        let config = config.clone();
        return blocking(move || Format::found(&config.data_dir, config.partitions)).await;
    };
    let token = {
        let config = config.clone();
        blocking(move || token(&config.data_dir)).await?
    };
    let request = JoinRequest {
        node: peer.node_id,
        address: peer.advertise.clone().unwrap_or_else(|| peer.listen.to_string()),
        token,
    };
    let joined = join(&peer.join, request, transport.clone()).await?;
    if config.partitions != 0 && config.partitions != joined.partitions {
        return Err(ConsensusError::Unsupported(format!(
            "the cluster has {} data partitions, and the configuration asks for {}; the number is fixed",
            joined.partitions, config.partitions
        )));
    }
    let config = config.clone();
    blocking(move || {
        let format = Format::create(&config.data_dir, joined.database, joined.node, joined.partitions)?;
        // Only a left-over from here on.
        let _ = std::fs::remove_file(config.data_dir.join(TOKEN_FILE));
        Ok(format)
    })
    .await
}

/// The token of this directory's join; an attempt that was cut off goes on with the same one.
fn token(dir: &Path) -> Result<String> {
    let path = dir.join(TOKEN_FILE);
    let failed = |what| pyralog_storage::StorageError::io(&path, what);
    if let Ok(known) = std::fs::read_to_string(&path)
        && uuid::Uuid::parse_str(&known).is_ok()
    {
        return Ok(known);
    }
    let token = runtime::random_uuid().to_string();
    std::fs::write(&path, &token).map_err(failed("write"))?;
    std::fs::File::open(&path)
        .and_then(|file| file.sync_all())
        .map_err(failed("sync"))?;
    Ok(token)
}

async fn join(addresses: &[String], request: JoinRequest, transport: Arc<dyn Transport>) -> Result<Joined> {
    let peers = Peers::new(PeerIdentity::stranger(), transport);
    let deadline = Instant::now() + JOIN_LIMIT;
    let mut reason = String::new();
    while Instant::now() < deadline {
        for address in addresses {
            peers.set_address(0, address.clone());
            let answer = peers.call(0, wire::encode(&Request::Join(request.clone()))?, JOIN_CALL_LIMIT).await;
            match answer {
                Ok(bytes) => match wire::decode(&bytes) {
                    Ok(Answer::Join(Ok(joined))) => return Ok(joined),
                    Ok(Answer::Join(Err(refused))) => {
                        return Err(ConsensusError::Unsupported(format!(
                            "{address} does not let this node join: {refused}"
                        )));
                    }
                    Ok(_) => reason = format!("{address} gave an answer to another question"),
                    Err(error) => reason = format!("{address}: {error}"),
                },
                Err(PeerError::Refused(refused)) => {
                    return Err(ConsensusError::Unsupported(format!(
                        "{address} does not let this node join: {refused}"
                    )));
                }
                Err(error) => reason = format!("{address}: {error}"),
            }
        }
        sleep(PAUSE).await;
    }
    Err(ConsensusError::Unavailable(format!(
        "no node of a cluster answers at {} ({reason})",
        addresses.join(", ")
    )))
}

/// Binds the port for other nodes.
pub async fn bind(peer: &PeerConfig, identity: PeerIdentity, transport: &dyn Transport) -> Result<PeerServer> {
    PeerServer::bind(peer.listen, identity, transport).await.map_err(|error| {
        ConsensusError::Unavailable(format!(
            "cannot listen for other nodes at {}: {error}; choose another address, or stop what uses it",
            peer.listen
        ))
    })
}

/// This node among the others, whose addresses come with the groups' membership.
pub fn cluster(peer: &PeerConfig, format: &Format, bound: std::net::SocketAddr, transport: Arc<dyn Transport>) -> Cluster {
    Cluster {
        node: format.node,
        address: peer.advertise.clone().unwrap_or_else(|| bound.to_string()),
        peers: Peers::new(PeerIdentity::new(format.database.clone(), format.node), transport),
        exports: Exports::default(),
        changing: tokio::sync::Mutex::default(),
    }
}

/// Keeps this node a voter of every group at its address, and the other nodes' addresses known here.
pub async fn keep_up(config: Arc<NodeConfig>, cluster: Arc<Cluster>, groups: Groups, mut stop: watch::Receiver<bool>) {
    let mut membership = groups.meta.raft().metrics();
    loop {
        let complete = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            complete = look(&config, &cluster, &groups) => complete,
        };
        let pause = if complete { LOOK_EVERY } else { PAUSE };
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = sleep(pause) => {}
            // Also told of every entry, so not more often than this.
            changed = membership.changed(), if complete => {
                if changed.is_err() {
                    return;
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// Returns when the node stops.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the node is gone.
    let _ = stop.wait_for(|&stop| stop).await;
}

/// One round; whether nothing is left to do.
async fn look(config: &NodeConfig, cluster: &Cluster, groups: &Groups) -> bool {
    let known = learn_addresses(config, cluster, groups).await;
    if cluster.node == FOUNDER
        && let Err(error) = membership::register_founder(&groups.meta, FOUNDER).await
    {
        tracing::debug!(error, "this node is not registered yet");
        return false;
    }
    let mut complete = take_place(cluster, &groups.meta, GroupId::META, groups.meta.raft(), &known).await;
    for partition in &groups.partitions {
        complete &= take_place(cluster, &groups.meta, partition.group(), &partition.work().raft, &known).await;
    }
    complete
}

/// Takes the other nodes' addresses from the meta group, or, before this node is in it, from a node that it was told of.
async fn learn_addresses(config: &NodeConfig, cluster: &Cluster, groups: &Groups) -> Vec<Member> {
    let mut members = membership::members(&groups.meta);
    if !members.iter().any(|member| member.node != cluster.node) {
        for address in config.peer.iter().flat_map(|peer| &peer.join) {
            cluster.peers.set_address(0, address.clone());
            match cluster.members(0).await {
                Ok(told) => {
                    members = told;
                    break;
                }
                Err(error) => tracing::warn!(address, error, "a node of the cluster does not answer"),
            }
        }
    }
    members.retain(|member| member.node != cluster.node && !member.address.is_empty());
    for member in &members {
        cluster.peers.set_address(member.node, member.address.clone());
    }
    members
}

/// Sees to it that this node is a voter of a group, at its address; whether it is.
async fn take_place<SM: RaftStateMachine<Types>>(
    cluster: &Cluster,
    meta: &Meta,
    group: GroupId,
    raft: &Raft<Types, SM>,
    known: &[Member],
) -> bool {
    let (placed, leader) = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let address = membership.get_node(&cluster.node).map(|node| node.addr.as_str());
        let voter = membership.voter_ids().any(|voter| voter == cluster.node);
        (voter && address == Some(cluster.address.as_str()), metrics.current_leader)
    };
    if placed {
        return true;
    }
    let member = Member {
        node: cluster.node,
        address: cluster.address.clone(),
    };
    if leader == Some(cluster.node) {
        // A leader that is being removed still leads for a moment, and must not take itself in again.
        let admission = match membership::refused(meta, &member).await {
            Some(refused) => refused,
            None => membership::admit(raft, &cluster.changing, member).await,
        };
        return !matches!(admission, Admission::NotNow(_));
    }
    // The leader if it is known, then whoever leads among all: who is not of the group is not told of a change of leader.
    let others = known.iter().map(|member| member.node).filter(|node| Some(*node) != leader);
    for target in leader.into_iter().chain(others) {
        match cluster.admit(target, group, member.clone()).await {
            Admission::Voter => return true,
            Admission::NotNow(reason) => tracing::debug!(target, group = group.0, reason, "not admitted yet"),
            Admission::Refused(reason) => {
                tracing::error!(group = group.0, reason, "this node is not admitted");
                // Asking again does not help; it is told again at the next look.
                return true;
            }
        }
    }
    false
}
