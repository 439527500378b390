//! Several nodes in one process: joining, writing and reading at any node, losing the leader, coming back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pyralog_consensus::{ConsensusError, MetaChange, Node, NodeConfig, NodeEnvironment, PeerConfig};

use crate::disk::SwitchedDisk;
use crate::table::{blind, rows, schema};

/// A node's configuration; `join` holds the addresses of others.
pub fn config(dir: &Path, join: Vec<String>) -> NodeConfig {
    let mut config = NodeConfig::new(dir);
    config.peer = Some(PeerConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: None,
        join,
        node_id: None,
        tls: None,
        snapshot_rate: PeerConfig::SNAPSHOT_RATE,
    });
    config
}

/// Nodes with their directories and addresses, by number from 0.
pub struct Cluster {
    pub dirs: Vec<tempfile::TempDir>,
    pub addresses: Vec<String>,
    pub nodes: Vec<Option<Arc<Node>>>,
    partitions: u32,
}

impl Cluster {
    /// No nodes yet, for so many data partitions.
    pub fn of(partitions: u32) -> Cluster {
        Cluster {
            dirs: Vec::new(),
            addresses: Vec::new(),
            nodes: Vec::new(),
            partitions,
        }
    }

    pub async fn start(size: usize) -> Cluster {
        let mut cluster = Cluster::of(1);
        for _ in 0..size {
            cluster.add().await;
        }
        cluster
    }

    /// Adds a node and waits until it is a voter of all groups.
    pub async fn add(&mut self) -> usize {
        self.add_in(NodeEnvironment::default()).await
    }

