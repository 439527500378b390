//! Queries over three processes: the answers of one node, also when a node dies under them, and nothing left behind.

use std::time::{Duration, Instant};

use pyralog_client::Client;
use pyralog_tests::cluster::{Cluster, ClusterNode};
use pyralog_tests::exposition::Exposition;
use pyralog_tests::http::try_request_within;
use pyralog_tests::measure::setting;
use pyralog_tests::runtime::block_on;
use pyralog_tests::tpch::{TABLES, gives_rows, load, queries};

use crate::tpch::counted;

/// Of the queries of TPC-H, those that several nodes run.
const EXPECTED_AT_LEAST: usize = 22;

async fn set(db: &Client, setting: &str, value: &str) {
    db.sql(format!("SET {setting} = '{value}'")).execute().await.unwrap();
}

fn metric(node: &ClusterNode, name: &str) -> f64 {
    let answer = try_request_within(Duration::from_secs(10), node.http_port(), "GET", "/metrics", &[], b"").unwrap();
    Exposition::parse(&answer.text()).unwrap().value(name, &[]).unwrap()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn tpch_gives_the_same_on_one_node_and_on_three() {
    let Some(queries) = queries() else { return };
    let scale: f64 = setting("TPCH_SF", 0.01);
    let cluster = Cluster::up_with(3, "512MB", &[("PYRALOG_PARTITIONS", "4")]);
    let nodes = cluster.nodes();
    block_on(async {
        let db = nodes[0].client().await.unwrap();
        for table in TABLES {
            load(&db, table, scale).await;
        }
    });
    for (life, node) in [("fresh", 0), ("flushed", 1), ("compacted at one node", 2)] {
        let before = metric(&nodes[node], "pyralog_distributed_queries_total");
        let mut wrong = Vec::new();
        block_on(async {
            let (alone, together) = (nodes[node].client().await.unwrap(), nodes[node].client().await.unwrap());
            set(&alone, "distributed", "off").await;
            set(&together, "distributed", "always").await;
            for query in &queries {
                let mut answers = Vec::new();
                for db in [&alone, &together] {
                    for statement in &query.statements {
                        match gives_rows(statement) {
                            true => {
                                let rows = db.sql(statement).fetch_all().await;
                                answers.push(rows.unwrap_or_else(|error| panic!("{life}, q{}: {error}", query.number)));
                            }
                            false => {
                                db.sql(statement).execute().await.unwrap();
                            }
                        }
                    }
                }
                if counted(&answers[0]) != counted(&answers[1]) {
                    wrong.push(query.number);
                }
            }
        });
        assert!(wrong.is_empty(), "{life}: queries {wrong:?} differ");
        let sent = metric(&nodes[node], "pyralog_distributed_queries_total") - before;
        assert!(
            sent >= EXPECTED_AT_LEAST as f64,
            "{life}: {sent} of {} queries ran on several nodes",
            queries.len()
        );
        assert_eq!(metric(&nodes[node], "pyralog_distributed_fallbacks_total"), 0.0, "{life}");
        let statement = if life == "fresh" { "CHECKPOINT" } else { "COMPACT" };
        block_on(async {
            let db = nodes[node].client().await.unwrap();
            db.sql(statement).execute().await.unwrap();
        });
    }
    for node in &nodes {
        until("no task is held", || metric(node, "pyralog_distributed_tasks") == 0.0);
    }
    assert!(cluster.panics().is_empty(), "{:?}", cluster.panics());
}

/// Accounts, and a query whose answer is known and which takes a while on several nodes.
async fn accounts(db: &Client) {
    for sql in [
        "CREATE TABLE account (id BIGINT PRIMARY KEY, grp BIGINT, balance BIGINT)",
        "INSERT INTO account SELECT value, value % 100, 10 FROM generate_series(1, 40000)",
    ] {
        db.sql(sql).execute().await.unwrap();
    }
}

const TOTAL: &str = "SELECT count(*), sum(a.balance + b.balance) FROM account a JOIN account b ON a.grp = b.grp AND a.id % 50 = b.id % 50";

async fn ask(db: &Client, sql: &str) -> pyralog_client::Result<Vec<String>> {
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    let batches = db.sql(sql).fetch_all().await?;
    let options = FormatOptions::new();
    let rows = batches.iter().flat_map(|batch| {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
            .collect();
        (0..batch.num_rows())
            .map(|row| {
                columns
                    .iter()
                    .map(|column| column.value(row).to_string())
                    .collect::<Vec<_>>()
                    .join("|")
            })
            .collect::<Vec<_>>()
    });
    Ok(rows.collect())
}

/// A node that is killed, or that hangs, before or in the middle of a query: the right answer, or a clear error, in bounded time.
#[test]
fn a_node_that_is_lost_costs_a_moment() {
    let cluster = Cluster::up_with(3, "512MB", &[("PYRALOG_PARTITIONS", "4")]);
    let nodes = cluster.nodes();
    let expected = block_on(async {
        let db = nodes[0].client().await.unwrap();
        accounts(&db).await;
        set(&db, "distributed", "off").await;
        ask(&db, TOTAL).await.unwrap()
    });
    for signal in ["STOP", "KILL"] {
        for pause in [0, 30] {
            let lost = &cluster.nodes()[2];
            let begun = Instant::now();
            let answer = block_on(async {
                let db = nodes[0].client().await.unwrap();
                set(&db, "distributed", "always").await;
                // Connections stand.
                assert_eq!(ask(&db, "SELECT sum(balance) FROM account").await.unwrap(), ["400000"]);
                let strike = async {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    lost.signal(signal);
                };
                tokio::join!(ask(&db, TOTAL), strike).0
            });
            match answer {
                Ok(rows) => assert_eq!(rows, expected, "{signal} after {pause} ms"),
                Err(error) => assert_eq!(error.code(), Some("08006"), "{signal} after {pause} ms: {error}"),
            }
            assert!(
                begun.elapsed() < Duration::from_secs(90),
                "{signal} after {pause} ms: {:?}",
                begun.elapsed()
            );
            match signal {
                "STOP" => lost.signal("CONT"),
                _ => drop(cluster.succeed(&["restart", "3"])),
            }
            until("all nodes help again", || {
                block_on(async {
                    let db = nodes[0].client().await.unwrap();
                    set(&db, "distributed", "always").await;
                    let text = ask(&db, "EXPLAIN SELECT sum(balance) FROM account").await.unwrap().join("\n");
                    text.contains("tasks=3")
                })
            });
        }
    }
    for node in &cluster.nodes() {
        until("no task is held", || metric(node, "pyralog_distributed_tasks") == 0.0);
    }
    assert!(cluster.panics().is_empty(), "{:?}", cluster.panics());
}

/// Time limits and clients that leave end the work at all nodes, and what it held is given back.
#[test]
fn queries_that_are_given_up_leave_nothing() {
    let rounds: usize = setting("DISTRIBUTED_ROUNDS", 6);
    let cluster = Cluster::up_with(3, "256MB", &[("PYRALOG_PARTITIONS", "4")]);
    let nodes = cluster.nodes();
    block_on(async {
        accounts(&nodes[0].client().await.unwrap()).await;
        for round in 0..rounds {
            let db = nodes[round % 3].client().await.unwrap();
            set(&db, "distributed", "always").await;
            set(&db, "statement_timeout", "200ms").await;
            let begun = Instant::now();
            // 8 × 10^8 pairs.
            let endless = "SELECT sum(a.id + b.id) FROM account a JOIN account b ON a.grp % 2 = b.grp % 2";
            let error = db.sql(endless).fetch_all().await.unwrap_err();
            assert_eq!(error.code(), Some("57014"), "{error}");
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
            set(&db, "statement_timeout", "0").await;
            // A client that goes away in the middle.
            let rows = db.sql(endless).fetch_all();
            let _left = tokio::time::timeout(Duration::from_millis(150), rows).await;
            drop(db);
        }
    });
    for node in &nodes {
        until("no task is held", || metric(node, "pyralog_distributed_tasks") == 0.0);
        until("no memory is held", || metric(node, "pyralog_query_memory_bytes") == 0.0);
    }
    let sent: f64 = nodes.iter().map(|node| metric(node, "pyralog_distributed_queries_total")).sum();
    assert!(sent >= rounds as f64, "{sent}");
    assert!(cluster.panics().is_empty(), "{:?}", cluster.panics());
}

/// The sides of joins that are sent to all tasks are let go of when a query is over, not when the worker is used again: the next one needs the
/// memory.
#[test]
fn quick_queries_do_not_pile_up_memory() {
    let rounds: usize = setting("DISTRIBUTED_ROUNDS", 30);
    let cluster = Cluster::up_with(3, "64MB", &[("PYRALOG_PARTITIONS", "4")]);
    let nodes = cluster.nodes();
    block_on(async {
        let db = nodes[0].client().await.unwrap();
        accounts(&db).await;
        set(&db, "distributed", "always").await;
        let sql = "SELECT count(*), sum(a.balance + b.grp) FROM account a JOIN account b ON a.id = b.id AND a.grp = b.grp AND a.balance = b.balance";
        for round in 0..rounds {
            let rows = ask(&db, sql).await;
            assert_eq!(rows.unwrap_or_else(|error| panic!("round {round}: {error}")), ["40000|2380000"]);
        }
    });
    assert_eq!(metric(&nodes[0], "pyralog_distributed_queries_total"), rounds as f64);
    // Nodes that have just met may not know each other's addresses yet.
    let alone = metric(&nodes[0], "pyralog_distributed_fallbacks_total");
    assert!(alone * 4.0 <= rounds as f64, "{alone} of {rounds} fell back");
}
