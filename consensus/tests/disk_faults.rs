//! A failing disk: nothing false is acknowledged, reads go on, and a restart has what was acknowledged.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pyralog_consensus::{ConsensusError, MetaChange, Node, NodeConfig};

use crate::disk::SwitchedDisk;
use crate::table::{blind, open_on, rows};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_writes_and_not_reads() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SwitchedDisk::default();
    let node = open_on(&disk, NodeConfig::new(dir.path())).await;
    let partition = node.partitions()[0].clone();
    partition.commit(blind([1], "before")).await.unwrap();
    disk.0.full.store(true, Ordering::SeqCst);
    let writers: Vec<_> = (10..30)
        .map(|id| {
            let partition = partition.clone();
            tokio::spawn(async move { partition.commit(blind([id], "lost")).await })
        })
        .collect();
    for writer in writers {
        let error = writer.await.unwrap().unwrap_err();
        assert!(
            matches!(error, ConsensusError::Unknown(_) | ConsensusError::Unavailable(_)),
            "{error}"
        );
    }
    // All groups, also those that had nothing to write: they would lead on, and take no write.
    let stopped = || node.status().groups.iter().all(|group| group.stopped.is_some());
    for _ in 0..500 {
        if stopped() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(stopped(), "{:?}", node.status().groups);
    disk.0.full.store(false, Ordering::SeqCst);
    let later = partition.commit(blind([2], "later")).await.unwrap_err();
    assert!(
        matches!(&later, ConsensusError::Unavailable(reason) if reason.contains("disk full")),
        "{later}"
    );
    let change = MetaChange {
        put: vec![("k".to_owned(), vec![1])],
        ..MetaChange::default()
    };
    assert!(matches!(node.meta().change(change).await, Err(ConsensusError::Unavailable(_))));
    assert_eq!(rows(&partition), [(1, "before 1".to_owned())]);
    node.close().await.unwrap();
    drop((node, partition));
    let node = Node::open(NodeConfig::new(dir.path())).await.unwrap();
    assert_eq!(rows(&node.partitions()[0]), [(1, "before 1".to_owned())]);
    node.partitions()[0].commit(blind([2], "after")).await.unwrap();
    node.close().await.unwrap();
}
