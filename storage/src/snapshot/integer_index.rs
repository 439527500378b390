//! Searching a relation by the first columns of its key, where the whole key is made of 64-bit unsigned integers: the index behind bind joins.
//!
//! A search compares numbers where they lie: no key is encoded but the one that is looked for, and nothing is copied but what is found.

use std::cmp::Ordering;
use std::collections::Bound;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow_array::UInt64Array;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_schema::DataType;
use roaring::RoaringBitmap;

use super::{RelationView, ScanPiece};
use crate::error::{Result, StorageError};
use crate::key::KeyEncoder;
use crate::memtable::Memtable;
use crate::segment::Segment;

/// Bytes of an encoded number: a mark and the number, big-endian.
const NUMBER_BYTES: usize = 9;
/// Where to go on in a memtable.
type Start = Bound<Box<[u8]>>;

/// Searches that find nothing close behind the one before, after which it is not looked there any more.
const MISSES: u8 = 8;
/// So many rows behind another are close: to search all of a segment takes no more steps.
const CLOSE: usize = 128;
/// Keys that are read from a memtable under one lock.
const PAGE: usize = 256;
/// Pages of a memtable that are counted, at most.
const COUNTED_PAGES: usize = 16;

/// A relation whose key is `N` columns of `UInt64`, at a snapshot. Reads may fault pages in.
pub struct IntegerIndex<const N: usize> {
    view: RelationView,
    segments: Vec<SortedPiece<N>>,
    memtables: Vec<LoosePiece>,
}

struct SortedPiece<const N: usize> {
    piece: ScanPiece,
    segment: Arc<Segment>,
    /// The key columns of the batches that were looked at.
    batches: Vec<OnceLock<[UInt64Array; N]>>,
}

struct LoosePiece {
    memtable: Arc<Memtable>,
    at: u64,
    hidden: Option<Arc<RoaringBitmap>>,
}

/// The rows whose keys begin with a prefix; what was read of it is gone from it. Can be used again and again, without allocating anew.
#[derive(Debug, Default, Clone)]
pub struct IntegerRange {
    /// Rows of segments, masked ones included.
    segments: Vec<(usize, Range<u32>)>,
    /// Memtables that are not read to the end, and where to go on.
    memtables: Vec<(usize, Start)>,
    /// The first bytes that no key of the range has.
    end: Vec<u8>,
    /// For each segment the row at which the last search ended: what comes in the order of keys is found close behind it.
    hints: Vec<u32>,
    /// Searches since a hint was of use.
    misses: u8,
}

impl IntegerRange {
    /// Forgets where the last search ended: the next one is in another index.
    pub fn forget(&mut self) {
        self.hints.clear();
        self.misses = 0;
    }
}

impl RelationView {
    /// The relation as an index over its key columns, which must be `N` of `UInt64`.
    pub fn integer_index<const N: usize>(&self) -> Result<IntegerIndex<N>> {
        let schema = self.schema();
        let is_number = |position: &usize| *schema.schema.field(*position).data_type() == DataType::UInt64;
        if schema.key.len() != N || !schema.key.iter().all(is_number) {
            return Err(StorageError::SchemaMismatch {
                relation: schema.id,
                detail: format!("its key is not {N} columns of UInt64"),
            });
        }
        let segments = self.pieces().iter().filter(|piece| piece.visible_rows() > 0).filter_map(|piece| {
            let segment = Arc::clone(piece.segment()?);
            Some(SortedPiece {
                piece: piece.clone(),
                batches: std::iter::repeat_with(OnceLock::new).take(segment.batch_count()).collect(),
                segment,
            })
        });
        Ok(IntegerIndex {
            segments: segments.collect(),
            memtables: self
                .loose()
                .map(|(_, memtable, at, hidden)| LoosePiece { memtable, at, hidden })
                .collect(),
            view: self.clone(),
        })
    }
}

impl<const N: usize> IntegerIndex<N> {
    /// Sets `range` to the rows whose keys begin with `prefix`, of at most `N` numbers.
    pub fn seek(&self, prefix: &[u64], range: &mut IntegerRange) -> Result<()> {
        range.segments.clear();
        range.memtables.clear();
        range.end.clear();
        for number in prefix {
            range.end.push(1);
            range.end.extend_from_slice(&number.to_be_bytes());
        }
        let start = range.end.len();
        // Whatever follows a prefix begins with a mark, which is less.
        range.end.push(u8::MAX);
        range.hints.resize(self.segments.len(), 0);
        let mut was_of_use = false;
        for (i, piece) in self.segments.iter().enumerate() {
            let hint = (range.misses < MISSES).then_some(range.hints[i]);
            let (rows, was_near) = piece.rows(prefix, &range.end[..start], &range.end, hint, self.view.encoder())?;
            was_of_use |= was_near;
            range.hints[i] = rows.start;
            if rows.start < rows.end {
                range.segments.push((i, rows));
            }
        }
        range.misses = match was_of_use {
            true => 0,
            false => range.misses.saturating_add(1),
        };
        for i in 0..self.memtables.len() {
            range.memtables.push((i, Bound::Included(range.end[..start].into())));
        }
        Ok(())
    }

