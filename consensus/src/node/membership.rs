//! Which nodes a cluster has: joining, and becoming a voter of every group.
//!
//! A node's id is registered in the meta state (`node/<id>`) before the node writes anything, and stays there for ever: an id is never
//! used again, neither for a wiped disk nor after the node was removed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::impls::BasicNode;
use openraft::storage::RaftStateMachine;
use openraft::{ChangeMembers, Raft, RaftMetrics};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::cluster::Cluster;
use super::format::FOUNDER;
use super::runs::{Run, Runs};
use crate::error::ConsensusError;
use crate::log::GroupId;
use crate::meta::{Meta, MetaChange, MetaExpect, MetaRevision};
use crate::raft::leadership::{Leader, Search};
use crate::raft::types::{LogId, Membership, Types};
use crate::raft::wire::{Admission, JoinRequest, Member};

/// Names of the records.
const PREFIX: &str = "node/";
/// How long a node may take to catch up before the admission is tried again.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(45);
/// Longest wait for other nodes to take over what this one leads, when closing.
pub const HAND_OVER_LIMIT: Duration = Duration::from_secs(3);
/// How long the metrics may take to tell of a change that was made.
const SEEN_LIMIT: Duration = Duration::from_secs(1);

/// What the meta state knows of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Made by the node before it joined; tells it from another one that wants its id.
    pub token: String,
    /// Whether it was removed. Its id stays taken.
    pub removed: bool,
    /// Its process's last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
}

fn key(node: u64) -> String {
    format!("{PREFIX}{node}")
}

fn record(meta: &Meta, node: u64) -> Result<Option<NodeRecord>, String> {
    let found = meta.get(&key(node)).map_err(|error| error.to_string())?;
    found
        .map(|(bytes, _)| serde_json::from_slice(&bytes).map_err(|error| format!("the record of node {node}: {error}")))
        .transpose()
}

/// Where clients reach a node, by its id.
const SERVICE: &str = "service/";

/// Says where clients reach a node.
pub async fn publish(meta: &Meta, node: u64, address: &str) -> crate::Result<()> {
    let key = format!("{SERVICE}{node}");
    if meta.get(&key)?.is_some_and(|(known, _)| known == address.as_bytes()) {
        return Ok(());
    }
    let change = MetaChange {
        put: vec![(key, address.as_bytes().to_vec())],
        ..MetaChange::default()
    };
    meta.change(change).await.map(drop)
}

/// Where clients reach a node, as far as is known here.
pub fn published(meta: &Meta, node: u64) -> crate::Result<Option<String>> {
    let found = meta.get(&format!("{SERVICE}{node}"))?;
    Ok(found.and_then(|(address, _)| String::from_utf8(address.to_vec()).ok()))
}

/// Registers a node that joins, and returns its id; the inner error is why it may not join. The outer one is why it cannot be told now:
/// another node may be able to, or this one later.
pub async fn register(meta: &Meta, request: &JoinRequest) -> Result<Result<u64, String>, String> {
    meta.barrier().await.map_err(|error| error.to_string())?;
    for (name, bytes, _) in meta.scan(PREFIX).map_err(|error| error.to_string())? {
        let known: NodeRecord = serde_json::from_slice(&bytes).map_err(|error| format!("{name}: {error}"))?;
        let node: u64 = name[PREFIX.len()..].parse().map_err(|_| format!("{name} names no node"))?;
        if known.token == request.token && !known.removed && request.node.is_none_or(|wanted| wanted == node) {
            return Ok(Ok(node));
        }
    }
    match request.node {
        Some(0) => Ok(Err("a node's id is 1 or more".to_owned())),
        // Whether its record is there yet or not.
        Some(FOUNDER) => Ok(Err(format!(
            "node {FOUNDER} is the one that made the database; leave out the id, or give another one"
        ))),
        Some(node) => Ok(match claim(meta, node, &request.token).await? {
            true => Ok(node),
            false => Err(format!(
                "the id {node} was given to a node before, and ids are not used again; leave out the id, or give one that is new"
            )),
        }),
        None => loop {
            let node = meta.allocate("node", 1).await.map_err(|error| error.to_string())?;
            if node != FOUNDER && claim(meta, node, &request.token).await? {
                return Ok(Ok(node));
            }
        },
    }
}

