//! Parts of transactions over several partitions: prepared, decided, aborted.

use std::sync::Arc;

use arrow_schema::{DataType, Field};
use pyralog_storage::{
    ApplyOutcome, ConflictPolicy, PartitionCommand, RelationId, RelationSchema, StorageError, Timestamp, Transaction, TransactionId,
    WriteSet,
};

use crate::harness::{Rows, Store, TABLE, bulk, keys, read, rows, schema, small_options};

fn id(serial: u64) -> TransactionId {
    TransactionId {
        coordinator: u128::MAX - 3,
        serial,
    }
}

fn put(store: &Store, batch: &[(i64, &str)]) -> WriteSet {
    let mut transaction = store.begin();
    transaction.put(TABLE, &rows(batch.iter().copied())).unwrap();
    transaction.into_write_set().unwrap()
}

fn delete(store: &Store, ids: &[i64]) -> WriteSet {
    let mut transaction = store.begin();
    transaction.delete(TABLE, &keys(ids.iter().copied())).unwrap();
    transaction.into_write_set().unwrap()
}

fn staged(store: &Store, ids: std::ops::Range<i64>) -> WriteSet {
    let mut transaction: Transaction = store.begin();
    bulk(ids).for_each(|batch| transaction.put(TABLE, &batch).unwrap());
    let set = transaction.into_write_set().unwrap();
    assert!(!set.relations[0].staged.is_empty());
    set
}

fn prepare(store: &mut Store, serial: u64, set: WriteSet) -> (Timestamp, ApplyOutcome) {
    let timestamp = store.tick();
    let outcome = store.apply(PartitionCommand::Prepare(id(serial), timestamp, Arc::new(set)));
    (timestamp, outcome.unwrap())
}

#[track_caller]
fn prepared(store: &mut Store, serial: u64, set: WriteSet) -> Timestamp {
    let (timestamp, outcome) = prepare(store, serial, set);
    assert_eq!(outcome, ApplyOutcome::Applied);
    timestamp
}

/// Prepares what is refused.
#[track_caller]
fn conflict(store: &mut Store, serial: u64, set: WriteSet) {
    let outcome = prepare(store, serial, set).1;
    assert!(matches!(outcome, ApplyOutcome::Conflict(_)), "{outcome:?}");
}

fn decide(store: &mut Store, serial: u64, commit: Timestamp) -> Result<ApplyOutcome, StorageError> {
    store.apply(PartitionCommand::Decide(id(serial), commit))
}

fn abort(store: &mut Store, serial: u64) {
    assert_eq!(store.apply(PartitionCommand::Abort(id(serial))).unwrap(), ApplyOutcome::Applied);
}

fn filled() -> Store {
    let mut store = Store::new(small_options());
    store.put((0..100).map(|id| (id, "first")));
    store
}

#[test]
fn a_part_is_seen_when_it_is_decided_and_from_its_timestamp_on() {
    let mut store = filled();
    let set = put(&store, &[(1, "prepared"), (200, "prepared")]);
    let at = prepared(&mut store, 1, set);
    assert_eq!(store.partition.undecided(at), [(id(1), at)]);
    assert_eq!(store.partition.undecided(Timestamp(at.0 - 1)), []);
    store.put([(2, "meanwhile")]);
    let before = store.read();
    assert_eq!(
        (before[&1].as_str(), before[&2].as_str()),
        ("first", "first"),
        "a stable state is before what is prepared"
    );
    assert!(store.partition.stable_timestamp() < at);
    let commit = Timestamp(at.0 + 5);
    decide(&mut store, 1, commit).unwrap();
    assert_eq!(store.partition.undecided(Timestamp::MAX), []);
    let now = store.read();
    assert_eq!(
        (now[&1].as_str(), now[&2].as_str(), now[&200].as_str()),
        ("prepared", "meanwhile", "prepared")
    );
    let rows_at = |store: &Store, at| read(&store.view(Some(at)));
    assert_eq!(rows_at(&store, commit)[&1], "prepared");
    assert_eq!(rows_at(&store, Timestamp(commit.0 - 1))[&1], "first");
    store.assert_durable(&now);
}