    /// As [`Cluster::add`], with time, disk and transport from outside.
    pub async fn add_in(&mut self, environment: NodeEnvironment) -> usize {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path(), self.addresses.clone());
        config.partitions = self.partitions;
        let node = Node::open_in(config, environment).await.unwrap();
        let id = node.status().node_id;
        until("the new node votes", || votes(&node)).await;
        let members = node.status().members;
        let address = members.into_iter().find(|(member, _)| *member == id).unwrap().1;
        self.dirs.push(dir);
        self.addresses.push(address);
        self.nodes.push(Some(node));
        self.nodes.len() - 1
    }

    pub fn node(&self, number: usize) -> &Arc<Node> {
        self.nodes[number].as_ref().unwrap()
    }

    pub fn alive(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.iter().flatten()
    }

    /// The number of the node that leads the data group.
    pub async fn leader(&self) -> usize {
        let mut found = None;
        until("a leader of the data group", || {
            found = self
                .nodes
                .iter()
                .position(|node| node.as_ref().is_some_and(|node| node.status().groups[1].leader));
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// As in a crash, as far as one process can.
    pub async fn kill(&mut self, number: usize) {
        drop(self.nodes[number].take());
        // The groups' tasks end by and by.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    pub async fn restart(&mut self, number: usize) {
        self.restart_in(number, NodeEnvironment::default()).await;
    }

    pub async fn restart_in(&mut self, number: usize, environment: NodeEnvironment) {
        let config = self.config_of(number);
        self.nodes[number] = Some(Node::open_in(config, environment).await.unwrap());
    }

    /// With its own directory and address.
    pub fn config_of(&self, number: usize) -> NodeConfig {
        let mut config = config(self.dirs[number].path(), Vec::new());
        config.peer.as_mut().unwrap().listen = self.addresses[number].parse().unwrap();
        config
    }

    pub async fn close(mut self) {
        for node in self.nodes.drain(..).flatten() {
            node.close().await.unwrap();
        }
    }
}

/// Whether a node is a voter of all groups.
pub fn votes(node: &Node) -> bool {
    let status = node.status();
    status.groups.iter().all(|group| group.voters.contains(&status.node_id))
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn three() -> Cluster {
    let cluster = Cluster::start(3).await;
    cluster.node(0).partitions()[0].create_relation(schema()).await.unwrap();
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_writes_and_any_node_reads_what_was_acknowledged() {
    let cluster = three().await;
    let mut last = None;
    for round in 0..30_i64 {
        let (writer, reader) = (cluster.node(round as usize % 3), cluster.node((round as usize + 1) % 3));
        let timestamp = writer.partitions()[0].commit(blind([round], "row")).await.unwrap();
        assert!(last < Some(timestamp), "timestamps grow whoever is asked");
        last = Some(timestamp);
        reader.partitions()[0].barrier().await.unwrap();
        assert_eq!(rows(&reader.partitions()[0]).len(), round as usize + 1);
        let change = MetaChange {
            put: vec![(format!("key/{round}"), vec![1])],
            ..MetaChange::default()
        };
        writer.meta().change(change).await.unwrap();
        assert!(
            writer.meta().get(&format!("key/{round}")).unwrap().is_some(),
            "seen where it was written"
        );
        reader.meta().barrier().await.unwrap();
        assert!(reader.meta().get(&format!("key/{round}")).unwrap().is_some());
    }
    let ids: Vec<u64> = cluster.alive().map(|node| node.status().node_id).collect();
    assert_eq!(ids, [1, 2, 3]);
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_go_on_without_the_leader_and_it_comes_back() {
    let mut cluster = three().await;
    for round in 0..3_i64 {
        cluster.node(0).partitions()[0].commit(blind([round * 2], "before")).await.unwrap();
        let leader = cluster.leader().await;
        cluster.kill(leader).await;
        let other = (leader + 1) % 3;
        let killed = Instant::now();
        loop {
            match cluster.node(other).partitions()[0].commit(blind([round * 2 + 1], "after")).await {
                Ok(_) => break,
                Err(ConsensusError::Unknown(_) | ConsensusError::Unavailable(_)) if killed.elapsed() < Duration::from_secs(10) => {}
                Err(error) => panic!("{error}"),
            }
        }
        cluster.restart(leader).await;
        cluster.node(leader).ready().await.unwrap();
        assert_eq!(rows(&cluster.node(leader).partitions()[0]).len(), round as usize * 2 + 2);
    }
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_reads_and_writes_say_so_in_bounded_time() {
    let mut cluster = three().await;
    cluster.kill(1).await;
    cluster.kill(2).await;
    let asked = Instant::now();
    let written = cluster.node(0).partitions()[0].commit(blind([1], "x")).await;
    assert!(
        matches!(written, Err(ConsensusError::Unavailable(_) | ConsensusError::Unknown(_))),
        "{written:?}"
    );
    let read = cluster.node(0).partitions()[0].barrier().await;
    assert!(matches!(read, Err(ConsensusError::Unavailable(_))), "{read:?}");
    assert!(asked.elapsed() < Duration::from_secs(40), "{:?}", asked.elapsed());
    cluster.restart(1).await;
    cluster.node(1).ready().await.unwrap();
    cluster.node(0).partitions()[0].commit(blind([1], "y")).await.unwrap();
    cluster.restart(2).await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_closes_hands_over_at_once() {
    let mut cluster = three().await;
    let leader = cluster.leader().await;
    let closed = cluster.nodes[leader].take().unwrap();
    closed.close().await.unwrap();
    let asked = Instant::now();
    cluster.node((leader + 1) % 3).partitions()[0]
        .commit(blind([1], "x"))
        .await
        .unwrap();
    // Without it, the others wait for the lease to end, and then for an election.
    assert!(asked.elapsed() < Duration::from_millis(1_900), "{:?}", asked.elapsed());
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_not_used_again_and_strangers_are_refused() {
    let mut cluster = three().await;
    // A wiped disk under an old id.
    let dir = tempfile::tempdir().unwrap();
    let mut again = config(dir.path(), cluster.addresses.clone());
    again.peer.as_mut().unwrap().node_id = Some(2);
    let error = Node::open(again).await.err().unwrap().to_string();
    assert!(error.contains("the id 2 was given to a node before"), "{error}");
    // Whether the founder is registered yet or not, nobody else is node 1: it would found the database a second time.
    let dir = tempfile::tempdir().unwrap();
    let mut first = config(dir.path(), cluster.addresses.clone());
    first.peer.as_mut().unwrap().node_id = Some(1);
    let error = Node::open(first).await.err().unwrap().to_string();
    assert!(error.contains("node 1 is the one that made the database"), "{error}");
    // A directory of another database at a member's address.
    cluster.kill(2).await;
    let dir = tempfile::tempdir().unwrap();
    let mut foreign = config(dir.path(), Vec::new());
    foreign.peer.as_mut().unwrap().listen = cluster.addresses[2].parse().unwrap();
    let foreign = Node::open(foreign).await.unwrap();
    cluster.node(0).partitions()[0].create_relation(schema()).await.unwrap();
    foreign.close().await.unwrap();
    cluster.restart(2).await;
    cluster.node(2).ready().await.unwrap();
    // The configuration of one node over the directory of another.
    let mut mixed = config(cluster.dirs[1].path(), Vec::new());
    mixed.peer.as_mut().unwrap().node_id = Some(3);
    cluster.kill(1).await;
    let error = Node::open(mixed).await.err().unwrap().to_string();
    assert!(error.contains("belongs to node 2"), "{error}");
    cluster.close().await;
}

/// Rows of a size at which memtables of the test fill.
fn wide(ids: std::ops::Range<i64>) -> pyralog_storage::WriteSet {
    blind(ids, &"wide ".repeat(200))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_long_away_and_a_new_one_catch_up_by_snapshots_while_writing_goes_on() {
    let mut cluster = three().await;
    cluster.node(0).partitions()[0].commit(blind([1, 2, 3], "old")).await.unwrap();
    let away = (cluster.leader().await + 1) % 3;
    cluster.kill(away).await;
    let writer = cluster.node(cluster.leader().await).clone();
    for round in 0..20_i64 {
        writer.partitions()[0].commit(wide(round * 100..round * 100 + 100)).await.unwrap();
        if round % 5 == 4 {
            for node in cluster.alive() {
                // Into segments, and out of the log.
                node.partitions()[0].barrier().await.unwrap();
                node.partitions()[0].checkpoint().await.unwrap();
            }
        }
    }
    for node in cluster.alive() {
        let status = node.status().groups.remove(1);
        assert!(status.purged_index > 15, "{status:?}");
    }
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let load = {
        let (writer, stop) = (writer.clone(), stop.clone());
        tokio::spawn(async move {
            let mut id = 10_000_i64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                writer.partitions()[0].commit(blind([id], "load")).await.unwrap();
                id += 1;
            }
            id
        })
    };
    cluster.restart(away).await;
    cluster.node(away).ready().await.unwrap();
    let added = cluster.add().await;
    cluster.node(added).ready().await.unwrap();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let written = load.await.unwrap() - 10_000;
    assert!(written > 0);
    for node in cluster.alive() {
        node.partitions()[0].barrier().await.unwrap();
    }
    let expected = rows(&writer.partitions()[0]);
    assert_eq!(expected.len() as i64, 2000 + written);
    for node in cluster.alive() {
        assert!(
            rows(&node.partitions()[0]) == expected,
            "node {} has other rows",
            node.status().node_id
        );
        assert_eq!(node.partitions()[0].storage().verify().unwrap().len(), 0);
    }
    // What arrived is durable, and goes on from there.
    for node in [away, added] {
        cluster.kill(node).await;
        cluster.restart(node).await;
        cluster.node(node).ready().await.unwrap();
        cluster.node(node).partitions()[0].commit(blind([-1], "after")).await.unwrap();
        cluster.node(node).partitions()[0].barrier().await.unwrap();
        assert_eq!(rows(&cluster.node(node).partitions()[0]).len(), expected.len() + 1);
    }
    drop(writer);
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_does_not_open_without_an_address_for_the_others() {
    let mut cluster = three().await;
    cluster.kill(1).await;
    let error = Node::open(NodeConfig::new(cluster.dirs[1].path())).await.err().unwrap().to_string();
    assert!(error.contains("--peer-addr"), "{error}");
    cluster.restart(1).await;
    cluster.node(1).ready().await.unwrap();
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_taken_out_for_ever() {
    let mut cluster = three().await;
    cluster.node(0).remove_member(3).await.unwrap();
    for node in [0, 1] {
        cluster.node(node).ready().await.unwrap();
        let status = cluster.node(node).status();
        assert!(status.groups.iter().all(|group| group.voters == [1, 2]), "{status:?}");
    }
    cluster.kill(2).await;
    cluster.restart(2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(cluster.node(0).status().groups.iter().all(|group| group.voters == [1, 2]));
    cluster.node(0).partitions()[0].commit(blind([1], "x")).await.unwrap();
    let last = cluster.node(0).remove_member(9).await.unwrap_err().to_string();
    assert!(last.contains("no node 9"), "{last}");
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_taken_out_does_not_take_itself_in_again() {
    let mut cluster = three().await;
    let leader = cluster.leader().await;
    let id = cluster.node(leader).status().node_id;
    cluster.node((leader + 1) % 3).remove_member(id).await.unwrap();
    // It looks after its place every few seconds, and at each change of the membership.
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        let others = cluster.alive().map(|node| node.status()).filter(|status| status.node_id != id);
        let back = others.filter(|status| status.groups.iter().any(|group| group.voters.contains(&id)));
        assert_eq!(back.count(), 0);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.kill(leader).await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_though_the_first_that_it_asks_has_no_leader_yet() {
    let mut cluster = three().await;
    cluster.kill(1).await;
    cluster.kill(2).await;
    let (dir, addresses) = (tempfile::tempdir().unwrap(), cluster.addresses.clone());
    let joining = {
        let config = config(dir.path(), addresses);
        tokio::spawn(async move { Node::open(config).await })
    };
    // Longer than a node looks for a leader before it says that there is none.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(!joining.is_finished());
    cluster.restart(1).await;
    let joined = joining.await.unwrap().unwrap();
    assert_eq!(joined.status().node_id, 4);
    cluster.nodes.push(Some(joined));
    cluster.restart(2).await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_applies_nothing_that_its_own_log_may_lose() {
    let mut cluster = three().await;
    let follower = (cluster.leader().await + 1) % 3;
    cluster.kill(follower).await;
    let disk = SwitchedDisk::default();
    let mut config = config(cluster.dirs[follower].path(), Vec::new());
    config.peer.as_mut().unwrap().listen = cluster.addresses[follower].parse().unwrap();
    let environment = NodeEnvironment {
        disk: Arc::new(disk.clone()),
        ..NodeEnvironment::default()
    };
    let node = Node::open_in(config, environment).await.unwrap();
    node.ready().await.unwrap();
    disk.0.hold.store(true, Ordering::SeqCst);
    let leader = cluster.leader().await;
    cluster.node(leader).partitions()[0].commit(blind([1], "x")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let early = rows(&node.partitions()[0]);
    disk.0.hold.store(false, Ordering::SeqCst);
    assert_eq!(early, []);
    until("the follower catches up", || rows(&node.partitions()[0]).len() == 1).await;
    cluster.nodes[follower] = Some(node);
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_taking_a_snapshot_over_and_telling_the_log_is_no_damage() {
    let mut cluster = three().await;
    let away = (cluster.leader().await + 1) % 3;
    cluster.kill(away).await;
    let leader = cluster.node(cluster.leader().await).clone();
    for round in 0..3_i64 {
        leader.partitions()[0].commit(wide(round * 100..round * 100 + 100)).await.unwrap();
    }
    leader.partitions()[0].checkpoint().await.unwrap();
    // What a replica does until the moment of the crash.
    let export = tempfile::tempdir().unwrap();
    let dir = cluster.dirs[away].path().join("partitions/0");
    let (_, position) = leader.partitions()[0].storage().export(export.path()).unwrap();
    let options = pyralog_storage::PartitionOptions::default();
    let partition = pyralog_storage::Partition::open(pyralog_storage::PartitionId(0), &dir, options).unwrap();
    partition.install(export.path()).unwrap();
    drop(partition);
    let config = || {
        let mut config = config(cluster.dirs[away].path(), Vec::new());
        config.peer.as_mut().unwrap().listen = cluster.addresses[away].parse().unwrap();
        config
    };
    // A state ahead of the log that nobody announced is damage.
    let error = Node::open(config()).await.err().unwrap().to_string();
    assert!(error.contains("log files are missing"), "{error}");
    // Storage counts from 1.
    std::fs::write(dir.join("INSTALLING"), (position.index - 1).to_string()).unwrap();
    cluster.restart(away).await;
    cluster.node(away).ready().await.unwrap();
    assert!(rows(&cluster.node(away).partitions()[0]) == rows(&leader.partitions()[0]));
    cluster.node(away).partitions()[0].commit(blind([-1], "after")).await.unwrap();
    drop(leader);
    cluster.close().await;
}