/// Makes the record, if there is none.
async fn claim(meta: &Meta, node: u64, token: &str) -> Result<bool, String> {
    let record = NodeRecord {
        token: token.to_owned(),
        removed: false,
        run: None,
    };
    let value = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
    let change = MetaChange {
        expect: vec![MetaExpect {
            key: key(node),
            revision: None,
        }],
        put: vec![(key(node), value)],
        delete: Vec::new(),
    };
    match meta.change(change).await {
        Ok(_) => Ok(true),
        Err(ConsensusError::MetaConflict { .. }) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

/// The founder's record.
pub async fn register_founder(meta: &Meta, node: u64) -> Result<(), String> {
    if record(meta, node)?.is_none() {
        claim(meta, node, "founder").await?;
    }
    Ok(())
}

/// Whether a node has run since from another directory than the one that knows these runs, as far as this replica knows.
pub fn is_superseded(meta: &Meta, node: u64, runs: &Runs) -> Result<bool, String> {
    let last = record(meta, node)?.and_then(|record| record.run);
    Ok(last.is_some_and(|last| runs.is_superseded_by(&last)))
}

/// Has the cluster take a node's present run as its last one; its number, or `None` where the node has run since from another directory. An
/// error is why it is to be tried again.
pub async fn take_run(meta: &Meta, node: u64, runs: &Runs) -> Result<Option<u64>, String> {
    meta.barrier().await.map_err(|error| error.to_string())?;
    let found = meta.get(&key(node)).map_err(|error| error.to_string())?;
    let Some((bytes, revision)) = found else {
        return Err(format!("node {node} is not registered yet"));
    };
    let mut record: NodeRecord = serde_json::from_slice(&bytes).map_err(|error| format!("the record of node {node}: {error}"))?;
    if record.run.as_ref().is_some_and(|last| runs.is_superseded_by(last)) {
        return Ok(None);
    }
    let number = record.run.map_or(0, |last| last.number) + 1;
    record.run = Some(Run {
        number,
        id: runs.ids.last().cloned().unwrap_or_default(),
    });
    replace(meta, node, &record, revision).await.map_err(|error| error.to_string())?;
    Ok(Some(number))
}

/// Stores a node's record, unless it has changed since it was read at `revision`.
async fn replace(meta: &Meta, node: u64, record: &NodeRecord, revision: MetaRevision) -> crate::Result<()> {
    let value = serde_json::to_vec(record).map_err(|error| ConsensusError::Unavailable(error.to_string()))?;
    let change = MetaChange {
        expect: vec![MetaExpect {
            key: key(node),
            revision: Some(revision),
        }],
        put: vec![(key(node), value)],
        delete: Vec::new(),
    };
    meta.change(change).await.map(drop)
}

/// Why a node cannot become a voter, if it cannot.
pub async fn refused(meta: &Meta, member: &Member) -> Option<Admission> {
    // A node that lags does not know the newest record.
    if let Err(error) = meta.barrier().await {
        return Some(Admission::NotNow(error.to_string()));
    }
    match record(meta, member.node) {
        Ok(Some(record)) if !record.removed => None,
        Ok(Some(_)) => Some(Admission::Refused(format!(
            "node {} was removed from this cluster; it can come back only with an empty directory, as a new node",
            member.node
        ))),
        Ok(None) => Some(Admission::Refused(format!("node {} never joined this cluster", member.node))),
        Err(error) => Some(Admission::NotNow(error)),
    }
}

/// As the group's leader: makes a node a voter at its address, first as one that learns, then by joint consensus. `changing` is held while
/// the membership changes.
pub async fn admit<SM: RaftStateMachine<Types>>(raft: &Raft<Types, SM>, changing: &Mutex<()>, member: Member) -> Admission {
    let node = BasicNode::new(&member.address);
    {
        let _alone = changing.lock().await;
        let Some(membership) = led_membership(raft).await else {
            return not_leader();
        };
        let known = membership.get_node(&member.node).map(|node| node.addr.clone());
        let changed = match known {
            None => raft.add_learner(member.node, node, false).await.map(Some),
            Some(address) if address != member.address => {
                let moved = ChangeMembers::SetNodes(BTreeMap::from([(member.node, node)]));
                raft.change_membership(moved, true).await.map(Some)
            }
            Some(_) => Ok(None),
        };
        match changed {
            Ok(None) => {}
            Ok(Some(change)) => seen(raft, change.log_id).await,
            // Another change under way, or another leader: both end by themselves.
            Err(error) => return Admission::NotNow(error.to_string()),
        }
        if membership.voter_ids().any(|voter| voter == member.node) {
            return Admission::Voter;
        }
    }
    if !caught_up(raft, member.node).await {
        return Admission::NotNow("the node has not caught up yet".to_owned());
    }
    let _alone = changing.lock().await;
    if led_membership(raft).await.is_none() {
        return not_leader();
    }
    let voters = ChangeMembers::AddVoterIds(BTreeSet::from([member.node]));
    change(raft, voters, true).await
}

/// The membership of a group that this node leads. A leader that was taken out leads for a moment more, or, where its removal was cut off half
/// way and another change completed it, for as long as nobody else wants to: it must change nothing, and hands over.
async fn led_membership<SM: RaftStateMachine<Types>>(raft: &Raft<Types, SM>) -> Option<Membership> {
    let (leads, votes, membership) = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let votes = membership.voter_ids().any(|voter| voter == metrics.id);
        (metrics.state.is_leader(), votes, membership.clone())
    };
    if leads && !votes {
        hand_over(raft).await;
    }
    (leads && votes).then_some(membership)
}

/// Gives one group to the voter that has most of its log.
pub async fn hand_over<SM: RaftStateMachine<Types>>(raft: &Raft<Types, SM>) {
    let to = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
        let followers = metrics.replication.iter().flatten();
        let candidates = followers.filter(|(node, _)| **node != metrics.id && voters.contains(node));
        let to = candidates
            .max_by_key(|(_, matched)| matched.as_ref().map(|id| id.index()))
            .map(|(node, _)| *node);
        to.filter(|_| metrics.state.is_leader())
    };
    if let Some(to) = to {
        hand_over_to(raft, to).await;
    }
}

