//! `/metrics` of a cluster: well-formed, documented, and it follows what happens.

use std::time::{Duration, Instant};

use pyralog_tests::binary::workspace;
use pyralog_tests::cluster::{Cluster, ClusterNode};
use pyralog_tests::exposition::Exposition;
use pyralog_tests::http::try_request;
use pyralog_tests::runtime::block_on;

fn scrape(node: &ClusterNode) -> Option<Exposition> {
    let answer = try_request(node.http_port(), "GET", "/metrics", &[], b"").ok()?;
    assert_eq!(answer.status, 200);
    let text = answer.text();
    Some(Exposition::parse(&text).unwrap_or_else(|error| panic!("node {}: {error}\n{text}", node.id)))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn metrics_are_well_formed_documented_and_follow_the_cluster() {
    let cluster = Cluster::up(3, "128MB");
    let nodes = cluster.nodes();
    let p0 = [("group", "p0")];
    let leader = nodes.iter().find(|node| node.leads.iter().any(|group| group == "p0")).unwrap();
    block_on(async {
        let db = leader.client().await.unwrap();
        db.sql("CREATE TABLE t (id BIGINT PRIMARY KEY)").execute().await.unwrap();
        db.sql("INSERT INTO t SELECT value FROM generate_series(1, 1000)")
            .execute()
            .await
            .unwrap();
    });
    until("followers are up to date and connected", || {
        let metrics = scrape(leader).unwrap();
        nodes.iter().filter(|node| node.id != leader.id).all(|node| {
            let peer = node.id.to_string();
            metrics.value("pyralog_group_follower_lag_entries", &[("group", "p0"), ("peer", &peer)]) == Some(0.0)
                && metrics.value("pyralog_peer_connected", &[("peer", &peer)]) == Some(1.0)
        })
    });
    let reference = std::fs::read_to_string(workspace().join("docs/src/reference/metrics.md")).unwrap();
    let before: Vec<Exposition> = nodes.iter().map(|node| scrape(node).unwrap()).collect();
    for (node, metrics) in nodes.iter().zip(&before) {
        for name in metrics.names() {
            assert!(reference.contains(&format!("`{name}`")), "{name} is not in the reference");
        }
        for group in ["meta", "p0"] {
            let group = [("group", group)];
            assert_eq!(metrics.value("pyralog_group_quorum", &group), Some(1.0), "node {}", node.id);
            assert_eq!(metrics.value("pyralog_group_voters", &group), Some(3.0));
            assert_eq!(metrics.value("pyralog_group_stopped", &group), Some(0.0));
        }
        assert_eq!(metrics.value("pyralog_group_leader_id", &p0), Some(leader.id as f64));
        assert_eq!(
            metrics.value("pyralog_group_leader", &p0),
            Some(f64::from(u8::from(node.id == leader.id)))
        );
    }
    leader.signal("KILL");
    let others: Vec<&ClusterNode> = nodes.iter().filter(|node| node.id != leader.id).collect();
    for node in &others {
        let before = &before[node.id as usize - 1];
        let gone = leader.id.to_string();
        until("the new leader, and that the old one is away", || {
            let now = scrape(node).unwrap();
            if let Some(back) = now.went_back_since(before) {
                panic!("a counter went back: {back}");
            }
            now.value("pyralog_group_term", &p0) > before.value("pyralog_group_term", &p0)
                && now.value("pyralog_group_leader_id", &p0) != Some(leader.id as f64)
                && now.value("pyralog_group_leader_changes_total", &p0) > before.value("pyralog_group_leader_changes_total", &p0)
                && now.value("pyralog_group_quorum", &p0) == Some(1.0)
                && now.value("pyralog_peer_connected", &[("peer", &gone)]) == Some(0.0)
                && now.value("pyralog_peer_calls_failed_total", &[("peer", &gone)]) > Some(0.0)
        });
    }
    let new = others
        .iter()
        .find(|node| scrape(node).unwrap().value("pyralog_group_leader", &p0) == Some(1.0))
        .unwrap();
    let lag = || {
        scrape(new).unwrap().value(
            "pyralog_group_follower_lag_entries",
            &[("group", "p0"), ("peer", &leader.id.to_string())],
        )
    };
    block_on(async {
        let db = new.client().await.unwrap();
        db.sql("INSERT INTO t VALUES (-1)").execute().await.unwrap();
    });
    assert!(lag() > Some(0.0), "{:?}", lag());
    cluster.succeed(&["restart", &leader.id.to_string()]);
    until("the node that was away lacks nothing", || lag() == Some(0.0));
    // Scrapes hold nothing up.
    let begun = Instant::now();
    (0..100).for_each(|_| drop(scrape(new)));
    println!("a scrape takes {:?}", begun.elapsed() / 100);
    assert_eq!(cluster.panics(), Vec::<String>::new());
}