    /// How many rows are in a range: exact, but for memtables, of which a few thousand keys are counted at most.
    pub fn count(&self, range: &IntegerRange) -> u64 {
        self.counted(range).0
    }

    /// How many rows are in a range; `None` where that cannot be told without reading many.
    pub fn exact_count(&self, range: &IntegerRange) -> Option<u64> {
        let (count, is_exact) = self.counted(range);
        is_exact.then_some(count)
    }

    /// Rows, and whether these are all.
    fn counted(&self, range: &IntegerRange) -> (u64, bool) {
        let in_segments = range.segments.iter().map(|(i, rows)| {
            let masked = self.segments[*i].piece.masked_within(rows.clone());
            u64::from(rows.end - rows.start).saturating_sub(masked)
        });
        let mut is_exact = true;
        let mut in_memtables = 0;
        for (i, from) in &range.memtables {
            let piece = &self.memtables[*i];
            let mut from = Some(from.clone());
            for _ in 0..COUNTED_PAGES {
                let Some(bound) = from.take() else { break };
                let page = piece.page(&bound, &range.end, PAGE);
                in_memtables += page.0.len() as u64;
                from = page.1;
            }
            is_exact &= from.is_none();
        }
        (in_segments.sum::<u64>() + in_memtables, is_exact)
    }

    /// Gives the keys of up to `limit` further rows of a range, in no certain order; whether there may be more.
    pub fn read(&self, range: &mut IntegerRange, limit: usize, mut see: impl FnMut([u64; N])) -> Result<bool> {
        let mut left = limit;
        while let Some((i, rows)) = range.segments.last_mut() {
            let piece = &self.segments[*i];
            while rows.start < rows.end {
                if left == 0 {
                    return Ok(true);
                }
                let (batch, position) = piece.segment.locate(rows.start);
                let keys = piece.keys(batch, self.view.encoder())?;
                let count = (piece.segment.batch_rows(batch) - position).min(rows.len()).min(left);
                let masked = piece.piece.masked_within(rows.start..rows.start + count as u32) > 0;
                for row in position..position + count {
                    if !masked || !piece.piece.is_masked_row(rows.start + (row - position) as u32) {
                        see(std::array::from_fn(|column| keys[column].value(row)));
                    }
                }
                rows.start += count as u32;
                left -= count;
            }
            range.segments.pop();
        }
        while let Some((i, from)) = range.memtables.last_mut() {
            if left == 0 {
                return Ok(true);
            }
            let (found, next) = self.memtables[*i].page(from, &range.end, left.min(PAGE));
            left -= found.len();
            found.iter().filter_map(|key| decode(key)).for_each(&mut see);
            match next {
                Some(next) => *from = next,
                None => drop(range.memtables.pop()),
            }
        }
        Ok(false)
    }

    /// Gives the keys of up to `count` rows of a range, spread evenly over what lies in segments.
    pub fn sample(&self, range: &IntegerRange, count: usize, mut see: impl FnMut([u64; N])) -> Result<()> {
        let total: u64 = range.segments.iter().map(|(_, rows)| rows.len() as u64).sum();
        let wanted = total.min(count as u64);
        let mut starts = 0;
        let mut next = 0;
        for (i, rows) in &range.segments {
            let piece = &self.segments[*i];
            while next < wanted {
                // In the middle of its share.
                let place = (2 * next + 1) * total / (2 * wanted);
                let Some(at) = place.checked_sub(starts).filter(|at| *at < rows.len() as u64) else {
                    break;
                };
                next += 1;
                let row = rows.start + at as u32;
                if !piece.piece.is_masked_row(row) {
                    let (batch, position) = piece.segment.locate(row);
                    let keys = piece.keys(batch, self.view.encoder())?;
                    see(std::array::from_fn(|column| keys[column].value(position)));
                }
            }
            starts += rows.len() as u64;
        }
        for (i, from) in &range.memtables {
            let (found, _) = self.memtables[*i].page(from, &range.end, count);
            found.iter().filter_map(|key| decode(key)).for_each(&mut see);
        }
        Ok(())
    }
}

impl<const N: usize> SortedPiece<N> {
    fn keys(&self, batch: usize, encoder: &KeyEncoder) -> Result<&[UInt64Array; N]> {
        let known = &self.batches[batch];
        if let Some(keys) = known.get() {
            return Ok(keys);
        }
        let columns = self.segment.key_columns(batch, encoder)?;
        let keys: Vec<UInt64Array> = columns.iter().map(|column| column.as_primitive::<UInt64Type>().clone()).collect();
        let keys = keys.try_into().map_err(|_| StorageError::SchemaMismatch {
            relation: self.piece.relation(),
            detail: format!("a segment's key is not {N} columns"),
        })?;
        Ok(known.get_or_init(|| keys))
    }

