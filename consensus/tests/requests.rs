//! Requests with names: carried out once however often they are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyralog_consensus::{Commit, ConsensusError, Known, NodeConfig, PartitionHandle, Request, RequestId, Tried};
use pyralog_storage::{ConflictPolicy, Timestamp};

use crate::cluster::three;
use crate::table::{blind, open, puts, rows};

fn request(serial: u64, settled: u64) -> Request {
    let id = RequestId {
        client: 7,
        serial,
        part: 0,
    };
    Request {
        id,
        settled,
        rows: 1,
        tried: Tried::First,
    }
}

async fn send(partition: &PartitionHandle, serial: u64, text: &str) -> Commit {
    partition.carry_out(blind([1], text), Some(request(serial, 0))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_again_is_not_carried_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = NodeConfig::new(dir.path());
    let node = open(config.clone()).await;
    let partition = &node.partitions()[0];
    let first = send(partition, 1, "first").await;
    assert_eq!(first.repeated, None);
    send(partition, 2, "second").await;
    let again = send(partition, 1, "first").await;
    assert_eq!((again.timestamp, again.repeated), (first.timestamp, Some(1)));
    assert_eq!(rows(partition), [(1, "second 1".to_owned())], "the later write stands");
    // One that conflicts was not carried out, and may be sent again.
    let late = || puts(Timestamp(1), [1], "third", ConflictPolicy::FirstCommitterWins);
    let refused = partition.carry_out(late(), Some(request(3, 0))).await.unwrap_err();
    assert!(matches!(refused, ConsensusError::Conflict(_)), "{refused}");
    assert_eq!(partition.known(request(3, 0).id).await.unwrap(), Known::Nothing);
    send(partition, 3, "third").await;
    // What was in memory comes back with the log; what was flushed, with the manifest.
    node.close().await.unwrap();
    let node = open(config.clone()).await;
    assert_known_again(&node.partitions()[0]).await;
    node.partitions()[0].checkpoint().await.unwrap();
    node.close().await.unwrap();
    let node = open(config).await;
    assert_known_again(&node.partitions()[0]).await;
    node.close().await.unwrap();
}

async fn assert_known_again(partition: &PartitionHandle) {
    assert_eq!(send(partition, 1, "first").await.repeated, Some(1));
    assert_eq!(rows(partition), [(1, "third 1".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_given_up_is_never_carried_out() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(NodeConfig::new(dir.path())).await;
    let partition = &node.partitions()[0];
    assert_eq!(partition.settle(request(1, 0).id).await.unwrap(), None);
    let late = partition.carry_out(blind([1], "late"), Some(request(1, 0))).await.unwrap_err();
    assert!(matches!(late, ConsensusError::Void), "{late}");
    assert_eq!(rows(partition), []);
    let commit = send(partition, 2, "kept").await;
    let known = partition.settle(request(2, 0).id).await.unwrap().unwrap();
    assert_eq!((known.timestamp, known.rows), (commit.timestamp, 1));
    // A serial below those that the client called settled.
    partition.carry_out(blind([2], "x"), Some(request(9, 9))).await.unwrap();
    assert!(partition.carry_out(blind([3], "x"), Some(request(4, 0))).await.is_err());
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_knows_what_the_leader_carried_out() {
    let mut cluster = three().await;
    let leader = cluster.leader().await;
    let (near, far) = ((leader + 1) % 3, (leader + 2) % 3);
    send(&cluster.node(near).partitions()[0], 1, "once").await;
    assert!(matches!(
        cluster.node(far).partitions()[0].known(request(1, 0).id).await.unwrap(),
        Known::Done(_)
    ));
    // Also one that has it from a snapshot only.
    let leading = cluster.node(leader).clone();
    leading.partitions()[0].checkpoint().await.unwrap();
    drop(leading);
    let new = cluster.add().await;
    cluster.node(new).ready().await.unwrap();
    cluster.kill(leader).await;
    let again = send(&cluster.node(new).partitions()[0], 1, "once more").await;
    assert_eq!(again.repeated, Some(1));
    assert_eq!(rows(&cluster.node(new).partitions()[0]), [(1, "once 1".to_owned())]);
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_in_flight_go_on_at_the_next_leader() {
    let mut cluster = three().await;
    let leader = cluster.leader().await;
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8_i64)
        .map(|writer| {
            let (partition, done) = (
                cluster.node((leader + 1 + writer as usize % 2) % 3).partitions()[0].clone(),
                done.clone(),
            );
            tokio::spawn(async move {
                let mut written = 0;
                while !done.load(Ordering::Relaxed) {
                    // Whoever dies meanwhile: no error, no second try by the author.
                    partition.commit(blind([writer * 1_000_000 + written], "row")).await.unwrap();
                    written += 1;
                }
                written
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.kill(leader).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    done.store(true, Ordering::Relaxed);
    let mut expected = 0;
    for writer in writers {
        expected += writer.await.unwrap() as usize;
    }
    let other = (leader + 1) % 3;
    cluster.node(other).ready().await.unwrap();
    assert_eq!(rows(&cluster.node(other).partitions()[0]).len(), expected);
    cluster.restart(leader).await;
    cluster.close().await;
}
