//! TPC-H, all 22 queries, warm, best of three: Pyralog's release binary over Flight SQL against DataFusion over the same batches in
//! memory, in the same run. `TPCH_SF` is the scale (default 0.1).
//!
//! ```text
//! TPCH_SF=1 cargo bench -p pyralog-tests -p pyralog-server --bench tpch
//! ```
//! `tests/peers/tpch.py` runs DuckDB beside Pyralog.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that fails must stop"
)]

use std::time::{Duration, Instant};

use pyralog_client::Client;
use pyralog_tests::measure::{asked_to_run, best_of, machine, setting};
use pyralog_tests::peer;
use pyralog_tests::runtime::block_on;
use pyralog_tests::server::{Server, ServerOptions};
use pyralog_tests::tpch::{TpchQuery, gives_rows, load_all, queries};

const RUNS: usize = 3;

fn main() {
    if !asked_to_run() {
        return;
    }
    let Some(queries) = queries() else { return };
    let scale: f64 = setting("TPCH_SF", 0.1);
    println!("TPC-H SF {scale}, best of {RUNS}, {}", machine());
    let server = Server::start_with(ServerOptions::default().memory_limit(&setting("PYRALOG_MEMORY", "6GB".to_owned())));
    block_on(async {
        let db = server.client().await;
        let started = Instant::now();
        load_all(&db, scale).await;
        println!("loaded durably with primary keys in {:.2} s", started.elapsed().as_secs_f64());
        db.sql("CHECKPOINT").execute().await.unwrap();
        let context = peer::load(scale);
        println!("{:>5} {:>12} {:>12} {:>7}", "query", "pyralog ms", "peer ms", "ratio");
        let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
        for query in &queries {
            let (own, own_rows) = best_of(RUNS, async || run(&db, query).await).await;
            let (peer, peer_rows) = best_of(RUNS, async || {
                peer::run(&context, query).await.iter().map(|b| b.num_rows()).sum::<usize>()
            })
            .await;
            assert_eq!(own_rows, peer_rows, "q{} differs from the peer", query.number);
            line(&format!("q{}", query.number), own, peer);
            ours += own;
            theirs += peer;
        }
        line("total", ours, theirs);
    });
}

fn line(name: &str, ours: Duration, theirs: Duration) {
    let (ours, theirs) = (ours.as_secs_f64() * 1e3, theirs.as_secs_f64() * 1e3);
    println!("{name:>5} {ours:>12.1} {theirs:>12.1} {:>7.2}", ours / theirs);
}

/// Runs a query over the wire; the number of its rows.
async fn run(db: &Client, query: &TpchQuery) -> usize {
    let mut rows = 0;
    for statement in &query.statements {
        if gives_rows(statement) {
            let batches = db
                .sql(statement)
                .fetch_all()
                .await
                .unwrap_or_else(|error| panic!("q{}: {error}", query.number));
            rows = batches.iter().map(|batch| batch.num_rows()).sum();
        } else {
            db.sql(statement)
                .execute()
                .await
                .unwrap_or_else(|error| panic!("q{}: {error}", query.number));
        }
    }
    rows
}
