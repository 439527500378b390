//! Durable inserts of single rows over Flight SQL, by 1 and by 32 clients, as text and prepared: rows a second, and the 50th and
//! 99th percentile of an insert's time. `PYRALOG_SECONDS` is how long each takes (default 5).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that fails must stop"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use pyralog_client::params;
use pyralog_tests::measure::{asked_to_run, machine, percentile, setting};
use pyralog_tests::runtime::block_on;
use pyralog_tests::server::Server;

fn main() {
    if !asked_to_run() {
        return;
    }
    let length = Duration::from_secs(setting("PYRALOG_SECONDS", 5));
    println!("durable inserts of one row, {length:?} each, {}", machine());
    println!(
        "{:>8} {:>9} {:>10} {:>9} {:>9}",
        "clients", "statement", "rows/s", "p50 ms", "p99 ms"
    );
    let server = Server::start();
    block_on(async {
        let db = server.client_with_table("t (id BIGINT PRIMARY KEY, name VARCHAR, n BIGINT)").await;
        let next = Arc::new(AtomicI64::new(0));
        for clients in [1, 32] {
            for prepared in [false, true] {
                let started = Instant::now();
                let mut tasks = tokio::task::JoinSet::new();
                for _ in 0..clients {
                    let (db, next) = (server.client().await, Arc::clone(&next));
                    tasks.spawn(async move { insert(db, next, started + length, prepared).await });
                }
                let mut times: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
                let rate = times.len() as f64 / started.elapsed().as_secs_f64();
                let (p50, p99) = (percentile(&mut times, 50.0), percentile(&mut times, 99.0));
                let statement = if prepared { "prepared" } else { "text" };
                println!(
                    "{clients:>8} {statement:>9} {rate:>10.0} {:>9.2} {:>9.2}",
                    p50.as_secs_f64() * 1e3,
                    p99.as_secs_f64() * 1e3
                );
            }
        }
        let count: i64 = db.sql("SELECT count(*) FROM t").fetch_scalar().await.unwrap();
        assert_eq!(count, next.load(Ordering::SeqCst), "rows that were acknowledged are missing");
    });
}

/// Inserts until a point in time; how long each took.
async fn insert(db: pyralog_client::Client, next: Arc<AtomicI64>, until: Instant, prepared: bool) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut statement = match prepared {
        true => Some(db.prepare("INSERT INTO t VALUES ($1, 'a name', $2)").await.unwrap()),
        false => None,
    };
    while Instant::now() < until {
        let id = next.fetch_add(1, Ordering::SeqCst);
        let started = Instant::now();
        match &mut statement {
            Some(statement) => statement.execute(params![id, id * 2]).await.unwrap(),
            None => db
                .sql(format!("INSERT INTO t VALUES ({id}, 'a name', {})", id * 2))
                .execute()
                .await
                .unwrap(),
        };
        times.push(started.elapsed());
    }
    times
}
