//! A small relation to write to and read from.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field};
use pyralog_consensus::{Node, NodeConfig, NodeEnvironment, PartitionHandle};
use pyralog_storage::{ConflictPolicy, RelationId, RelationSchema, RelationWrites, Snapshot, Timestamp, WriteSet};

use crate::disk::SwitchedDisk;

pub const RELATION: RelationId = RelationId(1);

pub fn schema() -> RelationSchema {
    RelationSchema::new(
        RELATION,
        [Field::new("id", DataType::Int64, false), Field::new("text", DataType::Utf8, true)],
        vec![0],
    )
}

/// A write set that puts `id → text` for all ids.
pub fn puts(start: Timestamp, ids: impl IntoIterator<Item = i64>, text: &str, policy: ConflictPolicy) -> WriteSet {
    let ids: Vec<i64> = ids.into_iter().collect();
    let texts: Vec<String> = ids.iter().map(|id| format!("{text} {id}")).collect();
    let batch = RecordBatch::try_new(
        schema().schema,
        vec![Arc::new(Int64Array::from(ids)), Arc::new(StringArray::from(texts))],
    )
    .unwrap();
    let writes = RelationWrites {
        relation: RELATION,
        emptied: false,
        puts: vec![batch],
        deletes: Vec::new(),
        staged: Vec::new(),
        policy,
    };
    WriteSet {
        start,
        relations: vec![writes],
        reads: Vec::new(),
    }
}

/// As [`puts`], from the newest state, overwriting.
pub fn blind(ids: impl IntoIterator<Item = i64>, text: &str) -> WriteSet {
    puts(Timestamp::ZERO, ids, text, ConflictPolicy::LastWriteWins)
}

/// All rows of the newest snapshot, by id.
pub fn rows(partition: &PartitionHandle) -> Vec<(i64, String)> {
    rows_of(&partition.snapshot(None).unwrap())
}

/// All rows of a snapshot, by id.
pub fn rows_of(snapshot: &Snapshot) -> Vec<(i64, String)> {
    let view = snapshot.relation(RELATION).unwrap();
    let mut rows = Vec::new();
    for piece in view.pieces() {
        for batch in 0..piece.batch_count() {
            let Some(batch) = piece.read(batch, &[0, 1]).unwrap() else {
                continue;
            };
            let (ids, texts) = (batch.column(0).as_primitive::<Int64Type>().clone(), batch.column(1).clone());
            let texts = arrow_array::cast::as_string_array(&texts).clone();
            rows.extend((0..batch.num_rows()).map(|row| (ids.value(row), texts.value(row).to_owned())));
        }
    }
    rows.sort();
    rows
}

/// As [`open`], with the log on a disk that can be made to fail.
pub async fn open_on(disk: &SwitchedDisk, config: NodeConfig) -> Arc<Node> {
    let environment = NodeEnvironment {
        disk: Arc::new(disk.clone()),
        ..NodeEnvironment::default()
    };
    let node = Node::open_in(config, environment).await.unwrap();
    node.partitions()[0].create_relation(schema()).await.unwrap();
    node
}

/// A node in `dir` whose partition has the relation.
pub async fn open(config: NodeConfig) -> Arc<Node> {
    let node = Node::open(config).await.unwrap();
    node.partitions()[0].create_relation(schema()).await.unwrap();
    node
}
