//! Metrics of the node: its log, its clock, its groups and the other nodes. All values are kept anyway; nothing waits for anybody.

use pyralog_models::{GroupStatus, NodeStatus};

use super::metrics::Exposition;

/// A metric with one value a group: name, type, help, value.
type OfGroup = (&'static str, &'static str, &'static str, fn(&GroupStatus) -> u64);

const OF_GROUPS: [OfGroup; 22] = [
    ("pyralog_group_leader", "gauge", "Whether this node leads the group.", |g| {
        u64::from(g.leader)
    }),
    (
        "pyralog_group_leader_id",
        "gauge",
        "The node that leads the group as far as this one knows, 0 if it knows none.",
        |g| g.leader_id.unwrap_or(0),
    ),
    (
        "pyralog_group_quorum",
        "gauge",
        "Whether the group has a leader that this node reaches, and a majority.",
        |g| u64::from(g.quorum),
    ),
    (
        "pyralog_group_stopped",
        "gauge",
        "Whether the group has stopped on this node, and needs a restart.",
        |g| u64::from(g.stopped.is_some()),
    ),
    ("pyralog_group_term", "gauge", "Raft term.", |g| g.term),
    (
        "pyralog_group_leader_changes_total",
        "counter",
        "Leaders that this node has seen come.",
        |g| g.leader_changes,
    ),
    ("pyralog_group_last_index", "gauge", "Last index in the log.", |g| g.last_index),
    (
        "pyralog_group_committed_index",
        "gauge",
        "Last index that is known here to be in a majority's logs.",
        |g| g.committed_index,
    ),
    ("pyralog_group_applied_index", "gauge", "Last index applied.", |g| g.applied_index),
    (
        "pyralog_group_purged_index",
        "gauge",
        "Last index that is gone from the log.",
        |g| g.purged_index,
    ),
    (
        "pyralog_group_apply_lag_entries",
        "gauge",
        "Entries in this node's log that it has not applied.",
        |g| g.last_index.saturating_sub(g.applied_index),
    ),
    ("pyralog_group_voters", "gauge", "Nodes that vote.", |g| g.voters.len() as u64),
    ("pyralog_group_learners", "gauge", "Nodes that get the log and do not vote.", |g| {
        g.learners.len() as u64
    }),
    (
        "pyralog_snapshot_last_index",
        "gauge",
        "Last index that the newest snapshot covers.",
        |g| g.snapshot_index,
    ),
    (
        "pyralog_snapshots_sent_total",
        "counter",
        "Snapshots of this node that another one installed.",
        |g| g.snapshots.sent,
    ),
    (
        "pyralog_snapshots_installed_total",
        "counter",
        "Snapshots of other nodes installed here.",
        |g| g.snapshots.installed,
    ),
    (
        "pyralog_snapshot_fetched_bytes_total",
        "counter",
        "Bytes fetched for snapshots.",
        |g| g.snapshots.fetched_bytes,
    ),
    ("pyralog_segments", "gauge", "Segment files.", |g| g.storage.segments),
    ("pyralog_segment_bytes", "gauge", "Bytes of segment files.", |g| {
        g.storage.segment_bytes
    }),
    ("pyralog_memtable_bytes", "gauge", "Bytes in memtables.", |g| {
        g.storage.memtable_bytes
    }),
    ("pyralog_flushes_total", "counter", "Flushes since the start.", |g| {
        g.storage.flushes
    }),
    ("pyralog_compactions_total", "counter", "Compactions since the start.", |g| {
        g.storage.compactions
    }),
];

/// Writes them all.
pub fn node(text: &mut Exposition, status: &NodeStatus) {
    let single = [
        ("pyralog_log_bytes", "gauge", "Bytes of log files.", status.log_bytes as f64),
        (
            "pyralog_log_syncs_total",
            "counter",
            "Syncs of the log since the start.",
            status.log_syncs as f64,
        ),
        (
            "pyralog_clock_ahead_seconds",
            "gauge",
            "How far commit timestamps are ahead of this node's clock.",
            status.clock_ahead_ms as f64 / 1e3,
        ),
    ];
    for (name, kind, help, value) in single {
        text.head(name, kind, help);
        text.sample(name, &[], value);
    }
    for (name, kind, help, value) in OF_GROUPS {
        text.head(name, kind, help);
        for group in &status.groups {
            text.sample(name, &[("group", &group.name)], value(group) as f64);
        }
    }
    followers(text, status);
    peers(text, status);
}

/// What the followers of the groups that this node leads lack.
fn followers(text: &mut Exposition, status: &NodeStatus) {
    let name = "pyralog_group_follower_lag_entries";
    text.head(name, "gauge", "Entries that a node lacks of a group that this one leads.");
    for group in status.groups.iter().filter(|group| group.leader) {
        for (node, index) in group.replicated.iter().filter(|(node, _)| *node != status.node_id) {
            let lag = group.last_index.saturating_sub(*index);
            text.sample(name, &[("group", &group.name), ("peer", &node.to_string())], lag as f64);
        }
    }
}

fn peers(text: &mut Exposition, status: &NodeStatus) {
    let name = "pyralog_peer_connected";
    text.head(name, "gauge", "Whether there is a connection with a node.");
    for peer in &status.peers {
        text.sample(name, &[("peer", &peer.node.to_string())], f64::from(u8::from(peer.connected)));
    }
    let name = "pyralog_peer_calls_failed_total";
    text.head(name, "counter", "Calls to a node that got no answer.");
    for peer in &status.peers {
        text.sample(name, &[("peer", &peer.node.to_string())], peer.failed_calls as f64);
    }
}
