//! Private rows written to disk before their commit, as sorted segments in the partition's staging folder.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use roaring::RoaringBitmap;

use super::buffer::Buffer;
use super::row_mask::RowMask;
use crate::error::Result;
use crate::ids::{SegmentId, Timestamp};
use crate::key::{KeyEncoder, key_hash};
use crate::memtable::{ALIVE, Gather, Memtable, Version};
use crate::partition::Partition;
use crate::schema::RelationSchema;
use crate::segment::{Segment, SegmentInfo, SegmentWriteOptions, SegmentWriter};
use crate::selection::Selection;
use crate::snapshot::OwnSegment;

/// The statements in which rows of a staged segment were written.
#[derive(Debug)]
enum Begins {
    /// No savepoint lies between any two of them.
    Together(u64),
    /// One a row.
    Each(Vec<u64>),
}

/// A staged segment.
#[derive(Debug)]
pub(super) struct Staged {
    segment: Arc<Segment>,
    begins: Begins,
    /// Rows that are deleted or replaced.
    pub mask: RowMask,
}

impl Staged {
    /// A segment all of whose rows count, at the end of a transaction.
    pub fn reopened(partition: &Partition, info: SegmentInfo) -> Result<Staged> {
        Self::written(partition, info, 0)
    }

    /// A segment all of whose rows were written in one statement.
    pub fn written(partition: &Partition, info: SegmentInfo, statement: u64) -> Result<Staged> {
        let segment = Segment::open(&partition.staging_dir(), info, Some(Timestamp::MAX))?;
        Ok(Staged {
            segment,
            begins: Begins::Together(statement),
            mask: RowMask::default(),
        })
    }

    pub fn info(&self) -> &SegmentInfo {
        self.segment.info()
    }

    pub fn id(&self) -> SegmentId {
        self.segment.id()
    }

    /// As a view shows it.
    pub fn own(&self) -> OwnSegment {
        OwnSegment {
            segment: self.segment.clone(),
            mask: self.mask.rows().clone(),
        }
    }

    /// The live row of a key.
    pub fn find(&self, key: &[u8], encoder: &KeyEncoder) -> Result<Option<u32>> {
        if key < self.info().first_key.as_slice() || key > self.info().last_key.as_slice() {
            return Ok(None);
        }
        Ok(self
            .segment
            .find(key, key_hash(key), encoder)?
            .find(|row| !self.mask.contains(*row)))
    }

    /// Bytes held in memory, estimated.
    pub fn memory_bytes(&self) -> u64 {
        let begins = match &self.begins {
            Begins::Together(_) => 0,
            Begins::Each(begins) => begins.len() as u64 * 8,
        };
        begins + self.mask.rows().serialized_size() as u64
    }

    /// Takes back everything after statement `to`; `false` if no row is left.
    pub fn roll_back(&mut self, to: u64) -> bool {
        self.mask.roll_back(to);
        match &self.begins {
            Begins::Together(begin) => *begin <= to,
            Begins::Each(begins) => {
                let later: RoaringBitmap = (0u32..).zip(begins).filter(|(_, begin)| **begin > to).map(|(row, _)| row).collect();
                let left = later.len() < begins.len() as u64;
                self.mask.bury(&later);
                left
            }
        }
    }

    /// Writes the rows that count as a new segment; `None` when there are none.
    pub fn rewritten(&self, partition: &Partition, schema: &RelationSchema, encoder: &KeyEncoder) -> Result<Option<SegmentInfo>> {
        if self.mask.rows().len() >= self.info().rows {
            return Ok(None);
        }
        let all: Vec<usize> = (0..schema.schema.fields().len()).collect();
        let id = partition.claim_staged(schema.id);
        let write = || -> Result<SegmentInfo> {
            let mut writer = SegmentWriter::create(&partition.staging_dir(), id, schema, options(partition))?;
            for batch in 0..self.segment.batch_count() {
                let selection = Selection::outside(self.mask.rows(), self.segment.batch_start(batch), self.segment.batch_rows(batch));
                if let Some(rows) = selection.apply(self.segment.read(batch, schema, &all)?)? {
                    writer.append(&rows, &encoder.encode(&key_arrays(&rows, schema))?, None)?;
                }
            }
            writer.finish()
        };
        write().map(Some).inspect_err(|_| partition.release_claim(id))
    }
}

pub(super) fn options(partition: &Partition) -> SegmentWriteOptions {
    SegmentWriteOptions {
        batch_rows: partition.options().batch_rows,
        timestamps: false,
    }
}

