//! A cluster over TLS.

use std::time::Duration;

use pyralog_consensus::{Node, NodeConfig, PeerTls};

use crate::certificates::{Authority, Wish};
use crate::cluster::{config, until, votes};
use crate::table::{blind, rows, schema};

/// A node's configuration, with a certificate in its directory's folder.
fn secured(dir: &std::path::Path, authority: &Authority, join: Vec<String>) -> NodeConfig {
    let [certificate, key, authority] = authority.sign(dir, &Wish::default());
    let mut config = config(&dir.join("data"), join);
    config.peer.as_mut().unwrap().tls = Some(PeerTls {
        certificate,
        key,
        authority,
    });
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_replicate_over_tls_and_strangers_stay_out() {
    let authority = Authority::new("a");
    let dirs: Vec<_> = (0..5).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut nodes = Vec::new();
    let mut addresses: Vec<String> = Vec::new();
    for dir in &dirs[..3] {
        let node = Node::open(secured(dir.path(), &authority, addresses.clone())).await.unwrap();
        until("the node votes", || votes(&node)).await;
        let status = node.status();
        let own = status.members.into_iter().find(|(id, _)| *id == status.node_id);
        addresses.push(own.unwrap().1);
        nodes.push(node);
    }
    nodes[0].partitions()[0].create_relation(schema()).await.unwrap();
    for (number, node) in nodes.iter().enumerate() {
        node.partitions()[0].commit(blind([number as i64], "row")).await.unwrap();
    }
    for node in &nodes {
        node.partitions()[0].barrier().await.unwrap();
        assert_eq!(rows(&node.partitions()[0]).len(), 3);
    }
    // The way by which files go between nodes.
    nodes[0].partitions()[0].checkpoint().await.unwrap();
    let without = Node::open(config(dirs[3].path(), addresses.clone()))
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(without.contains("it speaks TLS, and this node does not"), "{without}");
    let foreign = secured(dirs[4].path(), &Authority::new("b"), addresses);
    let foreign = Node::open(foreign).await.err().unwrap().to_string();
    assert!(foreign.contains("its certificate is not signed by an authority"), "{foreign}");
    for node in nodes {
        tokio::time::timeout(Duration::from_secs(30), node.close()).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_certificate_cannot_be_used_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = secured(dir.path(), &Authority::new("a"), Vec::new());
    std::fs::write(dir.path().join("ca.pem"), Authority::new("b").pem()).unwrap();
    let error = Node::open(config).await.err().unwrap().to_string();
    assert!(error.contains("node.pem is not signed by an authority"), "{error}");
    assert!(!dir.path().join("data").exists());
}
