//! Tests of a segment's two files as a whole.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod corruption;
mod evolution;
mod lookup;
mod refusal;
mod round_trip;

use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, Float32Builder, ListBuilder, MapBuilder, StringBuilder, StringViewBuilder};
use arrow_array::*;
use arrow_schema::{DataType, Field, Fields, TimeUnit};

use super::*;
use crate::ids::RelationId;
use crate::key::KeyEncoder;
use crate::schema::RelationSchema;

/// A relation with a column of every kind of layout; the key is the first column.
fn wide_relation(rows: &RecordBatch) -> RelationSchema {
    let fields = rows.schema().fields().iter().map(|f| f.as_ref().clone()).collect::<Vec<_>>();
    RelationSchema::new(RelationId(1), fields, vec![0])
}

/// Rows with keys `from`, `from + 2`, ….
fn wide_rows(from: i64, count: usize) -> RecordBatch {
    let ids: Vec<i64> = (0..count as i64).map(|n| from + 2 * n).collect();
    let mut tags = ListBuilder::new(StringViewBuilder::new());
    let mut vectors = FixedSizeListBuilder::new(Float32Builder::new(), 3);
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringViewBuilder::new());
    for id in &ids {
        tags.append_value((0..id % 3).map(|k| Some(format!("tag {k} of the row with id {id}"))));
        (0..3).for_each(|k| vectors.values().append_value((id * k) as f32));
        vectors.append(id % 4 != 0);
        map.keys().append_value(format!("k{id}"));
        map.values().append_value(format!("a value that is longer than twelve bytes {id}"));
        map.append(true).unwrap();
    }
    let name = StringViewArray::from_iter(
        ids.iter()
            .map(|n| (n % 5 != 0).then(|| format!("the rather long name of number {n}"))),
    );
    let some = |n: &i64| (n % 3 != 0).then_some(*n);
    let inner = Fields::from(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)]);
    let inner_columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter(ids.iter().map(|n| some(n).map(|n| n as i32)))),
        Arc::new(StringArray::from_iter_values(ids.iter().map(|n| format!("b{n}")))),
    ];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(ids.clone()))),
        ("name", Arc::new(name)),
        (
            "score",
            Arc::new(Float64Array::from_iter(ids.iter().map(|n| some(n).map(|n| n as f64 / 4.0)))),
        ),
        (
            "flag",
            Arc::new(BooleanArray::from_iter(ids.iter().map(|n| some(n).map(|n| n % 2 == 0)))),
        ),
        (
            "at",
            Arc::new(TimestampMicrosecondArray::from_iter(ids.iter().map(some)).with_timezone("UTC")),
        ),
        (
            "price",
            Arc::new(Decimal128Array::from_iter(ids.iter().map(|n| some(n).map(i128::from)))),
        ),
        ("blob", Arc::new(BinaryArray::from_iter_values(ids.iter().map(|n| n.to_be_bytes())))),
        (
            "fixed",
            Arc::new(FixedSizeBinaryArray::try_from_iter(ids.iter().map(|n| n.to_le_bytes())).unwrap()),
        ),
        ("tags", Arc::new(tags.finish())),
        ("vector", Arc::new(vectors.finish())),
        ("props", Arc::new(StructArray::try_new(inner, inner_columns, None).unwrap())),
        ("map", Arc::new(map.finish())),
        ("nothing", Arc::new(NullArray::new(count))),
    ];
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, c)| Field::new(*name, c.data_type().clone(), *name != "id"))
        .collect();
    let columns = columns.into_iter().map(|(_, c)| c).collect();
    RecordBatch::try_new(Arc::new(arrow_schema::Schema::new(fields)), columns).unwrap()
}

/// Writes rows (in pieces of `piece` rows) as one segment.
fn write_segment(
    dir: &Path,
    schema: &RelationSchema,
    rows: &RecordBatch,
    ts: Option<&UInt64Array>,
    batch_rows: usize,
    piece: usize,
) -> Result<SegmentInfo> {
    let encoder = KeyEncoder::new(schema)?;
    let options = SegmentWriteOptions {
        batch_rows,
        timestamps: ts.is_some(),
    };
    let mut writer = SegmentWriter::create(dir, SegmentId(7), schema, options)?;
    for start in (0..rows.num_rows()).step_by(piece) {
        let rows = rows.slice(start, piece.min(rows.num_rows() - start));
        let key_columns: Vec<ArrayRef> = schema.key.iter().map(|&i| rows.column(i).clone()).collect();
        let ts = ts.map(|ts| ts.slice(start, rows.num_rows()));
        writer.append(&rows, &encoder.encode(&key_columns)?, ts.as_ref())?;
    }
    assert_eq!(writer.rows(), rows.num_rows() as u64);
    writer.finish()
}

/// All rows of a segment, all columns of the schema.
fn read_all(segment: &Segment, schema: &RelationSchema, projection: &[usize]) -> Result<Vec<RecordBatch>> {
    (0..segment.batch_count())
        .map(|batch| segment.read(batch, schema, projection))
        .collect()
}

/// A relation with plain columns, and rows for it.
fn relation(columns: Vec<(&str, ArrayRef)>, key: Vec<usize>) -> (RelationSchema, RecordBatch) {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, c)| Field::new(*name, c.data_type().clone(), c.null_count() > 0))
        .collect();
    let schema = RelationSchema::new(RelationId(1), fields, key);
    let rows = RecordBatch::try_new(schema.schema.clone(), columns.into_iter().map(|(_, c)| c).collect()).unwrap();
    (schema, rows)
}

fn microseconds(values: Vec<i64>) -> ArrayRef {
    debug_assert_eq!(
        TimestampMicrosecondArray::from(values.clone()).data_type(),
        &DataType::Timestamp(TimeUnit::Microsecond, None)
    );
    Arc::new(TimestampMicrosecondArray::from(values))
}
