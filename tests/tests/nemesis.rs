//! Three processes whose nodes are killed, stopped in their tracks and restarted while clients write and read at all of them. Afterwards
//! nothing acknowledged is lost, money is conserved, every register's history is linearizable, and all replicas hold the same.
//!
//! `PYRALOG_NEMESIS_KILLS=200` for the long run: so many faults of all kinds that 200 of them are `kill -9`. `PYRALOG_NEMESIS_SEED=n` for the same
//! faults again.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pyralog_client::RetryPolicy;
use pyralog_tests::cluster::{Cluster, ClusterNode};
use pyralog_tests::http::try_request_within;
use pyralog_tests::linearizable::{self, Event, Operation};
use pyralog_tests::measure::{percentile, setting};
use pyralog_tests::runtime::block_on;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const ACCOUNTS: i64 = 20;
const TELLERS: u64 = 3;
const KEYS: usize = 2;
/// Of each register.
const WRITERS: u64 = 2;
const READERS: u64 = 2;
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

const KILLED: &str = "was killed";

/// What clients share.
struct Load {
    nodes: Vec<ClusterNode>,
    stop: AtomicBool,
    begun: Instant,
    /// Transfers that were acknowledged, and when the last one was.
    acknowledged: Mutex<(BTreeSet<String>, Instant, Vec<Duration>)>,
    values: AtomicU64,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn acknowledge(&self, id: String) {
        let mut acknowledged = self.acknowledged.lock().unwrap();
        acknowledged.0.insert(id);
        let gap = acknowledged.1.elapsed();
        acknowledged.1 = Instant::now();
        acknowledged.2.push(gap);
    }
}

#[test]
fn faults_lose_nothing_and_show_nothing_stale() {
    let faults: u32 = setting("PYRALOG_NEMESIS_FAULTS", 6);
    let seed: u64 = setting("PYRALOG_NEMESIS_SEED", rand::random());
    let kills: u32 = setting("PYRALOG_NEMESIS_KILLS", 0);
    println!("{faults} faults, {kills} kills, PYRALOG_NEMESIS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let cluster = Cluster::up(3, "128MB");
    let nodes = cluster.nodes();
    block_on(set_up(&nodes[0]));
    let load = Arc::new(Load {
        nodes: nodes.clone(),
        stop: AtomicBool::new(false),
        begun: Instant::now(),
        acknowledged: Mutex::new((BTreeSet::new(), Instant::now(), Vec::new())),
        values: AtomicU64::new(1),
    });
    let tellers: Vec<_> = (0..TELLERS)
        .map(|teller| {
            let (load, seed) = (load.clone(), random.random());
            std::thread::spawn(move || block_on(transfer(&load, teller, seed)))
        })
        .collect();
    let registers: Vec<_> = (0..KEYS)
        .flat_map(|key| (0..WRITERS + READERS).map(move |client| (key, client < WRITERS)))
        .map(|(key, writes)| {
            let (load, seed) = (load.clone(), random.random());
            (key, std::thread::spawn(move || use_register(&load, key, writes, seed)))
        })
        .collect();
    let (mut inflicted, mut killed) = (0, 0);
    while inflicted < faults || killed < kills {
        std::thread::sleep(Duration::from_millis(random.random_range(200..1500)));
        let node = random.random_range(0..nodes.len());
        let what = inflict(&cluster, node, &mut random);
        inflicted += 1;
        killed += u32::from(what == KILLED);
        println!("fault {inflicted}: node {} {what}", node + 1);
    }
    println!("{inflicted} faults, {killed} of them kill -9");
    std::thread::sleep(Duration::from_secs(2));
    load.stop.store(true, Ordering::Relaxed);
    tellers.into_iter().for_each(|teller| teller.join().unwrap());
    let mut histories = vec![Vec::new(); KEYS];
    for (key, client) in registers {
        histories[key].extend(client.join().unwrap());
    }
    for (key, history) in histories.into_iter().enumerate() {
        let reads = history.iter().filter(|event| matches!(event.operation, Operation::Read(_))).count();
        println!("register {key}: {} operations, {reads} reads", history.len());
        assert!(reads > 10, "too few reads to tell anything");
        linearizable::check(history).unwrap_or_else(|error| panic!("register {key}: {error}"));
    }
    let (acknowledged, _, mut gaps) = std::mem::replace(
        &mut *load.acknowledged.lock().unwrap(),
        (BTreeSet::new(), Instant::now(), Vec::new()),
    );
    assert!(acknowledged.len() > 5, "too few transfers to tell anything");
    println!("{} transfers, longest pause {:?}", acknowledged.len(), percentile(&mut gaps, 100.0));
    block_on(compare(&nodes, &acknowledged));
    assert_eq!(cluster.panics(), Vec::<String>::new());
}

async fn set_up(node: &ClusterNode) {
    let db = node.client().await.unwrap();
    for statement in [
        "CREATE TABLE bank (id BIGINT PRIMARY KEY, balance BIGINT)".to_owned(),
        "CREATE TABLE ledger (id VARCHAR PRIMARY KEY, amount BIGINT)".to_owned(),
        "CREATE COLLECTION register AS KV".to_owned(),
        format!("INSERT INTO bank SELECT value, 100 FROM generate_series(1, {ACCOUNTS})"),
    ] {
        db.sql(statement).execute().await.unwrap();
    }
}

/// One fault, and its end.
fn inflict(cluster: &Cluster, node: usize, random: &mut StdRng) -> &'static str {
    let id = (node + 1).to_string();
    let pause = Duration::from_millis(random.random_range(100..2000));
    match random.random_range(0..5) {
        0..3 => {
            cluster.nodes()[node].signal("KILL");
            std::thread::sleep(pause);
            cluster.succeed(&["restart", &id]);
            KILLED
        }
        3 => {
            let stopped = cluster.nodes()[node].clone();
            stopped.signal("STOP");
            std::thread::sleep(pause * 2);
            stopped.signal("CONT");
            "was stopped and went on"
        }
        _ => {
            cluster.succeed(&["restart", &id]);
            "was restarted"
        }
    }
}

