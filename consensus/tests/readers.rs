//! One state, read by several nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use pyralog_consensus::{ConsensusError, Moment, Node};
use pyralog_storage::{ConflictPolicy, Snapshot, StorageError, Timestamp};

use crate::cluster::{self, Cluster, until};
use crate::table::{self, blind, rows_of};
use crate::transactions::{self, ACCOUNTS, EACH, PARTITIONS, balances, fill, parts, transfer};

type Rows = Vec<Vec<(i64, String)>>;

fn rows(snapshots: &[Snapshot]) -> Rows {
    snapshots.iter().map(rows_of).collect()
}

/// What a node makes of a moment that another one has found.
async fn read(node: &Node, moment: &Moment) -> Result<Vec<Snapshot>, ConsensusError> {
    let pins: Result<Vec<_>, _> = (0..moment.applied.len()).map(|number| node.pin(number, moment.timestamp)).collect();
    let pins = pins?.into_iter().zip(moment.applied.iter());
    try_join_all(pins.map(|(pinned, applied)| node.snapshot_when_applied(pinned, *applied))).await
}

fn is_too_old<T>(result: &Result<T, ConsensusError>) -> bool {
    matches!(result, Err(ConsensusError::Storage(StorageError::SnapshotTooOld { .. })))
}

async fn put(node: &Node, account: i64, balance: i64) -> Timestamp {
    let put = parts(node.now(), &[(account, balance)], ConflictPolicy::LastWriteWins);
    node.commit(put).await.unwrap()
}

