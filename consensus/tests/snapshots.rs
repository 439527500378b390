//! Snapshots on their way to another node: at a pace, and going on where a restart cut them off.

use std::path::Path;
use std::time::{Duration, Instant};

use pyralog_consensus::Node;

use crate::cluster::{config, until, votes};
use crate::table::{blind, rows, schema};

const SEGMENTS: i64 = 12;
const SEGMENT_ROWS: i64 = 200;
/// Slow, so that a restart comes in between. Bytes per second.
const RATE: u64 = 400_000;

/// A text that does not compress.
fn text(row: i64) -> String {
    let mut state = row as u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (state >> 59) as u8 % 26)
    };
    (0..500).map(|_| next()).collect()
}

/// Whole files that have arrived for the data group, and their bytes.
fn arrived(dir: &Path) -> (usize, u64) {
    let Ok(folder) = std::fs::read_dir(dir.join("partitions/0/arrived")) else {
        return (0, 0);
    };
    let whole = folder
        .flatten()
        .filter(|entry| !entry.path().to_string_lossy().ends_with(".coming"));
    let sizes: Vec<u64> = whole.filter_map(|entry| Some(entry.metadata().ok()?.len())).collect();
    (sizes.len(), sizes.iter().sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_keeps_its_pace_and_goes_on_after_a_restart() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut slow = config(first.path(), Vec::new());
    slow.peer.as_mut().unwrap().snapshot_rate = RATE;
    let founder = Node::open(slow).await.unwrap();
    let partition = &founder.partitions()[0];
    partition.create_relation(schema()).await.unwrap();
    for segment in 0..SEGMENTS {
        for row in segment * SEGMENT_ROWS..(segment + 1) * SEGMENT_ROWS {
            partition.commit(blind([row], &text(row))).await.unwrap();
        }
        partition.checkpoint().await.unwrap();
    }
    let address = founder.status().members[0].1.clone();
    let mut joining = config(second.path(), vec![address]);
    // The same port in both lives.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    joining.peer.as_mut().unwrap().listen = port;
    let begun = Instant::now();
    let newcomer = Node::open(joining.clone()).await.unwrap();
    until("some files have arrived", || arrived(second.path()).0 >= 4).await;
    drop(newcomer);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (files, bytes) = arrived(second.path());
    assert!(files >= 4, "{files} files were kept");
    let newcomer = Node::open(joining).await.unwrap();
    until("the newcomer votes", || votes(&newcomer)).await;
    let took = begun.elapsed();
    let fetched = newcomer.status().groups[1].snapshots.fetched_bytes;
    let sent = founder.status().groups[1].snapshots.sent;
    assert_eq!(sent, 1, "one snapshot was taken");
    // The last file of the first life may have been cut off.
    println!("{bytes} bytes in {files} files arrived before the restart, {fetched} after it, in {took:?}");
    assert!(fetched > 0);
    let least = Duration::from_secs_f64((bytes + fetched) as f64 / RATE as f64) - Duration::from_secs(1);
    assert!(took > least, "took {took:?}, and {least:?} is the least");
    newcomer.partitions()[0].barrier().await.unwrap();
    assert_eq!(rows(&newcomer.partitions()[0]), rows(&founder.partitions()[0]));
    assert_eq!(newcomer.partitions()[0].storage().verify().unwrap().len(), 0);
    assert_eq!(arrived(second.path()).0, 0, "what was taken over is not kept twice");
    let all: u64 = founder.partitions()[0]
        .storage()
        .export(&first.path().join("all"))
        .unwrap()
        .0
        .iter()
        .map(|file| file.bytes)
        .sum();
    assert!(
        bytes + fetched <= all + all / 4,
        "{bytes} and {fetched} bytes were fetched of {all}"
    );
    newcomer.close().await.unwrap();
    founder.close().await.unwrap();
}