#[test]
fn what_is_prepared_is_written_by_nobody_else() {
    let mut store = filled();
    let (first, second) = (put(&store, &[(1, "mine"), (300, "mine")]), delete(&store, &[2]));
    prepared(&mut store, 1, first);
    prepared(&mut store, 2, second);
    for key in [1, 300, 2] {
        for policy in [ConflictPolicy::FirstCommitterWins, ConflictPolicy::LastWriteWins] {
            let serial = 100 + store.log.len() as u64;
            for mut set in [put(&store, &[(key, "other")]), delete(&store, &[key])] {
                // A delete of a key that is not there writes nothing.
                let Some(writes) = set.relations.first_mut() else { continue };
                writes.policy = policy;
                conflict(&mut store, serial, set.clone());
                assert!(matches!(store.commit_set(set), ApplyOutcome::Conflict(_)), "{key}");
            }
            // Files of what is refused go, so each is tried once.
            let [mut first, mut second] = [0, 1].map(|_| staged(&store, key - 400..key + 400));
            (first.relations[0].policy, second.relations[0].policy) = (policy, policy);
            conflict(&mut store, serial, first);
            assert!(matches!(store.commit_set(second), ApplyOutcome::Conflict(_)), "{key}");
        }
    }
    let mut empty = store.begin();
    empty.empty(TABLE).unwrap();
    let empty = empty.into_write_set().unwrap();
    assert!(matches!(prepare(&mut store, 50, empty.clone()).1, ApplyOutcome::Conflict(_)));
    abort(&mut store, 1);
    abort(&mut store, 2);
    prepared(&mut store, 51, empty);
    let other = put(&store, &[(999, "other")]);
    assert!(
        matches!(store.commit_set(other), ApplyOutcome::Conflict(_)),
        "the whole relation is locked"
    );
    let commit = store.tick();
    decide(&mut store, 51, commit).unwrap();
    store.put([(999, "other")]);
    store.assert_durable(&Rows::from([(999, "other".to_owned())]));
}

#[test]
fn segments_that_are_prepared_come_with_the_decision_or_go_with_the_abort() {
    for flushes in 0..16_u32 {
        let mut store = filled();
        let (kept, gone) = (staged(&store, 0..1000), staged(&store, 2000..3000));
        let gone_files: Vec<_> = gone.relations[0]
            .staged
            .iter()
            .flat_map(|staged| store.partition.segment_files(Some(TABLE), staged.segment))
            .collect();
        prepared(&mut store, 1, kept);
        prepared(&mut store, 2, gone);
        let step = |store: &mut Store, bit: u32| {
            if flushes & 1 << bit != 0 {
                store.partition.flush().unwrap();
                store.partition.compact_all(None).unwrap();
            }
            store.reopen();
        };
        step(&mut store, 0);
        let other = staged(&store, 500..1500);
        conflict(&mut store, 3, other);
        let write = put(&store, &[(700, "other")]);
        assert!(matches!(store.commit_set(write), ApplyOutcome::Conflict(_)));
        step(&mut store, 1);
        let commit = store.tick();
        decide(&mut store, 1, commit).unwrap();
        step(&mut store, 2);
        abort(&mut store, 2);
        step(&mut store, 3);
        let now = store.read();
        assert!(now.len() == 1000 && now.values().all(|value| value == "bulk"), "{flushes}");
        store.put([(700, "after"), (2500, "after")]);
        let now = store.read();
        store.assert_durable(&now);
        assert!(gone_files.iter().all(|path| !path.exists()), "{flushes}");
    }
}

