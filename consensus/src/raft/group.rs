//! Starting a group: settings, first initialisation, replay, election.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use openraft::impls::BasicNode;
use openraft::storage::RaftStateMachine;
use openraft::{Config, Raft, SnapshotPolicy};

use super::leadership::leads;
use super::log_store::LogStore;
use super::network::Network;
use super::proposal;
use super::snapshot::SnapshotData;
use super::types::Types;
use crate::error::{ConsensusError, Result};
use crate::log::{GroupId, Log};
use crate::node::GroupStatus;
use crate::node::cluster::Cluster;

/// Longest wait for a single voter to replay and elect itself. Replay of a very long log must fit.
const START_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// How often a leader is heard of. Milliseconds.
const HEARTBEAT_MS: u64 = 200;
/// Followers that hear nothing keep to their leader for twice this, then stand for election after once to twice this more. So a leader that
/// dies has a successor within 2 s, and one that is held up for less than 1 s keeps its place. Milliseconds.
const ELECTION_MS: u64 = 500;

/// What a group is started with besides its parts.
pub struct Start {
    /// Which group.
    pub group: GroupId,
    /// Its name in messages.
    pub name: String,
    /// This node.
    pub node: u64,
    /// The other nodes; `None`: there are none.
    pub cluster: Option<Arc<Cluster>>,
    /// Whether an empty log means a new group with this node as its first voter (and not one that waits to be told of its group).
    pub founder: bool,
    /// When Raft makes snapshots.
    pub policy: SnapshotPolicy,
}

/// Starts a group on this node. Where this node is the only voter, returns once it leads and has applied everything in its log; otherwise
/// at once: the others may be away.
pub async fn start<SM>(start: Start, store: LogStore, machine: SM) -> Result<Raft<Types, SM>>
where
    SM: RaftStateMachine<Types, SnapshotData = SnapshotData>,
{
    let failed = |error: &dyn std::fmt::Display| ConsensusError::Unavailable(format!("group {} cannot start: {error}", start.name));
    let config = Config {
        cluster_name: start.name.clone(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS,
        election_timeout_max: 2 * ELECTION_MS,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        // Unset, or shorter, an old leader's heartbeats could block elections.
        quorum_loss_probe_interval: Some(5 * ELECTION_MS),
        snapshot_policy: start.policy,
        max_in_snapshot_log_to_keep: 0,
        ..Config::default()
    };
    let config = Arc::new(config.validate().map_err(|e| failed(&e))?);
    let network = Network::new(start.group, start.node, start.cluster.clone());
    let last = store.last_index();
    let raft = Raft::new(start.node, config, network, store, machine)
        .await
        .map_err(|e| failed(&e))?;
    let initialized = raft.is_initialized().await.map_err(|e| failed(&e))?;
    if !initialized {
        if !start.founder {
            return Ok(raft);
        }
        let address = start.cluster.as_ref().map_or("", |cluster| cluster.address.as_str());
        let members = BTreeMap::from([(start.node, BasicNode::new(address))]);
        match raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    // From Raft itself: its metrics may still be those of before.
    let voters = raft.with_raft_state(|state| state.membership_state.effective().voter_ids().collect::<Vec<u64>>());
    if voters.await.map_err(|e| failed(&e))? != [start.node] {
        if start.cluster.is_none() {
            // Nobody is told anything that was not acknowledged; the caller may not care.
            let _ = raft.shutdown().await;
            return Err(ConsensusError::Unsupported(format!(
                "the directory belongs to node {} of a cluster, which needs its other nodes: start it with an address for them (--peer-addr)",
                start.node
            )));
        }
        return Ok(raft);
    }
    if initialized {
        raft.trigger().elect(false).await.map_err(|e| failed(&e))?;
    }
    let led = move |metrics: &openraft::RaftMetrics<Types>| {
        let applied = metrics.last_applied.map(|id| id.index());
        // The blank entry of the new term is behind everything that earlier terms left.
        let led = leads(metrics) && applied >= last && applied == metrics.last_log_index;
        led || metrics.running_state.is_err()
    };
    let metrics = raft
        .wait(Some(START_LIMIT))
        .metrics(led, "lead and replay")
        .await
        .map_err(|e| failed(&e))?;
    metrics.running_state.map_err(|e| failed(&e))?;
    Ok(raft)
}

/// A group's Raft numbers; what Raft does not know is left at its default.
pub fn status<SM: RaftStateMachine<Types>>(group: GroupId, raft: &Raft<Types, SM>, log: &Log, cluster: Option<&Cluster>) -> GroupStatus {
    let has_majority = proposal::has_majority(raft);
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let reaches = |node: u64| node == metrics.id || cluster.is_some_and(|cluster| cluster.peers.roll().is_present(node));
    let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
    let reached = voters.iter().filter(|voter| reaches(**voter)).count();
    let led = match metrics.state.is_leader() {
        true => has_majority,
        false => metrics.current_leader.is_some_and(reaches) && reached * 2 > voters.len(),
    };
    let refused = cluster.and_then(|cluster| cluster.standing.denied()).or_else(|| log.failure());
    GroupStatus {
        name: group.to_string(),
        leader: metrics.state.is_leader(),
        leader_id: metrics.current_leader,
        term: metrics.current_term,
        last_index: metrics.last_log_index.unwrap_or(0),
        committed_index: metrics.local_committed.map_or(0, |id| id.index()),
        applied_index: metrics.last_applied.map_or(0, |id| id.index()),
        purged_index: metrics.purged.map_or(0, |id| id.index()),
        snapshot_index: metrics.snapshot.map_or(0, |id| id.index()),
        quorum: led && refused.is_none() && metrics.running_state.is_ok(),
        voters,
        learners: metrics.membership_config.membership().learner_ids().collect(),
        stopped: refused.or_else(|| metrics.running_state.as_ref().err().map(|fatal| fatal.to_string())),
        snapshots: cluster.map_or_else(Default::default, |cluster| cluster.snapshots.of(group)),
        replicated: metrics
            .replication
            .iter()
            .flatten()
            .map(|(node, matched)| (*node, matched.as_ref().map_or(0, |id| id.index())))
            .collect(),
        ..GroupStatus::default()
    }
}
