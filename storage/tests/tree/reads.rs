//! What a transaction has read, checked when it is applied.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array};
use pyralog_storage::{ApplyOutcome, KeySpan, PartitionCommand, RelationReads, Timestamp, TransactionId, WriteSet};

use crate::harness::{Store, TABLE, bulk, rows, small_options};

fn key(store: &Store, id: i64) -> Box<[u8]> {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![id]));
    store.view(None).encode_keys(&[ids]).unwrap().remove(0)
}

/// A transaction that has read keys and all from one id on below another, and puts one row.
fn set(store: &Store, keys: &[i64], span: std::ops::Range<i64>, put: i64) -> WriteSet {
    let mut transaction = store.begin();
    transaction.put(TABLE, &rows([(put, "mine")])).unwrap();
    let reads = RelationReads {
        relation: TABLE,
        keys: keys.iter().map(|id| key(store, *id)).collect(),
        spans: vec![KeySpan {
            from: key(store, span.start),
            to: Some(key(store, span.end)),
        }],
    };
    WriteSet {
        reads: vec![reads],
        ..transaction.into_write_set().unwrap()
    }
}

fn is_refused(outcome: &ApplyOutcome, with: &str) -> bool {
    matches!(outcome, ApplyOutcome::Conflict(conflict) if conflict.key == with)
}

type Change = (&'static str, fn(&mut Store));

fn filled() -> Store {
    let mut store = Store::new(small_options());
    store.put((0..100).map(|id| (id, "first")));
    store
}

#[test]
fn what_was_read_and_changed_since_refuses_wherever_the_change_lies() {
    for settle in 0..3 {
        let changes: [Change; 4] = [
            ("(id=7)", |store| store.put([(7, "other")])),
            ("(id=7)", |store| store.delete([7])),
            ("(id=205)", |store| store.put([(205, "new")])),
            ("(id=200)", |store| {
                store.put([(200, "new")]);
                store.delete([200]);
            }),
        ];
        for (changed, change) in changes {
            let mut store = filled();
            store.partition.flush().unwrap();
            let [hit, misses] = [(&[7_i64][..], 200..210), (&[8], 300..400)].map(|(keys, span)| set(&store, keys, span, 500));
            change(&mut store);
            if settle > 0 {
                store.partition.flush().unwrap();
            }
            if settle > 1 {
                store.partition.compact_all(None).unwrap();
            }
            let outcome = store.commit_set(hit);
            assert!(is_refused(&outcome, changed), "{outcome:?}");
            assert_eq!(store.commit_set(misses), ApplyOutcome::Applied);
        }
    }
}

#[test]
fn the_smallest_changed_key_is_named() {
    let mut store = filled();
    let set = set(&store, &[], 10..90, 500);
    store.put([(50, "other"), (30, "other")]);
    store.partition.flush().unwrap();
    store.put([(40, "other")]);
    assert!(is_refused(&store.commit_set(set), "(id=30)"));
}

#[test]
fn write_skew_is_refused() {
    let mut store = filled();
    let [first, second] = [(1, 2), (2, 1)].map(|(read, write)| set(&store, &[read], 0..0, write));
    assert_eq!(store.commit_set(first), ApplyOutcome::Applied);
    assert!(is_refused(&store.commit_set(second), "(id=2)"));
}

#[test]
fn what_a_prepared_part_has_read_is_written_by_nobody_and_read_by_all() {
    let mut store = filled();
    let id = TransactionId { coordinator: 1, serial: 1 };
    let part = set(&store, &[1], 20..30, 500);
    let reader = set(&store, &[1], 20..30, 501);
    let reads_what_is_written = set(&store, &[500], 0..0, 502);
    let prepared = store.tick();
    let command = PartitionCommand::Prepare(id, prepared, Arc::new(part));
    assert_eq!(store.apply(command).unwrap(), ApplyOutcome::Applied);
    for durable in [false, true] {
        if durable {
            store.partition.flush().unwrap();
            store.reopen();
        }
        for (locked, name) in [(1, "(id=1)"), (25, "(id=25)")] {
            let mut other = store.begin();
            other.put(TABLE, &rows([(locked, "other")])).unwrap();
            assert!(is_refused(&store.commit(other), name));
            let mut many = store.begin();
            bulk(locked..locked + 300).for_each(|batch| many.put(TABLE, &batch).unwrap());
            assert!(matches!(store.commit(many), ApplyOutcome::Conflict(_)));
        }
    }
    assert!(is_refused(&store.commit_set(reads_what_is_written), "(id=500)"));
    assert_eq!(store.commit_set(reader), ApplyOutcome::Applied);
    store.put([(2, "free"), (30, "free")]);
    let commit = Timestamp(prepared.0 + 1);
    assert_eq!(store.apply(PartitionCommand::Decide(id, commit)).unwrap(), ApplyOutcome::Applied);
    store.put([(1, "free"), (25, "free")]);
    let wanted = store.read();
    assert_eq!(wanted[&500], "mine");
    store.assert_durable(&wanted);
}

#[test]
fn a_transaction_that_began_before_the_conflict_floor_is_refused() {
    let mut store = filled();
    let set = set(&store, &[1], 0..0, 500);
    store.put([(90, "other")]);
    let floor = store.partition.last_timestamp();
    store.apply(PartitionCommand::AdvanceConflictFloor(floor)).unwrap();
    let WriteSet { start, reads, .. } = set;
    let nothing_but_reads = WriteSet {
        start,
        relations: Vec::new(),
        reads,
    };
    assert!(matches!(store.commit_set(nothing_but_reads), ApplyOutcome::Conflict(_)));
}
