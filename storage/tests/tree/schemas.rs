//! Relations are made, changed and dropped.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use pyralog_storage::schema::with_field_id;
use pyralog_storage::{ApplyOutcome, PartitionCommand, RelationId, RelationSchema, StorageError};

use crate::harness::{Store, TABLE, rows, schema, small_options};

/// The table with its columns renamed and turned round, and one more.
fn altered() -> RelationSchema {
    let mut altered = schema();
    let value = with_field_id(Field::new("text", DataType::Utf8, true), 1);
    let extra = with_field_id(Field::new("extra", DataType::Int64, true), 2);
    let id = with_field_id(Field::new("id", DataType::Int64, false), 0);
    altered.schema = Arc::new(Schema::new(vec![extra, value, id]));
    altered.key = vec![2];
    altered.version = 2;
    altered
}

fn fetch(store: &Store, id: i64) -> Option<RecordBatch> {
    let view = store.view(None);
    let address = view.lookup(&[Arc::new(Int64Array::from(vec![id])) as ArrayRef]).unwrap()[0]?;
    Some(view.fetch(&[address], &[0, 1, 2]).unwrap())
}

fn new_row(id: i64) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![id * 10])),
        Arc::new(StringArray::from(vec!["new"])),
        Arc::new(Int64Array::from(vec![id])),
    ];
    RecordBatch::try_new(altered().schema, columns).unwrap()
}

#[test]
fn columns_are_found_by_id_whatever_was_written_before() {
    let mut store = Store::new(small_options());
    store.put([(1, "flushed")]);
    store.partition.flush().unwrap();
    store.put([(2, "in memory")]);
    // A transaction that began before the change commits after it.
    let mut earlier = store.begin();
    earlier.put(TABLE, &rows([(3, "earlier")])).unwrap();
    store.apply(PartitionCommand::AlterRelation(altered())).unwrap();
    assert_eq!(store.commit(earlier), ApplyOutcome::Applied);
    let mut later = store.begin();
    later.put(TABLE, &new_row(4)).unwrap();
    store.commit(later);
    for round in 0..4 {
        for (id, text, extra) in [
            (1, "flushed", None),
            (2, "in memory", None),
            (3, "earlier", None),
            (4, "new", Some(40)),
        ] {
            let row = fetch(&store, id).unwrap();
            let wanted: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from(vec![extra])),
                Arc::new(StringArray::from(vec![text])),
                Arc::new(Int64Array::from(vec![id])),
            ];
            assert_eq!(row.columns(), wanted, "round {round}");
        }
        match round {
            0 => store.reopen(),
            1 => drop(store.partition.flush().unwrap()),
            _ => store.partition.compact_all(None).unwrap(),
        }
    }
}

#[test]
fn changes_that_would_lose_data_are_refused_and_the_log_goes_on() {
    let mut store = Store::new(small_options());
    let refused = |change: &dyn Fn(&mut RelationSchema)| {
        let mut next = altered();
        change(&mut next);
        PartitionCommand::AlterRelation(next)
    };
    let commands = [
        refused(&|s| s.key = vec![1]),
        refused(&|s| s.key = vec![9]),
        refused(&|s| s.version = 1),
        refused(&|s| s.schema = Arc::new(Schema::new(vec![with_field_id(Field::new("id", DataType::Int32, false), 0)]))),
        refused(&|s| {
            let not_null = with_field_id(Field::new("extra", DataType::Int64, false), 2);
            s.schema = Arc::new(Schema::new(vec![not_null, s.schema.field(1).clone(), s.schema.field(2).clone()]));
        }),
    ];
    for command in commands {
        let error = store.apply(command).unwrap_err();
        assert!(
            matches!(error, StorageError::SchemaMismatch { .. }) && error.is_refusal(),
            "{error}"
        );
    }
    store.put([(1, "still here")]);
    store.reopen();
    assert_eq!(store.read().len(), 1);
}

#[test]
fn dropped_relations_go_and_their_files_after_the_next_flush() {
    let mut store = Store::new(small_options());
    store.put((0..100).map(|i| (i, "x")));
    store.partition.flush().unwrap();
    store.put((50..150).map(|i| (i, "y")));
    let snapshot = store.partition.snapshot(None).unwrap();
    store.apply(PartitionCommand::DropRelation(TABLE)).unwrap();
    store.apply(PartitionCommand::DropRelation(TABLE)).unwrap();
    let mut late = store.partition.begin(snapshot.clone());
    late.put(TABLE, &rows([(1, "late")])).unwrap();
    let set = late.into_write_set().unwrap();
    let timestamp = store.tick();
    assert!(matches!(
        store.apply(PartitionCommand::Write(timestamp, Arc::new(set))),
        Err(StorageError::UnknownRelation(TABLE))
    ));
    assert!(matches!(
        store.partition.snapshot(None).unwrap().relation(TABLE),
        Err(StorageError::UnknownRelation(TABLE))
    ));
    assert!(matches!(
        store.partition.compact_all(Some(RelationId(99))),
        Err(StorageError::UnknownRelation(_))
    ));
    store.reopen();
    store.partition.flush().unwrap();
    assert_eq!(snapshot.relation(TABLE).unwrap().row_count(), 150);
    drop(snapshot);
    store.partition.collect_garbage().unwrap();
    assert!(!store.dir.path().join("r7").exists());
    store.reopen();
    assert!(store.partition.relations().is_empty());
}

#[test]
fn rows_of_another_shape_are_refused() {
    let store = Store::new(small_options());
    let mut transaction = store.begin();
    let wrong_type = RecordBatch::try_from_iter([
        ("id", Arc::new(StringArray::from(vec!["1"])) as ArrayRef),
        ("value", Arc::new(StringArray::from(vec!["1"])) as ArrayRef),
    ])
    .unwrap();
    let one_column = wrong_type.project(&[1]).unwrap();
    let null_key = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from(vec![None::<i64>])) as ArrayRef, true),
        ("value", Arc::new(StringArray::from(vec!["1"])) as ArrayRef, true),
    ])
    .unwrap();
    for bad in [&wrong_type, &one_column, &null_key] {
        assert!(matches!(transaction.put(TABLE, bad), Err(StorageError::SchemaMismatch { .. })));
        assert!(matches!(transaction.insert(TABLE, bad), Err(StorageError::SchemaMismatch { .. })));
    }
    assert!(matches!(
        transaction.delete(TABLE, &wrong_type),
        Err(StorageError::SchemaMismatch { .. })
    ));
    assert!(matches!(
        transaction.put(RelationId(99), &wrong_type),
        Err(StorageError::UnknownRelation(_))
    ));
    assert!(transaction.is_empty());
    assert_eq!(null_key.column(0).null_count(), 1);
}
