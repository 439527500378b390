//! A piece of a memtable: immutable rows with the stamps at which each begins and ends to be visible.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arrow_array::{Array, ArrayRef, BinaryViewArray, RecordBatch, StringViewArray, UInt64Array};
use arrow_buffer::BooleanBuffer;
use arrow_select::concat::concat_batches;

use crate::error::Result;
use crate::schema::RelationSchema;
use crate::selection::Selection;

/// The end stamp of a row that nobody has deleted or replaced.
pub(crate) const ALIVE: u64 = u64::MAX;

/// The stamps at which rows begin to be visible.
#[derive(Debug, Clone)]
enum Begins {
    /// All at once.
    Uniform(u64),
    /// Each at its own.
    Each(Vec<u64>),
}

/// Rows `start..start + len` of a memtable. Only end stamps change, and only to stamps later than those of every reader that shares it.
#[derive(Debug)]
pub(crate) struct Chunk {
    start: u32,
    rows: RecordBatch,
    schema: Arc<RelationSchema>,
    begins: Begins,
    ends: OnceLock<Box<[AtomicU64]>>,
    ended: AtomicU32,
}

impl Chunk {
    /// Rows that begin together at `begin`, the first of them with ordinal `start`.
    pub fn new(start: u32, rows: RecordBatch, schema: Arc<RelationSchema>, begin: u64) -> Self {
        Chunk {
            start,
            rows,
            schema,
            begins: Begins::Uniform(begin),
            ends: OnceLock::new(),
            ended: AtomicU32::new(0),
        }
    }

    /// Ordinal of the first row.
    pub fn start(&self) -> u32 {
        self.start
    }

    /// Rows, visible or not.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// The rows, as they were written.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// The schema the rows were written with.
    pub fn schema(&self) -> &Arc<RelationSchema> {
        &self.schema
    }

    /// When row `i` begins to be visible.
    pub fn begin(&self, i: usize) -> u64 {
        match &self.begins {
            Begins::Uniform(begin) => *begin,
            Begins::Each(begins) => begins[i],
        }
    }

    /// When row `i` stops being visible; [`ALIVE`] if it does not.
    pub fn end(&self, i: usize) -> u64 {
        self.ends.get().map_or(ALIVE, |ends| ends[i].load(Ordering::Acquire))
    }

    /// Whether a reader at `at` sees row `i`.
    pub fn visible(&self, i: usize, at: u64) -> bool {
        self.begin(i) <= at && at < self.end(i)
    }

    /// Sets the end of row `i`.
    pub fn set_end(&self, i: usize, end: u64) {
        let ends = self.ends.get_or_init(|| (0..self.len()).map(|_| AtomicU64::new(ALIVE)).collect());
        let before = ends[i].swap(end, Ordering::AcqRel);
        match (before == ALIVE, end == ALIVE) {
            (true, false) => self.ended.fetch_add(1, Ordering::AcqRel),
            (false, true) => self.ended.fetch_sub(1, Ordering::AcqRel),
            _ => 0,
        };
    }

    /// Which rows a reader at `at` sees.
    pub fn selection(&self, at: u64) -> Selection {
        if self.ended.load(Ordering::Acquire) == 0
            && let Begins::Uniform(begin) = &self.begins
        {
            return if *begin <= at { Selection::All } else { Selection::Nothing };
        }
        Selection::from_buffer(BooleanBuffer::collect_bool(self.len(), |i| self.visible(i, at)))
    }

    /// Commit timestamps as a column.
    pub fn begin_column(&self) -> ArrayRef {
        match &self.begins {
            Begins::Uniform(begin) => Arc::new(UInt64Array::from_value(*begin, self.len())),
            Begins::Each(begins) => Arc::new(UInt64Array::from(begins.clone())),
        }
    }

    /// Chunks that follow each other as one. All must have the same schema version; there must be one at least.
    pub fn concat(chunks: &[Arc<Chunk>]) -> Result<Chunk> {
        let first = &chunks[0];
        let rows = compact_views(concat_batches(first.rows.schema_ref(), chunks.iter().map(|chunk| &chunk.rows))?)?;
        let uniform = chunks.iter().try_fold(None, |uniform, chunk| match (&chunk.begins, uniform) {
            (Begins::Uniform(begin), None) => Some(Some(*begin)),
            (Begins::Uniform(begin), Some(before)) if *begin == before => Some(Some(before)),
            _ => None,
        });
        let begins = match uniform.flatten() {
            Some(begin) => Begins::Uniform(begin),
            None => Begins::Each(chunks.iter().flat_map(|chunk| (0..chunk.len()).map(|i| chunk.begin(i))).collect()),
        };
        let merged = Chunk {
            start: first.start,
            rows,
            schema: first.schema.clone(),
            begins,
            ends: OnceLock::new(),
            ended: AtomicU32::new(0),
        };
        for part in chunks.iter().filter(|part| part.ended.load(Ordering::Acquire) > 0) {
            let offset = (part.start - first.start) as usize;
            for i in (0..part.len()).filter(|&i| part.end(i) != ALIVE) {
                merged.set_end(offset + i, part.end(i));
            }
        }
        Ok(merged)
    }
}

/// View arrays keep every buffer of their parts when concatenated; this copies them together once they are many.
fn compact_views(rows: RecordBatch) -> Result<RecordBatch> {
    const MANY_BUFFERS: usize = 16;
    let columns: Vec<ArrayRef> = rows
        .columns()
        .iter()
        .map(|column| {
            let any = column.as_any();
            if let Some(strings) = any
                .downcast_ref::<StringViewArray>()
                .filter(|a| a.data_buffers().len() > MANY_BUFFERS)
            {
                Arc::new(strings.gc()) as ArrayRef
            } else if let Some(bytes) = any
                .downcast_ref::<BinaryViewArray>()
                .filter(|a| a.data_buffers().len() > MANY_BUFFERS)
            {
                Arc::new(bytes.gc()) as ArrayRef
            } else {
                column.clone()
            }
        })
        .collect();
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}
