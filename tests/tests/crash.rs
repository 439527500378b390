//! The process is killed at random moments while writers acknowledge numbered rows. After each restart every acknowledged row is
//! there, no row that nobody wrote, and no part of a batch or of a transaction.
//!
//! `PYRALOG_CRASH_KILLS=200` for the long run; `PYRALOG_CRASH_SEED=n` for the same moments again.

mod check;
mod writers;

use std::time::Duration;

use pyralog_client::RetryPolicy;
use pyralog_tests::measure::setting;
use pyralog_tests::runtime::block_on;
use pyralog_tests::server::{Server, ServerOptions};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use writers::{Ledger, TABLES};

#[test]
fn acknowledged_rows_survive_kill_9() {
    let kills: u32 = setting("PYRALOG_CRASH_KILLS", 10);
    let seed: u64 = setting("PYRALOG_CRASH_SEED", rand::random());
    println!("{kills} kills, PYRALOG_CRASH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    // Little memory, so that flushes and compactions are among what is cut off.
    let mut server = Server::start_with(ServerOptions::default().memory_limit("192MB"));
    let ledger = Ledger::default();
    block_on(async {
        let db = server.client().await;
        for definition in TABLES {
            db.sql(definition).execute().await.unwrap();
        }
    });
    for kill in 1..=kills {
        block_on(one_life(&mut server, &ledger, &mut random));
        server.restart();
        block_on(async { check::everything(&server.client().await, &ledger).await });
        println!("kill {kill}: {}", ledger.summary());
    }
    assert!(ledger.acknowledged() > 0, "no writer was ever acknowledged");
    // All of it once more after an orderly stop and a full flush.
    block_on(async { server.client().await.sql("CHECKPOINT").execute().await.unwrap() });
    assert!(server.stop().success());
    server.restart();
    block_on(async { check::everything(&server.client().await, &ledger).await });
}

/// Writers write until the process is killed.
async fn one_life(server: &mut Server, ledger: &Ledger, random: &mut StdRng) {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers::WRITERS {
        let db = server
            .client_with(|config| {
                config.retry(RetryPolicy {
                    attempts: 1,
                    ..RetryPolicy::default()
                })
            })
            .await;
        tasks.spawn(writers::write_until_killed(db, ledger.clone(), writer, random.random()));
    }
    tokio::time::sleep(Duration::from_millis(random.random_range(20..1500))).await;
    server.kill();
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}