fn key_arrays(rows: &RecordBatch, schema: &RelationSchema) -> Vec<ArrayRef> {
    schema.key.iter().map(|&i| rows.column(i).clone()).collect()
}

/// Writes a buffer's memtable as a staged segment and begins a new one. Rows that are dead at the end and at every savepoint are left out.
/// A segment holds a key once: older versions that a savepoint needs stay in memory.
pub(super) fn stage(buffer: &mut Buffer, partition: &Partition, savepoints: &[u64]) -> Result<()> {
    let (versions, older) = kept_versions(&buffer.memtable, savepoints);
    let (fresh, retained) = retained(buffer, partition, older)?;
    if versions.is_empty() {
        (buffer.memtable, buffer.retained_bytes) = (fresh, retained);
        return Ok(());
    }
    let schema = buffer.base.schema().clone();
    let id = partition.claim_staged(schema.id);
    let gather = Gather::new(&buffer.memtable, &schema)?;
    let write = || -> Result<Arc<Segment>> {
        let dir = partition.staging_dir();
        let mut writer = SegmentWriter::create(&dir, id, &schema, options(partition))?;
        for rows in gather.pages(&versions, partition.options().batch_rows) {
            let rows = rows?;
            writer.append(&rows, &buffer.base.encoder().encode(&key_arrays(&rows, &schema))?, None)?;
        }
        Segment::open(&dir, writer.finish()?, Some(Timestamp::MAX))
    };
    let segment = write().inspect_err(|_| partition.release_claim(id))?;
    let mut mask = RowMask::default();
    let mut ended: Vec<(u64, u32)> = (0u32..)
        .zip(&versions)
        .filter(|(_, version)| version.end != ALIVE)
        .map(|(row, version)| (version.end, row))
        .collect();
    ended.sort_unstable();
    for (end, row) in ended {
        let savepoint = savepoints
            .partition_point(|savepoint| *savepoint < end)
            .checked_sub(1)
            .map(|i| savepoints[i]);
        mask.hide(row, end, savepoint);
    }
    buffer.staged.push(Staged {
        segment,
        begins: begins(&versions, savepoints),
        mask,
    });
    (buffer.memtable, buffer.retained_bytes) = (fresh, retained);
    Ok(())
}

/// In key order, the newest version of each key that counts now or at a savepoint; and the older ones that count at a savepoint.
fn kept_versions(memtable: &Memtable, savepoints: &[u64]) -> (Vec<Version>, Vec<Version>) {
    let seen_at_savepoint = |version: &Version| {
        let next = savepoints.partition_point(|savepoint| *savepoint < version.begin);
        savepoints.get(next).is_some_and(|savepoint| *savepoint < version.end)
    };
    let (mut newest, mut older) = (Vec::new(), Vec::new());
    let mut first = true;
    memtable.for_each_version(|_, version, newer| {
        first |= newer.is_none();
        if version.end == ALIVE || seen_at_savepoint(&version) {
            if std::mem::take(&mut first) {
                newest.push(version)
            } else {
                older.push(version)
            }
        }
    });
    (newest, older)
}

/// A new memtable with `versions` of the old one, and its bytes.
fn retained(buffer: &Buffer, partition: &Partition, mut versions: Vec<Version>) -> Result<(Arc<Memtable>, u64)> {
    let fresh = Memtable::new(partition.options().batch_rows);
    versions.sort_unstable_by_key(|version| (version.begin, version.ordinal));
    let gather = Gather::new(&buffer.memtable, buffer.base.schema())?;
    for together in versions.chunk_by(|a, b| a.begin == b.begin) {
        let rows = gather.rows(together)?;
        let keys = buffer.base.encoder().encode(&key_arrays(&rows, buffer.base.schema()))?;
        let start = fresh.rows();
        fresh.append(buffer.base.schema(), &rows, keys, together[0].begin)?;
        (start..)
            .zip(together)
            .for_each(|(ordinal, version)| fresh.end(ordinal, version.end));
    }
    let bytes = fresh.bytes();
    Ok((Arc::new(fresh), bytes))
}

fn begins(versions: &[Version], savepoints: &[u64]) -> Begins {
    let first = versions.iter().map(|version| version.begin).min().unwrap_or(0);
    let last = versions.iter().map(|version| version.begin).max().unwrap_or(0);
    if savepoints.iter().any(|savepoint| (first..last).contains(savepoint)) {
        Begins::Each(versions.iter().map(|version| version.begin).collect())
    } else {
        Begins::Together(first)
    }
}