/// Gives one group that this node leads to a voter.
pub async fn hand_over_to<SM: RaftStateMachine<Types>>(raft: &Raft<Types, SM>, to: u64) {
    let node = *raft.node_id();
    if let Err(error) = raft.trigger().transfer_leader(to).await {
        tracing::debug!(%error, "a group stopped before it had another leader");
        return;
    }
    let handed =
        move |metrics: &RaftMetrics<Types>| metrics.current_leader.is_some_and(|leader| leader != node) || metrics.running_state.is_err();
    // Not handed over in time: the others elect one by themselves.
    let _ = raft.wait(Some(HAND_OVER_LIMIT)).metrics(handed, "hand over").await;
}

/// Changes who votes. `retain`: who does no longer stays as one that learns.
async fn change<SM: RaftStateMachine<Types>>(raft: &Raft<Types, SM>, change: ChangeMembers<u64, BasicNode>, retain: bool) -> Admission {
    match raft.change_membership(change, retain).await {
        Ok(changed) => {
            seen(raft, changed.log_id).await;
            Admission::Voter
        }
        Err(error) => Admission::NotNow(error.to_string()),
    }
}

/// Waits until the metrics tell of a change: who changes next looks at them.
async fn seen<SM: RaftStateMachine<Types>>(raft: &Raft<Types, SM>, change: LogId) {
    let seen = move |metrics: &RaftMetrics<Types>| metrics.membership_config.log_id().is_some_and(|id| id >= change);
    // Where they do not come to that, this node leads no more, or stops; and then it changes nothing.
    let _ = raft.wait(Some(SEEN_LIMIT)).metrics(seen, "a change of members").await;
}

