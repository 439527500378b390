//! What must hold after a restart.

use std::collections::BTreeSet;

use pyralog_client::{Client, Row};

use super::writers::{Ledger, Written};

/// Everything.
pub async fn everything(db: &Client, ledger: &Ledger) {
    let single = ids(db, "SELECT id FROM single WHERE payload = 'payload of ' || id").await;
    let all_single: i64 = scalar(db, "SELECT count(*) FROM single").await;
    assert_eq!(
        single.len() as i64,
        all_single,
        "a row of `single` has another payload than was written"
    );
    ledger.with(|e| settle("single", &single, &mut e.single));

    // (id, part) is the key, so the parts differ; a distinct count of ever more rows would need ever more of the little memory.
    let halves: Vec<Row> = rows(
        db,
        "SELECT id, count(*), min(parts), max(parts), CAST(max(part) - min(part) + 1 AS BIGINT) FROM batch GROUP BY id",
    )
    .await;
    for row in &halves {
        let column = |i: usize| row.get::<i64>(i).unwrap();
        let whole = column(1) == column(2) && column(1) == column(3) && column(1) == column(4);
        assert!(whole, "batch {} has {} of {} rows", column(0), column(1), column(2));
    }
    let batches = halves.iter().map(|row| row.get::<i64>(0).unwrap()).collect();
    ledger.with(|e| settle("batch", &batches, &mut e.batch));

    let here = ids(db, "SELECT id FROM here WHERE payload = 'payload of ' || id").await;
    let there = ids(db, "SELECT id FROM there WHERE payload = 'payload of ' || id").await;
    assert_eq!(here, there, "a transaction over two tables is there by half");
    ledger.with(|e| settle("pair", &here, &mut e.pair));

    for row in rows(db, "SELECT id, n FROM counter").await {
        let (id, n) = (row.get::<i64>(0).unwrap(), row.get::<i64>(1).unwrap());
        let (sure, unknown) = ledger.with(|e| e.counters.get(&id).copied().unwrap_or_default());
        assert!(
            (sure..=sure + unknown).contains(&n),
            "counter {id} is {n}, but {sure} increments were acknowledged and {unknown} are not known"
        );
        ledger.with(|e| e.counters.insert(id, (n, 0)));
    }
}

/// All acknowledged ids are there, and no id that was never written. What was not known is settled by this: a row that is there now
/// must stay, one that is not must never come.
fn settle(what: &str, present: &BTreeSet<i64>, written: &mut Written) {
    let lost: Vec<&i64> = written.acknowledged.difference(present).take(10).collect();
    assert!(lost.is_empty(), "{what}: acknowledged ids are lost: {lost:?}");
    let known = |id: &&i64| written.acknowledged.contains(id) || written.unknown.contains(id);
    let invented: Vec<&i64> = present.iter().filter(|id| !known(id)).take(10).collect();
    assert!(
        invented.is_empty(),
        "{what}: ids that nobody wrote, or that came back: {invented:?}"
    );
    written.acknowledged = present.clone();
    written.unknown.clear();
}

async fn rows(db: &Client, sql: &str) -> Vec<Row> {
    db.sql(sql).fetch_rows().await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn scalar(db: &Client, sql: &str) -> i64 {
    db.sql(sql).fetch_scalar().await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn ids(db: &Client, sql: &str) -> BTreeSet<i64> {
    rows(db, sql).await.iter().map(|row| row.get::<i64>(0).unwrap()).collect()
}
