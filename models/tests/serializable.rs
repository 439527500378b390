//! SERIALIZABLE: what a transaction has read is as it was when it commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyralog_models::{Database, Error, Session};
use tokio::runtime::Handle;

use crate::fixture::{Fixture, rows, run};

async fn serializable(f: &Fixture) -> Session {
    let session = f.db.session();
    run(&session, "BEGIN ISOLATION LEVEL SERIALIZABLE").await.unwrap();
    session
}

/// Runs statements in one transaction, one in another that commits meanwhile, and commits the first: its error code, if it fails.
async fn meets(f: &Fixture, first: &[&str], other: &str) -> Option<&'static str> {
    let session = serializable(f).await;
    for sql in first {
        // A statement that fails has looked as well.
        drop(run(&session, sql).await);
    }
    f.run(other).await;
    run(&session, "COMMIT").await.err().map(|error: Error| error.code)
}

async fn filled() -> Fixture {
    let f = Fixture::new().await;
    f.run("CREATE TABLE t (a BIGINT, b VARCHAR, n INT, PRIMARY KEY (a, b))").await;
    f.run("CREATE TABLE log (id BIGINT PRIMARY KEY, n BIGINT)").await;
    f.run("INSERT INTO t SELECT v / 10, 'b' || (v % 10), 0 FROM generate_series(0, 99) AS s(v)")
        .await;
    f
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_and_is_changed_meanwhile_refuses_the_commit() {
    let f = filled().await;
    let conflicts = [
        (
            "SELECT n FROM t WHERE a = 1 AND b = 'b1'",
            "UPDATE t SET n = n + 1 WHERE a = 1 AND b = 'b1'",
        ),
        ("SELECT n FROM t WHERE a = 1 AND b = 'none'", "INSERT INTO t VALUES (1, 'none', 0)"),
        ("SELECT count(*) FROM t WHERE a = 2", "INSERT INTO t VALUES (2, 'new', 0)"),
        (
            "SELECT count(*) FROM t WHERE a = 2 AND b >= 'b5'",
            "DELETE FROM t WHERE a = 2 AND b = 'b7'",
        ),
        (
            "SELECT count(*) FROM t WHERE a BETWEEN 3 AND 5",
            "INSERT INTO t VALUES (5, 'new', 0)",
        ),
        (
            "SELECT count(*) FROM t WHERE a > 9 AND a < 20",
            "INSERT INTO t VALUES (19, 'new', 0)",
        ),
        ("SELECT max(n) FROM t", "UPDATE t SET n = 1 WHERE a = 0 AND b = 'b0'"),
        ("SELECT count(*) FROM t", "INSERT INTO t VALUES (1000, 'new', 0)"),
        ("SELECT 1 FROM t WHERE n = 77", "UPDATE t SET n = 77 WHERE a = 0 AND b = 'b1'"),
        (
            "SELECT x.n FROM t x JOIN t y ON x.a = y.n WHERE x.a = 4",
            "UPDATE t SET n = 4 WHERE a = 9 AND b = 'b9'",
        ),
        (
            "INSERT INTO t VALUES (6, 'b0', 0) ON CONFLICT DO NOTHING",
            "DELETE FROM t WHERE a = 6 AND b = 'b0'",
        ),
        ("INSERT INTO t VALUES (6, 'b1', 0)", "DELETE FROM t WHERE a = 6 AND b = 'b1'"),
        ("DELETE FROM t WHERE a = 60", "INSERT INTO t VALUES (60, 'new', 0)"),
        ("UPDATE t SET n = 5 WHERE a = 61", "INSERT INTO t VALUES (61, 'new', 0)"),
        (
            "INSERT INTO log SELECT a, n FROM t WHERE a = 62",
            "INSERT INTO t VALUES (62, 'new', 0)",
        ),
        ("TRUNCATE t", "INSERT INTO t VALUES (63, 'new', 0)"),
    ];
    for (i, (read, other)) in conflicts.into_iter().enumerate() {
        let write = format!("INSERT INTO log VALUES ({}, 0)", i + 1000);
        assert_eq!(meets(&f, &[read, &write], other).await, Some("40001"), "{read}");
        assert_eq!(
            f.rows(&format!("SELECT * FROM log WHERE id = {}", i + 1000)).await,
            [""; 0],
            "{read}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_what_was_not_read_refuse_nothing() {
    let f = filled().await;
    let apart = [
        (
            "SELECT n FROM t WHERE a = 1 AND b = 'b1'",
            "UPDATE t SET n = n + 1 WHERE a = 1 AND b = 'b2'",
        ),
        (
            "SELECT n FROM t WHERE a IN (1, 2) AND b IN ('b1', 'b2')",
            "UPDATE t SET n = n + 1 WHERE a = 1 AND b = 'b3'",
        ),
        ("SELECT count(*) FROM t WHERE a = 2", "INSERT INTO t VALUES (3, 'new', 0)"),
        (
            "SELECT count(*) FROM t WHERE a = 2 AND b >= 'b5'",
            "DELETE FROM t WHERE a = 2 AND b = 'b4'",
        ),
        (
            "SELECT count(*) FROM t WHERE a = 2 AND 'b5' <= b",
            "INSERT INTO t VALUES (2, 'a', 0)",
        ),
        (
            "SELECT count(*) FROM t WHERE a BETWEEN 3 AND 5",
            "INSERT INTO t VALUES (6, 'new', 0)",
        ),
        (
            "SELECT count(*) FROM t WHERE a < 3 AND n = 0",
            "INSERT INTO t VALUES (3, 'newer', 0)",
        ),
        ("SELECT max(n) FROM log", "INSERT INTO t VALUES (1000, 'new', 0)"),
        ("DELETE FROM t WHERE a = 60", "INSERT INTO t VALUES (61, 'new', 0)"),
    ];
    for (i, (read, other)) in apart.into_iter().enumerate() {
        let write = format!("INSERT INTO log VALUES ({}, 0)", i + 1000);
        assert_eq!(meets(&f, &[read, &write], other).await, None, "{read}");
    }
    // It has written nothing, and could have run at its start.
    assert_eq!(
        meets(&f, &["SELECT count(*) FROM t"], "INSERT INTO t VALUES (2000, 'new', 0)").await,
        None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_count_also_after_a_savepoint_is_gone_back_to() {
    let f = filled().await;
    let reads = [
        "SAVEPOINT s",
        "SELECT sum(n) FROM t",
        "ROLLBACK TO s",
        "INSERT INTO log VALUES (1, 1)",
    ];
    assert_eq!(
        meets(&f, &reads, "UPDATE t SET n = 1 WHERE a = 0 AND b = 'b0'").await,
        Some("40001")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_inserted_and_taken_back_was_seen_not_to_be_there() {
    let f = filled().await;
    let inserts = [
        "SAVEPOINT s",
        "INSERT INTO log VALUES (1, 1)",
        "ROLLBACK TO s",
        "INSERT INTO log VALUES (2, 1)",
    ];
    assert_eq!(meets(&f, &inserts, "INSERT INTO log VALUES (1, 1)").await, Some("40001"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_is_chosen_by_begin_by_the_transaction_or_by_the_session() {
    let f = filled().await;
    let skewed = async |session: &Session| {
        run(session, "SELECT sum(n) FROM t").await.unwrap();
        run(session, "INSERT INTO log VALUES (1, 1)").await.unwrap();
        f.run("UPDATE t SET n = n + 1 WHERE a = 0 AND b = 'b0'").await;
        let refused = run(session, "COMMIT").await.err().map(|error| error.code);
        f.run("DELETE FROM log").await;
        refused == Some("40001")
    };
    let session = f.db.session();
    for (begin, is_serializable) in [
        ("BEGIN", false),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ", false),
        ("START TRANSACTION ISOLATION LEVEL SERIALIZABLE", true),
        ("BEGIN; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", true),
        (
            "BEGIN ISOLATION LEVEL SERIALIZABLE; SET TRANSACTION ISOLATION LEVEL SNAPSHOT",
            false,
        ),
        ("SET transaction_isolation = 'serializable'; BEGIN", true),
        (
            "SET transaction_isolation = 'snapshot'; BEGIN; SET transaction_isolation = 'serializable'",
            true,
        ),
        ("BEGIN ISOLATION LEVEL READ COMMITTED", false),
        ("SET transaction_isolation = 'snapshot'; BEGIN", false),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE; BEGIN",
            true,
        ),
    ] {
        for statement in begin.split("; ") {
            run(&session, statement)
                .await
                .unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        assert_eq!(skewed(&session).await, is_serializable, "{begin}");
    }
    assert_eq!(session.setting("transaction_isolation").unwrap(), "serializable");
    assert_eq!(
        run(&session, "SET transaction_isolation = 'chaos'").await.unwrap_err().code,
        "22023"
    );
    let late = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE";
    assert_eq!(run(&session, late).await.unwrap_err().code, "25P01");
    run(&session, "BEGIN").await.unwrap();
    run(&session, "SELECT 1 FROM t").await.unwrap();
    assert_eq!(run(&session, late).await.unwrap_err().code, "25001");
    let setting = "SET transaction_isolation = 'snapshot'";
    assert_eq!(run(&session, setting).await.unwrap_err().code, "25001");
    assert_eq!(
        session.setting("transaction_isolation").unwrap(),
        "serializable",
        "that of the open transaction"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rdf_and_buckets_are_read_too() {
    let f = filled().await;
    f.run("CREATE COLLECTION kb AS RDF").await;
    f.run("CREATE COLLECTION b AS KV").await;
    let insert = "CALL sparql_update('kb', 'INSERT DATA { <s:1> <p:1> 1 }')";
    let asked = "SELECT * FROM sparql('kb', 'SELECT ?s { ?s <p:1> ?o }')";
    assert_eq!(meets(&f, &[asked, "INSERT INTO log VALUES (1, 1)"], insert).await, Some("40001"));
    let put = "INSERT INTO b (key, value) VALUES (X'01', X'02')";
    let get = "SELECT value FROM b WHERE key = X'01'";
    assert_eq!(meets(&f, &[get, "INSERT INTO log VALUES (1, 1)"], put).await, Some("40001"));
    let other = "INSERT INTO b (key, value) VALUES (X'03', X'02')";
    assert_eq!(meets(&f, &[get, "INSERT INTO log VALUES (1, 1)"], other).await, None);
}

/// Tries of a probe until one commits; how many were refused.
async fn until_committed(session: &Session, work: impl AsyncFn() -> Result<(), Error>) -> u64 {
    let mut refused = 0;
    loop {
        run(session, "BEGIN ISOLATION LEVEL SERIALIZABLE").await.unwrap();
        let done = match work().await {
            Ok(()) => run(session, "COMMIT").await.map(drop),
            Err(error) => {
                run(session, "ROLLBACK").await.unwrap();
                Err(error)
            }
        };
        match done {
            Ok(()) => return refused,
            Err(error) if error.code == "40001" => refused += 1,
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_micros(100 << refused.min(7))).await;
    }
}

fn next(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Each pair of doctors keeps one on call: who goes has seen that the other one is there. (Write skew.)
async fn write_skew(db: &Database, pairs: u64, seed: u64, count: u64) -> u64 {
    let (session, mut random, mut refused) = (db.session(), seed, 0);
    for _ in 0..count {
        let (pair, who) = (next(&mut random) % pairs, next(&mut random) % 2);
        refused += until_committed(&session, async || {
            let sql = format!(
                "SELECT sum(CASE WHEN on_call THEN 1 ELSE 0 END) FROM doctor WHERE id IN ({}, {})",
                2 * pair,
                2 * pair + 1
            );
            let there: u64 = rows(&session, &sql).await?[0].parse().unwrap();
            assert!(there > 0, "both doctors of pair {pair} went");
            let sql = format!("UPDATE doctor SET on_call = {} WHERE id = {}", there < 2, 2 * pair + who);
            run(&session, &sql).await.map(drop)
        })
        .await;
    }
    refused
}

/// A room is booked where no booking of it overlaps. (Phantoms.)
async fn phantoms(db: &Database, rooms: u64, seed: u64, count: u64, booked: &AtomicU64) -> u64 {
    let (session, mut random, mut refused) = (db.session(), seed, 0);
    for _ in 0..count {
        let (room, at) = (next(&mut random) % rooms, next(&mut random) % 1000);
        refused += until_committed(&session, async || {
            let sql = format!(
                "SELECT count(*) FROM booking WHERE room = {room} AND hour BETWEEN {} AND {}",
                at as i64 - 3,
                at + 3
            );
            if rows(&session, &sql).await? == ["0"] {
                run(&session, &format!("INSERT INTO booking VALUES ({room}, {at})")).await?;
                booked.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
        .await;
    }
    refused
}

/// `PYRALOG_TEST_PROBES`, or few.
fn probes() -> u64 {
    let set = std::env::var("PYRALOG_TEST_PROBES").ok();
    set.and_then(|probes| probes.parse().ok()).unwrap_or(400)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn probes_find_no_write_skew_and_no_phantom() {
    let f = Fixture::new().await;
    f.run("CREATE TABLE doctor (id BIGINT PRIMARY KEY, on_call BOOLEAN)").await;
    f.run("INSERT INTO doctor SELECT v, true FROM generate_series(0, 7) AS s(v)").await;
    f.run("CREATE TABLE booking (room BIGINT, hour BIGINT, PRIMARY KEY (room, hour))")
        .await;
    let (tasks, booked) = (8, Arc::new(AtomicU64::new(0)));
    let running: Vec<_> = (0..tasks)
        .map(|task| {
            let (db, booked) = (f.db.clone(), booked.clone());
            let count = probes() / tasks;
            let handle = Handle::current();
            tokio::task::spawn_blocking(move || {
                handle.block_on(async {
                    match task % 2 {
                        0 => write_skew(&db, 4, task, count).await,
                        _ => phantoms(&db, 2, task, count, &booked).await,
                    }
                })
            })
        })
        .collect();
    let mut refused = 0;
    for task in running {
        refused += task.await.unwrap();
    }
    assert!(booked.load(Ordering::Relaxed) > 10);
    let overlapping = "SELECT count(*) FROM booking x JOIN booking y ON x.room = y.room WHERE x.hour < y.hour AND y.hour <= x.hour + 3";
    assert_eq!(f.rows(overlapping).await, ["0"]);
    let alone = "SELECT count(*) FROM (SELECT id / 2 AS pair FROM doctor GROUP BY id / 2 HAVING NOT bool_or(on_call)) AS gone";
    assert_eq!(f.rows(alone).await, ["0"]);
    println!("{} probes committed, {refused} tries refused", probes() / tasks * tasks);
}
