//! Readers, a writer, flushes and compactions at once: every snapshot shows whole commits, and stays as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyralog_storage::{AppliedState, ApplyOutcome, PartitionCommand, Timestamp};

use crate::harness::{Rows, Store, TABLE, keys, read, rows, small_options};

const ACCOUNTS: i64 = 60;
const EACH: i64 = 100;

fn total(rows: &Rows) -> i64 {
    rows.values().map(|value| value.parse::<i64>().unwrap()).sum()
}

/// Moves `amount` between two accounts; an account that gets empty is deleted, and comes back when it is paid into.
fn transfer(store: &Store, balances: &mut Rows, from: i64, to: i64, amount: i64) -> PartitionCommand {
    let mut transaction = store.begin();
    for (account, change) in [(from, -amount), (to, amount)] {
        let balance = balances.get(&account).map_or(0, |value| value.parse::<i64>().unwrap()) + change;
        if balance == 0 {
            transaction.delete(TABLE, &keys([account])).unwrap();
            balances.remove(&account);
        } else {
            let text = balance.to_string();
            transaction.put(TABLE, &rows([(account, text.as_str())])).unwrap();
            balances.insert(account, text);
        }
    }
    PartitionCommand::Write(Timestamp::ZERO, Arc::new(transaction.into_write_set().unwrap()))
}

#[test]
fn snapshots_are_whole_and_stable_while_everything_runs() {
    const COMMITS: i64 = 1500;
    let mut store = Store::new(small_options());
    let mut balances: Rows = (0..ACCOUNTS).map(|account| (account, EACH.to_string())).collect();
    store.put(balances.iter().map(|(account, balance)| (*account, balance.as_str())));
    let done = AtomicBool::new(false);
    let partition = store.partition.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                partition.flush().unwrap();
            }
        });
        scope.spawn(|| {
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                round += 1;
                if round % 7 == 0 {
                    partition.compact_all(Some(TABLE)).unwrap()
                } else {
                    partition.compact_step().map(|_| ()).unwrap()
                }
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let problems = partition.verify().unwrap();
                assert!(problems.is_empty(), "{problems:?}");
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let snapshot = partition.snapshot(None).unwrap();
                    let first = read(&snapshot.relation(TABLE).unwrap());
                    assert_eq!(total(&first), ACCOUNTS * EACH);
                    std::thread::yield_now();
                    let again = partition.snapshot(Some(snapshot.timestamp())).unwrap();
                    assert_eq!(read(&again.relation(TABLE).unwrap()), first);
                }
            });
        }
        let mut seed = 1u64;
        for _ in 0..COMMITS {
            let mut pick = |n: i64| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((seed >> 33) as i64) % n
            };
            let from = *balances.keys().nth(pick(balances.len() as i64) as usize).unwrap();
            let to = (from + 1 + pick(ACCOUNTS - 1)) % ACCOUNTS;
            let amount = 1 + pick(balances[&from].parse().unwrap());
            let PartitionCommand::Write(_, set) = transfer(&store, &mut balances, from, to, amount) else {
                unreachable!()
            };
            let timestamp = store.tick();
            assert_eq!(store.apply(PartitionCommand::Write(timestamp, set)).unwrap(), ApplyOutcome::Applied);
        }
        done.store(true, Ordering::Relaxed);
    });
    drop(partition);
    assert_eq!(store.read(), balances);
    store.reopen();
    assert_eq!(store.read(), balances);
    assert!(store.partition.verify().unwrap().is_empty());
    assert_eq!(
        store
            .partition
            .apply(
                AppliedState {
                    index: 1,
                    ..AppliedState::default()
                },
                &PartitionCommand::Nothing
            )
            .unwrap(),
        ApplyOutcome::Applied
    );
}
