//! Reads of one state by several nodes: who can take part, and how a node reads what another one has found.
//!
//! Every node holds a replica of every partition. A replica that has applied the entries which a [`Moment`](super::Moment) names, and knows how
//! all that is prepared at or before its timestamp ends, has the same rows visible at this timestamp as any other one. So the node that has
//! found the moment sends it along, and the others
//!
//! ```text
//! pin(partition, timestamp)  ->  snapshot_when_applied(pinned, applied)  ->  the same rows
//! ```
//!
//! Pin first, for all partitions, and read at leisure: a version that is forgotten between the two nodes' pins makes an error, never a wrong
//! answer. What is not part of the state are schemas: as everywhere, they are those of the replica's present.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::Instant as OpenraftInstant;
use openraft::async_runtime::watch::WatchReceiver;
use pyralog_storage::{Pinned, Snapshot, Timestamp};

use super::{Node, reads};
use crate::error::{ConsensusError, Result};
use crate::partition::PartitionHandle;

/// How long a node may have been silent in a group that this one leads: leaders are answered several times a second.
const RECENT: Duration = Duration::from_secs(2);

/// A timestamp of one partition, whose versions are kept until this is dropped.
#[derive(Debug)]
pub struct PinnedPartition {
    partition: usize,
    timestamp: Timestamp,
    pinned: Pinned,
}

impl PinnedPartition {
    /// The partition's number.
    pub fn partition(&self) -> usize {
        self.partition
    }

    /// What can be read.
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }
}

impl Node {
    /// Keeps what a reader at a timestamp needs of a partition (by number), from now on.
    ///
    /// # Errors
    /// `Unsupported` where there is no such partition; storage's `SnapshotTooOld` where versions are gone already: take a newer moment.
    pub fn pin(&self, partition: usize, timestamp: Timestamp) -> Result<PinnedPartition> {
        let pinned = self.partition_of(partition)?.storage().pin(timestamp)?;
        Ok(PinnedPartition {
            partition,
            timestamp,
            pinned,
        })
    }

    /// The state of a partition at another node's moment, whose timestamp is pinned: waits, for a bounded time, until this replica has applied
    /// what the moment names, and nothing at or before its timestamp is undecided.
    ///
    /// # Errors
    /// `Unavailable` where this replica is too far behind, has stopped, or does not learn in time how transactions ended: another node may
    /// know. Storage's `SnapshotTooOld` where another replica's state, with no versions as old, took the place of this one's meanwhile.
    pub async fn snapshot_when_applied(&self, pinned: PinnedPartition, applied: u64) -> Result<Snapshot> {
        let PinnedPartition {
            partition,
            timestamp,
            pinned,
        } = pinned;
        let partition = self.partition_of(partition)?;
        let snapshot = reads::snapshot_when_applied(partition, timestamp, pinned, applied, !self.is_among_others()).await;
        snapshot.map_err(|error| match error {
            // It is read elsewhere.
            ConsensusError::Unavailable(reason) => ConsensusError::Unavailable(format!("node {}: {reason}", self.format.node)),
            other => other,
        })
    }

    /// Nodes that can read any partition: they vote in every data group and are connected right now. This one first, if it is among them, the
    /// others in order of their ids. Any of them may be gone, or behind, a moment later.
    pub fn readers(&self) -> Vec<u64> {
        let here = self.format.node;
        let groups: Vec<Replicas> = self.partitions().iter().map(Replicas::of).collect();
        let voters = groups.iter().map(|group| group.voters.clone());
        let everywhere = voters.reduce(|all, voters| &all & &voters).unwrap_or_default();
        let is_present = |node: u64| self.cluster.as_ref().is_some_and(|cluster| cluster.peers.roll().is_present(node));
        let is_heard = |node: u64| groups.iter().all(|group| !group.silent.contains(&node));
        let readers = everywhere.into_iter();
        let mut readers: Vec<u64> = readers
            .filter(|node| *node == here || (is_present(*node) && is_heard(*node)))
            .collect();
        readers.sort_by_key(|node| (*node != here, *node));
        readers
    }

    /// Which node leads each data group, as far as this one knows.
    pub fn leaders(&self) -> Vec<Option<u64>> {
        let leader = |partition: &PartitionHandle| partition.work().raft.metrics().borrow_watched().current_leader;
        self.partitions().iter().map(leader).collect()
    }

    /// Whether there may be other nodes.
    pub(super) fn is_among_others(&self) -> bool {
        self.cluster.is_some()
    }

    fn partition_of(&self, number: usize) -> Result<&PartitionHandle> {
        self.partitions().get(number).ok_or_else(|| {
            ConsensusError::Unsupported(format!(
                "there is no partition {number}: node {} has {}, counted from 0",
                self.format.node,
                self.partitions().len()
            ))
        })
    }
}

/// One group's nodes.
struct Replicas {
    voters: BTreeSet<u64>,
    /// Those that this node leads, and that have not answered for a while.
    silent: BTreeSet<u64>,
}

impl Replicas {
    fn of(partition: &PartitionHandle) -> Replicas {
        let metrics = partition.work().raft.metrics();
        let metrics = metrics.borrow_watched();
        let heard = metrics.heartbeat.iter().flatten();
        let silent = heard.filter(|(_, heard)| heard.as_ref().is_some_and(|heard| OpenraftInstant::elapsed(&**heard) >= RECENT));
        Replicas {
            voters: metrics.membership_config.membership().voter_ids().collect(),
            silent: silent.map(|(node, _)| *node).collect(),
        }
    }
}
