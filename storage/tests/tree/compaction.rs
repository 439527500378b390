//! Compaction keeps the rows, and few files.

use pyralog_storage::{PartitionCommand, RelationView, ScanPiece, Timestamp};

use crate::harness::{Rows, Store, TABLE, bulk, read, small_options};

fn compact(store: &Store) -> usize {
    let mut steps = 0;
    while store.partition.compact_step().unwrap() {
        steps += 1;
        assert!(steps < 1000, "compaction does not come to an end");
    }
    steps
}

/// The rows in the files and in memory, visible or not.
fn held_rows(view: &RelationView) -> usize {
    let rows_of = |piece: &ScanPiece| (0..piece.batch_count()).map(|batch| piece.batch_rows(batch)).sum::<usize>();
    view.pieces().iter().map(rows_of).sum()
}

#[test]
fn random_overwrites_end_in_few_live_segments() {
    let mut store = Store::new(small_options());
    let mut wanted = Rows::new();
    for round in 0..40i64 {
        let ids: std::collections::BTreeSet<i64> = (0..50).map(|i| (i * 7919 + round * 104_729) % 1000).collect();
        store.put(ids.iter().map(|id| (*id, "value")));
        wanted.extend(ids.into_iter().map(|id| (id, "value".to_owned())));
        store.partition.flush().unwrap();
        compact(&store);
    }
    assert_eq!(store.read(), wanted);
    let status = store.partition.status();
    assert!(status.compactions > 0 && status.flushes == 40);
    store.partition.compact_all(None).unwrap();
    let view = store.view(None);
    assert_eq!(held_rows(&view), wanted.len(), "no superseded row is left");
    let mut last: Option<&[u8]> = None;
    for piece in view.pieces() {
        let (first, end) = piece.key_range().unwrap();
        assert!(last.is_none_or(|last| last < first), "pieces are disjoint and in key order");
        last = Some(end);
    }
    store.reopen();
    assert_eq!(store.read(), wanted);
}

#[test]
fn deleted_keys_go_when_the_conflict_floor_has_passed() {
    let mut store = Store::new(small_options());
    store.put((0..100).map(|i| (i, "x")));
    store.partition.flush().unwrap();
    store.delete(0..90);
    store.partition.compact_all(None).unwrap();
    assert_eq!(held_rows(&store.view(None)), 100, "the trace of deleted keys stays");
    assert_eq!(compact(&store), 0, "and nothing is rewritten for it again");
    let last = store.partition.last_timestamp();
    store.apply(PartitionCommand::AdvanceConflictFloor(last)).unwrap();
    store.partition.compact_all(None).unwrap();
    assert_eq!(held_rows(&store.view(None)), 10);
    assert_eq!(store.read().len(), 10);
}

#[test]
fn ascending_bulk_is_not_rewritten() {
    let mut store = Store::new(small_options());
    for round in 0..5 {
        let mut transaction = store.begin();
        for batch in bulk(round * 2000..(round + 1) * 2000) {
            transaction.insert(TABLE, &batch).unwrap();
        }
        store.commit(transaction);
        store.partition.flush().unwrap();
    }
    assert_eq!(store.read().len(), 10_000);
    let before = store.partition.status().segments;
    compact(&store);
    assert!(store.partition.status().segments <= before);
    assert_eq!(store.read().len(), 10_000);
}

#[test]
fn a_held_snapshot_keeps_its_versions_through_every_compaction() {
    let mut store = Store::new(small_options());
    let mut held = Vec::new();
    for round in 0..8 {
        let value = format!("round {round}");
        store.put((0..60).filter(|i| i % (round + 1) == 0).map(|i| (i, value.as_str())));
        store.partition.flush().unwrap();
        held.push((store.partition.snapshot(None).unwrap(), store.read()));
        store.partition.compact_all(None).unwrap();
    }
    for (snapshot, wanted) in &held {
        assert_eq!(&read(&snapshot.relation(TABLE).unwrap()), wanted);
    }
    let oldest = held[0].0.timestamp();
    drop(held);
    store.partition.compact_all(None).unwrap();
    assert_eq!(store.read().len(), 60);
    assert!(store.partition.snapshot(Some(oldest)).is_err());
    assert!(store.partition.snapshot(Some(Timestamp::MAX)).is_ok());
}
