//! Speed of one segment: appending rows, finishing (with the syncs), opening, reading all columns, finding keys.
//!
//! `cargo bench -p pyralog-storage --bench segment`. Prints one line a measurement; a debug build runs it small, to see that it works.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, Date32Array, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringViewArray};
use arrow_schema::Field;
use pyralog_storage::key::{KeyEncoder, key_hash};
use pyralog_storage::segment::{Segment, SegmentInfo, SegmentWriteOptions, SegmentWriter};
use pyralog_storage::{RelationId, RelationSchema, SegmentId, Timestamp};

const BATCH: usize = 8192;

fn main() {
    let rows = if cfg!(debug_assertions) { 3 * BATCH } else { 2_000_000 };
    measure("narrow", rows, vec![0], |from, to| {
        vec![("id", ints(from, to)), ("value", ints(from * 7, to * 7 - (to - from) * 6))]
    });
    measure("wide", rows, vec![0, 1], |from, to| {
        vec![
            ("order", ints(from, to)),
            ("line", Arc::new(Int32Array::from_iter_values((from..to).map(|n| (n % 7) as i32)))),
            ("part", ints(from * 3, to * 3 - (to - from) * 2)),
            (
                "price",
                Arc::new(Decimal128Array::from_iter_values((from..to).map(|n| i128::from(n * 100)))),
            ),
            (
                "day",
                Arc::new(Date32Array::from_iter_values((from..to).map(|n| (n % 2500) as i32))),
            ),
            ("comment", strings(from, to)),
        ]
    });
    measure("text key", rows, vec![0], |from, to| {
        vec![("name", strings(from, to)), ("value", ints(from, to))]
    });
}

fn ints(from: i64, to: i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(from..to))
}

fn strings(from: i64, to: i64) -> ArrayRef {
    Arc::new(StringViewArray::from_iter_values(
        (from..to).map(|n| format!("text with the number {n:010}")),
    ))
}

/// Writes rows `0..rows` from batches of `columns(from, to)` and reads them.
fn measure(name: &str, rows: usize, key: Vec<usize>, columns: impl Fn(i64, i64) -> Vec<(&'static str, ArrayRef)>) {
    let dir = tempfile::tempdir().unwrap();
    let fields = columns(0, 1)
        .into_iter()
        .map(|(name, c)| Field::new(name, c.data_type().clone(), false));
    let schema = RelationSchema::new(RelationId(1), fields, key);
    let encoder = KeyEncoder::new(&schema).unwrap();
    let batches: Vec<RecordBatch> = (0..rows)
        .step_by(BATCH)
        .map(|from| {
            let columns = columns(from as i64, (from + BATCH).min(rows) as i64)
                .into_iter()
                .map(|(_, c)| c)
                .collect();
            RecordBatch::try_new(schema.schema.clone(), columns).unwrap()
        })
        .collect();
    let info = write(dir.path(), name, &schema, &encoder, &batches);

    let start = Instant::now();
    let segment = Segment::open(dir.path(), info.clone(), Some(Timestamp(1))).unwrap();
    println!("{name}: open {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
    let all: Vec<usize> = (0..schema.schema.fields().len()).collect();
    for pass in ["first", "second"] {
        let start = Instant::now();
        (0..segment.batch_count()).for_each(|batch| drop(black_box(segment.read(batch, &schema, &all).unwrap())));
        println!("{name}: {pass} read {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
    }
    find(name, &segment, &encoder, &schema, &batches);
}

fn write(dir: &Path, name: &str, schema: &RelationSchema, encoder: &KeyEncoder, batches: &[RecordBatch]) -> SegmentInfo {
    let keys: Vec<_> = batches.iter().map(|b| encoder.encode(&key_columns(schema, b)).unwrap()).collect();
    let options = SegmentWriteOptions {
        batch_rows: BATCH,
        timestamps: false,
    };
    let start = Instant::now();
    let mut writer = SegmentWriter::create(dir, SegmentId(1), schema, options).unwrap();
    batches
        .iter()
        .zip(&keys)
        .for_each(|(rows, keys)| writer.append(rows, keys, None).unwrap());
    let appended = start.elapsed();
    let info = writer.finish().unwrap();
    let speed = info.bytes as f64 / appended.as_secs_f64() / 1e6;
    let finish = (start.elapsed() - appended).as_secs_f64() * 1e3;
    println!(
        "{name}: {} MB, append {speed:.0} MB/s, finish {finish:.0} ms, side-car {} kB",
        info.bytes >> 20,
        info.sidecar_bytes >> 10
    );
    info
}

/// Finds keys all over the segment, each of them present.
fn find(name: &str, segment: &Segment, encoder: &KeyEncoder, schema: &RelationSchema, batches: &[RecordBatch]) {
    let keys: Vec<_> = batches.iter().map(|b| encoder.encode(&key_columns(schema, b)).unwrap()).collect();
    let lookups = if cfg!(debug_assertions) { 500 } else { 200_000 };
    let wanted: Vec<&[u8]> = (0..lookups)
        .map(|n| {
            let batch = &keys[(n * 7919) % keys.len()];
            batch.row((n * 104_729) % batch.num_rows()).data()
        })
        .collect();
    let start = Instant::now();
    let found: usize = wanted
        .iter()
        .map(|key| segment.find(key, key_hash(key), encoder).unwrap().len())
        .sum();
    println!("{name}: find {:.0} ns", start.elapsed().as_secs_f64() * 1e9 / lookups as f64);
    assert_eq!(found, lookups);
}

fn key_columns(schema: &RelationSchema, rows: &RecordBatch) -> Vec<ArrayRef> {
    schema.key.iter().map(|&i| rows.column(i).clone()).collect()
}