/// Moves money from account to account, in transactions, at any node.
async fn transfer(load: &Load, teller: u64, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut number = 0;
    while load.goes_on() {
        let node = &load.nodes[random.random_range(0..load.nodes.len())];
        let config = pyralog_client::ClientConfig::new(&node.flight).unwrap().retry(RetryPolicy {
            attempts: 1,
            ..RetryPolicy::default()
        });
        let Ok(db) = pyralog_client::Client::connect(config).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // A few transfers a connection.
        for _ in 0..10 {
            number += 1;
            let id = format!("{teller}-{number}");
            let (from, to) = (random.random_range(1..=ACCOUNTS), random.random_range(1..=ACCOUNTS));
            let amount = random.random_range(1..10_i64);
            let moved = async {
                let tx = db.begin().await?;
                for (account, sign) in [(from, '-'), (to, '+')] {
                    let sql = format!("UPDATE bank SET balance = balance {sign} {amount} WHERE id = {account}");
                    tx.sql(sql).timeout(REQUEST_LIMIT).execute().await?;
                }
                tx.sql(format!("INSERT INTO ledger VALUES ('{id}', {amount})"))
                    .timeout(REQUEST_LIMIT)
                    .execute()
                    .await?;
                tx.commit().await
            };
            match tokio::time::timeout(REQUEST_LIMIT * 4, moved).await {
                Ok(Ok(())) => load.acknowledge(id),
                Ok(Err(error)) if error.is_retryable() && load.goes_on() => {}
                Ok(Err(_)) | Err(_) => break,
            }
        }
    }
}

/// Reads or writes one register at any node, and notes what came of it.
fn use_register(load: &Load, key: usize, writes: bool, seed: u64) -> Vec<Event> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut history = Vec::new();
    let path = format!("/kv/register/{key}");
    while load.goes_on() {
        let port = load.nodes[random.random_range(0..load.nodes.len())].http_port();
        let called = load.begun.elapsed();
        if writes {
            let value = load.values.fetch_add(1, Ordering::Relaxed);
            let answer = try_request_within(REQUEST_LIMIT, port, "PUT", &path, &[], value.to_string().as_bytes());
            let done = answer.is_ok_and(|answer| answer.status < 300);
            history.push(Event {
                operation: Operation::Write(value),
                called,
                answered: done.then(|| load.begun.elapsed()),
            });
        } else if let Ok(answer) = try_request_within(REQUEST_LIMIT, port, "GET", &path, &[], b"") {
            let found = match answer.status {
                200 => Some(answer.text().parse().expect("a value that was written")),
                404 => None,
                _ => continue,
            };
            history.push(Event {
                operation: Operation::Read(found),
                called,
                answered: Some(load.begun.elapsed()),
            });
        }
        std::thread::sleep(Duration::from_millis(random.random_range(1..15)));
    }
    history
}

/// The accounts with their balances, the transfers that are noted, and the registers with their values.
type Books = (Vec<(i64, i64)>, BTreeSet<String>, Vec<(Vec<u8>, Vec<u8>)>);

/// All nodes have the same, and it holds.
async fn compare(nodes: &[ClusterNode], acknowledged: &BTreeSet<String>) {
    let mut first: Option<Books> = None;
    for node in nodes {
        let db = node.client().await.unwrap();
        let accounts = db.sql("SELECT id, balance FROM bank ORDER BY id").fetch_rows().await.unwrap();
        let accounts: Vec<(i64, i64)> = accounts.iter().map(|row| (row.get(0).unwrap(), row.get(1).unwrap())).collect();
        let ledger = db.sql("SELECT id FROM ledger").fetch_rows().await.unwrap();
        let ledger: BTreeSet<String> = ledger.iter().map(|row| row.get::<String>(0).unwrap()).collect();
        let registers = db.sql("SELECT key, value FROM register ORDER BY key").fetch_rows().await.unwrap();
        let registers: Vec<(Vec<u8>, Vec<u8>)> = registers.iter().map(|row| (row.get(0).unwrap(), row.get(1).unwrap())).collect();
        assert_eq!(
            accounts.iter().map(|(_, balance)| balance).sum::<i64>(),
            ACCOUNTS * 100,
            "node {}",
            node.id
        );
        let lost: Vec<&String> = acknowledged.difference(&ledger).collect();
        assert!(lost.is_empty(), "node {} lost {lost:?}", node.id);
        let books = (accounts, ledger, registers);
        println!(
            "node {} holds {:016x}",
            node.id,
            BuildHasherDefault::<DefaultHasher>::default().hash_one(&books)
        );
        match &first {
            None => first = Some(books),
            Some(first) => assert!(*first == books, "node {} holds something else than node 1", node.id),
        }
    }
}
