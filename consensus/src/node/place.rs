//! A node's place in its groups: that it votes in each of them, at its address, and that nodes know where the others are.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::storage::RaftStateMachine;
use tokio::sync::watch;
use tokio::time::sleep;

use super::cluster::Cluster;
use super::format::FOUNDER;
use super::join_file::JoinFile;
use super::membership;
use super::opening::{blocking, stopped};
use super::service::Groups;
use crate::log::GroupId;
use crate::meta::Meta;
use crate::raft::types::Types;
use crate::raft::wire::{Admission, Member};

/// How long to wait after a round that left something to do.
const PAUSE: Duration = Duration::from_millis(200);
/// How often a node looks whether it is still a member at its address.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What [`keep_up`] works on.
pub struct Place {
    /// The data directory.
    pub dir: PathBuf,
    /// Addresses of the cluster, for as long as this node knows none by itself.
    pub addresses: Vec<String>,
    /// The other nodes.
    pub cluster: Arc<Cluster>,
    /// This node's groups.
    pub groups: Groups,
}

/// Keeps this node a voter of every group at its address, and the other nodes' addresses known here.
pub async fn keep_up(place: Place, mut stop: watch::Receiver<bool>) {
    let mut membership = place.groups.meta.raft().metrics();
    let mut joined = false;
    if place.knows_nobody() {
        tracing::warn!("this node is in no group and knows no other node; start it with the address of one (--join)");
    }
    loop {
        let complete = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            complete = place.look() => complete,
        };
        if !joined && place.votes_everywhere() {
            joined = true;
            place.forget_join().await;
        }
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

impl Place {
    /// One round; whether nothing is left to do.
    async fn look(&self) -> bool {
        let Place { cluster, groups, .. } = self;
        let known = self.learn_addresses().await;
        // What a node that was taken out has open ends here.
        cluster.peers.roll().keep_streams(|node| membership::is_member(&groups.meta, node));
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
    async fn learn_addresses(&self) -> Vec<Member> {
        let cluster = &self.cluster;
        let mut members = membership::members(&self.groups.meta);
        if !members.iter().any(|member| member.node != cluster.node) {
            for address in &self.addresses {
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

    fn knows_nobody(&self) -> bool {
        self.addresses.is_empty() && membership::members(&self.groups.meta).is_empty()
    }

    fn votes_everywhere(&self) -> bool {
        let node = self.cluster.node;
        let mut partitions = self.groups.partitions.iter();
        votes(node, self.groups.meta.raft()) && partitions.all(|partition| votes(node, &partition.work().raft))
    }

    /// From here on the groups' membership says where the others are.
    async fn forget_join(&self) {
        let dir = self.dir.clone();
        if let Err(error) = blocking(move || Ok(JoinFile::remove(&dir)?)).await {
            tracing::warn!(%error, "a left-over of the join stays");
        }
    }
}

fn votes<SM: RaftStateMachine<Types>>(node: u64, raft: &Raft<Types, SM>) -> bool {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    metrics.membership_config.membership().voter_ids().any(|voter| voter == node)
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
