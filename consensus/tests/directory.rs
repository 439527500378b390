//! The data directory: initialised once, locked, and refused when it is not what it was.

use std::fs;

use pyralog_consensus::{ConsensusError, Node, NodeConfig};
use pyralog_storage::StorageError;

use crate::table::{blind, open};

async fn error(config: NodeConfig) -> ConsensusError {
    match Node::open(config).await {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_directory_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(NodeConfig::new(dir.path())).await.unwrap();
    let second = error(NodeConfig::new(dir.path())).await;
    assert!(matches!(second, ConsensusError::Storage(StorageError::InUse { .. })), "{second}");
    node.close().await.unwrap();
    let again = Node::open(NodeConfig::new(dir.path())).await.unwrap();
    assert_eq!(again.status().database_id, node.status().database_id);
    again.close().await.unwrap();
}

#[tokio::test]
async fn the_number_of_partitions_is_fixed() {
    let dir = tempfile::tempdir().unwrap();
    let with = |partitions| NodeConfig {
        partitions,
        ..NodeConfig::new(dir.path())
    };
    let refused = async |config| match error(config).await {
        ConsensusError::Unsupported(reason) => reason,
        other => panic!("{other}"),
    };
    assert!(refused(with(3)).await.contains("not a power of two"));
    assert!(refused(with(128)).await.contains("more than 64"));
    assert!(!dir.path().join("FORMAT").exists());
    Node::open(with(2)).await.unwrap().close().await.unwrap();
    assert!(refused(with(1)).await.contains("fixed"));
    assert!(refused(with(4)).await.contains("fixed"));
    let again = Node::open(with(0)).await.unwrap();
    assert_eq!(again.partitions().len(), 2);
    again.close().await.unwrap();
    // It may get peers.
    let peers = Node::open(crate::cluster::config(dir.path(), Vec::new())).await.unwrap();
    peers.ready().await.unwrap();
    assert_eq!((peers.partitions().len(), peers.snapshots().await.unwrap().len()), (2, 2));
    peers.close().await.unwrap();
}

#[tokio::test]
async fn a_newer_or_damaged_format_is_named() {
    let dir = tempfile::tempdir().unwrap();
    Node::open(NodeConfig::new(dir.path())).await.unwrap().close().await.unwrap();
    let path = dir.path().join("FORMAT");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    let newer = error(NodeConfig::new(dir.path())).await;
    assert!(
        matches!(newer, ConsensusError::Storage(StorageError::NewerFormat { found: 2, .. })),
        "{newer}"
    );
    for at in 0..text.len() {
        let mut flipped = text.clone().into_bytes();
        // A digit becomes another digit, a letter another letter: JSON that still parses must be caught by the checksum.
        flipped[at] ^= 1;
        if flipped[at].is_ascii_whitespace() || text.as_bytes()[at].is_ascii_whitespace() {
            continue;
        }
        fs::write(&path, &flipped).unwrap();
        let damaged = error(NodeConfig::new(dir.path())).await.to_string();
        assert!(damaged.contains("FORMAT"), "flip at {at}: {damaged}");
    }
    fs::remove_file(&path).unwrap();
    let missing = error(NodeConfig::new(dir.path())).await.to_string();
    assert!(missing.contains("FORMAT") && missing.contains("missing"), "{missing}");
    fs::write(&path, &text).unwrap();
    Node::open(NodeConfig::new(dir.path())).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_missing_log_is_never_replaced_by_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(NodeConfig::new(dir.path())).await;
    node.partitions()[0].commit(blind([1], "x")).await.unwrap();
    node.close().await.unwrap();
    fs::rename(dir.path().join("log"), dir.path().join("elsewhere")).unwrap();
    assert!(matches!(
        error(NodeConfig::new(dir.path())).await,
        ConsensusError::DamagedLog { .. }
    ));
}

#[tokio::test]
async fn missing_segments_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(NodeConfig::new(dir.path())).await;
    node.partitions()[0].commit(blind([1], "x")).await.unwrap();
    node.partitions()[0].checkpoint().await.unwrap();
    node.close().await.unwrap();
    fs::remove_dir_all(dir.path().join("partitions/0")).unwrap();
    let refused = error(NodeConfig::new(dir.path())).await.to_string();
    assert!(refused.contains("missing"), "{refused}");
}
