//! What a node says of itself and of the others.

use std::time::Duration;

use crate::cluster::{Cluster, three, until};
use crate::table::blind;

#[tokio::test(flavor = "multi_thread")]
async fn terms_leaders_and_connections_follow_what_happens() {
    let mut cluster = three().await;
    let leader = cluster.leader().await;
    until("all are connected, and followers are up to date", || {
        let lead = cluster.node(leader).status();
        let caught_up = lead.groups.iter().all(|group| {
            let followers = group.replicated.iter().filter(|(node, _)| *node != lead.node_id);
            group.quorum
                && followers.clone().count() == if group.leader { 2 } else { 0 }
                && followers.clone().all(|(_, at)| *at == group.last_index)
        });
        let connected = |status: pyralog_consensus::NodeStatus| status.peers.len() == 2 && status.peers.iter().all(|peer| peer.connected);
        caught_up && cluster.alive().all(|node| connected(node.status()))
    })
    .await;
    let before = cluster.node((leader + 1) % 3).status();
    assert!(
        before
            .groups
            .iter()
            .all(|group| group.committed_index >= group.applied_index && group.leader_changes >= 1)
    );
    let gone = before.groups[1].leader_id.unwrap();
    cluster.kill(leader).await;
    let other = (leader + 1) % 3;
    until("another leader", || {
        let status = cluster.node(other).status();
        let group = &status.groups[1];
        group.quorum && group.leader_id.is_some_and(|leader| leader != gone)
    })
    .await;
    // Connections and observers notice a little later.
    until("all of it is told", || {
        let after = cluster.node(other).status();
        let peer = after.peers.iter().find(|peer| peer.node == gone).unwrap();
        let (before, after) = (&before.groups[1], &after.groups[1]);
        after.term > before.term && after.leader_changes > before.leader_changes && !peer.connected && peer.failed_calls > 0
    })
    .await;
    cluster.restart(leader).await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_majority_is_told_and_so_is_its_return() {
    let mut cluster = three().await;
    cluster.kill(1).await;
    cluster.kill(2).await;
    until("the majority is gone", || {
        cluster.node(0).status().groups.iter().all(|group| !group.quorum)
    })
    .await;
    let asked = std::time::Instant::now();
    let reads = (0..3).map(|_| cluster.node(0).partitions()[0].barrier());
    let (read, written) = tokio::join!(
        futures::future::join_all(reads),
        cluster.node(0).partitions()[0].commit(blind([1], "x"))
    );
    assert!(read.iter().all(|read| read.is_err()) && written.is_err(), "{read:?} {written:?}");
    assert!(asked.elapsed() < Duration::from_secs(13), "{:?}", asked.elapsed());
    // One that comes while another waits, waits no longer.
    let before = cluster.node(0).clone();
    let waiting = tokio::spawn(async move { before.partitions()[0].barrier().await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let asked = std::time::Instant::now();
    assert!(cluster.node(0).partitions()[0].barrier().await.is_err());
    assert!(asked.elapsed() < Duration::from_secs(13), "{:?}", asked.elapsed());
    assert!(waiting.await.unwrap().is_err());
    cluster.restart(1).await;
    cluster.node(0).ready().await.unwrap();
    cluster.node(0).partitions()[0].commit(blind([1], "x")).await.unwrap();
    until("the majority is back", || {
        cluster.node(0).status().groups.iter().all(|group| group.quorum)
    })
    .await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_counted_at_both_ends() {
    let mut cluster: Cluster = three().await;
    let leader = cluster.leader().await;
    let away = (leader + 1) % 3;
    cluster.kill(away).await;
    let lead = cluster.node(leader).clone();
    for round in 0..3 {
        lead.partitions()[0].commit(blind([round], "row")).await.unwrap();
        for node in cluster.alive() {
            node.partitions()[0].barrier().await.unwrap();
            node.partitions()[0].checkpoint().await.unwrap();
        }
    }
    assert!(lead.status().groups[1].purged_index > 0 && lead.status().groups[1].snapshot_index > 0);
    cluster.restart(away).await;
    cluster.node(away).ready().await.unwrap();
    until("the snapshot is counted where it was installed and where it came from", || {
        let installed = cluster.node(away).status().groups[1].snapshots;
        lead.status().groups[1].snapshots.sent >= 1 && installed.installed >= 1 && installed.fetched_bytes > 0
    })
    .await;
    drop(lead);
    cluster.close().await;
}
