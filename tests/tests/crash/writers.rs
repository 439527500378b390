//! The writers, and the ledger of what was acknowledged and what is not known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use pyralog_client::{Client, ErrorKind, Result};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Writers at once, each with a connection of its own.
pub const WRITERS: i64 = 9;

/// What they write into.
pub const TABLES: [&str; 6] = [
    "CREATE TABLE single (id BIGINT PRIMARY KEY, payload VARCHAR)",
    "CREATE TABLE batch (id BIGINT, part INT, parts INT, PRIMARY KEY (id, part))",
    "CREATE TABLE here (id BIGINT PRIMARY KEY, payload VARCHAR)",
    "CREATE TABLE there (id BIGINT PRIMARY KEY, payload VARCHAR)",
    "CREATE TABLE counter (id BIGINT PRIMARY KEY, n BIGINT NOT NULL)",
    "INSERT INTO counter VALUES (0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0)",
];

/// Ids of one kind of write.
#[derive(Debug, Default)]
pub struct Written {
    /// The server said that these are durable.
    pub acknowledged: BTreeSet<i64>,
    /// The connection broke before an answer: both outcomes are right.
    pub unknown: BTreeSet<i64>,
}

/// All that was written in all lives.
#[derive(Debug, Default)]
pub struct Entries {
    /// One row each.
    pub single: Written,
    /// Several rows each, with how many.
    pub batch: Written,
    /// One row in each of two tables.
    pub pair: Written,
    /// For each counter: acknowledged and unknown increments.
    pub counters: BTreeMap<i64, (i64, i64)>,
    next: BTreeMap<i64, i64>,
}

/// The ledger, shared by the writers.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Entries>>);

impl Ledger {
    /// Works on the entries.
    pub fn with<T>(&self, act: impl FnOnce(&mut Entries) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    /// How many writes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.with(|e| e.single.acknowledged.len() + e.batch.acknowledged.len() + e.pair.acknowledged.len())
    }

    /// One line on what there is.
    pub fn summary(&self) -> String {
        self.with(|e| {
            let counts = |w: &Written| w.acknowledged.len();
            let increments: i64 = e.counters.values().map(|(sure, _)| sure).sum();
            format!(
                "single {}, batches {}, pairs {}, increments {increments}",
                counts(&e.single),
                counts(&e.batch),
                counts(&e.pair)
            )
        })
    }

    /// An id that was never used, in the writer's own range.
    fn new_id(&self, writer: i64) -> i64 {
        self.with(|e| {
            let next = e.next.entry(writer).or_insert(0);
            *next += 1;
            writer * 1_000_000_000 + *next
        })
    }

    fn note(&self, id: i64, outcome: &Result<()>, written: impl Fn(&mut Entries) -> &mut Written) {
        self.with(|e| {
            let written = written(e);
            if outcome.is_ok() {
                written.acknowledged.insert(id)
            } else {
                written.unknown.insert(id)
            };
        });
    }
}

/// Whether an error is that of a killed server; any other one is a fault of the server.
fn killed(error: &pyralog_client::ClientError) -> bool {
    matches!(error.kind(), ErrorKind::Connection | ErrorKind::Unavailable | ErrorKind::Cancelled)
}

/// Writes in the manner of the writer's number until the connection breaks.
pub async fn write_until_killed(db: Client, ledger: Ledger, writer: i64, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    loop {
        let outcome = match writer % 4 {
            0 => single(&db, &ledger, writer).await,
            1 => batch(&db, &ledger, writer, random.random_range(2..200)).await,
            2 => pair(&db, &ledger, writer).await,
            _ => increment(&db, &ledger, writer).await,
        };
        // Flushes and compactions of the user's own, now and then.
        let outcome = match (outcome, random.random_range(0..400)) {
            (Ok(()), 0) => db.sql("CHECKPOINT").execute().await.map(drop),
            (Ok(()), 1) => db.sql("COMPACT").execute().await.map(drop),
            (outcome, _) => outcome,
        };
        if let Err(error) = outcome {
            assert!(killed(&error), "writer {writer}: {error:?}");
            return;
        }
    }
}

async fn single(db: &Client, ledger: &Ledger, writer: i64) -> Result<()> {
    let id = ledger.new_id(writer);
    let outcome = db
        .sql(format!("INSERT INTO single VALUES ({id}, 'payload of {id}')"))
        .execute()
        .await
        .map(drop);
    ledger.note(id, &outcome, |e| &mut e.single);
    outcome
}

async fn batch(db: &Client, ledger: &Ledger, writer: i64, parts: i32) -> Result<()> {
    let id = ledger.new_id(writer);
    let rows: Vec<String> = (0..parts).map(|part| format!("({id}, {part}, {parts})")).collect();
    let outcome = db
        .sql(format!("INSERT INTO batch VALUES {}", rows.join(", ")))
        .execute()
        .await
        .map(drop);
    ledger.note(id, &outcome, |e| &mut e.batch);
    outcome
}

async fn pair(db: &Client, ledger: &Ledger, writer: i64) -> Result<()> {
    let id = ledger.new_id(writer);
    let outcome = async {
        let tx = db.begin().await?;
        tx.sql(format!("INSERT INTO here VALUES ({id}, 'payload of {id}')"))
            .execute()
            .await?;
        tx.sql(format!("INSERT INTO there VALUES ({id}, 'payload of {id}')"))
            .execute()
            .await?;
        tx.commit().await
    };
    let outcome = outcome.await;
    ledger.note(id, &outcome, |e| &mut e.pair);
    outcome
}

async fn increment(db: &Client, ledger: &Ledger, writer: i64) -> Result<()> {
    let outcome = db
        .sql(format!("UPDATE counter SET n = n + 1 WHERE id = {writer}"))
        .execute()
        .await
        .map(drop);
    ledger.with(|e| {
        let (sure, unknown) = e.counters.entry(writer).or_default();
        *if outcome.is_ok() { sure } else { unknown } += 1;
    });
    outcome
}
