//! Starting a group: settings, first initialisation, replay, election.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{InitializeError, RaftError};
use openraft::impls::BasicNode;
use openraft::storage::RaftStateMachine;
use openraft::{Config, Raft, SnapshotPolicy};

use super::log_store::LogStore;
use super::network::NoPeers;
use super::types::Types;
use crate::error::{ConsensusError, Result};
use crate::node::GroupStatus;

/// Longest wait for a single voter to replay and elect itself. Replay of a very long log must fit.
const START_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Starts a group on this node, and returns once it leads and has applied everything in its log.
pub async fn start<SM>(name: &str, node: u64, store: LogStore, machine: SM, policy: SnapshotPolicy) -> Result<Raft<Types, SM>>
where
    SM: RaftStateMachine<Types>,
{
    let failed = |error: &dyn std::fmt::Display| ConsensusError::Unavailable(format!("group {name} cannot start: {error}"));
    let config = Config {
        cluster_name: name.to_owned(),
        heartbeat_interval: 250,
        election_timeout_min: 1_000,
        election_timeout_max: 2_000,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        // Shorter values let an old leader's heartbeats block elections.
        quorum_loss_probe_interval: Some(5_000),
        snapshot_policy: policy,
        max_in_snapshot_log_to_keep: 0,
        ..Config::default()
    };
    let config = Arc::new(config.validate().map_err(|e| failed(&e))?);
    let network = NoPeers::<SM::SnapshotData>::default();
    let last = store.last_index();
    let raft = Raft::new(node, config, network, store, machine).await.map_err(|e| failed(&e))?;
    if raft.is_initialized().await.map_err(|e| failed(&e))? {
        raft.trigger().elect(false).await.map_err(|e| failed(&e))?;
    } else {
        let members = BTreeMap::from([(node, BasicNode::default())]);
        match raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    let led = move |metrics: &openraft::RaftMetrics<Types>| {
        let applied = metrics.last_applied.map(|id| id.index());
        // The blank entry of the new term is behind everything that earlier terms left.
        let led = metrics.state.is_leader() && applied >= last && applied.is_some() && applied == metrics.last_log_index;
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

/// A group's Raft numbers; the storage part is left at its default.
pub fn status<SM: RaftStateMachine<Types>>(name: String, raft: &Raft<Types, SM>) -> GroupStatus {
    use openraft::async_runtime::watch::WatchReceiver;
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    GroupStatus {
        name,
        leader: metrics.state.is_leader(),
        term: metrics.current_term,
        last_index: metrics.last_log_index.unwrap_or(0),
        applied_index: metrics.last_applied.map_or(0, |id| id.index()),
        ..GroupStatus::default()
    }
}
