//! Writes larger than a transaction may hold in memory.

use pyralog_storage::{ApplyOutcome, StorageError};

use crate::harness::{Rows, Store, TABLE, bulk, keys, read, rows, small_options};

fn staged_files(store: &Store) -> usize {
    std::fs::read_dir(store.dir.path().join("staging")).unwrap().count()
}

#[test]
fn bulk_writes_are_staged_and_committed() {
    let mut store = Store::new(small_options());
    store.put((0..100).map(|i| (i * 50, "before")));
    store.partition.flush().unwrap();
    store.put((0..10).map(|i| (i * 500 + 1, "memory")));
    let mut transaction = store.begin();
    for batch in bulk(0..5000) {
        transaction.put(TABLE, &batch).unwrap();
    }
    assert!(staged_files(&store) > 2);
    assert!(transaction.memory_bytes() < 100_000);
    let wanted: Rows = (0..5000).map(|i| (i, "bulk".to_owned())).collect();
    assert_eq!(read(&transaction.view(TABLE).unwrap()), wanted);
    assert_eq!(store.read().len(), 110);
    assert_eq!(store.commit(transaction), ApplyOutcome::Applied);
    assert_eq!(store.read(), wanted);
    assert_eq!(staged_files(&store), 0);
    store.assert_durable(&wanted);
}

#[test]
fn a_refused_bulk_write_leaves_nothing_and_is_refused_again() {
    let mut store = Store::new(small_options());
    store.put((0..100).map(|i| (i, "old")));
    let mut transaction = store.begin();
    for batch in bulk(0..1000) {
        transaction.put(TABLE, &batch).unwrap();
    }
    store.put([(950, "other")]);
    let ApplyOutcome::Conflict(conflict) = store.commit(transaction) else {
        panic!("no conflict")
    };
    assert_eq!(conflict.key, "(id=950)");
    assert_eq!(staged_files(&store), 1, "only the marker is left");
    store.reopen();
    assert_eq!(store.read().len(), 101);
    store.partition.flush().unwrap();
    assert_eq!(staged_files(&store), 0);
}

#[test]
fn inserts_find_duplicates_everywhere() {
    let mut store = Store::new(small_options());
    store.put([(5000, "committed")]);
    let mut transaction = store.begin();
    for batch in bulk(0..1000) {
        transaction.insert(TABLE, &batch).unwrap();
    }
    for (id, known) in [(3, true), (999, true), (5000, true), (1000, false), (-1, false)] {
        let savepoint = transaction.savepoint();
        let result = transaction.insert(TABLE, &rows([(id, "again")]));
        match result {
            Err(StorageError::DuplicateKey { key, .. }) => assert!(known && key == format!("(id={id})"), "{key}"),
            Ok(()) => assert!(!known, "{id}"),
            Err(error) => panic!("{error}"),
        }
        transaction.rollback_to(savepoint).unwrap();
    }
    assert!(matches!(
        transaction.insert(TABLE, &rows([(7000, "a"), (7000, "b")])),
        Err(StorageError::DuplicateKey { .. })
    ));
    assert_eq!(store.commit(transaction), ApplyOutcome::Applied);
    assert_eq!(store.read().len(), 1001);
}

#[test]
fn dropping_a_transaction_removes_its_files() {
    let store = Store::new(small_options());
    let mut transaction = store.begin();
    for batch in bulk(0..1000) {
        transaction.insert(TABLE, &batch).unwrap();
    }
    assert!(staged_files(&store) > 0);
    store.partition.collect_garbage().unwrap();
    assert_eq!(read(&transaction.view(TABLE).unwrap()).len(), 1000);
    drop(transaction);
    assert_eq!(staged_files(&store), 0);
}

#[test]
fn deleted_bulk_rows_do_not_commit() {
    let mut store = Store::new(small_options());
    store.put((0..100).map(|i| (i, "old")));
    let mut transaction = store.begin();
    for batch in bulk(0..1000) {
        transaction.put(TABLE, &batch).unwrap();
    }
    assert_eq!(transaction.delete(TABLE, &keys((0..1000).filter(|i| i % 3 == 0))).unwrap(), 334);
    let wanted: Rows = (0..1000).filter(|i| i % 3 != 0).map(|i| (i, "bulk".to_owned())).collect();
    assert_eq!(read(&transaction.view(TABLE).unwrap()), wanted);
    assert_eq!(store.commit(transaction), ApplyOutcome::Applied);
    assert_eq!(store.read(), wanted);
    store.reopen();
    assert_eq!(store.read(), wanted);
}

