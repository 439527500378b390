//! A partition with the log that consensus would keep for it, and shorthands for its rows.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field};
use bytes::Bytes;
use pyralog_storage::{
    AppliedState, ApplyOutcome, KeyRange, Partition, PartitionCommand, PartitionId, PartitionOptions, RelationId, RelationSchema,
    RelationView, Timestamp, Transaction, WriteSet,
};
use tempfile::TempDir;

pub const TABLE: RelationId = RelationId(7);

/// Key to value.
pub type Rows = BTreeMap<i64, String>;

pub struct Store {
    pub dir: TempDir,
    pub options: PartitionOptions,
    pub log: Vec<(PartitionCommand, Result<ApplyOutcome, String>)>,
    pub partition: Arc<Partition>,
    pub clock: Timestamp,
}

pub fn schema() -> RelationSchema {
    RelationSchema::new(
        TABLE,
        [Field::new("id", DataType::Int64, false), Field::new("value", DataType::Utf8, true)],
        vec![0],
    )
}

/// Small limits, so that few rows make many files.
pub fn small_options() -> PartitionOptions {
    PartitionOptions {
        batch_rows: 16,
        transaction_bytes: 4096,
        segment_bytes: 4096,
        memtable_bytes: 1 << 20,
        ..PartitionOptions::default()
    }
}

pub fn rows<'a>(rows: impl IntoIterator<Item = (i64, &'a str)>) -> RecordBatch {
    let (keys, values): (Vec<i64>, Vec<&str>) = rows.into_iter().unzip();
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(keys)), Arc::new(StringArray::from(values))];
    RecordBatch::try_new(schema().schema, columns).unwrap()
}

/// The rows of a bulk write, a hundred a batch; a thousand are more than [`small_options`] let a transaction hold in memory.
pub fn bulk(ids: Range<i64>) -> impl Iterator<Item = RecordBatch> {
    let Range { start, end } = ids;
    (start..end)
        .step_by(100)
        .map(move |first| rows((first..end.min(first + 100)).map(|id| (id, "bulk"))))
}

pub fn keys(keys: impl IntoIterator<Item = i64>) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
    RecordBatch::try_from_iter([("id", keys)]).unwrap()
}

impl Store {
    pub fn new(options: PartitionOptions) -> Store {
        let dir = TempDir::new().unwrap();
        let partition = Partition::open(PartitionId(0), dir.path(), options.clone()).unwrap();
        let mut store = Store {
            dir,
            options,
            log: Vec::new(),
            partition,
            clock: Timestamp::from_millis(1_000_000),
        };
        store.apply(PartitionCommand::CreateRelation(schema())).unwrap();
        store
    }

    /// Appends to the log and applies.
    pub fn apply(&mut self, command: PartitionCommand) -> Result<ApplyOutcome, pyralog_storage::StorageError> {
        let state = AppliedState {
            index: self.log.len() as u64 + 1,
            payload: Arc::new(Bytes::from_static(b"opaque")),
        };
        let outcome = self.partition.apply(state, &command);
        let kept = match &outcome {
            Ok(outcome) => Ok(outcome.clone()),
            Err(error) => Err(error.to_string()),
        };
        self.log.push((command, kept));
        outcome
    }

    /// The next commit timestamp; ten seconds pass, so that old versions may go.
    pub fn tick(&mut self) -> Timestamp {
        self.clock = Timestamp::from_millis(self.clock.millis() + 10_000);
        self.clock
    }

    pub fn begin(&self) -> Transaction {
        self.partition.begin(self.partition.snapshot(None).unwrap())
    }

    pub fn commit_set(&mut self, set: WriteSet) -> ApplyOutcome {
        let timestamp = self.tick();
        self.apply(PartitionCommand::Write(timestamp, Arc::new(set))).unwrap()
    }

    pub fn commit(&mut self, transaction: Transaction) -> ApplyOutcome {
        let set = transaction.into_write_set().unwrap();
        self.commit_set(set)
    }

