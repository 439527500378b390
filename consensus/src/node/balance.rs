//! Spreads the leaders of data groups over the nodes: a node that leads two more groups than another one gives it one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::Instant as OpenraftInstant;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;
use tokio::time::sleep;

use super::cluster::Cluster;
use super::membership::hand_over_to;
use super::opening::stopped;
use crate::partition::PartitionHandle;

/// How often a node looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a node may have been silent that is given a group.
const RECENT: Duration = Duration::from_secs(2);
/// Entries that it may lag behind. One may be large, but not one that is in flight for long.
const LAG: u64 = 32;
/// How long what is in flight may be so in a group that is given away: whoever gets it must have all entries within half a second.
const IN_FLIGHT_LIMIT: Duration = Duration::from_millis(200);
/// How long a node may take to say that it would lead.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// Gives leaders away until the node stops.
pub async fn balance(partitions: Vec<PartitionHandle>, cluster: Arc<Cluster>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = sleep(LOOK_EVERY) => {}
        }
        let Some((partition, to)) = surplus(&partitions) else { continue };
        let give = async {
            // One that is about to stop has just given all of its groups away.
            if cluster.may_lead(to, partition.group(), ASK_LIMIT).await {
                tracing::debug!(partition = %partition.id(), to, "a group is given away");
                hand_over_to(&partition.work().raft, to).await;
            }
        };
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = give => {}
        }
    }
}

/// A group that this node leads, and who had better lead it. One at a time: what others do meanwhile shows at the next look.
fn surplus(partitions: &[PartitionHandle]) -> Option<(&PartitionHandle, u64)> {
    let mut leads: BTreeMap<u64, usize> = BTreeMap::new();
    for partition in partitions {
        let metrics = partition.work().raft.metrics();
        // While a group has none, this is not the time.
        let leader = metrics.borrow_watched().current_leader?;
        *leads.entry(leader).or_default() += 1;
    }
    let mut best: Option<(usize, &PartitionHandle, u64)> = None;
    let is_idle = |partition: &&PartitionHandle| partition.in_flight().oldest_age() < IN_FLIGHT_LIMIT;
    for partition in partitions.iter().filter(|partition| partition.leads()).filter(is_idle) {
        let metrics = partition.work().raft.metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_log_index.unwrap_or(0);
        let here = leads.get(&metrics.id).copied().unwrap_or(0);
        for voter in metrics
            .membership_config
            .membership()
            .voter_ids()
            .filter(|voter| *voter != metrics.id)
        {
            let matched = metrics
                .replication
                .as_ref()
                .and_then(|replication| replication.get(&voter).cloned().flatten());
            let heard = metrics
                .heartbeat
                .as_ref()
                .and_then(|heartbeats| heartbeats.get(&voter).cloned().flatten());
            let is_near = matched.is_some_and(|matched| matched.index() + LAG >= last);
            let is_there = heard.is_some_and(|heard| OpenraftInstant::elapsed(&*heard) < RECENT);
            let there = leads.get(&voter).copied().unwrap_or(0);
            if is_near && is_there && there + 1 < here && best.is_none_or(|(fewest, ..)| there < fewest) {
                best = Some((there, partition, voter));
            }
        }
    }
    best.map(|(_, partition, to)| (partition, to))
}
