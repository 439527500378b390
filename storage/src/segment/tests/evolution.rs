//! Reading a segment under a later schema.

use arrow_schema::SchemaRef;

use super::*;
use crate::schema::with_field_id;

fn later(schema: &RelationSchema, fields: Vec<Field>) -> RelationSchema {
    let fields: SchemaRef = Arc::new(arrow_schema::Schema::new(fields));
    RelationSchema {
        id: schema.id,
        version: schema.version + 1,
        schema: fields,
        key: schema.key.clone(),
    }
}

#[test]
fn columns_are_found_by_id() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("k", Arc::new(Int64Array::from(vec![1, 2]))),
        ("gone", Arc::new(Int64Array::from(vec![7, 8]))),
        ("n", Arc::new(Int32Array::from(vec![10, 20]))),
        ("t", Arc::new(StringArray::from(vec!["5", "x"]))),
    ];
    let (schema, rows) = relation(columns, vec![0]);
    let dir = tempfile::tempdir().unwrap();
    let info = write_segment(dir.path(), &schema, &rows, None, 10, 10).unwrap();
    let segment = Segment::open(dir.path(), info, Some(Timestamp(1))).unwrap();
    let field = |name: &str, data_type, id| with_field_id(Field::new(name, data_type, true), id);
    let now = later(
        &schema,
        vec![
            schema.schema.field(0).clone(),
            field("renamed", DataType::Int64, 2),
            field("new", DataType::Utf8View, 9),
            field("as number", DataType::Int64, 3),
        ],
    );
    // A renamed and widened column, a new one; the other schema still works.
    let read = segment.read(0, &now, &[1, 0, 2]).unwrap();
    assert_eq!(read.column(0).as_ref(), &Int64Array::from(vec![10, 20]) as &dyn Array);
    assert_eq!(read.schema().field(0).name(), "renamed");
    assert_eq!((read.column(2).null_count(), read.column(2).data_type()), (2, &DataType::Utf8View));
    assert_eq!(segment.read(0, &schema, &[1]).unwrap().column(0), rows.column(1));
    // Values that do not fit the new type are an error.
    assert!(matches!(segment.read(0, &now, &[3]), Err(StorageError::Arrow(_))));
    // A new or changed column has no zones.
    let zones = segment.zone_maps(&now);
    assert_eq!(
        zones.columns.iter().map(|c| c.is_some()).collect::<Vec<_>>(),
        [true, false, false, false]
    );
    assert!(segment.zone_maps(&schema).columns.iter().all(|c| c.is_some()));
}

#[test]
fn a_column_that_is_not_there_is_refused() {
    let (schema, rows) = relation(vec![("k", Arc::new(Int64Array::from(vec![1, 2])))], vec![0]);
    let dir = tempfile::tempdir().unwrap();
    let info = write_segment(dir.path(), &schema, &rows, None, 10, 10).unwrap();
    let segment = Segment::open(dir.path(), info, Some(Timestamp(1))).unwrap();
    assert!(matches!(segment.read(0, &schema, &[2]), Err(StorageError::SchemaMismatch { .. })));
    let strict = later(
        &schema,
        vec![
            schema.schema.field(0).clone(),
            with_field_id(Field::new("must", DataType::Int8, false), 5),
        ],
    );
    assert!(segment.read(0, &strict, &[1]).is_err(), "nulls in a column that holds none");
}
