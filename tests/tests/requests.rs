//! Requests that are sent again: by hand with their headers, and by the SDK while leaders are killed under it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyralog_client::{Client, ErrorKind};
use pyralog_tests::cluster::Cluster;
use pyralog_tests::http::{Response, request};
use pyralog_tests::runtime::block_on;
use pyralog_tests::server::Server;

const CLIENT: &str = "6f1ed002-ab55-4b9b-8c2b-0e8a2a0f6f11";

fn send(server: &Server, method: &str, path: &str, serial: &str, body: &[u8], more: &[(&str, &str)]) -> Response {
    let name = [("Pyralog-Client", CLIENT), ("Pyralog-Serial", serial)];
    let headers: Vec<(&str, &str)> = name.iter().chain(more).copied().collect();
    request(server.http_port(), method, path, &headers, body)
}

#[test]
fn a_named_request_counts_once() {
    let server = Server::start();
    let sql = |serial: &str, text: &str| send(&server, "POST", "/sql", serial, text.as_bytes(), &[]);
    let affected = |response: &Response| (response.status, response.header("x-pyralog-affected").map(str::to_owned));
    let count = |n: &str| (200, Some(n.to_owned()));
    assert_eq!(sql("1", "CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT)").status, 200);
    assert_eq!(affected(&sql("2", "INSERT INTO t VALUES (1, 0), (2, 0)")), count("2"));
    // The keys are there, yet this is no violation: it is the same request.
    assert_eq!(affected(&sql("2", "INSERT INTO t VALUES (1, 0), (2, 0)")), count("2"));
    assert_eq!(sql("3", "INSERT INTO t VALUES (1, 0), (2, 0)").status, 409);
    for _ in 0..3 {
        assert_eq!(affected(&sql("4", "UPDATE t SET n = n + 1")), count("2"));
        assert_eq!(affected(&sql("5", "DELETE FROM t WHERE id = 2")), count("1"));
        // Two commits in one request.
        let both = "UPDATE t SET n = n + 10; UPDATE t SET n = n + 100";
        assert_eq!(affected(&sql("6", both)), count("1"));
    }
    assert_eq!(server.http_sql("SELECT sum(n) AS n FROM t").to_string().matches("111").count(), 1);
    let again = sql("7", "INSERT INTO t VALUES (9, 9) RETURNING id");
    assert_eq!(again.status, 200);
    let again = sql("7", "INSERT INTO t VALUES (9, 9) RETURNING id");
    assert!(again.text().contains("an earlier try"), "{}", again.text());

    assert_eq!(sql("8", "CREATE COLLECTION cache AS KV").status, 200);
    let put = |serial: &str| send(&server, "PUT", "/kv/cache/k", serial, b"v", &[("If-None-Match", "*")]);
    let (first, second) = (put("9"), put("9"));
    assert_eq!((first.status, second.status), (201, 201));
    assert_eq!(first.header("etag"), second.header("etag"));
    assert_eq!(put("10").status, 412);
    let delete = |serial: &str| send(&server, "DELETE", "/kv/cache/k", serial, b"", &[]).status;
    assert_eq!((delete("11"), delete("11"), delete("12")), (204, 204, 404));

    let wrong = request(server.http_port(), "POST", "/sql", &[("Pyralog-Client", CLIENT)], b"SELECT 1");
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("pyralog-serial"), "{}", wrong.text());
}

/// Increments from many writers through all nodes, with leaders killed: each one that was acknowledged counts exactly once, and none fails.
#[test]
fn increments_count_once_while_leaders_are_killed() {
    let cluster = Cluster::up(3, "300MB");
    block_on(async {
        let nodes = cluster.nodes();
        let address = |first: usize| {
            let all: Vec<String> = (0..3).map(|step| nodes[(first + step) % 3].flight.clone()).collect();
            all.join(",")
        };
        let db = Client::connect(address(0)).await.unwrap();
        db.sql("CREATE TABLE counter (id BIGINT PRIMARY KEY, n BIGINT)")
            .execute()
            .await
            .unwrap();
        db.sql("INSERT INTO counter SELECT value, 0 FROM generate_series(0, 11)")
            .execute()
            .await
            .unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let mut writers = Vec::new();
        for writer in 0..12_i64 {
            let (address, done) = (address(writer as usize % 3), done.clone());
            writers.push(tokio::spawn(async move {
                let config = pyralog_client::ClientConfig::new(&address)
                    .unwrap()
                    .retry(pyralog_client::RetryPolicy {
                        attempts: 30,
                        ..Default::default()
                    });
                let db = Client::connect(config).await.unwrap();
                let mut acknowledged = 0_i64;
                let mut statement = db.prepare("UPDATE counter SET n = n + 1 WHERE id = $1").await.unwrap();
                while !done.load(Ordering::Relaxed) {
                    // A third each: a bound statement, a prepared one, a transaction.
                    match writer % 3 {
                        0 => {
                            let update = db.sql("UPDATE counter SET n = n + 1 WHERE id = $1").bind(writer);
                            assert_eq!(update.execute().await.unwrap(), 1);
                        }
                        1 => assert_eq!(statement.execute(pyralog_client::params![writer]).await.unwrap(), 1),
                        _ => {
                            let begun = Instant::now();
                            while let Err(error) = in_transaction(&db, writer).await {
                                let again = matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Connection | ErrorKind::NotFound);
                                let again = again || error.kind() == ErrorKind::Unavailable;
                                assert!(again && begun.elapsed() < Duration::from_secs(30), "{error} ({:?})", error.kind());
                                tokio::time::sleep(Duration::from_millis(50)).await;
                            }
                        }
                    }
                    acknowledged += 1;
                }
                (writer, acknowledged)
            }));
        }
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let leader = cluster
                .nodes()
                .into_iter()
                .find(|node| node.leads.iter().any(|group| group == "p0"));
            let leader = leader.expect("a leader");
            leader.signal("KILL");
            tokio::time::sleep(Duration::from_secs(4)).await;
            cluster.succeed(&["restart", &leader.id.to_string()]);
        }
        done.store(true, Ordering::Relaxed);
        for writer in writers {
            let (writer, acknowledged) = writer.await.unwrap();
            let count = db.sql("SELECT n FROM counter WHERE id = $1").bind(writer);
            let counted: i64 = count.fetch_scalar().await.unwrap();
            assert!(acknowledged > 0);
            assert_eq!(counted, acknowledged, "writer {writer}");
        }
        assert_eq!(cluster.panics(), Vec::<String>::new());
    });
}

async fn in_transaction(db: &Client, writer: i64) -> pyralog_client::Result<()> {
    let tx = db.begin().await?;
    tx.sql("UPDATE counter SET n = n + 1 WHERE id = $1").bind(writer).execute().await?;
    tx.commit().await
}