fn writers(cluster: &Cluster, stop: &Arc<AtomicBool>) -> Vec<tokio::task::JoinHandle<u32>> {
    let writers = (0..6_u64).map(|writer| {
        let (node, stop) = (cluster.node(writer as usize % 3).clone(), stop.clone());
        tokio::spawn(async move {
            let mut rng = 1 + writer;
            let mut next = |below: i64| {
                rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (rng >> 33) as i64 % below
            };
            let mut done = 0;
            while !stop.load(Ordering::Relaxed) {
                let (from, step) = (next(ACCOUNTS), 1 + next(ACCOUNTS - 1));
                let moved = transfer(&node, from, (from + step) % ACCOUNTS, 1 + next(9)).await;
                done += u32::from(moved.unwrap());
            }
            done
        })
    });
    writers.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_reads_the_same_at_a_moment_that_one_has_found() {
    let cluster = transactions::cluster().await;
    fill(cluster.node(0)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers = writers(&cluster, &stop);
    let mut moments = Vec::new();
    for round in 0..120_usize {
        let finder = cluster.node(round % 3);
        let (snapshots, moment) = finder.snapshots_and_moment().await.unwrap();
        let moment = moment.unwrap();
        assert_eq!(moment.applied.len(), PARTITIONS as usize);
        assert!(snapshots.iter().all(|snapshot| snapshot.timestamp() == moment.timestamp));
        let expected = rows(&snapshots);
        assert_eq!(balances(&snapshots).values().sum::<i64>(), ACCOUNTS * EACH);
        let others = cluster.alive().filter(|node| !Arc::ptr_eq(node, finder));
        for found in join_all(others.map(|node| read(node, &moment))).await {
            let found = found.unwrap();
            assert!(found.iter().all(|snapshot| snapshot.timestamp() == moment.timestamp));
            assert_eq!(rows(&found), expected, "round {round}, {moment:?}");
        }
        moments.push(moment.timestamp);
        if round % 20 == 10 {
            cluster.node(round % 3).partitions()[round % 4].checkpoint().await.unwrap();
        }
    }
    stop.store(true, Ordering::Relaxed);
    let done: u32 = join_all(writers).await.into_iter().map(|writer| writer.unwrap()).sum();
    assert!(done > 50, "{done} transfers");
    assert!(moments.is_sorted());
    moments.dedup();
    assert!(moments.len() > 30, "{} states", moments.len());
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_behind_is_waited_for() {
    let cluster = transactions::cluster().await;
    fill(cluster.node(0)).await;
    for round in 0..40 {
        let account = round % 4;
        // Followers have not applied yet what its leader acknowledges.
        let leads = |node: &&Arc<Node>| node.leaders()[account as usize] == Some(node.status().node_id);
        let leader = cluster.alive().find(leads).unwrap_or(cluster.node(0));
        put(leader, account, 1000 + round).await;
        let moment = leader.snapshots_and_moment().await.unwrap().1.unwrap();
        for found in join_all(cluster.alive().map(|node| read(node, &moment))).await {
            assert_eq!(balances(&found.unwrap())[&account], 1000 + round);
        }
    }
    // An index that nobody has applied yet, also by the ceilings that reads have left.
    let (snapshots, moment) = cluster.node(0).snapshots_and_moment().await.unwrap();
    let (reader, moment) = (cluster.node(1), moment.unwrap());
    let pinned = reader.pin(2, moment.timestamp).unwrap();
    assert_eq!((pinned.partition(), pinned.timestamp()), (2, moment.timestamp));
    let mut waiting = Box::pin(reader.snapshot_when_applied(pinned, moment.applied[2] + 20));
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut waiting).await.is_err());
    for _ in 0..20 {
        put(cluster.node(0), 2, 7).await;
    }
    let found = waiting.await.unwrap();
    assert_eq!(rows_of(&found), rows_of(&snapshots[2]), "what came since is not in it");
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_an_error() {
    let cluster = transactions::cluster().await;
    fill(cluster.node(0)).await;
    let moment = cluster.node(0).snapshots_and_moment().await.unwrap().1.unwrap();
    for number in [PARTITIONS as usize, usize::MAX] {
        let error = cluster.node(1).pin(number, moment.timestamp).unwrap_err();
        assert!(
            matches!(&error, ConsensusError::Unsupported(reason) if reason.contains(&number.to_string())),
            "{error}"
        );
    }
    // Nobody waits for ever.
    let begun = tokio::time::Instant::now();
    let pinned = cluster.node(1).pin(3, moment.timestamp).unwrap();
    let error = cluster.node(1).snapshot_when_applied(pinned, u64::MAX).await.err().unwrap();
    let says = |reason: &str| ["node 2", "p3", "ask another node"].iter().all(|part| reason.contains(part));
    assert!(matches!(&error, ConsensusError::Unavailable(reason) if says(reason)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_has_compacted_away_it_refuses_and_others_still_read() {
    let cluster = transactions::cluster().await;
    fill(cluster.node(0)).await;
    let (snapshots, moment) = cluster.node(0).snapshots_and_moment().await.unwrap();
    let (expected, moment) = (rows(&snapshots), moment.unwrap());
    drop(snapshots);
    // Pinned before, at node 3.
    let reader = cluster.node(2);
    let pins: Vec<_> = (0..4).map(|number| reader.pin(number, moment.timestamp).unwrap()).collect();
    for account in 0..ACCOUNTS {
        put(cluster.node(0), account, 1).await;
    }
    for node in [cluster.node(1), reader] {
        for partition in node.partitions() {
            partition.barrier().await.unwrap();
            partition.compact(None).await.unwrap();
        }
    }
    for number in 0..4 {
        assert!(is_too_old(&cluster.node(1).pin(number, moment.timestamp)), "p{number}");
    }
    assert!(is_too_old(&read(cluster.node(1), &moment).await));
    assert_eq!(
        rows(&read(cluster.node(0), &moment).await.unwrap()),
        expected,
        "it has not compacted"
    );
    let found = pins.into_iter().zip(moment.applied.iter());
    let found = try_join_all(found.map(|(pinned, applied)| reader.snapshot_when_applied(pinned, *applied)));
    assert_eq!(rows(&found.await.unwrap()), expected, "it was pinned");
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_are_those_that_vote_everywhere_and_are_there() {
    let mut cluster = transactions::cluster().await;
    for (number, expected) in [[1, 2, 3], [2, 1, 3], [3, 1, 2]].iter().enumerate() {
        until("all readers", || cluster.node(number).readers() == expected).await;
    }
    until("leaders that all know", || {
        let leaders = cluster.node(0).leaders();
        leaders.len() == PARTITIONS as usize && leaders.iter().all(Option::is_some) && cluster.alive().all(|node| node.leaders() == leaders)
    })
    .await;
    cluster.kill(2).await;
    until("the lost one is no reader", || cluster.node(0).readers() == [1, 2]).await;
    cluster.restart(2).await;
    until("it is one again", || cluster.node(0).readers() == [1, 2, 3]).await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_one_partition_has_a_moment_too() {
    let cluster = cluster::three().await;
    for round in 0..60_i64 {
        let writer = cluster.node(round as usize % 3);
        writer.partitions()[0].commit(blind([round % 7], &round.to_string())).await.unwrap();
        let finder = cluster.node((round as usize + 1) % 3);
        finder.partitions()[0].barrier().await.unwrap();
        // Others write meanwhile.
        let (found, written) = tokio::join!(
            finder.snapshots_and_moment(),
            writer.partitions()[0].commit(blind([round % 5], "meanwhile"))
        );
        let (snapshots, moment) = found.unwrap();
        written.unwrap();
        let moment = moment.unwrap();
        for found in join_all(cluster.alive().map(|node| read(node, &moment))).await {
            assert_eq!(rows(&found.unwrap()), rows(&snapshots), "round {round}");
        }
    }
    cluster.close().await;
}

#[tokio::test]
async fn a_node_that_is_alone_has_nobody_to_tell_a_moment() {
    let dir = tempfile::tempdir().unwrap();
    let node = transactions::open(dir.path()).await;
    let timestamp = fill(&node).await;
    let (snapshots, moment) = node.snapshots_and_moment().await.unwrap();
    assert_eq!((snapshots.len(), snapshots[0].timestamp(), moment), (4, timestamp, None));
    assert_eq!((node.readers(), node.leaders()), (vec![1], vec![Some(1); 4]));
    node.close().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let node = table::open(pyralog_consensus::NodeConfig::new(dir.path())).await;
    let (snapshots, moment) = node.snapshots_and_moment().await.unwrap();
    assert_eq!((snapshots.len(), moment), (1, None));
    node.close().await.unwrap();
}
