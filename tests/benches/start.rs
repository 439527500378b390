//! Cold start: from the process's start until `/health` answers, and until the first query does, with TPC-H on disk, after an
//! orderly stop and after `kill -9`. `TPCH_SF` is the scale (default 0.1).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that fails must stop"
)]

use std::time::Instant;

use pyralog_tests::measure::{asked_to_run, machine, setting};
use pyralog_tests::runtime::block_on;
use pyralog_tests::server::{Server, ServerOptions};
use pyralog_tests::tpch::load_all;

fn main() {
    if !asked_to_run() {
        return;
    }
    let scale: f64 = setting("TPCH_SF", 0.1);
    println!("cold start with TPC-H SF {scale} on disk, {}", machine());
    let mut server = Server::start_with(ServerOptions::default().memory_limit("1GB"));
    block_on(async {
        let db = server.client().await;
        load_all(&db, scale).await;
    });
    for how in ["kill -9", "stop", "kill -9", "stop"] {
        match how {
            "stop" => assert!(server.stop().success()),
            _ => server.kill(),
        }
        let started = Instant::now();
        server.restart();
        let ready = started.elapsed();
        let rows: i64 = block_on(async {
            server
                .client()
                .await
                .sql("SELECT count(*) FROM lineitem")
                .fetch_scalar()
                .await
                .unwrap()
        });
        let queried = started.elapsed();
        println!(
            "after {how}: ready in {:.3} s, first query ({rows} rows) in {:.3} s",
            ready.as_secs_f64(),
            queried.as_secs_f64()
        );
    }
}
