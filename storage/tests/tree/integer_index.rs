//! Searching by the first numbers of a key, against a set of what was written.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use pyralog_storage::{ApplyOutcome, IntegerIndex, IntegerRange, PartitionCommand, RelationId, RelationSchema, RelationView, Transaction};

use crate::harness::{Store, TABLE, small_options};

const NUMBERS: RelationId = RelationId(8);
const NAMES: [&str; 3] = ["a", "b", "c"];

type Key = [u64; 3];

fn schema() -> RelationSchema {
    let fields = NAMES.map(|name| Field::new(name, DataType::UInt64, false));
    RelationSchema::new(NUMBERS, fields, vec![0, 1, 2])
}

fn batch(keys: &[Key]) -> RecordBatch {
    let column = |i: usize| Arc::new(UInt64Array::from_iter_values(keys.iter().map(|key| key[i]))) as ArrayRef;
    RecordBatch::try_new(schema().schema, vec![column(0), column(1), column(2)]).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Put(Vec<Key>),
    Delete(Vec<Key>),
    Flush,
    Compact,
}

fn some_keys(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Key>> {
    // The last numbers are among those that a prefix must not run into.
    let number = prop_oneof![6 => 0..4u64, 1 => 255..258u64, 1 => Just(u64::MAX)];
    prop::collection::vec([number.clone(), number.clone(), number], count)
}

fn some_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => some_keys(1..60).prop_map(Step::Put),
        2 => some_keys(1..20).prop_map(Step::Delete),
        2 => Just(Step::Flush),
        1 => Just(Step::Compact),
    ]
}

fn found(index: &IntegerIndex<3>, range: &mut IntegerRange, prefix: &[u64], limit: usize) -> Vec<Key> {
    index.seek(prefix, range).unwrap();
    let (count, exact) = (index.count(range), index.exact_count(range));
    let mut sampled = Vec::new();
    index.sample(range, 4, |key| sampled.push(key)).unwrap();
    let mut keys = Vec::new();
    loop {
        let before = keys.len();
        let has_more = index.read(range, limit, |key| keys.push(key)).unwrap();
        assert!(keys.len() - before <= limit);
        if !has_more {
            break;
        }
    }
    assert_eq!(count, keys.len() as u64);
    assert_eq!(exact, Some(count));
    assert!(sampled.iter().all(|key| keys.contains(key)));
    keys.sort_unstable();
    keys
}

fn check(view: &RelationView, wanted: &BTreeSet<Key>) {
    let index: IntegerIndex<3> = view.integer_index().unwrap();
    let mut prefixes: BTreeSet<Vec<u64>> = BTreeSet::from([Vec::new(), vec![9], vec![0, 9], vec![u64::MAX; 3]]);
    for key in wanted {
        prefixes.extend((1..=3).map(|length| key[..length].to_vec()));
    }
    // Where the search before ended must not matter.
    let (mut forth, mut back) = (IntegerRange::default(), IntegerRange::default());
    for (prefix, other) in prefixes.iter().zip(prefixes.iter().rev()) {
        let wanted = |prefix: &[u64]| -> Vec<Key> { wanted.iter().filter(|key| key.starts_with(prefix)).copied().collect() };
        let mut new = IntegerRange::default();
        assert_eq!(found(&index, &mut new, prefix, 5), wanted(prefix), "{prefix:?}");
        assert_eq!(found(&index, &mut forth, prefix, 5), wanted(prefix), "{prefix:?}");
        assert_eq!(found(&index, &mut back, other, 5), wanted(other), "{other:?}");
    }
}

fn put(transaction: &mut Transaction, keys: &[Key]) {
    transaction.put(NUMBERS, &batch(keys)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_prefix_finds_its_rows(steps in prop::collection::vec(some_step(), 1..12), own in some_keys(1..40), gone in some_keys(1..20)) {
        let mut store = Store::new(small_options());
        store.apply(PartitionCommand::CreateRelation(schema())).unwrap();
        let relation = |store: &Store| store.partition.snapshot(None).unwrap().relation(NUMBERS).unwrap();
        let mut model: BTreeSet<Key> = BTreeSet::new();
        let mut before = (relation(&store), model.clone());
        for (i, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(keys) => {
                    let mut transaction = store.begin();
                    put(&mut transaction, &keys);
                    prop_assert_eq!(store.commit(transaction), ApplyOutcome::Applied);
                    model.extend(keys);
                }
                Step::Delete(keys) => {
                    let mut transaction = store.begin();
                    transaction.delete(NUMBERS, &batch(&keys)).unwrap();
                    prop_assert_eq!(store.commit(transaction), ApplyOutcome::Applied);
                    model.retain(|key| !keys.contains(key));
                }
                Step::Flush => drop(store.partition.flush().unwrap()),
                Step::Compact => store.partition.compact_all(None).unwrap(),
            }
            check(&relation(&store), &model);
            if i == 3 {
                before = (relation(&store), model.clone());
            }
        }
        // What a snapshot saw, it sees.
        check(&before.0, &before.1);
        // A transaction sees what it wrote itself.
        let mut transaction = store.begin();
        put(&mut transaction, &own);
        transaction.delete(NUMBERS, &batch(&gone)).unwrap();
        model.extend(own);
        model.retain(|key| !gone.contains(key));
        check(&transaction.view(NUMBERS).unwrap(), &model);
    }
}

/// Searches in the order of keys go on where the one before ended; any others find the same.
#[test]
fn searches_in_any_order_find_the_same() {
    let mut store = Store::new(small_options());
    store.apply(PartitionCommand::CreateRelation(schema())).unwrap();
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut wanted: BTreeSet<Key> = BTreeSet::new();
    for part in 0..3 {
        let keys: Vec<Key> = (0..9000).map(|_| [random.next_u64() % 4000, random.next_u64() % 3, part]).collect();
        let mut transaction = store.begin();
        put(&mut transaction, &keys);
        assert_eq!(store.commit(transaction), ApplyOutcome::Applied);
        store.partition.flush().unwrap();
        wanted.extend(keys);
    }
    let view = store.partition.snapshot(None).unwrap().relation(NUMBERS).unwrap();
    let index: IntegerIndex<3> = view.integer_index().unwrap();
    let in_order: Vec<u64> = (0..4010).collect();
    let with_gaps: Vec<u64> = (0..4000).filter(|i| i % 7 == 0 || i % 500 < 3).collect();
    let repeated: Vec<u64> = (0..4000).flat_map(|i| [i, i, i / 2]).collect();
    let anyhow: Vec<u64> = (0..3000).map(|_| random.next_u64() % 4010).collect();
    for searches in [in_order.clone(), with_gaps, repeated, in_order.into_iter().rev().collect(), anyhow] {
        let mut range = IntegerRange::default();
        for first in searches {
            let second = random.next_u64() % 4;
            let prefix = [first, second];
            let prefix = if second == 3 { &prefix[..1] } else { &prefix[..] };
            let end = match second {
                3 => [first + 1, 0, 0],
                _ => [first, second + 1, 0],
            };
            let start = [first, if second == 3 { 0 } else { second }, 0];
            let wanted: Vec<Key> = wanted.range(start..end).copied().collect();
            assert_eq!(found(&index, &mut range, prefix, 4096), wanted, "{prefix:?}");
        }
    }
}

#[test]
fn other_keys_are_refused() {
    let store = Store::new(small_options());
    let view = store.partition.snapshot(None).unwrap().relation(TABLE).unwrap();
    assert!(view.integer_index::<1>().is_err());
}