#[test]
fn what_cannot_be_decided_changes_nothing() {
    let mut store = filled();
    let set = put(&store, &[(1, "prepared")]);
    let at = prepared(&mut store, 1, set);
    let early = decide(&mut store, 1, Timestamp(at.0 - 1)).unwrap_err();
    assert!(
        matches!(early, StorageError::DecidedTooEarly { .. }) && early.is_refusal(),
        "{early}"
    );
    let unknown = decide(&mut store, 2, at).unwrap_err();
    assert!(
        matches!(unknown, StorageError::UnknownTransaction(_)) && unknown.is_refusal(),
        "{unknown}"
    );
    abort(&mut store, 2);
    assert_eq!(store.partition.undecided(at), [(id(1), at)]);
    decide(&mut store, 1, at).unwrap();
    assert!(decide(&mut store, 1, at).is_err(), "it is decided once");
    abort(&mut store, 1);
    assert_eq!(store.read()[&1], "prepared");
}

#[test]
fn a_relation_that_is_altered_or_gone_takes_nothing_with_it() {
    let other = RelationId(8);
    for flushed in [false, true] {
        let mut store = filled();
        let fields = [Field::new("id", DataType::Int64, false), Field::new("value", DataType::Utf8, true)];
        store
            .apply(PartitionCommand::CreateRelation(RelationSchema::new(other, fields, vec![0])))
            .unwrap();
        let mut transaction = store.begin();
        transaction.put(TABLE, &rows([(1, "kept")])).unwrap();
        bulk(0..1000).for_each(|batch| transaction.put(other, &batch).unwrap());
        let set = transaction.into_write_set().unwrap();
        prepared(&mut store, 1, set);
        store.apply(PartitionCommand::DropRelation(other)).unwrap();
        let mut altered = schema();
        altered.version += 1;
        store.apply(PartitionCommand::AlterRelation(altered)).unwrap();
        if flushed {
            store.partition.flush().unwrap();
        }
        store.reopen();
        let commit = store.tick();
        decide(&mut store, 1, commit).unwrap();
        let now = store.read();
        assert_eq!(now[&1], "kept");
        store.assert_durable(&now);
        assert!(store.view(None).schema().version > 1);
        let left = std::fs::read_dir(store.dir.path().join(other.to_string()));
        assert!(
            left.is_err() || left.unwrap().next().is_none(),
            "files of the relation that is gone are left"
        );
    }
}

#[test]
fn a_damaged_part_is_named_and_nothing_is_opened_without_it() {
    let mut store = filled();
    let set = put(&store, &[(1, "prepared")]);
    prepared(&mut store, 1, set);
    store.partition.flush().unwrap();
    let folder = store.dir.path().join("prepared");
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let good = std::fs::read(&file).unwrap();
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 4;
        std::fs::write(&file, &bad).unwrap();
        let problems = store.partition.verify().unwrap();
        assert_eq!(problems.len(), 1, "byte {at}");
        assert!(problems[0].to_string().contains(".part"), "{}", problems[0]);
    }
    std::fs::write(&file, &good).unwrap();
    assert!(store.partition.verify().unwrap().is_empty());
    let commit = store.tick();
    decide(&mut store, 1, commit).unwrap();
    store.partition.flush().unwrap();
    assert!(!file.exists(), "decided and flushed, it is not needed any more");
}

#[test]
fn versions_that_a_part_may_still_come_between_are_kept() {
    let mut store = filled();
    let set = put(&store, &[(1, "prepared")]);
    let at = prepared(&mut store, 1, set);
    // Hours pass: what is older than a few seconds would be forgotten otherwise.
    for round in 0..3 {
        store.put([(50 + round, "later")]);
        store.tick();
        store.partition.flush().unwrap();
        store.partition.compact_all(None).unwrap();
    }
    let before = store.partition.snapshot(None).unwrap();
    assert!(before.timestamp() < at);
    decide(&mut store, 1, at).unwrap();
    assert_eq!(read(&before.relation(TABLE).unwrap())[&1], "first");
    assert_eq!(read(&store.view(Some(at)))[&1], "prepared");
    assert_eq!(
        read(&store.view(Some(at)))[&50],
        "first",
        "what was committed after the part was prepared"
    );
}
