//! Transactions over several partitions: all or none, seen at one timestamp.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch, StringArray};
use pyralog_consensus::{ConsensusError, Known, Node, NodeConfig, NodeEnvironment, Request, RequestId, Tried};
use pyralog_storage::{ConflictPolicy, PartitionId, RelationView, RelationWrites, Snapshot, Timestamp, WriteSet};

use crate::cluster::{Cluster, until};
use crate::disk::SwitchedDisk;
use crate::table::{RELATION, schema};

pub const PARTITIONS: u32 = 4;
pub const ACCOUNTS: i64 = 40;
pub const EACH: i64 = 100;

fn config(dir: &std::path::Path) -> NodeConfig {
    NodeConfig {
        partitions: PARTITIONS,
        ..NodeConfig::new(dir)
    }
}

pub async fn open(dir: &std::path::Path) -> Arc<Node> {
    let node = Node::open(config(dir)).await.unwrap();
    create(&node).await;
    node
}

async fn create(node: &Node) {
    for partition in node.partitions() {
        partition.create_relation(schema()).await.unwrap();
    }
}

fn home(account: i64) -> PartitionId {
    PartitionId(account as u32 % PARTITIONS)
}

/// A part for each partition that has one of the accounts.
pub fn parts(start: Timestamp, balances: &[(i64, i64)], policy: ConflictPolicy) -> Vec<(PartitionId, WriteSet)> {
    let mut by_home: BTreeMap<PartitionId, Vec<(i64, i64)>> = BTreeMap::new();
    for (account, balance) in balances {
        by_home.entry(home(*account)).or_default().push((*account, *balance));
    }
    let part = |balances: Vec<(i64, i64)>| {
        let (ids, texts): (Vec<i64>, Vec<String>) = balances.into_iter().map(|(id, balance)| (id, balance.to_string())).unzip();
        let columns: Vec<arrow_array::ArrayRef> = vec![Arc::new(Int64Array::from(ids)), Arc::new(StringArray::from(texts))];
        let writes = RelationWrites {
            relation: RELATION,
            emptied: false,
            puts: vec![RecordBatch::try_new(schema().schema, columns).unwrap()],
            deletes: Vec::new(),
            staged: Vec::new(),
            policy,
        };
        WriteSet {
            start,
            relations: vec![writes],
            reads: Vec::new(),
        }
    };
    by_home.into_iter().map(|(home, balances)| (home, part(balances))).collect()
}

pub fn balances(snapshots: &[Snapshot]) -> BTreeMap<i64, i64> {
    let mut found = BTreeMap::new();
    for snapshot in snapshots {
        let view: RelationView = snapshot.relation(RELATION).unwrap();
        for piece in view.pieces() {
            for batch in (0..piece.batch_count()).filter_map(|batch| piece.read(batch, &[0, 1]).unwrap()) {
                let (ids, texts) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
                found.extend((0..batch.num_rows()).map(|row| (ids.value(row), texts.value(row).parse::<i64>().unwrap())));
            }
        }
    }
    found
}

pub async fn fill(node: &Node) -> Timestamp {
    let all: Vec<_> = (0..ACCOUNTS).map(|account| (account, EACH)).collect();
    node.commit(parts(node.now(), &all, ConflictPolicy::LastWriteWins)).await.unwrap()
}

