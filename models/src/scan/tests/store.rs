//! A small relation in several physical states, with a model of its rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::MemTable;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use pyralog_storage::{
    AppliedState, ConflictPolicy, Partition, PartitionCommand, PartitionId, PartitionOptions, RelationId, RelationSchema, RelationView,
    RelationWrites, Timestamp, WriteSet,
};
use tempfile::TempDir;

use crate::scan::{RelationSource, RelationTable};

pub const RELATION: RelationId = RelationId(7);

/// A row: key (id, seq), then name, amount, day and the hidden tag.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub id: i64,
    pub seq: i32,
    pub name: Option<String>,
    pub amount: f64,
    pub day: i32,
}

impl Row {
    /// A row whose columns follow from its key: `day` grows with `id`, `amount` does not.
    pub fn new(id: i64, seq: i32) -> Row {
        let mixed = (id * 7919 + i64::from(seq) * 104_729) % 1000;
        let name = (mixed % 10 != 0).then(|| format!("name{}", mixed % 17));
        Row {
            id,
            seq,
            name,
            amount: mixed as f64 / 4.0,
            day: (id / 10) as i32,
        }
    }
}

fn fields() -> Vec<Field> {
    vec![
        Field::new("id", DataType::Int64, false),
        Field::new("seq", DataType::Int32, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("amount", DataType::Float64, true),
        Field::new("day", DataType::Date32, true),
        Field::new("_tag", DataType::UInt64, true),
    ]
}

/// Columns that tables show: all but the hidden `_tag`.
pub const VISIBLE: [usize; 5] = [0, 1, 2, 3, 4];

/// Partitions of one database with one relation, and what should be in it.
pub struct Store {
    pub partitions: Vec<Arc<Partition>>,
    pub model: BTreeMap<(i64, i32), Row>,
    clock: u64,
    schema: RelationSchema,
    _dirs: Vec<TempDir>,
}

impl Store {
    pub fn new(partitions: usize) -> Store {
        let schema = RelationSchema::new(RELATION, fields(), vec![0, 1]);
        let dirs: Vec<TempDir> = (0..partitions).map(|_| TempDir::new().unwrap()).collect();
        let options = PartitionOptions {
            batch_rows: 128,
            retention_ms: 0,
            ..PartitionOptions::default()
        };
        let mut store = Store {
            partitions: Vec::new(),
            model: BTreeMap::new(),
            clock: 0,
            schema: schema.clone(),
            _dirs: dirs,
        };
        for (i, dir) in store._dirs.iter().enumerate() {
            store
                .partitions
                .push(Partition::open(PartitionId(i as u32), dir.path(), options.clone()).unwrap());
        }
        store.apply(|_| PartitionCommand::CreateRelation(schema.clone()));
        store
    }

    fn apply(&mut self, command: impl Fn(usize) -> PartitionCommand) {
        self.clock += 1;
        for (i, partition) in self.partitions.iter().enumerate() {
            let state = AppliedState {
                index: self.clock,
                ..AppliedState::default()
            };
            partition.apply(state, &command(i)).unwrap();
        }
    }

    fn write(&mut self, puts: &[Row], deletes: &[(i64, i32)]) {
        let timestamp = Timestamp((self.clock + 1) << 20);
        let count = self.partitions.len() as i64;
        let relation_schema = self.schema.clone();
        self.apply(|partition| {
            let mine = |id: i64| id % count == partition as i64;
            let puts: Vec<&Row> = puts.iter().filter(|r| mine(r.id)).collect();
            let deletes: Vec<(i64, i32)> = deletes.iter().filter(|k| mine(k.0)).copied().collect();
            let batch = RecordBatch::try_new(Arc::clone(&relation_schema.schema), columns(&puts)).unwrap();
            let keys = RecordBatch::try_new(
                relation_schema.key_schema(),
                vec![
                    Arc::new(Int64Array::from_iter_values(deletes.iter().map(|k| k.0))) as ArrayRef,
                    Arc::new(Int32Array::from_iter_values(deletes.iter().map(|k| k.1))),
                ],
            )
            .unwrap();
            let writes = RelationWrites {
                relation: RELATION,
                emptied: false,
                puts: if puts.is_empty() { vec![] } else { vec![batch] },
                deletes: if deletes.is_empty() { vec![] } else { vec![keys] },
                staged: vec![],
                policy: ConflictPolicy::LastWriteWins,
            };
            PartitionCommand::Write(
                timestamp,
                Arc::new(WriteSet {
                    start: timestamp,
                    relations: vec![writes],
                    reads: Vec::new(),
                }),
            )
        });
    }

    pub fn put(&mut self, rows: impl IntoIterator<Item = Row>) {
        let rows: Vec<Row> = rows.into_iter().collect();
        self.write(&rows, &[]);
        self.model.extend(rows.into_iter().map(|r| ((r.id, r.seq), r)));
    }

    pub fn delete(&mut self, keys: &[(i64, i32)]) {
        self.write(&[], keys);
        keys.iter().for_each(|k| drop(self.model.remove(k)));
    }

    pub fn flush(&self) {
        self.partitions.iter().for_each(|p| drop(p.flush().unwrap()));
    }

    pub fn views(&self) -> Vec<RelationView> {
        self.partitions
            .iter()
            .map(|p| p.snapshot(None).unwrap().relation(RELATION).unwrap())
            .collect()
    }

    pub fn table(&self) -> RelationTable {
        RelationTable::try_new("t", self.views(), VISIBLE.to_vec()).unwrap()
    }

    /// A context with the relation as `t` and the model's rows as `m`, and `small` (id, label) to join with.
    pub fn context(&self) -> SessionContext {
        let config = SessionConfig::new().with_target_partitions(3).with_batch_size(256);
        let context = SessionContext::new_with_config(config);
        context.register_table("t", Arc::new(self.table())).unwrap();
        let rows: Vec<&Row> = self.model.values().collect();
        let schema = Arc::new(Schema::new(fields()));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns(&rows))
            .unwrap()
            .project(&VISIBLE)
            .unwrap();
        context
            .register_table("m", Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap()))
            .unwrap();
        let small = RecordBatch::try_from_iter([
            ("sid", Arc::new(Int64Array::from(vec![3, 500, 501, 777, 100_000])) as ArrayRef),
            ("label", Arc::new(StringArray::from(vec!["a", "b", "c", "d", "e"]))),
        ])
        .unwrap();
        context.register_batch("small", small).unwrap();
        context
    }
}

