//! Streams between the nodes of a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{Node, NodeConfig, PeerConfig};
use crate::error::ConsensusError;
use crate::peer::Channel;

const LIMIT: Duration = Duration::from_secs(30);

/// Nodes 1 to 3, each with its directory.
struct Cluster {
    dirs: Vec<tempfile::TempDir>,
    nodes: Vec<Arc<Node>>,
}

impl Cluster {
    async fn start() -> Cluster {
        let mut cluster = Cluster {
            dirs: Vec::new(),
            nodes: Vec::new(),
        };
        for _ in 0..3 {
            let mut config = cluster.config(tempfile::tempdir().unwrap());
            config.peer.as_mut().unwrap().join = cluster.nodes.iter().map(|node| address(node)).collect();
            let node = Node::open(config).await.unwrap();
            until("the node votes", || votes(&node)).await;
            cluster.nodes.push(node);
        }
        cluster
    }

    fn config(&mut self, dir: tempfile::TempDir) -> NodeConfig {
        let config = NodeConfig {
            peer: Some(PeerConfig {
                listen: ([127, 0, 0, 1], 0).into(),
                advertise: None,
                join: Vec::new(),
                node_id: None,
                tls: None,
                snapshot_rate: PeerConfig::SNAPSHOT_RATE,
            }),
            ..NodeConfig::new(dir.path())
        };
        self.dirs.push(dir);
        config
    }

    fn node(&self, id: u64) -> &Arc<Node> {
        &self.nodes[id as usize - 1]
    }

    async fn close(self) {
        for node in self.nodes {
            node.close().await.unwrap();
        }
    }
}

/// Where other nodes reach a node.
fn address(node: &Node) -> String {
    node.cluster.as_ref().unwrap().address.clone()
}

fn votes(node: &Node) -> bool {
    let status = node.status();
    status.groups.iter().all(|group| group.voters.contains(&status.node_id))
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let becomes = async {
        while !holds() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, becomes).await.expect(what);
}

/// Answers each stream with the id of the node that it comes from, and then what it sends.
async fn answer(mut streams: mpsc::Receiver<(u64, Channel)>) {
    while let Some((from, channel)) = streams.recv().await {
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(channel);
            writer.write_u64(from).await?;
            tokio::io::copy(&mut reader, &mut writer).await
        });
    }
}

/// Waits until a stream ends, in whatever way.
async fn ends(channel: &mut Channel) {
    let ended = timeout(LIMIT, channel.read_to_end(&mut Vec::new())).await;
    let _ = ended.expect("the stream does not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_two_nodes_have_streams_until_one_stops_or_is_taken_out() {
    let cluster = Cluster::start().await;
    let streams = cluster.nodes.iter().map(|node| node.streams().unwrap());
    let answering: Vec<_> = streams.map(|streams| tokio::spawn(answer(streams))).collect();
    for id in 1..=3 {
        let node = cluster.node(id);
        let others: Vec<u64> = (1..=3).filter(|other| *other != id).collect();
        until("all nodes are connected", || node.connected() == others).await;
        assert!(node.streams().is_none(), "the first who asks has them");
    }
    for (id, other) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
        let mut channel = cluster.node(id).stream_to(other).await.unwrap();
        assert_eq!(channel.read_u64().await.unwrap(), id);
        channel.write_u64(other).await.unwrap();
        assert_eq!(channel.read_u64().await.unwrap(), other);
    }
    for (wrong, reason) in [(1, "this node itself"), (9, "no node 9 in this cluster")] {
        let error = cluster.node(1).stream_to(wrong).await.unwrap_err();
        let is_unavailable = matches!(error, ConsensusError::Unavailable(_));
        assert!(is_unavailable && error.to_string().contains(reason), "{error}");
    }

    let mut to_removed = cluster.node(1).stream_to(3).await.unwrap();
    assert_eq!(to_removed.read_u64().await.unwrap(), 1);
    let mut from_removed = cluster.node(3).stream_to(1).await.unwrap();
    assert_eq!(from_removed.read_u64().await.unwrap(), 3);
    cluster.node(1).remove_member(3).await.unwrap();
    ends(&mut to_removed).await;
    ends(&mut from_removed).await;
    assert!(cluster.node(1).stream_to(3).await.is_err());
    assert_eq!(cluster.node(1).connected(), [2]);
    // Whether it has heard of its removal or not.
    if let Ok(mut channel) = cluster.node(3).stream_to(1).await {
        ends(&mut channel).await;
    }

    let mut to_stopped = cluster.node(1).stream_to(2).await.unwrap();
    assert_eq!(to_stopped.read_u64().await.unwrap(), 1);
    let mut from_stopped = cluster.node(2).stream_to(1).await.unwrap();
    assert_eq!(from_stopped.read_u64().await.unwrap(), 2);
    cluster.node(2).close().await.unwrap();
    ends(&mut to_stopped).await;
    ends(&mut from_stopped).await;
    until("the node is gone", || cluster.node(1).connected().is_empty()).await;
    let error = cluster.node(1).stream_to(2).await.unwrap_err();
    assert!(matches!(error, ConsensusError::Unavailable(_)), "{error}");
    cluster.close().await;
    for answering in answering {
        timeout(LIMIT, answering).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_takes_streams_they_end() {
    let cluster = Cluster::start().await;
    let mut channel = cluster.node(1).stream_to(2).await.unwrap();
    ends(&mut channel).await;
    // More than wait to be taken.
    let mut streams = cluster.node(2).streams().unwrap();
    let mut reading = Vec::new();
    for _ in 0..20 {
        let mut channel = cluster.node(1).stream_to(2).await.unwrap();
        reading.push(tokio::spawn(async move { channel.read_u64().await }));
    }
    until("those beyond 16 end", || {
        reading.iter().filter(|task| task.is_finished()).count() == 4
    })
    .await;
    let mut taken = Vec::new();
    for _ in 0..16 {
        let (from, mut channel) = streams.recv().await.unwrap();
        assert_eq!(from, 1);
        channel.write_u64(7).await.unwrap();
        taken.push(channel);
    }
    let mut answered = 0;
    for task in reading {
        answered += u32::from(timeout(LIMIT, task).await.unwrap().unwrap().is_ok_and(|answer| answer == 7));
    }
    assert_eq!(answered, 16);
    cluster.close().await;
    assert!(streams.recv().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_alone_has_no_streams() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(NodeConfig::new(dir.path())).await.unwrap();
    let error = node.stream_to(2).await.unwrap_err();
    assert!(
        matches!(error, ConsensusError::Unavailable(_)) && error.to_string().contains("alone"),
        "{error}"
    );
    assert!(node.streams().is_none() && node.connected().is_empty());
    node.close().await.unwrap();
}
