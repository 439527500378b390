//! Clocks that are an hour off: timestamps grow and reads see everything, whoever leads.

use pyralog_consensus::NodeEnvironment;
use pyralog_consensus::clock::{SystemClock, WallClock};

use crate::cluster::Cluster;
use crate::table::{blind, rows, schema};

const HOUR_MS: i64 = 3_600_000;

struct Skewed(i64);

impl WallClock for Skewed {
    fn millis(&self) -> u64 {
        SystemClock.millis().saturating_add_signed(self.0)
    }
}

fn environment(offset_ms: i64) -> NodeEnvironment {
    NodeEnvironment {
        wall: Box::new(Skewed(offset_ms)),
        ..NodeEnvironment::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_whose_clocks_are_an_hour_off_serve_as_any_other() {
    let offsets = [0, HOUR_MS, -HOUR_MS];
    let mut cluster = Cluster::start(0).await;
    for offset in offsets {
        cluster.add_in(environment(offset)).await;
    }
    cluster.node(0).partitions()[0].create_relation(schema()).await.unwrap();
    let mut last = None;
    let mut leaders = std::collections::BTreeSet::new();
    let mut written = 0_i64;
    for _ in 0..12 {
        let leader = cluster.leader().await;
        leaders.insert(leader);
        for writer in 0..3 {
            let timestamp = cluster.node(writer).partitions()[0].commit(blind([written], "row")).await.unwrap();
            assert!(last < Some(timestamp), "after {last:?} came {timestamp:?} of leader {leader}");
            last = Some(timestamp);
            written += 1;
            for reader in cluster.alive() {
                reader.partitions()[0].barrier().await.unwrap();
                assert_eq!(rows(&reader.partitions()[0]).len() as i64, written);
                assert!(reader.now() >= timestamp, "the present of a node is behind what it has read");
                let then = reader.partitions()[0].snapshot(Some(timestamp));
                assert!(then.is_ok(), "the state at a commit's timestamp can be read");
            }
        }
        if leaders.len() == 3 {
            break;
        }
        // Another leader, and this one comes back with the same clock.
        cluster.nodes[leader].take().unwrap().close().await.unwrap();
        cluster.leader().await;
        cluster.restart_in(leader, environment(offsets[leader])).await;
        cluster.node(leader).ready().await.unwrap();
    }
    assert!(leaders.len() >= 2, "only {leaders:?} led");
    let ahead = cluster.node(0).status().clock_ahead_ms;
    let fast_led = leaders.contains(&1);
    assert_eq!(ahead > HOUR_MS as u64 / 2, fast_led, "{ahead} ms, {leaders:?}");
    cluster.close().await;
}
