//! Apply, read, flush, reopen.

use pyralog_storage::{ApplyOutcome, StorageError, Timestamp};

use crate::harness::{Rows, Store, TABLE, has, keys, range, read, rows, scan, small_options};

fn expect(pairs: &[(i64, &str)]) -> Rows {
    pairs.iter().map(|(key, value)| (*key, (*value).to_owned())).collect()
}

#[test]
fn what_is_applied_is_read_before_and_after_a_flush_and_a_restart() {
    let mut store = Store::new(small_options());
    store.put([(3, "c"), (1, "a"), (2, "b")]);
    store.put([(2, "B"), (4, "d")]);
    store.delete([1, 99]);
    let wanted = expect(&[(2, "B"), (3, "c"), (4, "d")]);
    assert_eq!(store.read(), wanted);
    store.reopen();
    assert_eq!(store.read(), wanted);
    let flushed = store.partition.flush().unwrap();
    assert_eq!(flushed, store.partition.applied());
    assert_eq!(store.read(), wanted);
    store.reopen();
    assert_eq!(store.partition.flushed(), flushed);
    assert_eq!(store.read(), wanted);
    store.put([(1, "again"), (3, "C")]);
    store.delete([4]);
    let wanted = expect(&[(1, "again"), (2, "B"), (3, "C")]);
    assert_eq!(store.read(), wanted);
    store.assert_durable(&wanted);
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let mut store = Store::new(small_options());
    store.put((0..50).map(|i| (i, "old")));
    let before = store.partition.snapshot(None).unwrap();
    store.partition.flush().unwrap();
    store.put((0..50).step_by(2).map(|i| (i, "new")));
    store.delete((0..50).step_by(5));
    let between = store.partition.snapshot(None).unwrap();
    store.partition.flush().unwrap();
    store.partition.compact_all(None).unwrap();
    store.delete(0..50);
    assert_eq!(
        read(&before.relation(TABLE).unwrap()),
        (0..50).map(|i| (i, "old".to_owned())).collect()
    );
    let wanted: Rows = (0..50)
        .filter(|i| i % 5 != 0)
        .map(|i| (i, if i % 2 == 0 { "new" } else { "old" }.to_owned()))
        .collect();
    assert_eq!(read(&between.relation(TABLE).unwrap()), wanted);
    assert_eq!(store.read(), Rows::new());
    let again = store.partition.snapshot(Some(before.timestamp())).unwrap();
    assert_eq!(read(&again.relation(TABLE).unwrap()).len(), 50);
}

#[test]
fn a_snapshot_below_the_horizon_is_refused() {
    let mut store = Store::new(small_options());
    store.put([(1, "a")]);
    let first = store.partition.last_timestamp();
    store.put([(1, "b")]);
    store.partition.flush().unwrap();
    assert!(matches!(
        store.partition.snapshot(Some(first)),
        Err(StorageError::SnapshotTooOld { .. })
    ));
    assert!(matches!(
        store.partition.snapshot(Some(Timestamp::ZERO)),
        Err(StorageError::SnapshotTooOld { .. })
    ));
    assert_eq!(
        store.partition.snapshot(Some(Timestamp::MAX)).unwrap().timestamp(),
        store.partition.last_timestamp()
    );
}

#[test]
fn the_first_committer_wins() {
    let mut store = Store::new(small_options());
    store.put((0..10).map(|i| (i, "old")));
    for flush in [false, true] {
        let mut first = store.begin();
        let mut second = store.begin();
        let mut third = store.begin();
        let mut other = store.begin();
        first.delete(TABLE, &keys([3])).unwrap();
        second.put(TABLE, &rows([(3, "second")])).unwrap();
        third.insert(TABLE, &rows([(100, "third")])).unwrap();
        other.put(TABLE, &rows([(4, "other")])).unwrap();
        assert_eq!(store.commit(first), ApplyOutcome::Applied);
        if flush {
            store.partition.flush().unwrap();
        }
        let ApplyOutcome::Conflict(conflict) = store.commit(second) else {
            panic!("no conflict")
        };
        assert_eq!((conflict.relation, conflict.key.as_str()), (TABLE, "(id=3)"));
        assert_eq!(store.commit(third), ApplyOutcome::Applied);
        assert_eq!(store.commit(other), ApplyOutcome::Applied);
        store.reopen();
        assert!(!has(&store.view(None), 3));
        store.put([(3, "back")]);
        store.delete([100]);
    }
}

#[test]
fn a_conflict_stays_a_conflict_after_compaction_and_replay() {
    let mut store = Store::new(small_options());
    store.put([(1, "a"), (2, "b")]);
    let mut late = store.begin();
    late.put(TABLE, &rows([(1, "late")])).unwrap();
    let late = late.into_write_set().unwrap();
    store.delete([1]);
    store.partition.flush().unwrap();
    assert!(matches!(store.commit_set(late), ApplyOutcome::Conflict(_)));
    // Nobody reads the deleted row any more; its trace must stay all the same.
    store.put([(5, "later")]);
    store.partition.compact_all(None).unwrap();
    store.reopen();
    assert_eq!(store.read(), expect(&[(2, "b"), (5, "later")]));
}

#[test]
fn ordered_scans_keep_to_their_range() {
    let mut store = Store::new(small_options());
    store.put((0..40).map(|i| (i * 3, "segment")));
    store.partition.flush().unwrap();
    store.put((0..40).map(|i| (i * 2, "memtable")));
    store.delete((0..120).step_by(7));
    let view = store.view(None);
    let all = read(&view);
    for (start, end) in [
        (None, None),
        (Some(10), None),
        (None, Some(50)),
        (Some(9), Some(61)),
        (Some(61), Some(9)),
        (Some(5), Some(5)),
    ] {
        let wanted: Vec<_> = all
            .clone()
            .into_iter()
            .filter(|(key, _)| start.is_none_or(|s| *key >= s) && end.is_none_or(|e| *key < e))
            .collect();
        assert_eq!(scan(&view, &range(&view, start, end), 5), wanted, "{start:?}..{end:?}");
    }
}
