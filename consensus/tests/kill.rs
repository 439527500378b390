//! kill -9: a process is killed at a random moment, again and again, and whatever it acknowledged is there.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pyralog_consensus::{Node, NodeConfig};
use pyralog_storage::PartitionOptions;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::table::{blind, rows, schema};

const DIRECTORY: &str = "PYRALOG_KILL_TEST_DIR";
const FIRST_ID: &str = "PYRALOG_KILL_TEST_FIRST_ID";
const ROUNDS: i64 = 8;

fn config(dir: &Path) -> NodeConfig {
    // Small, so that rotation, flush, purge and compaction are cut short too.
    let options = PartitionOptions {
        memtable_bytes: 32 << 10,
        ..PartitionOptions::default()
    };
    NodeConfig {
        log_file_bytes: 32 << 10,
        partition_options: options,
        ..NodeConfig::new(dir)
    }
}

/// The process that is killed: not a test by itself.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let (Ok(dir), Ok(first)) = (std::env::var(DIRECTORY), std::env::var(FIRST_ID)) else {
        return;
    };
    let node = Node::open(config(Path::new(&dir))).await.unwrap();
    let partition = node.partitions()[0].clone();
    partition.create_relation(schema()).await.unwrap();
    let first: i64 = first.parse().unwrap();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let partition = partition.clone();
            tokio::spawn(async move {
                for round in 0.. {
                    let id = first + round * 4 + writer;
                    partition.commit(blind([id], &"x".repeat(300))).await.unwrap();
                    // One write call a line: a killed process leaves whole lines.
                    std::io::stdout().write_all(format!("\nacknowledged {id}\n").as_bytes()).unwrap();
                }
            })
        })
        .collect();
    futures::future::join_all(writers).await;
}

#[test]
fn acknowledged_writes_survive_kill_9() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child", "--nocapture", "--test-threads", "1"])
            .env(DIRECTORY, dir.path())
            .env(FIRST_ID, (round * 1_000_000).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            lines
                .filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok())
                .collect::<Vec<i64>>()
        });
        std::thread::sleep(Duration::from_millis(random.random_range(50..600)));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(reader.join().unwrap());
        runtime.block_on(async {
            let node = Node::open(config(dir.path())).await.unwrap();
            node.partitions()[0].create_relation(schema()).await.unwrap();
            let found: BTreeSet<i64> = rows(&node.partitions()[0]).into_iter().map(|(id, _)| id).collect();
            let lost: Vec<_> = acknowledged.difference(&found).collect();
            assert!(lost.is_empty(), "round {round}, seed {seed}: lost {lost:?}");
            if random.random_bool(0.5) {
                node.close().await.unwrap();
            }
        });
    }
    assert!(acknowledged.len() > 20, "only {} writes were acknowledged", acknowledged.len());
    println!("{} acknowledged writes over {ROUNDS} kills", acknowledged.len());
}
