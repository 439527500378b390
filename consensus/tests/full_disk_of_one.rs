//! The disk of one node of three is full: it stops and says so, the others go on, and it catches up when there is room again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pyralog_consensus::{ConsensusError, MetaChange, NodeEnvironment};

use crate::cluster::{Cluster, until};
use crate::disk::SwitchedDisk;
use crate::table::{blind, rows, schema};

async fn fill_the_disk_of(leads: bool, first: Option<MetaChange>) {
    let mut cluster = Cluster::start(0).await;
    let disks: Vec<SwitchedDisk> = (0..3).map(|_| SwitchedDisk::default()).collect();
    for disk in &disks {
        let environment = NodeEnvironment {
            disk: Arc::new(disk.clone()),
            ..NodeEnvironment::default()
        };
        cluster.add_in(environment).await;
    }
    cluster.node(0).partitions()[0].create_relation(schema()).await.unwrap();
    let leader = cluster.leader().await;
    let victim = if leads { leader } else { (leader + 1) % 3 };
    let other = (victim + 1) % 3;
    disks[victim].0.full.store(true, Ordering::SeqCst);
    if let Some(change) = first {
        let refused = cluster.node(victim).meta().change(change).await;
        assert!(refused.is_err(), "{refused:?}");
    }
    let begun = Instant::now();
    let mut acknowledged = Vec::new();
    for id in 0..50_i64 {
        loop {
            match cluster.node(other).partitions()[0].commit(blind([id], "row")).await {
                Ok(_) => break acknowledged.push(id),
                // An entry of the leader that stopped: overwritten or not.
                Err(ConsensusError::Unknown(_) | ConsensusError::Unavailable(_)) if begun.elapsed() < Duration::from_secs(15) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    println!(
        "full disk of the {}: {:?}",
        if leads { "leader" } else { "follower" },
        begun.elapsed()
    );
    until("the node says that it has stopped", || {
        let groups = cluster.node(victim).status().groups;
        let group = &groups[1];
        !group.quorum && group.stopped.as_ref().is_some_and(|reason| reason.contains("disk full"))
    })
    .await;
    let asked = Instant::now();
    let refused = cluster.node(victim).partitions()[0].commit(blind([-1], "x")).await;
    assert!(
        matches!(&refused, Err(ConsensusError::Unavailable(reason)) if reason.contains("disk full")),
        "{refused:?}"
    );
    let read = cluster.node(victim).partitions()[0].barrier().await;
    assert!(matches!(&read, Err(ConsensusError::Unavailable(_))), "{read:?}");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    cluster.node(other).ready().await.unwrap();
    // Room again, and a restart.
    cluster.kill(victim).await;
    disks[victim].0.full.store(false, Ordering::SeqCst);
    cluster.restart(victim).await;
    cluster.node(victim).ready().await.unwrap();
    for node in cluster.alive() {
        node.partitions()[0].barrier().await.unwrap();
        let ids: Vec<i64> = rows(&node.partitions()[0]).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, acknowledged, "node {}", node.status().node_id);
    }
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_leader_stops_only_the_leader() {
    fill_the_disk_of(true, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_a_follower_stops_only_the_follower() {
    fill_the_disk_of(false, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_that_the_catalog_meets_first_stops_the_data_too() {
    let change = MetaChange {
        put: vec![("key".to_owned(), vec![1])],
        ..MetaChange::default()
    };
    fill_the_disk_of(true, Some(change)).await;
}
