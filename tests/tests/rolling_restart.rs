//! Every node of a cluster is restarted in turn, politely, while clients write and read. Each request is repeated for a bounded time where
//! its error says that this is safe; none fails, and nothing acknowledged is lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pyralog_client::{Client, ClientError};
use pyralog_tests::cluster::{Cluster, ClusterNode};
use pyralog_tests::http::try_request_within;
use pyralog_tests::measure::setting;
use pyralog_tests::runtime::block_on;

/// How long a request may be repeated.
const RETRY_FOR: Duration = Duration::from_secs(10);
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
const WRITERS: u64 = 3;

#[derive(Default)]
struct Load {
    nodes: Vec<ClusterNode>,
    stop: AtomicBool,
    requests: AtomicU64,
    /// Errors that were followed by a repetition, by their text.
    repeated: Mutex<BTreeMap<String, u64>>,
    failed: Mutex<Vec<String>>,
    /// When the last write was acknowledged, and the longest time between two.
    acknowledged: Mutex<Option<(Instant, Duration)>>,
    /// The longest that a request took, with its repetitions, and which.
    longest: Mutex<(Duration, String)>,
}

/// What a try came to.
enum Tried<T> {
    Done(T),
    /// Nothing was done, or doing it twice is the same.
    Again(String),
    Failed(String),
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn acknowledge(&self) {
        let mut acknowledged = self.acknowledged.lock().unwrap();
        let (last, longest) = acknowledged.unwrap_or_else(|| (Instant::now(), Duration::ZERO));
        *acknowledged = Some((Instant::now(), longest.max(last.elapsed())));
    }