fn not_leader() -> Admission {
    Admission::NotNow("this node does not lead the group".to_owned())
}

/// As the group's leader: takes a node out. [`Admission::Voter`] stands for done. `changing` is held meanwhile.
pub async fn remove<SM: RaftStateMachine<Types>>(raft: &Raft<Types, SM>, changing: &Mutex<()>, node: u64) -> Admission {
    let _alone = changing.lock().await;
    let Some(membership) = led_membership(raft).await else {
        return not_leader();
    };
    if membership.get_node(&node).is_none() {
        return Admission::Voter;
    }
    if membership.voter_ids().all(|voter| voter == node) {
        return Admission::Refused(format!("node {node} is the only one that votes; a cluster needs one node at least"));
    }
    let gone = BTreeSet::from([node]);
    let removal = match membership.voter_ids().any(|voter| voter == node) {
        true => ChangeMembers::RemoveVoters(gone),
        false => ChangeMembers::RemoveNodes(gone),
    };
    change(raft, removal, false).await
}

/// Has the group's leader take a node out.
pub async fn leave<SM: RaftStateMachine<Types>>(
    cluster: &Cluster,
    group: GroupId,
    name: String,
    raft: &Raft<Types, SM>,
    node: u64,
) -> Result<(), ConsensusError> {
    let mut search = Search::new(name, raft);
    loop {
        let answer = match search.find().await? {
            Leader::Here => remove(raft, &cluster.changing, node).await,
            Leader::There(leader) => cluster.remove(leader, group, node).await,
        };
        match answer {
            Admission::Voter => return Ok(()),
            Admission::NotNow(reason) => search.refused(Some(reason)).await?,
            Admission::Refused(reason) => return Err(ConsensusError::Unsupported(reason)),
        }
    }
}

/// Marks a node as removed for ever, so that it is not admitted again.
pub async fn mark_removed(meta: &Meta, node: u64) -> Result<(), ConsensusError> {
    /// Others, the node itself among them, replace its record now and then; who asks for its removal must not hear of that.
    const TRIES: usize = 16;
    let unknown = || ConsensusError::Unsupported(format!("there is no node {node} in this cluster"));
    let mut tries = 0;
    loop {
        meta.barrier().await?;
        let Some((bytes, revision)) = meta.get(&key(node))? else {
            return Err(unknown());
        };
        let mut record: NodeRecord = serde_json::from_slice(&bytes).map_err(|_| unknown())?;
        if record.removed {
            return Ok(());
        }
        record.removed = true;
        match replace(meta, node, &record, revision).await {
            Err(ConsensusError::MetaConflict { .. }) if tries < TRIES => tries += 1,
            result => return result,
        }
    }
}

/// Waits until a learner has all but the newest entries.
async fn caught_up<SM: RaftStateMachine<Types>>(raft: &Raft<Types, SM>, node: u64) -> bool {
    /// Entries that a node may lag behind and still become a voter.
    const LAG: u64 = 256;
    let near = move |metrics: &RaftMetrics<Types>| {
        let matched = metrics
            .replication
            .as_ref()
            .and_then(|replication| replication.get(&node).cloned().flatten());
        let matched = matched.map(|id| id.index());
        matched.is_some_and(|matched| matched + LAG >= metrics.last_log_index.unwrap_or(0)) || !metrics.state.is_leader()
    };
    raft.wait(Some(CATCH_UP_LIMIT)).metrics(near, "catch up").await.is_ok()
}

/// Whether a node is of the cluster, as this node knows it.
pub fn is_member(meta: &Meta, node: u64) -> bool {
    let metrics = meta.raft().metrics();
    let metrics = metrics.borrow_watched();
    metrics.membership_config.membership().get_node(&node).is_some()
}

/// The nodes of the cluster as this node knows them.
pub fn members(meta: &Meta) -> Vec<Member> {
    let metrics = meta.raft().metrics();
    let metrics = metrics.borrow_watched();
    let nodes = metrics.membership_config.membership().nodes();
    nodes
        .map(|(node, known)| Member {
            node: *node,
            address: known.addr.clone(),
        })
        .collect()
}