    /// The rows from the first key that is not below `start` to the first that is not below `end`, which are those of `prefix`; and whether they
    /// begin close behind a row.
    fn rows(&self, prefix: &[u64], start: &[u8], end: &[u8], hint: Option<u32>, encoder: &KeyEncoder) -> Result<(Range<u32>, bool)> {
        let info = self.segment.info();
        if info.last_key.as_slice() < start {
            return Ok((info.rows as u32..info.rows as u32, false));
        }
        if info.first_key.as_slice() >= end {
            return Ok((0..0, false));
        }
        let near = match hint {
            Some(hint) => self.behind(prefix, hint, encoder)?,
            None => None,
        };
        let (batch, low) = match near {
            Some(place) => place,
            None => {
                let batch = self.segment.first_batch(start, 0);
                let keys = self.keys(batch, encoder)?;
                let rows = self.segment.batch_rows(batch);
                (batch, partition_point(0, rows, |row| compare(keys, row, prefix) == Ordering::Less))
            }
        };
        let rows = self.rows_from(prefix, end, (batch, low), encoder)?;
        Ok((rows, near.is_some()))
    }

    /// The first row from a row on, in the same batch, that is not below a prefix; `None` if it is not known to be there. Steps double, so that
    /// what comes in order is found in the time that a merge takes, and what is left out is not looked at (Bentley and Yao 1976).
    fn behind(&self, prefix: &[u64], from: u32, encoder: &KeyEncoder) -> Result<Option<(usize, usize)>> {
        if u64::from(from) >= self.segment.info().rows {
            return Ok(None);
        }
        let (batch, from) = self.segment.locate(from);
        let keys = self.keys(batch, encoder)?;
        let rows = self.segment.batch_rows(batch);
        let is_before = |row: usize| compare(keys, row, prefix) == Ordering::Less;
        if !is_before(from) {
            // The first of them, if the row before it is none.
            let is_first = from > 0 && is_before(from - 1);
            return Ok(is_first.then_some((batch, from)));
        }
        let mut step = 1;
        while from + step < rows && is_before(from + step) {
            step *= 2;
            if step > CLOSE {
                return Ok(None);
            }
        }
        if from + step >= rows && is_before(rows - 1) {
            return Ok(None);
        }
        let low = partition_point(from + step / 2, (from + step).min(rows - 1), is_before);
        Ok(Some((batch, low)))
    }

    /// The rows of a prefix, of which the first is known.
    fn rows_from(&self, prefix: &[u64], end: &[u8], (batch, low): (usize, usize), encoder: &KeyEncoder) -> Result<Range<u32>> {
        let keys = self.keys(batch, encoder)?;
        let rows = self.segment.batch_rows(batch);
        let first = self.segment.batch_start(batch) + low as u32;
        // Most ranges are short: look close by first.
        let mut step = 1;
        while low + step < rows && compare(keys, low + step - 1, prefix) == Ordering::Equal {
            step *= 2;
        }
        let bound = (low + step).min(rows);
        let high = partition_point(low, bound, |row| compare(keys, row, prefix) == Ordering::Equal);
        if high < rows {
            return Ok(first..self.segment.batch_start(batch) + high as u32);
        }
        let last = self.segment.first_batch(end, batch + 1);
        if last == self.segment.batch_count() {
            return Ok(first..self.segment.info().rows as u32);
        }
        let keys = self.keys(last, encoder)?;
        let high = partition_point(0, self.segment.batch_rows(last), |row| {
            compare(keys, row, prefix) != Ordering::Greater
        });
        Ok(first..self.segment.batch_start(last) + high as u32)
    }
}

impl LoosePiece {
    /// Up to `limit` keys from a bound to an end, and where to go on.
    fn page(&self, from: &Start, end: &[u8], limit: usize) -> (Vec<Box<[u8]>>, Option<Start>) {
        let from = from.as_ref().map(|key| key.as_ref());
        let page = self.memtable.page(from, Some(end), self.at, limit);
        let is_hidden = |row: u32| self.hidden.as_ref().is_some_and(|hidden| hidden.contains(row));
        let keys = page.rows.into_iter().filter(|(_, row)| !is_hidden(*row)).map(|(key, _)| key);
        (keys.collect(), page.last.map(Bound::Excluded))
    }
}

/// How the first numbers of a row compare with others.
fn compare<const N: usize>(keys: &[UInt64Array; N], row: usize, with: &[u64]) -> Ordering {
    let columns = keys.iter().zip(with).map(|(column, number)| column.value(row).cmp(number));
    columns.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn partition_point(mut low: usize, mut high: usize, is_before: impl Fn(usize) -> bool) -> usize {
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// The numbers of an encoded key.
fn decode<const N: usize>(key: &[u8]) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    if key.len() != N * NUMBER_BYTES {
        return None;
    }
    for (number, bytes) in numbers.iter_mut().zip(key.chunks_exact(NUMBER_BYTES)) {
        *number = u64::from_be_bytes(bytes[1..].try_into().ok()?);
    }
    Some(numbers)
}
