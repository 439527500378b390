//! What was acknowledged is there after a restart: with and without closing, flushed and not.

use std::time::{Duration, Instant};

use pyralog_consensus::{MetaChange, Node, NodeConfig};
use pyralog_storage::PartitionOptions;

use crate::table::{blind, open, rows, schema};

/// Waits until the log has at most half of the `full` bytes that it had; its files go after the purge has been acknowledged.
async fn log_shrinks_by_half(node: &Node, full: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while node.status().log_bytes > full / 2 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rest = node.status().log_bytes;
    assert!(rest <= full / 2, "{rest} of {full} bytes are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_rows_survive_a_crash_and_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for round in 0..6i64 {
        let node = Node::open(NodeConfig::new(dir.path())).await.unwrap();
        let partition = node.partitions()[0].clone();
        if round == 0 {
            partition.create_relation(schema()).await.unwrap();
        }
        assert_eq!(rows(&partition), expected, "round {round}");
        for id in round * 10..round * 10 + 10 {
            let timestamp = partition.commit(blind([id], "x")).await.unwrap();
            assert!(timestamp <= node.now());
            expected.push((id, format!("x {id}")));
        }
        let change = MetaChange {
            put: vec![(format!("round/{round}"), vec![1])],
            ..MetaChange::default()
        };
        node.meta().change(change).await.unwrap();
        assert_eq!(node.meta().scan("round/").unwrap().len(), round as usize + 1);
        if round % 2 == 0 {
            partition.checkpoint().await.unwrap();
            partition.commit(blind([round * 10], "x")).await.unwrap();
        }
        if round % 3 == 0 {
            node.close().await.unwrap();
        }
        drop(partition);
        drop(node);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamps_never_go_back_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(NodeConfig::new(dir.path())).await;
    let last = node.partitions()[0].commit(blind([1], "x")).await.unwrap();
    drop(node);
    let node = Node::open(NodeConfig::new(dir.path())).await.unwrap();
    assert_eq!(node.partitions()[0].storage().last_timestamp(), last);
    assert!(node.now() >= last);
    assert!(node.partitions()[0].commit(blind([1], "y")).await.unwrap() > last);
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_lets_the_log_go_and_a_restart_needs_only_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let config = NodeConfig {
        log_file_bytes: 64 << 10,
        ..NodeConfig::new(dir.path())
    };
    let node = open(config.clone()).await;
    let partition = &node.partitions()[0];
    for id in 0..400 {
        partition.commit(blind([id], &"x".repeat(1000))).await.unwrap();
    }
    let full = node.status().log_bytes;
    assert!(full > 400_000, "{full}");
    partition.checkpoint().await.unwrap();
    partition.commit(blind([400], "after")).await.unwrap();
    log_shrinks_by_half(&node, full).await;
    drop(node);
    let start = Instant::now();
    let node = Node::open(config).await.unwrap();
    println!("opened in {:?}", start.elapsed());
    assert_eq!(rows(&node.partitions()[0]).len(), 401);
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn small_memtables_are_flushed_while_writing_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let options = PartitionOptions {
        memtable_bytes: 64 << 10,
        ..PartitionOptions::default()
    };
    let config = NodeConfig {
        log_file_bytes: 64 << 10,
        partition_options: options,
        ..NodeConfig::new(dir.path())
    };
    let node = open(config.clone()).await;
    let partition = node.partitions()[0].clone();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let partition = partition.clone();
            tokio::spawn(async move {
                for round in 0..100 {
                    partition.commit(blind([writer * 1000 + round], &"x".repeat(2000))).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(partition.storage().status().flushes > 0);
    assert_eq!(rows(&partition).len(), 400);
    node.close().await.unwrap();
    drop((node, partition));
    let node = Node::open(config).await.unwrap();
    assert_eq!(rows(&node.partitions()[0]).len(), 400);
    node.close().await.unwrap();
}

#[tokio::test]
async fn opening_takes_milliseconds() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(NodeConfig::new(dir.path())).await;
    node.partitions()[0].commit(blind([1], "x")).await.unwrap();
    node.close().await.unwrap();
    drop(node);
    let best = {
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            let node = Node::open(NodeConfig::new(dir.path())).await.unwrap();
            best = best.min(start.elapsed());
            node.close().await.unwrap();
        }
        best
    };
    println!("opened in {best:?}");
    assert!(best < Duration::from_millis(300), "{best:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_a_crash_prevented_is_made_up() {
    let dir = tempfile::tempdir().unwrap();
    let config = NodeConfig {
        log_file_bytes: 64 << 10,
        ..NodeConfig::new(dir.path())
    };
    let node = open(config.clone()).await;
    let partition = node.partitions()[0].clone();
    for id in 0..200 {
        partition.commit(blind([id], &"x".repeat(1000))).await.unwrap();
    }
    let full = node.status().log_bytes;
    // Segments are written, and the node dies before the log learns of it.
    partition.storage().flush().unwrap();
    drop((node, partition));
    let node = Node::open(config).await.unwrap();
    let start = Instant::now();
    node.partitions()[0].checkpoint().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    log_shrinks_by_half(&node, full).await;
    assert_eq!(rows(&node.partitions()[0]).len(), 200);
    node.close().await.unwrap();
}
