//! Writes that fail: what stops, what goes on.

use pyralog_storage::{AppliedState, PartitionCommand, PartitionOptions, StorageError};

use crate::harness::{Rows, Store, TABLE, bulk, keys, rows, small_options};

/// Puts a file in the place of a folder, so that nothing can be made in it.
fn block(store: &Store, folder: &str) {
    let path = store.dir.path().join(folder);
    std::fs::rename(&path, store.dir.path().join("aside")).unwrap();
    std::fs::write(&path, b"").unwrap();
}

fn unblock(store: &Store, folder: &str) {
    let path = store.dir.path().join(folder);
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(store.dir.path().join("aside"), path).unwrap();
}

fn next(store: &Store) -> AppliedState {
    AppliedState {
        index: store.log.len() as u64 + 1,
        ..AppliedState::default()
    }
}

#[test]
fn a_failed_flush_stops_writes_but_not_reads_and_a_restart_has_everything() {
    let mut store = Store::new(small_options());
    store.put((0..50).map(|i| (i, "flushed")));
    store.partition.flush().unwrap();
    store.put((25..75).map(|i| (i, "in the log")));
    let wanted = store.read();
    block(&store, "r7");
    assert!(matches!(store.partition.flush(), Err(StorageError::Io { .. })));
    let stopped = store.partition.apply(next(&store), &PartitionCommand::Nothing);
    assert!(
        matches!(&stopped, Err(StorageError::Poisoned { reason }) if reason.contains("r7")),
        "{stopped:?}"
    );
    assert!(matches!(store.partition.flush(), Err(StorageError::Poisoned { .. })));
    assert_eq!(store.read(), wanted);
    unblock(&store, "r7");
    store.reopen();
    assert_eq!(store.read(), wanted);
    store.partition.flush().unwrap();
    assert_eq!(store.read(), wanted);
}

#[test]
fn a_failed_compaction_is_reported_and_nothing_else() {
    let mut store = Store::new(small_options());
    for round in 0..4 {
        store.put((round..50).map(|i| (i, "x")));
        store.partition.flush().unwrap();
    }
    let wanted = store.read();
    block(&store, "r7");
    assert!(matches!(store.partition.compact_step(), Err(StorageError::Io { .. })));
    assert_eq!(store.read(), wanted);
    unblock(&store, "r7");
    store.put([(1000, "goes on")]);
    assert!(store.partition.compact_step().unwrap());
    assert_eq!(store.read().len(), wanted.len() + 1);
    store.reopen();
    assert_eq!(store.read().len(), wanted.len() + 1);
}

#[test]
fn a_failed_staging_fails_the_transaction_only() {
    let mut store = Store::new(small_options());
    let mut transaction = store.begin();
    block(&store, "staging");
    let mut failed = false;
    for batch in bulk(0..1000) {
        failed |= transaction.insert(TABLE, &batch).is_err();
    }
    assert!(failed);
    drop(transaction);
    unblock(&store, "staging");
    store.put([(1, "goes on")]);
    assert_eq!(store.read(), Rows::from([(1, "goes on".to_owned())]));
}

#[test]
fn a_missing_staged_file_is_damage_not_an_empty_write() {
    let mut store = Store::new(small_options());
    let mut transaction = store.begin();
    for batch in bulk(0..1000) {
        transaction.insert(TABLE, &batch).unwrap();
    }
    let set = transaction.into_write_set().unwrap();
    for staged in set.relations.iter().flat_map(|writes| &writes.staged) {
        store
            .partition
            .segment_files(None, staged.segment)
            .iter()
            .for_each(|file| std::fs::remove_file(file).unwrap());
    }
    let timestamp = store.tick();
    let result = store
        .partition
        .apply(next(&store), &PartitionCommand::Write(timestamp, std::sync::Arc::new(set)));
    let error = result.unwrap_err();
    assert!(!error.is_refusal(), "{error}");
    assert!(store.read().is_empty());
    assert_eq!(store.partition.applied().index, store.log.len() as u64);
}

#[test]
fn too_many_deletes_are_refused() {
    let mut store = Store::new(PartitionOptions {
        transaction_limit_bytes: 2000,
        ..small_options()
    });
    store.put((0..500).map(|i| (i, "x")));
    let mut transaction = store.begin();
    assert_eq!(transaction.delete(TABLE, &keys(0..20)).unwrap(), 20);
    assert!(matches!(
        transaction.delete(TABLE, &keys(20..500)),
        Err(StorageError::TransactionTooLarge { limit: 2000, .. })
    ));
}

#[test]
fn a_savepoint_that_went_is_refused() {
    let store = Store::new(small_options());
    let mut transaction = store.begin();
    let first = transaction.savepoint();
    transaction.put(TABLE, &rows([(1, "a")])).unwrap();
    let second = transaction.savepoint();
    transaction.put(TABLE, &rows([(2, "b")])).unwrap();
    transaction.rollback_to(first).unwrap();
    assert!(transaction.is_empty());
    assert!(matches!(transaction.rollback_to(second), Err(StorageError::UnknownSavepoint(1))));
    transaction.rollback_to(first).unwrap();
}
