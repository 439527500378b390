//! Measures durable commits of one row: latency of one client, and rate of many.
//!
//! `cargo run --release -p pyralog-consensus --example commit_rate -- [DIR] [SECONDS]`

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field};
use pyralog_consensus::{Node, NodeConfig, PartitionHandle};
use pyralog_storage::{ConflictPolicy, RelationId, RelationSchema, RelationWrites, Timestamp, WriteSet};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments
        .next()
        .map_or_else(|| std::env::temp_dir().join("pyralog-commit-rate"), Into::into);
    let seconds = Duration::from_secs(arguments.next().map_or(Ok(3), |s| s.parse())?);
    let start = Instant::now();
    let node = Node::open(NodeConfig::new(dir)).await?;
    println!("opened in {:?}", start.elapsed());
    let fields = [Field::new("id", DataType::Int64, false), Field::new("text", DataType::Utf8, true)];
    let schema = RelationSchema::new(RelationId(1), fields, vec![0]);
    let partition = node.partitions()[0].clone();
    partition.create_relation(schema.clone()).await?;
    for clients in [1, 8, 32, 128] {
        let syncs = node.status().log_syncs;
        let start = Instant::now();
        let tasks: Vec<_> = (0..clients)
            .map(|client| tokio::spawn(run(partition.clone(), schema.clone(), client, seconds)))
            .collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await??);
        }
        let elapsed = start.elapsed().as_secs_f64();
        latencies.sort();
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
        println!(
            "{clients:>4} clients: {:>8.0} commits/s, {:>6.0} syncs/s, latency p50 {:?}, p99 {:?}, max {:?}",
            latencies.len() as f64 / elapsed,
            (node.status().log_syncs - syncs) as f64 / elapsed,
            at(0.5),
            at(0.99),
            at(1.0),
        );
    }
    node.close().await?;
    Ok(())
}

/// One client that commits one row after the other.
async fn run(partition: PartitionHandle, schema: RelationSchema, client: i64, time: Duration) -> Result<Vec<Duration>, Failure> {
    let begin = Instant::now();
    let mut latencies = Vec::new();
    while begin.elapsed() < time {
        let id = client << 32 | latencies.len() as i64;
        let columns = vec![
            Arc::new(Int64Array::from(vec![id])) as _,
            Arc::new(StringArray::from(vec!["a short text"])) as _,
        ];
        let puts = vec![RecordBatch::try_new(schema.schema.clone(), columns)?];
        let policy = ConflictPolicy::LastWriteWins;
        let writes = RelationWrites {
            relation: schema.id,
            emptied: false,
            puts,
            deletes: Vec::new(),
            staged: Vec::new(),
            policy,
        };
        let start = Instant::now();
        partition
            .commit(WriteSet {
                start: Timestamp::ZERO,
                relations: vec![writes],
                reads: Vec::new(),
            })
            .await?;
        latencies.push(start.elapsed());
    }
    Ok(latencies)
}
