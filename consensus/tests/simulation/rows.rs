//! The relations of the simulation's workload, and how their rows are written and read.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use pyralog_storage::{
    ConflictPolicy, PartitionId, RelationId, RelationSchema, RelationWrites, Snapshot, StorageError, Timestamp, WriteSet,
};

/// Registers (from 0) and accounts (from [`FIRST_ACCOUNT`]).
pub const CELLS: RelationId = RelationId(1);
/// Rows that are written once.
pub const APPENDS: RelationId = RelationId(2);
/// A row for each try of a request that was carried out: one a request, whatever is tried.
pub const TRIES: RelationId = RelationId(3);
/// Tries of one request, at most.
pub const MOST_TRIES: i64 = 16;

pub const REGISTERS: i64 = 4;
pub const FIRST_ACCOUNT: i64 = 1_000;
pub const ACCOUNTS: i64 = 4;
/// What each account holds at the beginning.
pub const BALANCE: u64 = 100;

/// Makes memtables fill.
const PADDING: usize = 200;

pub fn schema(relation: RelationId) -> RelationSchema {
    let fields = [
        Field::new("id", DataType::Int64, false),
        Field::new("value", DataType::UInt64, false),
        Field::new("padding", DataType::Utf8, false),
    ];
    RelationSchema::new(relation, fields, vec![0])
}

fn batch(relation: RelationId, rows: &[(i64, u64)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(rows.iter().map(|(id, _)| *id).collect::<Int64Array>());
    let values: ArrayRef = Arc::new(rows.iter().map(|(_, value)| *value).collect::<UInt64Array>());
    let padding = rows.iter().map(|(id, value)| format!("{id} {value} ").repeat(PADDING / 8));
    let padding: ArrayRef = Arc::new(StringArray::from(padding.collect::<Vec<_>>()));
    RecordBatch::try_new(schema(relation).schema, vec![ids, values, padding]).unwrap()
}

/// Puts of rows: only if nobody changed their keys since `start`, or (`None`) whatever is there.
pub fn puts(relation: RelationId, start: Option<Timestamp>, rows: &[(i64, u64)]) -> WriteSet {
    write_set(relation, start, vec![batch(relation, rows)], Vec::new())
}

/// Removes one row.
pub fn delete(relation: RelationId, start: Option<Timestamp>, id: i64) -> WriteSet {
    let key = Schema::new(vec![schema(relation).schema.field(0).clone()]);
    let keys = RecordBatch::try_new(Arc::new(key), vec![Arc::new(Int64Array::from(vec![id]))]).unwrap();
    write_set(relation, start, Vec::new(), vec![keys])
}

fn write_set(relation: RelationId, start: Option<Timestamp>, puts: Vec<RecordBatch>, deletes: Vec<RecordBatch>) -> WriteSet {
    let policy = match start {
        Some(_) => ConflictPolicy::FirstCommitterWins,
        None => ConflictPolicy::LastWriteWins,
    };
    let writes = RelationWrites {
        relation,
        emptied: false,
        puts,
        deletes,
        staged: Vec::new(),
        policy,
    };
    WriteSet {
        start: start.unwrap_or(Timestamp::ZERO),
        relations: vec![writes],
        reads: Vec::new(),
    }
}

/// The partition of a row.
pub fn home(id: i64, partitions: usize) -> PartitionId {
    PartitionId((id as usize % partitions) as u32)
}

/// Puts of rows, in whichever partitions they belong.
pub fn parts(partitions: usize, relation: RelationId, start: Option<Timestamp>, rows: &[(i64, u64)]) -> Vec<(PartitionId, WriteSet)> {
    let mut by_home: BTreeMap<PartitionId, Vec<(i64, u64)>> = BTreeMap::new();
    for row in rows {
        by_home.entry(home(row.0, partitions)).or_default().push(*row);
    }
    by_home
        .into_iter()
        .map(|(home, rows)| (home, puts(relation, start, &rows)))
        .collect()
}

/// The rows of a relation in all partitions, by id.
pub fn read_all(snapshots: &[Snapshot], relation: RelationId) -> Vec<(i64, u64)> {
    let mut rows: Vec<_> = snapshots.iter().flat_map(|snapshot| read(snapshot, relation)).collect();
    rows.sort();
    rows
}

/// The rows of a relation, by id. A relation that is not there yet has none.
pub fn read(snapshot: &Snapshot, relation: RelationId) -> Vec<(i64, u64)> {
    let view = match snapshot.relation(relation) {
        Ok(view) => view,
        Err(StorageError::UnknownRelation(_)) => return Vec::new(),
        Err(error) => panic!("{error}"),
    };
    let mut rows = Vec::new();
    for piece in view.pieces() {
        for batch in 0..piece.batch_count() {
            let Some(batch) = piece.read(batch, &[0, 1]).unwrap() else {
                continue;
            };
            let (ids, values) = (
                batch.column(0).as_primitive::<Int64Type>(),
                batch.column(1).as_primitive::<UInt64Type>(),
            );
            rows.extend((0..batch.num_rows()).map(|row| (ids.value(row), values.value(row))));
        }
    }
    rows.sort();
    rows
}

/// The value of one row.
pub fn value(rows: &[(i64, u64)], id: i64) -> Option<u64> {
    rows.iter().find(|(found, _)| *found == id).map(|(_, value)| *value)
}