#[test]
fn a_row_put_over_an_ingested_one_ends_it_though_the_memtable_knows_an_older_version() {
    let mut store = Store::new(small_options());
    store.put([(114, "memtable")]);
    let mut transaction = store.begin();
    for ids in [(0..100), (100..200)] {
        transaction.put(TABLE, &rows(ids.map(|i| (i, "ingested")))).unwrap();
    }
    assert_eq!(store.commit(transaction), ApplyOutcome::Applied);
    store.put([(114, "newest")]);
    assert_eq!(store.read()[&114], "newest");
    store.delete([114]);
    assert_eq!(store.read().len(), 199);
}

#[test]
fn savepoints_hold_over_staging() {
    let mut store = Store::new(small_options());
    store.put((0..20).map(|i| (i, "before")));
    let mut transaction = store.begin();
    let mut wanted = vec![(transaction.savepoint(), read(&transaction.view(TABLE).unwrap()))];
    for round in 0..6 {
        let value = format!("round {round}");
        transaction
            .put(TABLE, &rows((0..100).map(|i| (i * (round + 1), value.as_str()))))
            .unwrap();
        transaction.delete(TABLE, &keys((0..100).filter(|i| i % 7 == round))).unwrap();
        wanted.push((transaction.savepoint(), read(&transaction.view(TABLE).unwrap())));
    }
    assert!(staged_files(&store) > 0);
    while let Some((savepoint, rows)) = wanted.pop() {
        transaction.rollback_to(savepoint).unwrap();
        assert_eq!(read(&transaction.view(TABLE).unwrap()), rows);
        if wanted.len() == 3 {
            assert_eq!(store.commit(transaction), ApplyOutcome::Applied);
            assert_eq!(store.read(), rows);
            return;
        }
    }
}

#[test]
fn sorted_runs_bring_what_is_new() {
    let mut store = Store::new(small_options());
    store.put((0..100).map(|i| (i * 50, "before")));
    store.partition.flush().unwrap();
    store.put([(7, "memory")]);
    let mut transaction = store.begin();
    transaction.put(TABLE, &rows([(8, "own"), (9000, "own")])).unwrap();
    transaction.delete(TABLE, &keys([50])).unwrap();
    let before = transaction.savepoint();
    let mut run = transaction.sorted_run(TABLE).unwrap();
    for batch in bulk(0..5000) {
        run.append(&batch).unwrap();
    }
    assert_eq!(transaction.add_runs(vec![run]).unwrap(), 5000 - 100 - 2 + 1);
    let mut wanted: Rows = (0..5000).map(|i| (i, "bulk".to_owned())).collect();
    wanted.extend((0..100).filter(|i| *i != 1).map(|i| (i * 50, "before".to_owned())));
    wanted.extend([(7, "memory".to_owned()), (8, "own".to_owned()), (9000, "own".to_owned())]);
    assert_eq!(read(&transaction.view(TABLE).unwrap()), wanted);
    // Once more brings nothing; going back takes all of it away.
    let mut again = transaction.sorted_run(TABLE).unwrap();
    bulk(0..5000).for_each(|batch| again.append(&batch).unwrap());
    assert_eq!(transaction.add_runs(vec![again]).unwrap(), 0);
    let files = staged_files(&store);
    transaction.rollback_to(before).unwrap();
    assert!(staged_files(&store) < files);
    assert_eq!(read(&transaction.view(TABLE).unwrap()).len(), 102);
    let mut run = transaction.sorted_run(TABLE).unwrap();
    bulk(0..5000).for_each(|batch| run.append(&batch).unwrap());
    transaction.add_runs(vec![run]).unwrap();
    assert_eq!(store.commit(transaction), ApplyOutcome::Applied);
    assert_eq!(store.read(), wanted);
    assert_eq!(staged_files(&store), 0);
    store.assert_durable(&wanted);
}

#[test]
fn a_run_out_of_order_or_out_of_date_is_refused() {
    let store = Store::new(small_options());
    let mut transaction = store.begin();
    let mut run = transaction.sorted_run(TABLE).unwrap();
    run.append(&rows([(1, "a"), (2, "b")])).unwrap();
    assert!(run.append(&rows([(2, "again")])).is_err());
    assert!(run.append(&rows([(5, "a"), (4, "b")])).is_err());
    drop(run);
    assert!(
        transaction
            .sorted_run(TABLE)
            .unwrap()
            .append(&rows([(5, "a"), (4, "b"), (6, "c")]))
            .is_err()
    );
    let mut run = transaction.sorted_run(TABLE).unwrap();
    run.append(&rows([(1, "a"), (2, "b")])).unwrap();
    transaction.put(TABLE, &rows([(1, "own")])).unwrap();
    assert!(transaction.add_runs(vec![run]).is_err());
    assert_eq!(read(&transaction.view(TABLE).unwrap()).len(), 1);
    drop(transaction);
    assert_eq!(staged_files(&store), 0);
}
