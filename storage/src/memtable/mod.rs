//! Rows in memory, indexed by key: a relation's newest commits, and the private writes of a transaction.
//!
//! Stamps are commit timestamps in a partition and statement numbers in a transaction. Every row has an ordinal that never changes, a
//! stamp at which it begins to be visible and one at which it ends. Deleting sets an end; nothing is removed.
//!
//! Invariants: one writer at a time; a reader at stamp T never sees later changes, because they carry later stamps; the newest version
//! of a key is the head of its chain.

mod chunk;
mod gather;
mod index;

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use arrow_row::Rows;
use arrow_schema::ArrowError;
use parking_lot::RwLock;

use crate::error::Result;
use crate::memory_size::batch_bytes;
use crate::reads::KeySpan;
use crate::schema::RelationSchema;

pub(crate) use chunk::{ALIVE, Chunk};
pub(crate) use gather::Gather;
use index::KeyIndex;

/// Bytes of index and stamps a row costs beside its data, estimated.
const ROW_OVERHEAD_BYTES: u64 = 48;

/// A version of a key in a memtable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    /// Which row.
    pub ordinal: u32,
    /// When it begins.
    pub begin: u64,
    /// When it ends; [`ALIVE`] if it does not.
    pub end: u64,
}

/// Part of a memtable in key order.
#[derive(Debug)]
pub(crate) struct Page {
    /// Keys and the ordinals of their visible rows.
    pub rows: Vec<(Box<[u8]>, u32)>,
    /// The last key looked at; `None` when the range is exhausted.
    pub last: Option<Box<[u8]>>,
}

#[derive(Debug)]
struct Inner {
    chunks: Vec<Arc<Chunk>>,
    index: KeyIndex,
    /// Ordinals in the order in which they were ended.
    ended: Vec<u32>,
    rows: u32,
    /// The newest stamp at which a row begins or ends.
    newest: u64,
    /// Whether each key is above the one before it.
    ascending: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Memtable {
    inner: RwLock<Inner>,
    bytes: AtomicU64,
    batch_rows: usize,
}

impl Memtable {
    /// An empty one, whose batches have about `batch_rows` rows.
    pub fn new(batch_rows: usize) -> Self {
        let inner = Inner {
            chunks: Vec::new(),
            index: KeyIndex::default(),
            ended: Vec::new(),
            rows: 0,
            newest: 0,
            ascending: true,
        };
        Memtable {
            inner: RwLock::new(inner),
            bytes: AtomicU64::new(0),
            batch_rows: batch_rows.max(1),
        }
    }