fn columns(rows: &[&Row]) -> Vec<ArrayRef> {
    vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.id))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.seq))),
        Arc::new(StringArray::from_iter(rows.iter().map(|r| r.name.as_deref()))),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.amount))),
        Arc::new(Date32Array::from_iter_values(rows.iter().map(|r| r.day))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|_| 1))),
    ]
}

/// One segment: every id up to 1000 with two rows each.
pub fn flushed() -> Store {
    let mut store = Store::new(1);
    store.put((0..1000).flat_map(|id| [Row::new(id, 0), Row::new(id, 1)]));
    store.flush();
    store
}

/// Three segments one behind the other.
pub fn adjacent() -> Store {
    let mut store = Store::new(1);
    for third in [1, 0, 2] {
        store.put((third * 400..third * 400 + 400).flat_map(|id| [Row::new(id, 0), Row::new(id, 1)]));
        store.flush();
    }
    store
}

/// Overlapping segments with replaced and deleted rows, and rows in memory that replace, add and delete.
pub fn mixed(partitions: usize) -> Store {
    let mut store = Store::new(partitions);
    store.put((0..1000).flat_map(|id| [Row::new(id, 0), Row::new(id, 1)]));
    store.flush();
    store.put((0..1000).step_by(3).map(|id| Row {
        amount: 9.0,
        ..Row::new(id, 0)
    }));
    store.put((1000..1200).map(|id| Row::new(id, 0)));
    store.delete(&(100..300).map(|id| (id, 1)).collect::<Vec<_>>());
    store.flush();
    store.put((500..520).map(|id| Row {
        name: Some("fresh".into()),
        ..Row::new(id, 0)
    }));
    store.put((2000..2010).map(|id| Row::new(id, 5)));
    store.delete(&[(0, 0), (777, 1), (1100, 0)]);
    store
}

/// Every state, with a name.
pub fn states() -> Vec<(&'static str, Store)> {
    let mut memory = Store::new(1);
    memory.put((0..700).map(|id| Row::new(id, 0)));
    vec![
        ("empty", Store::new(1)),
        ("memory", memory),
        ("flushed", flushed()),
        ("adjacent", adjacent()),
        ("mixed", mixed(1)),
        ("mixed, two partitions", mixed(2)),
        ("mixed, nine partitions", mixed(9)),
    ]
}

/// The scans in a plan.
pub fn scans(plan: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn ExecutionPlan>> {
    let mut found = Vec::new();
    plan.apply(|node| {
        let is_scan = node
            .downcast_ref::<DataSourceExec>()
            .is_some_and(|exec| exec.data_source().is::<RelationSource>());
        if is_scan {
            found.push(Arc::clone(node));
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    found
}

/// A counter of the one scan in a plan, summed over its partitions.
pub fn counter(plan: &Arc<dyn ExecutionPlan>, name: &str) -> usize {
    scans(plan)
        .iter()
        .filter_map(|scan| scan.metrics()?.sum_by_name(name))
        .map(|value| value.as_usize())
        .sum()
}

/// Runs a statement and gives its plan, as run, and its batches.
pub async fn run(context: &SessionContext, sql: &str) -> (Arc<dyn ExecutionPlan>, Vec<RecordBatch>) {
    let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    let batches = datafusion::physical_plan::collect(Arc::clone(&plan), context.task_ctx())
        .await
        .unwrap();
    (plan, batches)
}

/// The rows of batches as text.
pub fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let text = arrow::util::pretty::pretty_format_batches(batches).unwrap().to_string();
    text.lines()
        .filter(|line| line.starts_with('|'))
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// A plan as EXPLAIN shows it.
pub fn explain(plan: &Arc<dyn ExecutionPlan>) -> String {
    datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string()
}
