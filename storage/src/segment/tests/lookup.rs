//! Finding keys, against a linear search.

use super::*;
use crate::key::key_hash;

/// Checks `find` and `lower_bound` for every key of `rows` and of `absent`.
fn check(schema: &RelationSchema, rows: &RecordBatch, ts: Option<&UInt64Array>, absent: &[ArrayRef], batch_rows: usize) {
    let dir = tempfile::tempdir().unwrap();
    let info = write_segment(dir.path(), schema, rows, ts, batch_rows, 10).unwrap();
    let segment = Segment::open(dir.path(), info, ts.is_none().then_some(Timestamp(1))).unwrap();
    let encoder = KeyEncoder::new(schema).unwrap();
    let key_columns: Vec<ArrayRef> = schema.key.iter().map(|&i| rows.column(i).clone()).collect();
    let present = encoder.encode(&key_columns).unwrap();
    let absent = encoder.encode(absent).unwrap();
    let all: Vec<&[u8]> = (0..present.num_rows()).map(|i| present.row(i).data()).collect();
    for key in all.iter().copied().chain((0..absent.num_rows()).map(|i| absent.row(i).data())) {
        let low = all.iter().take_while(|k| **k < key).count() as u32;
        let high = all.iter().take_while(|k| **k <= key).count() as u32;
        let found = segment.find(key, key_hash(key), &encoder).unwrap();
        assert_eq!(segment.lower_bound(key, &encoder).unwrap(), low, "{}", encoder.display(key));
        if low == high {
            assert!(found.is_empty(), "{}", encoder.display(key));
        } else {
            assert_eq!(found, low..high, "{}", encoder.display(key));
        }
    }
    // Range ends need not be whole keys.
    for key in all.iter().flat_map(|key| {
        [
            key[..key.len() / 2].to_vec(),
            [key, &[0][..]].concat(),
            [&key[..key.len() - 1], &[0xff]].concat(),
        ]
    }) {
        let low = all.iter().take_while(|k| **k < key.as_slice()).count() as u32;
        assert_eq!(segment.lower_bound(&key, &encoder).unwrap(), low, "{key:?}");
    }
    for row in 0..rows.num_rows() as u32 {
        let (batch, at) = segment.locate(row);
        assert_eq!(segment.batch_start(batch) + at as u32, row);
        assert_eq!(segment.keys(batch, &encoder).unwrap().row(at).data(), all[row as usize]);
    }
}

/// A relation whose key is this one sorted column; every third value is left out of it and looked for in vain.
fn check_type(column: ArrayRef) {
    let kept: Vec<u32> = (0..column.len() as u32).filter(|n| n % 3 != 2).collect();
    let left: Vec<u32> = (0..column.len() as u32).filter(|n| n % 3 == 2).collect();
    let take = |at: Vec<u32>| arrow_select::take::take(&column, &UInt32Array::from(at), None).unwrap();
    let (kept, left) = (take(kept), take(left));
    let (schema, rows) = relation(vec![("x", Arc::new(Int8Array::from(vec![7; kept.len()]))), ("k", kept)], vec![1]);
    check(&schema, &rows, None, &[left], 9);
}

#[test]
fn keys_of_every_type() {
    let numbers = || -50..50i64;
    check_type(Arc::new(Int64Array::from_iter_values(numbers())));
    check_type(Arc::new(UInt64Array::from_iter_values(
        numbers().map(|n| (n + 50) as u64 * (u64::MAX / 100)),
    )));
    check_type(Arc::new(Int32Array::from_iter_values(numbers().map(|n| n as i32))));
    check_type(Arc::new(Int8Array::from_iter_values(numbers().map(|n| n as i8))));
    check_type(Arc::new(Float64Array::from_iter_values(numbers().map(|n| n as f64 / 3.0))));
    check_type(Arc::new(Decimal128Array::from_iter_values(numbers().map(|n| i128::from(n) << 60))));
    check_type(Arc::new(Date32Array::from_iter_values(numbers().map(|n| n as i32))));
    check_type(microseconds(numbers().collect()));
    check_type(Arc::new(BooleanArray::from(vec![false, true])));
    let mut words: Vec<String> = numbers()
        .map(|n| "ab".repeat((n.unsigned_abs() % 40) as usize) + &n.to_string())
        .collect();
    words.sort();
    words.dedup();
    check_type(Arc::new(StringArray::from_iter_values(&words)));
    check_type(Arc::new(LargeStringArray::from_iter_values(&words)));
    check_type(Arc::new(StringViewArray::from_iter_values(&words)));
    check_type(Arc::new(BinaryArray::from_iter_values(&words)));
    check_type(Arc::new(BinaryViewArray::from_iter_values(&words)));
    let fixed: Vec<[u8; 4]> = (0..100u32).map(|n| (n * 1000).to_be_bytes()).collect();
    check_type(Arc::new(FixedSizeBinaryArray::try_from_iter(fixed.iter()).unwrap()));
    check_type(Arc::new(IntervalYearMonthArray::from_iter_values(numbers().map(|n| n as i32))));
    let days = numbers().map(|n| arrow_buffer::IntervalDayTime::new(n as i32, 5));
    check_type(Arc::new(IntervalDayTimeArray::from_iter_values(days)));
}

#[test]
fn nested_keys() {
    let lists = (0..60).map(|n| Some((0..=n / 20).map(|k| Some(if k == 0 { n } else { 1 })).collect::<Vec<_>>()));
    check_type(Arc::new(ListArray::from_iter_primitive::<types::Int32Type, _, _>(lists)));
}

#[test]
fn composite_keys() {
    let names = StringViewArray::from_iter_values((0..60).map(|n| format!("name {:02}", n / 7)));
    let numbers = Int32Array::from_iter_values((0..60).map(|n| n * 2));
    let (schema, rows) = relation(vec![("n", Arc::new(numbers)), ("s", Arc::new(names))], vec![1, 0]);
    let absent: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from(vec!["", "name 03", "name 99"])),
        Arc::new(Int32Array::from(vec![1, 1, 1])),
    ];
    check(&schema, &rows, None, &absent, 10);
}

#[test]
fn versions_of_a_key_run_over_batches() {
    let keys: Vec<i64> = (0..100).map(|n| n / 23 * 10).collect();
    let ts = UInt64Array::from_iter_values((0..100).map(|n| 1000 - n));
    let (schema, rows) = relation(vec![("k", Arc::new(Int64Array::from(keys)))], vec![0]);
    for batch_rows in [1, 5, 23, 24, 200] {
        check(
            &schema,
            &rows,
            Some(&ts),
            &[Arc::new(Int64Array::from(vec![-1, 5, 15, 99]))],
            batch_rows,
        );
    }
}

mod random {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_strings(words in btree_set("[a-c\u{0}é]{0,40}", 1..80), absent in btree_set("[a-c\u{0}é]{0,40}", 0..20), batch_rows in 1usize..40) {
            let words: Vec<&String> = words.iter().collect();
            let (schema, rows) = relation(vec![("k", Arc::new(StringArray::from_iter_values(words)))], vec![0]);
            check(&schema, &rows, None, &[Arc::new(StringArray::from_iter_values(absent))], batch_rows);
        }
    }
}