    /// Bytes held, estimated.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Rows, visible or not.
    pub fn rows(&self) -> u32 {
        self.inner.read().rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// Smallest and largest key; `None` when empty.
    pub fn key_range(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let inner = self.inner.read();
        Some((inner.index.first_key()?.to_vec(), inner.index.last_key()?.to_vec()))
    }

    /// Whether `key` is above every key.
    pub fn is_below(&self, key: &[u8]) -> bool {
        self.inner.read().index.last_key().is_none_or(|last| last < key)
    }

    /// Whether ordinals are in strictly ascending key order.
    pub fn is_ascending(&self) -> bool {
        self.inner.read().ascending
    }

    /// Adds rows that begin at `begin`; where a key has a live version here, that one ends at `begin`.
    pub fn append(&self, schema: &Arc<RelationSchema>, rows: &RecordBatch, keys: Rows, begin: u64) -> Result<()> {
        let count = rows.num_rows();
        if count == 0 {
            return Ok(());
        }
        let bytes = batch_bytes(rows) + keys.size() as u64 + count as u64 * ROW_OVERHEAD_BYTES;
        let mut inner = self.inner.write();
        let start = inner.rows;
        inner.rows = u32::try_from(count)
            .ok()
            .and_then(|n| start.checked_add(n))
            .ok_or_else(too_many_rows)?;
        for offset in (0..count).step_by(self.batch_rows) {
            let slice = rows.slice(offset, self.batch_rows.min(count - offset));
            let chunk = Chunk::new(start + offset as u32, slice, schema.clone(), begin);
            inner.push_chunk(chunk, self.batch_rows)?;
        }
        inner.index_keys(keys, start, begin);
        inner.newest = inner.newest.max(begin);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The newest version of a key.
    pub fn newest(&self, key: &[u8]) -> Option<Version> {
        let inner = self.inner.read();
        inner.index.newest(key).map(|ordinal| inner.version(ordinal))
    }

    /// The row of a key that a reader at `at` sees.
    pub fn find(&self, key: &[u8], at: u64) -> Option<u32> {
        let inner = self.inner.read();
        inner.visible(inner.index.newest(key)?, at)
    }

    /// Ends a row's visibility at `end`.
    pub fn end(&self, ordinal: u32, end: u64) {
        self.inner.write().end(ordinal, end);
    }

    /// One version by ordinal.
    pub fn version(&self, ordinal: u32) -> Version {
        self.inner.read().version(ordinal)
    }

    /// All chunks, by ordinal. Cheap.
    pub fn chunks(&self) -> Vec<Arc<Chunk>> {
        self.inner.read().chunks.clone()
    }

    /// How many endings there were; with [`Self::ended_since`] it tells those before a moment from those after.
    pub fn ended_count(&self) -> usize {
        self.inner.read().ended.len()
    }

    /// Ordinals of the endings from number `since` up to number `until` (or all later ones).
    pub fn ended_between(&self, since: usize, until: Option<usize>) -> Vec<u32> {
        let inner = self.inner.read();
        let until = until.unwrap_or(inner.ended.len()).min(inner.ended.len());
        inner.ended.get(since..until).unwrap_or_default().to_vec()
    }

    /// Up to `limit` keys after `after` and below `end`, with the rows that a reader at `at` sees, in key order.
    pub fn page(&self, after: Bound<&[u8]>, end: Option<&[u8]>, at: u64, limit: usize) -> Page {
        let inner = self.inner.read();
        let mut page = Vec::new();
        // Invisible keys count too, so that the lock is not held long.
        let mut budget = limit.saturating_mul(4).max(1);
        for (key, newest) in inner.index.range(after, end) {
            if let Some(ordinal) = inner.visible(newest, at) {
                page.push((key.into(), ordinal));
            }
            budget -= 1;
            if page.len() >= limit || budget == 0 {
                return Page {
                    rows: page,
                    last: Some(key.into()),
                };
            }
        }
        Page { rows: page, last: None }
    }

    /// Visits every version in (key ascending, newest first) order: key, ordinal, and whether it is the newest of its key.
    pub fn for_each_version(&self, mut visit: impl FnMut(&[u8], Version, Option<Version>)) {
        let inner = self.inner.read();
        for (key, newest) in inner.index.range(Bound::Unbounded, None) {
            let mut newer = None;
            let mut ordinal = Some(newest);
            while let Some(current) = ordinal {
                let version = inner.version(current);
                visit(key, version, newer);
                newer = Some(version);
                ordinal = inner.index.older(current);
            }
        }
    }

    /// Visits the newest version of each key within `first..=last`, in key order.
    pub fn for_each_newest_within(&self, first: &[u8], last: &[u8], mut visit: impl FnMut(&[u8], Version) -> Result<()>) -> Result<()> {
        let inner = self.inner.read();
        for (key, newest) in inner.index.range(Bound::Included(first), None) {
            if key > last {
                break;
            }
            visit(key, inner.version(newest))?;
        }
        Ok(())
    }

    /// The first key of a span that has a row which begins or ends after `since`.
    pub fn changed_since(&self, span: &KeySpan, since: u64) -> Option<Box<[u8]>> {
        let inner = self.inner.read();
        if inner.newest <= since {
            return None;
        }
        let is_late = |version: Version| version.begin > since || (version.end != ALIVE && version.end > since);
        let mut keys = inner.index.range(Bound::Included(&span.from), span.to.as_deref());
        let changed = keys.find(|(_, newest)| {
            let mut ordinals = std::iter::successors(Some(*newest), |ordinal| inner.index.older(*ordinal));
            ordinals.any(|ordinal| is_late(inner.version(ordinal)))
        });
        changed.map(|(key, _)| key.into())
    }

    /// Undoes everything after stamp `to`: later rows are never visible again, later endings did not happen. For private memtables only.
    pub fn roll_back(&self, to: u64) {
        let inner = self.inner.write();
        for chunk in &inner.chunks {
            for i in 0..chunk.len() {
                let (begin, end) = (chunk.begin(i), chunk.end(i));
                if begin > to {
                    chunk.set_end(i, begin);
                } else if end > to && end != ALIVE {
                    chunk.set_end(i, ALIVE);
                }
            }
        }
    }
}

/// Chunks of one size that are merged into one.
const MERGE_FAN_IN: usize = 8;

/// The power of [`MERGE_FAN_IN`] that a number of rows reaches.
fn size_class(rows: usize) -> u32 {
    rows.max(1).ilog(MERGE_FAN_IN)
}

impl Inner {
    /// Adds a chunk. Where [`MERGE_FAN_IN`] chunks of its size or smaller stand at the end, they become one, so that many small writes make
    /// few batches and each row is copied a few times only.
    fn push_chunk(&mut self, chunk: Chunk, batch_rows: usize) -> Result<()> {
        let version = chunk.schema().version;
        self.chunks.push(Arc::new(chunk));
        while let Some(size) = self.chunks.last().map(|last| size_class(last.len())) {
            let alike = |chunk: &&Arc<Chunk>| size_class(chunk.len()) <= size && chunk.schema().version == version;
            let count = self.chunks.iter().rev().take_while(alike).count();
            if count < MERGE_FAN_IN {
                break;
            }
            let mut rows = 0;
            let fits = self.chunks.iter().rev().take(count).take_while(|chunk| {
                rows += chunk.len();
                rows <= batch_rows
            });
            let from = self.chunks.len() - fits.count();
            if self.chunks.len() - from < 2 {
                break;
            }
            let merged = Chunk::concat(&self.chunks[from..])?;
            self.chunks.truncate(from);
            self.chunks.push(Arc::new(merged));
        }
        Ok(())
    }

    fn index_keys(&mut self, keys: Rows, start: u32, begin: u64) {
        let count = keys.num_rows();
        let strictly = (1..count).all(|i| keys.row(i - 1) < keys.row(i));
        let first = keys.row(0).data();
        self.ascending &= strictly && self.index.last_key().is_none_or(|last| last < first);
        if strictly && self.index.takes_run(first, count) {
            self.index.push_run(keys, start);
            return;
        }
        for i in 0..count {
            let before = self.index.insert(keys.row(i).data(), start + i as u32);
            if let Some(before) = before.filter(|&before| self.version(before).end == ALIVE) {
                self.end(before, begin);
            }
        }
    }

    fn locate(&self, ordinal: u32) -> (&Chunk, usize) {
        let chunk = &self.chunks[self.chunks.partition_point(|chunk| chunk.start() <= ordinal) - 1];
        (chunk, (ordinal - chunk.start()) as usize)
    }

    fn version(&self, ordinal: u32) -> Version {
        let (chunk, i) = self.locate(ordinal);
        Version {
            ordinal,
            begin: chunk.begin(i),
            end: chunk.end(i),
        }
    }

    fn visible(&self, newest: u32, at: u64) -> Option<u32> {
        let mut ordinal = Some(newest);
        while let Some(current) = ordinal {
            let version = self.version(current);
            if version.begin <= at && at < version.end {
                return Some(current);
            }
            ordinal = self.index.older(current);
        }
        None
    }

    fn end(&mut self, ordinal: u32, end: u64) {
        let (chunk, i) = self.locate(ordinal);
        chunk.set_end(i, end);
        self.ended.push(ordinal);
        self.newest = self.newest.max(end);
    }
}

fn too_many_rows() -> ArrowError {
    ArrowError::MemoryError("more than 4294967295 rows in one memtable".to_owned())
}