/// Waits until nothing is locked.
async fn unlocked(node: &Node) {
    let is_locked = || {
        let mut partitions = node.partitions().iter();
        partitions.any(|partition| !partition.storage().undecided(Timestamp::MAX).is_empty())
    };
    for _ in 0..1000 {
        if !is_locked() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("locks are left");
}

/// One transfer; `false`: somebody else was first.
pub async fn transfer(node: &Node, from: i64, to: i64, amount: i64) -> Result<bool, ConsensusError> {
    let snapshots = node.snapshots().await?;
    let start = snapshots[0].timestamp();
    assert!(snapshots.iter().all(|snapshot| snapshot.timestamp() == start), "at one timestamp");
    let now = balances(&snapshots);
    assert_eq!(now.values().sum::<i64>(), ACCOUNTS * EACH, "money came or went");
    let after = [(from, now[&from] - amount), (to, now[&to] + amount)];
    match node.commit(parts(start, &after, ConflictPolicy::FirstCommitterWins)).await {
        Ok(commit) => {
            // What is acknowledged is seen by whoever looks next.
            assert!(node.snapshots().await?[0].timestamp() >= commit);
            for account in [from, to] {
                assert!(node.snapshot_of(home(account)).await?.timestamp() >= commit);
            }
            Ok(true)
        }
        Err(ConsensusError::Conflict(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_keep_the_sum_at_every_timestamp_and_over_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4_u64 {
        let node = open(dir.path()).await;
        if round == 0 {
            fill(&node).await;
        }
        unlocked(&node).await;
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..6_u64)
            .map(|writer| {
                let (node, stop) = (node.clone(), stop.clone());
                tokio::spawn(async move {
                    let mut rng = 1 + writer + 10 * round;
                    let mut next = |below: i64| {
                        rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        (rng >> 33) as i64 % below
                    };
                    let (mut done, mut refused) = (0, 0);
                    while !stop.load(Ordering::Relaxed) {
                        let (from, step) = (next(ACCOUNTS), 1 + next(ACCOUNTS - 1));
                        match transfer(&node, from, (from + step) % ACCOUNTS, 1 + next(9)).await {
                            Ok(true) => done += 1,
                            Ok(false) => refused += 1,
                            // The node goes in the end.
                            Err(error) => {
                                assert!(stop.load(Ordering::Relaxed), "{error}");
                                break;
                            }
                        }
                    }
                    (done, refused)
                })
            })
            .collect();
        for flush in 0..3 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            for partition in node.partitions().iter().skip(flush) {
                partition.checkpoint().await.unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
        if round % 2 == 0 {
            // As in a crash: transactions are in the middle.
            drop(node);
            for writer in writers {
                let _ = writer.await;
            }
        } else {
            let mut all = (0, 0);
            for writer in writers {
                let (done, refused) = writer.await.unwrap();
                all = (all.0 + done, all.1 + refused);
            }
            assert!(all.0 > 20, "{all:?} transfers");
            unlocked(&node).await;
            let now = balances(&node.snapshots().await.unwrap());
            assert_eq!((now.len() as i64, now.values().sum::<i64>()), (ACCOUNTS, ACCOUNTS * EACH));
            node.close().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_part_that_is_refused_refuses_all() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path()).await;
    fill(&node).await;
    let start = node.snapshots().await.unwrap()[0].timestamp();
    node.commit(parts(start, &[(5, 1)], ConflictPolicy::FirstCommitterWins))
        .await
        .unwrap();
    let late = parts(start, &[(4, 0), (5, 0), (6, 0)], ConflictPolicy::FirstCommitterWins);
    let refused = node.commit(late).await.unwrap_err();
    assert!(
        matches!(&refused, ConsensusError::Conflict(conflict) if conflict.relation == RELATION),
        "{refused}"
    );
    unlocked(&node).await;
    let now = balances(&node.snapshots().await.unwrap());
    assert_eq!((now[&4], now[&5], now[&6]), (EACH, 1, EACH));
    // The same keys again, from a newer state.
    let start = node.snapshots().await.unwrap()[0].timestamp();
    let commit = node
        .commit(parts(start, &[(4, 0), (5, 0), (6, 0)], ConflictPolicy::FirstCommitterWins))
        .await
        .unwrap();
    let at = |timestamp| node.snapshots_at(timestamp);
    assert_eq!(balances(&at(commit).await.unwrap()).values().sum::<i64>(), (ACCOUNTS - 3) * EACH);
    assert_eq!(balances(&at(Timestamp(commit.0 - 1)).await.unwrap())[&5], 1);
    node.close().await.unwrap();
    let error = node
        .commit(parts(start, &[(1, 0), (2, 0)], ConflictPolicy::LastWriteWins))
        .await
        .unwrap_err();
    assert!(matches!(error, ConsensusError::Unavailable(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn blind_writes_of_one_partition_wait_for_who_has_locked_their_keys() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path()).await;
    fill(&node).await;
    let stop = Arc::new(AtomicBool::new(false));
    let across: Vec<_> = (0..2)
        .map(|writer| {
            let (node, stop) = (node.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let both = parts(node.now(), &[(0, writer), (1, writer), (2, writer)], ConflictPolicy::LastWriteWins);
                    // Two of these may meet, and one is refused then.
                    match node.commit(both).await {
                        Ok(_) | Err(ConsensusError::Conflict(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    let mut last = Timestamp::ZERO;
    for round in 0..200 {
        let commit = node
            .commit(parts(node.now(), &[(1, 1000 + round)], ConflictPolicy::LastWriteWins))
            .await
            .expect("a blind put is not refused");
        assert!(commit > last);
        last = commit;
        let now = balances(&node.snapshots().await.unwrap());
        assert_eq!(now[&0], now[&2], "written together, or not at all");
    }
    stop.store(true, Ordering::Relaxed);
    for writer in across {
        writer.await.unwrap();
    }
    node.close().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_a_transaction_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path()).await;
    let part = |partition| parts(node.now(), &[(partition, 1)], ConflictPolicy::LastWriteWins).remove(0);
    let twice = vec![part(1), part(1)];
    let stray = vec![part(1), (PartitionId(9), part(2).1)];
    for wrong in [Vec::new(), twice, stray] {
        let error = node.commit(wrong).await.unwrap_err();
        assert!(matches!(error, ConsensusError::Unsupported(_)), "{error}");
    }
    assert!(balances(&node.snapshots().await.unwrap()).is_empty());
    node.close().await.unwrap();
}

fn named(serial: u64) -> Option<Request> {
    let id = RequestId {
        client: 9,
        serial,
        part: 0,
    };
    Some(Request {
        id,
        settled: 0,
        rows: 2,
        tried: Tried::Again,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_carried_out_once_whichever_partitions_its_tries_would_write() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path()).await;
    let put = |node: &Node, balances: &[(i64, i64)]| parts(node.now(), balances, ConflictPolicy::LastWriteWins);
    // Tries of one request at once, of one partition, of two and of three.
    let tries: [&[(i64, i64)]; 6] = [
        &[(1, 7), (2, 7)],
        &[(3, 7)],
        &[(0, 7), (1, 7), (2, 7)],
        &[(2, 7)],
        &[(0, 7), (3, 7)],
        &[(1, 7)],
    ];
    let tries = tries.map(|balances| {
        let (node, parts) = (node.clone(), put(&node, balances));
        tokio::spawn(async move { node.carry_out(parts, named(1)).await.unwrap() })
    });
    let mut first = None;
    for commit in futures::future::join_all(tries).await {
        let commit = commit.unwrap();
        assert!(commit.repeated.is_none_or(|rows| rows == 2));
        if commit.repeated.is_none() {
            assert!(first.replace(commit.timestamp).is_none(), "carried out twice");
        }
    }
    let written = balances(&node.snapshots().await.unwrap());
    for round in 0..3 {
        let again = node
            .carry_out(put(&node, &[(0, 1), (1, 1), (2, 1), (3, 1)]), named(1))
            .await
            .unwrap();
        assert_eq!((Some(again.timestamp), again.repeated), (first, Some(2)), "round {round}");
        assert_eq!(balances(&node.snapshots().await.unwrap()), written);
        assert!(matches!(node.known(named(1).unwrap().id).await.unwrap(), Known::Done(_)));
        assert!(node.settle(named(1).unwrap().id).await.unwrap().is_some());
        if round == 1 {
            for partition in node.partitions() {
                partition.checkpoint().await.unwrap();
            }
        }
        drop(node);
        node = open(dir.path()).await;
    }
    // One that was given up is never carried out, anywhere.
    assert_eq!(node.settle(named(2).unwrap().id).await.unwrap(), None);
    for balances in [&[(3, 1)][..], &[(0, 1), (1, 1)]] {
        let late = node.carry_out(put(&node, balances), named(2)).await;
        assert!(matches!(late, Err(ConsensusError::Void)), "{late:?}");
    }
    assert_eq!(balances(&node.snapshots().await.unwrap()), written);
    node.close().await.unwrap();
}

/// Three nodes with several partitions, whose leaders are spread over them.
pub async fn cluster() -> Cluster {
    cluster_on([SwitchedDisk::default(), SwitchedDisk::default(), SwitchedDisk::default()]).await
}

async fn cluster_on(disks: [SwitchedDisk; 3]) -> Cluster {
    let mut cluster = Cluster::of(PARTITIONS);
    for disk in disks {
        let environment = NodeEnvironment {
            disk: Arc::new(disk),
            ..NodeEnvironment::default()
        };
        cluster.add_in(environment).await;
    }
    let leads = |node: &Arc<Node>| {
        node.status()
            .groups
            .iter()
            .filter(|group| group.leader && group.name != "meta")
            .count()
    };
    until("leaders everywhere", || cluster.alive().all(|node| leads(node) >= 1)).await;
    create(cluster.node(0)).await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_through_all_nodes_keep_the_sum_while_a_node_is_lost() {
    let mut cluster = cluster().await;
    fill(cluster.node(0)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..6_u64)
        .map(|writer| {
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
                    match transfer(&node, from, (from + step) % ACCOUNTS, 1 + next(9)).await {
                        Ok(moved) => done += u32::from(moved),
                        // A node goes.
                        Err(error) => {
                            assert!(
                                matches!(error, ConsensusError::Unavailable(_) | ConsensusError::Unknown(_)),
                                "{error}"
                            );
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    }
                }
                done
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Transactions through it are in the middle.
    for writer in writers.iter().skip(2).step_by(3) {
        writer.abort();
    }
    cluster.kill(2).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    stop.store(true, Ordering::Relaxed);
    let mut done = Vec::new();
    for writer in writers {
        done.push(writer.await.unwrap_or(0));
    }
    assert!(done.iter().sum::<u32>() > 100, "{done:?} transfers");
    // What the lost node had prepared is ended by the others.
    for node in cluster.alive() {
        unlocked(node).await;
        let now = balances(&node.snapshots().await.unwrap());
        assert_eq!((now.len() as i64, now.values().sum::<i64>()), (ACCOUNTS, ACCOUNTS * EACH));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_whose_disk_fails_leaves_nothing_locked() {
    let disks = [SwitchedDisk::default(), SwitchedDisk::default(), SwitchedDisk::default()];
    let cluster = cluster_on(disks.clone()).await;
    fill(cluster.node(0)).await;
    let writers: Vec<_> = (0..8_i64)
        .map(|writer| {
            let node = cluster.node(2).clone();
            tokio::spawn(async move {
                let mut done = 0;
                loop {
                    match transfer(&node, writer, writer + 9, 1).await {
                        Ok(moved) => done += u32::from(moved),
                        Err(_) => return done,
                    }
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    disks[2].0.full.store(true, Ordering::SeqCst);
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
    // It is there and answers, but can end nothing: the others do.
    for node in [cluster.node(0), cluster.node(1)] {
        unlocked(node).await;
        let now = balances(&node.snapshots().await.unwrap());
        assert_eq!((now.len() as i64, now.values().sum::<i64>()), (ACCOUNTS, ACCOUNTS * EACH));
    }
    assert!(transfer(cluster.node(0), 0, 9, 1).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_carried_out_once_whichever_nodes_it_is_tried_through() {
    let cluster = cluster().await;
    let put = |node: &Node, balances: &[(i64, i64)]| parts(node.now(), balances, ConflictPolicy::LastWriteWins);
    for serial in 0..20 {
        // The first try and later ones at once, each in other partitions.
        let tries: [&[(i64, i64)]; 4] = [&[(1, 7), (2, 7)], &[(3, 7)], &[(0, 7), (1, 7), (2, 7)], &[(2, 7)]];
        let tries = tries.iter().enumerate().map(|(number, balances)| {
            let node = cluster.node((serial as usize + number) % 3).clone();
            let parts = put(&node, balances);
            let request = named(serial).map(|request| Request {
                tried: if number == 0 { Tried::First } else { Tried::Again },
                ..request
            });
            tokio::spawn(async move {
                let carried_out = node.carry_out(parts, request).await;
                match carried_out {
                    Ok(commit) => Some(commit),
                    // A later try came first, or is in the way.
                    Err(ConsensusError::Void | ConsensusError::Conflict(_) | ConsensusError::Unavailable(_)) => None,
                    Err(error) => panic!("{error}"),
                }
            })
        });
        let commits: Vec<_> = futures::future::join_all(tries)
            .await
            .into_iter()
            .filter_map(|commit| commit.unwrap())
            .collect();
        let first = commits.iter().filter(|commit| commit.repeated.is_none()).count();
        assert!(first <= 1, "request {serial} was carried out {first} times");
        let node = cluster.node(serial as usize % 3);
        let known = node.known(named(serial).unwrap().id).await.unwrap();
        assert_eq!(
            first == 1,
            matches!(known, Known::Done(_)),
            "request {serial}: {known:?}, {commits:?}"
        );
        let again = node.carry_out(put(node, &[(0, 1), (3, 1)]), named(serial)).await.unwrap();
        assert_eq!(first == 1, again.repeated.is_some());
        assert!(node.settle(named(serial).unwrap().id).await.unwrap().is_some());
    }
    // One that was given up is never carried out, through any node.
    assert_eq!(cluster.node(1).settle(named(99).unwrap().id).await.unwrap(), None);
    for (number, node) in cluster.alive().enumerate() {
        let late = Request {
            tried: if number == 0 { Tried::First } else { Tried::Again },
            ..named(99).unwrap()
        };
        for balances in [&[(3, 1)][..], &[(0, 1), (1, 1)]] {
            let refused = node.carry_out(put(node, balances), Some(late)).await;
            assert!(refused.is_err(), "{refused:?}");
        }
    }
}
