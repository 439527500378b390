//! What a segment writer refuses, and what it leaves behind then: nothing.

use super::*;

fn options(timestamps: bool) -> SegmentWriteOptions {
    SegmentWriteOptions { batch_rows: 4, timestamps }
}

fn assert_refused(result: Result<SegmentInfo>, dir: &tempfile::TempDir, what: &str) {
    assert!(matches!(result, Err(StorageError::SchemaMismatch { .. })), "{what}: {result:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{what}");
}

fn ints(keys: Vec<i64>) -> (RelationSchema, RecordBatch) {
    relation(vec![("k", Arc::new(Int64Array::from(keys)))], vec![0])
}

#[test]
fn rows_out_of_order() {
    let dir = tempfile::tempdir().unwrap();
    for (keys, piece) in [(vec![1, 3, 2], 3), (vec![1, 3, 2], 1), (vec![1, 1], 2), (vec![1, 1], 1)] {
        let (schema, rows) = ints(keys);
        assert_refused(write_segment(dir.path(), &schema, &rows, None, 4, piece), &dir, "keys");
    }
    let (schema, rows) = ints(vec![1, 1]);
    for ts in [vec![5, 5], vec![5, 6]] {
        assert_refused(
            write_segment(dir.path(), &schema, &rows, Some(&UInt64Array::from(ts)), 4, 2),
            &dir,
            "timestamps",
        );
    }
}

#[test]
fn rows_of_another_shape() {
    let dir = tempfile::tempdir().unwrap();
    let (schema, rows) = ints(vec![1, 2]);
    let encoder = KeyEncoder::new(&schema).unwrap();
    let keys = encoder.encode(rows.columns()).unwrap();
    let (_, other) = relation(vec![("k", Arc::new(Int32Array::from(vec![1, 2])))], vec![0]);
    let ts = UInt64Array::from(vec![1]);
    let attempts: [(&RecordBatch, Option<&UInt64Array>, bool); 4] = [
        (&other, None, false),
        (&rows, None, true),
        (&rows, Some(&ts), true),
        (&rows, Some(&ts), false),
    ];
    for (rows, ts, timestamps) in attempts {
        let mut writer = SegmentWriter::create(dir.path(), SegmentId(1), &schema, options(timestamps)).unwrap();
        assert!(writer.append(rows, &keys, ts).is_err());
        // After an error nothing can be finished.
        assert!(writer.finish().is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn schemas_that_cannot_be_stored() {
    let dir = tempfile::tempdir().unwrap();
    let with = |fields: Vec<Field>, key| {
        let schema = RelationSchema::new(RelationId(1), fields, key);
        let result = SegmentWriter::create(dir.path(), SegmentId(1), &schema, options(false));
        assert!(matches!(result, Err(StorageError::SchemaMismatch { .. })));
    };
    let id = || Field::new("id", DataType::Int64, false);
    let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    with(vec![id(), Field::new("d", dictionary.clone(), true)], vec![0]);
    with(vec![id(), Field::new("d", DataType::new_list(dictionary, true), true)], vec![0]);
    with(
        vec![
            id(),
            Field::new(
                "deep",
                (0..60).fold(DataType::Int8, |inner, _| DataType::new_list(inner, true)),
                true,
            ),
        ],
        vec![0],
    );
    with(vec![id(), Field::new(TIMESTAMP_COLUMN, DataType::Int64, true)], vec![0]);
    with(vec![id()], vec![]);
    with(vec![id()], vec![1]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (schema, rows) = ints((0..100).collect());
    let keys = KeyEncoder::new(&schema).unwrap().encode(rows.columns()).unwrap();
    let mut writer = SegmentWriter::create(dir.path(), SegmentId(1), &schema, options(false)).unwrap();
    writer.append(&rows, &keys, None).unwrap();
    assert!(writer.bytes() > 800);
    drop(writer);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