    /// Tries at one node after the other.
    fn request<T>(&self, what: &str, first: u64, mut attempt: impl FnMut(&ClusterNode) -> Tried<T>) -> Option<T> {
        let begun = Instant::now();
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut answer = None;
        let mut tries = Vec::new();
        for node in self.nodes.iter().cycle().skip(first as usize % self.nodes.len()) {
            let tried = attempt(node);
            tries.push((node.id, begun.elapsed()));
            match tried {
                Tried::Done(done) => {
                    answer = Some(done);
                    break;
                }
                Tried::Again(error) if begun.elapsed() < RETRY_FOR => {
                    let mut repeated = self.repeated.lock().unwrap();
                    *repeated.entry(format!("{what}: {error}")).or_default() += 1;
                }
                Tried::Again(error) | Tried::Failed(error) => {
                    self.failed.lock().unwrap().push(format!("{what} at node {}: {error}", node.id));
                    break;
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut longest = self.longest.lock().unwrap();
        if begun.elapsed() > longest.0 {
            *longest = (begun.elapsed(), format!("{what}, answered by node after: {tries:?}"));
        }
        answer
    }
}

/// Over HTTP: what may be repeated is told by the status, or by the connection that broke (the request is idempotent).
fn over_http(node: &ClusterNode, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Tried<String> {
    match try_request_within(REQUEST_LIMIT, node.http_port(), method, path, headers, body) {
        Ok(answer) if answer.status < 300 => Tried::Done(answer.text()),
        Ok(answer) if answer.status == 503 => Tried::Again(format!("503 {}", answer.text())),
        Ok(answer) => Tried::Failed(format!("{} {}", answer.status, answer.text())),
        Err(error) => Tried::Again(error.kind().to_string()),
    }
}

fn over_sdk<T>(answer: Result<T, ClientError>) -> Tried<T> {
    match answer {
        Ok(done) => Tried::Done(done),
        Err(error) if error.is_retryable() => Tried::Again(format!("{:?} {:?}", error.kind(), error.code())),
        Err(error) => Tried::Failed(format!("{error:?}")),
    }
}

/// Writes keys and rows; the numbers that were acknowledged.
fn write(load: &Load, writer: u64) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if !load.goes_on() {
            break;
        }
        let id = number * WRITERS + writer;
        let text = id.to_string();
        let put = load.request("PUT", id, |node| {
            over_http(node, "PUT", &format!("/kv/keys/{id}"), &[], text.as_bytes())
        });
        let insert = format!("INSERT INTO t VALUES ({id}) ON CONFLICT DO NOTHING");
        let insert = load.request("INSERT", id, |node| {
            over_http(node, "POST", "/sql", &[("Content-Type", "text/plain")], insert.as_bytes())
        });
        if put.is_some() && insert.is_some() {
            load.acknowledge();
            acknowledged.push(id);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    acknowledged
}

/// Counts rows at all nodes in turn: never fewer than before.
fn read(load: &Load) {
    let mut seen = 0_i64;
    let mut number = 0;
    while load.goes_on() {
        number += 1;
        let body = b"SELECT count(*) FROM t".as_slice();
        let answer = load.request("SELECT", number, |node| {
            over_http(node, "POST", "/sql", &[("Content-Type", "text/plain")], body)
        });
        if let Some(answer) = answer {
            let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
            let count = answer["rows"][0][0].as_i64().unwrap();
            assert!(count >= seen, "{count} rows after {seen}");
            seen = count;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Through one client that knows all nodes, kept as long as it works.
async fn use_sdk(load: &Load) -> Vec<u64> {
    let addresses: Vec<&str> = load.nodes.iter().map(|node| node.flight.as_str()).collect();
    let addresses = addresses.join(",");
    let mut client: Option<Client> = None;
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if !load.goes_on() {
            break;
        }
        let key = format!("sdk-{number}");
        let put = load.request("SDK put", 0, |_| {
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    if client.is_none() {
                        match Client::connect(addresses.as_str()).await {
                            Ok(connected) => client = Some(connected),
                            Err(error) => return over_sdk(Err(error)),
                        }
                    }
                    let db = client.as_ref().unwrap();
                    let answer = over_sdk(db.kv("keys").put(&key, key.as_bytes()).await);
                    if !matches!(answer, Tried::Done(_)) {
                        client = None;
                    }
                    answer
                })
            })
        });
        if put.is_some() {
            acknowledged.push(number);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    acknowledged
}

#[test]
fn nodes_are_restarted_one_by_one_and_no_request_fails() {
    let rounds: u32 = setting("PYRALOG_RESTART_ROUNDS", 2);
    let cluster = Cluster::up(3, "128MB");
    let nodes = cluster.nodes();
    block_on(async {
        let db = nodes[0].client().await.unwrap();
        db.sql("CREATE TABLE t (id BIGINT PRIMARY KEY)").execute().await.unwrap();
        db.sql("CREATE COLLECTION keys AS KV").execute().await.unwrap();
    });
    let load = Arc::new(Load { nodes, ..Load::default() });
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let load = load.clone();
            std::thread::spawn(move || write(&load, writer))
        })
        .collect();
    let reader = {
        let load = load.clone();
        std::thread::spawn(move || read(&load))
    };
    let sdk = {
        let load = load.clone();
        std::thread::spawn(move || block_on(use_sdk(&load)))
    };
    std::thread::sleep(Duration::from_secs(1));
    for round in 0..rounds {
        for node in 1..=3 {
            let begun = Instant::now();
            cluster.succeed(&["restart", &node.to_string()]);
            println!("round {round}: node {node} was restarted in {:?}", begun.elapsed());
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    load.stop.store(true, Ordering::Relaxed);
    let written: Vec<u64> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
    let by_sdk = sdk.join().unwrap();
    reader.join().unwrap();
    for (error, times) in &*load.repeated.lock().unwrap() {
        println!("repeated {times} times: {error}");
    }
    let (requests, longest) = (load.requests.load(Ordering::Relaxed), load.longest.lock().unwrap().clone());
    let (_, pause) = load.acknowledged.lock().unwrap().expect("a write");
    println!(
        "{requests} requests, {} rows written, longest pause between two {pause:?}, longest request {longest:?}",
        written.len()
    );
    assert!(pause < Duration::from_secs(5), "{pause:?}");
    let failed = load.failed.lock().unwrap();
    assert!(
        failed.is_empty(),
        "{} requests failed: {failed:#?}\n{}",
        failed.len(),
        cluster.logs()
    );
    assert!(written.len() > 20 && by_sdk.len() > 20, "too few writes to tell anything");
    block_on(async {
        for node in cluster.nodes() {
            let db = node.client().await.unwrap();
            let ids = db.sql("SELECT id FROM t").fetch_rows().await.unwrap();
            let ids: std::collections::BTreeSet<u64> = ids.iter().map(|row| row.get::<i64>(0).unwrap() as u64).collect();
            let keys = db.sql("SELECT CAST(key AS VARCHAR) FROM keys").fetch_rows().await.unwrap();
            let keys: std::collections::BTreeSet<String> = keys.iter().map(|row| row.get::<String>(0).unwrap()).collect();
            for id in &written {
                assert!(ids.contains(id) && keys.contains(&id.to_string()), "node {} lost {id}", node.id);
            }
            for number in &by_sdk {
                assert!(keys.contains(&format!("sdk-{number}")), "node {} lost sdk-{number}", node.id);
            }
        }
    });
    assert_eq!(cluster.panics(), Vec::<String>::new());
}