    pub fn put<'a>(&mut self, batch: impl IntoIterator<Item = (i64, &'a str)>) {
        let mut transaction = self.begin();
        transaction.put(TABLE, &rows(batch)).unwrap();
        assert_eq!(self.commit(transaction), ApplyOutcome::Applied);
    }

    pub fn delete(&mut self, ids: impl IntoIterator<Item = i64>) {
        let mut transaction = self.begin();
        transaction.delete(TABLE, &keys(ids)).unwrap();
        assert_eq!(self.commit(transaction), ApplyOutcome::Applied);
    }

    /// Stops without flushing, and replays what no segment holds; every entry must have the outcome it had.
    pub fn reopen(&mut self) {
        self.close();
        self.open();
    }

    fn close(&mut self) {
        // The old instance goes before the new one comes; a placeholder keeps the field filled.
        let elsewhere = TempDir::new().unwrap();
        self.partition = Partition::open(PartitionId(0), elsewhere.path(), self.options.clone()).unwrap();
    }

    fn open(&mut self) {
        self.partition = Partition::open(PartitionId(0), self.dir.path(), self.options.clone()).unwrap();
        let flushed = self.partition.flushed().index as usize;
        for (i, (command, outcome)) in self.log.iter().enumerate().skip(flushed) {
            let state = AppliedState {
                index: i as u64 + 1,
                payload: Arc::new(Bytes::from_static(b"opaque")),
            };
            let again = self.partition.apply(state, command).map_err(|error| error.to_string());
            assert_eq!(&again, outcome, "entry {}", i + 1);
        }
        self.partition.collect_garbage().unwrap();
    }

    pub fn view(&self, timestamp: Option<Timestamp>) -> RelationView {
        self.partition.snapshot(timestamp).unwrap().relation(TABLE).unwrap()
    }

    pub fn read(&self) -> Rows {
        read(&self.view(None))
    }

    /// The rows are there after a replay of the log, and after a flush and a start without one; no file is damaged.
    #[track_caller]
    pub fn assert_durable(&mut self, wanted: &Rows) {
        self.reopen();
        assert_eq!(&self.read(), wanted);
        self.partition.flush().unwrap();
        self.reopen();
        assert_eq!(&self.read(), wanted);
        assert!(self.partition.verify().unwrap().is_empty());
    }
}

fn add(found: &mut Vec<(i64, String)>, batch: &RecordBatch) {
    let ids = batch.column(0).as_primitive::<Int64Type>();
    let values = batch.column(1).as_string::<i32>();
    found.extend((0..batch.num_rows()).map(|i| (ids.value(i), values.value(i).to_owned())));
}

/// Adds the rows of a batch.
pub fn add_to(rows: &mut Rows, batch: &RecordBatch) {
    let mut found = Vec::new();
    add(&mut found, batch);
    rows.extend(found);
}

/// All rows of a view, read in every way there is; the ways must agree.
pub fn read(view: &RelationView) -> Rows {
    let mut scanned = Vec::new();
    for piece in view.pieces() {
        let mut visible = 0;
        for batch in 0..piece.batch_count() {
            if let Some((batch, numbers)) = piece.read_with_rows(batch, &[0, 1, 2]).unwrap() {
                assert_eq!(batch.num_rows(), numbers.len());
                assert_eq!(batch.column(2).as_primitive::<UInt64Type>().null_count(), 0);
                visible += batch.num_rows() as u64;
                add(&mut scanned, &batch);
            }
        }
        assert_eq!(visible, piece.visible_rows());
    }
    assert_eq!(view.row_count(), scanned.len() as u64);
    let map: Rows = scanned.iter().cloned().collect();
    assert_eq!(map.len(), scanned.len(), "a key is visible twice");

    let ordered: Vec<_> = scan(view, &KeyRange::default(), 7);
    assert!(ordered.iter().map(|(key, _)| key).is_sorted(), "{ordered:?}");
    assert_eq!(ordered.into_iter().collect::<Rows>(), map);

    let ids: Vec<i64> = map.keys().copied().collect();
    let array: ArrayRef = Arc::new(Int64Array::from(ids.clone()));
    let addresses: Vec<_> = view
        .lookup(&[array])
        .unwrap()
        .into_iter()
        .map(|address| address.expect("a visible key is found"))
        .collect();
    let fetched = view.fetch(&addresses, &[0, 1]).unwrap();
    let mut found = Vec::new();
    add(&mut found, &fetched);
    assert_eq!(found, map.clone().into_iter().collect::<Vec<_>>());
    map
}

/// Rows in key order within a range.
pub fn scan(view: &RelationView, range: &KeyRange, batch_rows: usize) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    for batch in view.scan_ordered(range, &[0, 1], batch_rows).unwrap() {
        let batch = batch.unwrap();
        assert!(batch.num_rows() > 0 && batch.num_rows() <= batch_rows);
        add(&mut found, &batch);
    }
    found
}

/// The range `start..end` of ids.
pub fn range(view: &RelationView, start: Option<i64>, end: Option<i64>) -> KeyRange {
    let encode = |id: i64| {
        view.encode_keys(&[Arc::new(Int64Array::from(vec![id])) as ArrayRef])
            .unwrap()
            .remove(0)
            .into_vec()
    };
    KeyRange {
        start: start.map(encode),
        end: end.map(encode),
    }
}

/// Whether a key is visible.
pub fn has(view: &RelationView, id: i64) -> bool {
    view.lookup(&[Arc::new(Int64Array::from(vec![id])) as ArrayRef]).unwrap()[0].is_some()
}
