//! Relations that are emptied, and commits that delete so many rows that delete vectors keep them as groups.

use pyralog_storage::{ApplyOutcome, PartitionCommand, PartitionOptions};

use crate::harness::{Rows, Store, TABLE, keys, read, rows, small_options};

/// Segments that many rows fit in.
fn options() -> PartitionOptions {
    PartitionOptions {
        segment_bytes: 1 << 20,
        memtable_bytes: 8 << 20,
        ..small_options()
    }
}

fn filled(count: i64) -> (Store, Rows) {
    let mut store = Store::new(options());
    store.put((0..count).map(|id| (id, "first")));
    store.partition.flush().unwrap();
    let rows = store.read();
    assert_eq!(rows.len() as i64, count);
    (store, rows)
}

/// Each of these keeps what every reader sees.
fn through_everything(store: &mut Store, check: impl Fn(&Store)) {
    check(store);
    store.partition.flush().unwrap();
    check(store);
    store.partition.compact_all(None).unwrap();
    check(store);
    assert!(store.partition.verify().unwrap().is_empty());
}

#[test]
fn rows_deleted_together_stay_deleted_and_older_readers_keep_them() {
    let (mut store, mut model) = filled(6000);
    let before = store.partition.snapshot(None).unwrap();
    let all = model.clone();
    store.delete(1000..4000);
    model.retain(|id, _| !(1000..4000).contains(id));
    let between = store.partition.snapshot(None).unwrap();
    let some = model.clone();
    // Not on disk yet when a compaction begins.
    store.delete(4000..5500);
    model.retain(|id, _| !(4000..5500).contains(id));
    store.partition.compact_all(None).unwrap();
    through_everything(&mut store, |store| {
        assert_eq!(store.read(), model);
        assert_eq!(read(&before.relation(TABLE).unwrap()), all);
        assert_eq!(read(&between.relation(TABLE).unwrap()), some);
    });
    drop((before, between));
    store.reopen();
    assert_eq!(store.read(), model);
    store.put([(1001, "again")]);
    model.insert(1001, "again".to_owned());
    through_everything(&mut store, |store| assert_eq!(store.read(), model));
}

#[test]
fn whoever_empties_a_relation_conflicts_with_every_change_of_it() {
    type Change = fn(&mut Store);
    let changes: [Change; 4] = [
        |store| store.delete(1000..4000),
        |store| store.put([(3, "second")]),
        |store| store.put([(9000, "new")]),
        |store| {
            store.put([(9000, "new")]);
            store.delete([9000]);
        },
    ];
    for (i, change) in changes.into_iter().enumerate() {
        for compacted in [false, true] {
            let (mut store, _) = filled(6000);
            let mut transaction = store.begin();
            assert_eq!(transaction.empty(TABLE).unwrap(), 6000);
            let set = transaction.into_write_set().unwrap();
            change(&mut store);
            if compacted {
                store.partition.flush().unwrap();
                store.partition.compact_all(None).unwrap();
            }
            let now = store.read();
            let outcome = store.commit_set(set);
            assert!(matches!(outcome, ApplyOutcome::Conflict(_)), "change {i}, {compacted}: {outcome:?}");
            assert_eq!(store.read(), now);
            store.reopen();
            assert_eq!(store.read(), now);
        }
    }
}

#[test]
fn an_emptied_relation_is_empty_for_all_but_older_readers() {
    // More than one container of a bitmap has.
    let (mut store, all) = filled(70_000);
    store.put([(5, "in memory"), (80_000, "in memory")]);
    let (before, mut seen) = (store.partition.snapshot(None).unwrap(), all);
    seen.extend([(5, "in memory".to_owned()), (80_000, "in memory".to_owned())]);
    let mut transaction = store.begin();
    assert_eq!(transaction.empty(TABLE).unwrap(), 70_001);
    transaction.put(TABLE, &rows([(5, "after"), (70, "after"), (71, "gone")])).unwrap();
    assert_eq!(transaction.delete(TABLE, &keys([71, 72])).unwrap(), 1);
    let set = transaction.into_write_set().unwrap();
    assert!(set.relations[0].emptied && set.relations[0].deletes.is_empty());
    assert_eq!(store.commit_set(set), ApplyOutcome::Applied);
    let model = Rows::from([(5, "after".to_owned()), (70, "after".to_owned())]);
    // From the log, over segments that know nothing of it.
    store.reopen();
    drop(before);
    assert_eq!(store.read(), model);
    let before = store.partition.snapshot(None).unwrap();
    through_everything(&mut store, |store| assert_eq!(store.read(), model));
    store.put([(6, "later")]);
    assert_eq!(read(&before.relation(TABLE).unwrap()), model);
    store
        .apply(PartitionCommand::AdvanceConflictFloor(store.partition.last_timestamp()))
        .unwrap();
    drop(before);
    through_everything(&mut store, |store| assert_eq!(store.read().len(), 3));
    assert_eq!(seen.len(), 70_001);
}
