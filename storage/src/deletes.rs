//! Delete vectors: which rows of a segment are gone, and since when.
//!
//! A row's deletion at or before the base timestamp is one bit; later ones carry their own timestamp, so that a reader at any timestamp from
//! the base on sees exactly what was there. The file (see [`crate::file`] for its header):
//!
//! ```text
//! | base timestamp u64 | bitmap length u64 | roaring bitmap | row u32, timestamp u64 | row u32, timestamp u64 | ...
//! ```
//!
//! Where one commit deleted many rows they are a group, and the file has version 2: between the bitmap and the rows stands
//!
//! ```text
//! | groups u64 | timestamp u64 | bitmap length u64 | roaring bitmap | timestamp u64 | ...
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::error::{Result, StorageError};
use crate::file::{FileKind, le_u32, le_u64, read_versioned, write_checked};
use crate::ids::{SegmentId, Timestamp};

const KIND: FileKind = FileKind {
    magic: *b"PYRA_DEL",
    version: 2,
    name: "delete vector",
};
/// Without groups, as builds before them wrote it and read it.
const WITHOUT_GROUPS: FileKind = FileKind { version: 1, ..KIND };
const PAIR: usize = 12;
/// Rows of one timestamp from which on they are a group.
pub const GROUP_ROWS: u64 = 1024;
/// Most groups; rows of the smallest others are kept one by one.
const MOST_GROUPS: usize = 64;

/// The file of a persisted delete vector, as the manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteFile {
    /// Part of the file's name; grows with each new vector of the segment.
    pub version: u64,
    /// Checksum in the file's header.
    pub crc: u32,
    /// Bytes of the file.
    pub bytes: u64,
    /// Deleted rows in it.
    pub rows: u64,
}

/// Where a delete vector lies.
pub fn delete_path(dir: &Path, segment: SegmentId, version: u64) -> PathBuf {
    dir.join(format!("{segment}.{version}.del"))
}

/// The deleted rows of one segment. Immutable.
#[derive(Debug, Default)]
pub struct DeleteVector {
    base_timestamp: Timestamp,
    base: Arc<RoaringBitmap>,
    /// By row; rows are not in `base`.
    later: Vec<(u32, Timestamp)>,
    /// By timestamp; rows are neither in `base` nor in `later` nor in two groups.
    groups: Vec<(Timestamp, RoaringBitmap)>,
    /// The rows of all groups.
    grouped: RoaringBitmap,
    /// Rows in all of these.
    count: u64,
    max_timestamp: Timestamp,
    /// The last mask asked for: readers mostly ask at the newest timestamp.
    cached: Mutex<Option<(Timestamp, Arc<RoaringBitmap>)>>,
}

impl DeleteVector {
    /// No row deleted.
    pub fn empty() -> Self {
        DeleteVector::default()
    }

    fn new(base_timestamp: Timestamp, base: RoaringBitmap, later: Vec<(u32, Timestamp)>, groups: Vec<(Timestamp, RoaringBitmap)>) -> Self {
        let grouped = groups.iter().fold(RoaringBitmap::new(), |all, (_, rows)| all | rows);
        let base_rows = base.len();
        let newest = later.iter().map(|(_, ts)| *ts).chain(groups.iter().map(|(ts, _)| *ts)).max();
        let max_timestamp = newest.unwrap_or(if base.is_empty() { Timestamp::ZERO } else { base_timestamp });
        DeleteVector {
            base_timestamp,
            base: Arc::new(base),
            count: base_rows + later.len() as u64 + grouped.len(),
            later,
            grouped,
            groups,
            max_timestamp,
            cached: Mutex::new(None),
        }
    }

    /// Reads the file that `file` describes.
    pub fn read(dir: &Path, segment: SegmentId, file: &DeleteFile) -> Result<Self> {
        let path = delete_path(dir, segment, file.version);
        let damaged = |detail: String| StorageError::damaged(&path, KIND.name, detail);
        let (body, header, version) = read_versioned(&path, KIND)?;
        if (header.crc, header.bytes) != (file.crc, file.bytes) {
            return Err(damaged("it is not the file that the manifest names".to_owned()));
        }
        let mut rest = Fields { bytes: &body, path: &path };
        let base_timestamp = Timestamp(rest.number()?);
        let base = rest.bitmap()?;
        let mut groups = Vec::new();
        if version >= KIND.version {
            for _ in 0..rest.number()? {
                groups.push((Timestamp(rest.number()?), rest.bitmap()?));
            }
        }
        let pairs = rest.bytes;
        if !pairs.len().is_multiple_of(PAIR) {
            return Err(damaged("it ends within a row".to_owned()));
        }
        let later: Vec<_> = pairs
            .chunks_exact(PAIR)
            .map(|p| (le_u32(&p[..4]), Timestamp(le_u64(&p[4..]))))
            .collect();
        if !later.windows(2).all(|w| w[0].0 < w[1].0) {
            return Err(damaged("its rows are not in order".to_owned()));
        }
        Ok(DeleteVector::new(base_timestamp, base, later, groups))
    }

    /// Writes and syncs a new file (not its directory: that goes with the manifest edit).
    pub fn write(&self, dir: &Path, segment: SegmentId, version: u64) -> Result<DeleteFile> {
        let path = delete_path(dir, segment, version);
        let mut body = Vec::with_capacity(16 + self.base.serialized_size() + self.later.len() * PAIR);
        let put = |bitmap: &RoaringBitmap, body: &mut Vec<u8>| {
            body.extend_from_slice(&(bitmap.serialized_size() as u64).to_le_bytes());
            bitmap.serialize_into(body).map_err(StorageError::io(&path, "encode"))
        };
        body.extend_from_slice(&self.base_timestamp.0.to_le_bytes());
        put(&self.base, &mut body)?;
        let kind = match self.groups.is_empty() {
            true => WITHOUT_GROUPS,
            false => {
                body.extend_from_slice(&(self.groups.len() as u64).to_le_bytes());
                for (timestamp, rows) in &self.groups {
                    body.extend_from_slice(&timestamp.0.to_le_bytes());
                    put(rows, &mut body)?;
                }
                KIND
            }
        };
        for (row, ts) in &self.later {
            body.extend_from_slice(&row.to_le_bytes());
            body.extend_from_slice(&ts.0.to_le_bytes());
        }
        let file = write_checked(&path, kind, &body)?;
        Ok(DeleteFile {
            version,
            crc: file.crc,
            bytes: file.bytes,
            rows: self.len(),
        })
    }

    /// When the row was deleted; the base timestamp for those deleted at or before it.
    pub fn deleted_at(&self, row: u32) -> Option<Timestamp> {
        if self.base.contains(row) {
            return Some(self.base_timestamp);
        }
        match self.later.binary_search_by_key(&row, |(row, _)| *row) {
            Ok(at) => Some(self.later[at].1),
            Err(_) if !self.grouped.contains(row) => None,
            Err(_) => self.groups.iter().find(|(_, rows)| rows.contains(row)).map(|(ts, _)| *ts),
        }
    }

    /// Rows that a reader at `timestamp` (not before the base timestamp) does not see. The last answer is cached.
    pub fn mask_at(&self, timestamp: Timestamp) -> Arc<RoaringBitmap> {
        if self.later.is_empty() && self.groups.is_empty() {
            return self.base.clone();
        }
        // Every timestamp from the newest deletion on gives the same mask.
        let timestamp = timestamp.min(self.max_timestamp);
        let mut cached = self.cached.lock();
        if let Some((at, mask)) = cached.as_ref()
            && *at == timestamp
        {
            return mask.clone();
        }
        let mut mask = RoaringBitmap::clone(&self.base);
        mask.extend(self.later.iter().filter(|(_, ts)| *ts <= timestamp).map(|(row, _)| *row));
        self.groups
            .iter()
            .filter(|(ts, _)| *ts <= timestamp)
            .for_each(|(_, rows)| mask |= rows);
        let mask = Arc::new(mask);
        *cached = Some((timestamp, mask.clone()));
        mask
    }

    /// This vector and `additions` (row, timestamp of deletion), in any order; what was deleted at or before `horizon` loses its own timestamp.
    /// A row that is deleted already stays deleted since then.
    pub fn with(&self, additions: &[(u32, Timestamp)], horizon: Timestamp) -> DeleteVector {
        self.with_groups(additions, &[], horizon)
    }

    /// As [`Self::with`], also with rows that were deleted together.
    pub fn with_groups(&self, additions: &[(u32, Timestamp)], groups: &[(Timestamp, RoaringBitmap)], horizon: Timestamp) -> DeleteVector {
        let base_timestamp = self.base_timestamp.max(horizon);
        let mut all: Vec<(u32, Timestamp)> = self.later.iter().chain(additions).copied().collect();
        all.sort_unstable();
        all.dedup_by_key(|(row, _)| *row);
        let mut base = RoaringBitmap::clone(&self.base);
        let mut later = Vec::new();
        for (row, ts) in all {
            if ts <= base_timestamp {
                base.insert(row);
            } else if !base.contains(row) {
                later.push((row, ts));
            }
        }
        let mut together: BTreeMap<Timestamp, RoaringBitmap> = BTreeMap::new();
        for (timestamp, rows) in self.groups.iter().chain(groups) {
            match *timestamp <= base_timestamp {
                true => base |= rows,
                false => *together.entry(*timestamp).or_default() |= rows,
            }
        }
        let mut counts: HashMap<Timestamp, u64> = HashMap::new();
        later.iter().for_each(|(_, ts)| *counts.entry(*ts).or_default() += 1);
        later.retain(|(row, ts)| {
            let is_single = counts[ts] < GROUP_ROWS;
            if !is_single {
                together.entry(*ts).or_default().insert(*row);
            }
            is_single
        });
        // The oldest deletion of a row stands.
        let mut known = base.clone();
        let mut groups = Vec::new();
        for (timestamp, mut rows) in together {
            rows -= &known;
            known |= &rows;
            groups.push((timestamp, rows));
        }
        later.retain(|(row, ts)| {
            let grouped = known
                .contains(*row)
                .then(|| groups.iter_mut().find(|(_, rows)| rows.contains(*row)));
            match grouped {
                None => true,
                Some(Some((timestamp, rows))) if *ts <= *timestamp => rows.remove(*row),
                // Deleted before, or in the base.
                Some(_) => false,
            }
        });
        groups.retain(|(_, rows)| !rows.is_empty());
        if groups.len() > MOST_GROUPS {
            groups.sort_unstable_by_key(|(_, rows)| std::cmp::Reverse(rows.len()));
            for (timestamp, rows) in groups.split_off(MOST_GROUPS) {
                later.extend(rows.iter().map(|row| (row, timestamp)));
            }
            later.sort_unstable();
            groups.sort_unstable_by_key(|(timestamp, _)| *timestamp);
        }
        DeleteVector::new(base_timestamp, base, later, groups)
    }

    /// How many deletions that still have their own timestamp are at or before `until`.
    pub fn later_until(&self, until: Timestamp) -> u64 {
        let groups = self.groups.iter().filter(|(ts, _)| *ts <= until);
        self.later.iter().filter(|(_, ts)| *ts <= until).count() as u64 + groups.map(|(_, rows)| rows.len()).sum::<u64>()
    }

    /// Deletions that still have their own timestamp, in no certain order.
    pub fn later(&self) -> impl Iterator<Item = (u32, Timestamp)> {
        let groups = self.groups.iter().flat_map(|(ts, rows)| rows.iter().map(|row| (row, *ts)));
        self.later.iter().copied().chain(groups)
    }

    /// Rows deleted at or before [`Self::base_timestamp`].
    pub fn base(&self) -> &RoaringBitmap {
        &self.base
    }

    /// The timestamp up to which deletions are folded.
    pub fn base_timestamp(&self) -> Timestamp {
        self.base_timestamp
    }

    /// Deleted rows.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether no row is deleted.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The newest deletion's timestamp (the base timestamp where only folded ones are left); zero when there is none.
    pub fn max_timestamp(&self) -> Timestamp {
        self.max_timestamp
    }
}

/// What is left of a file's body.
struct Fields<'a> {
    bytes: &'a [u8],
    path: &'a Path,
}

impl<'a> Fields<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8]> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else {
            let detail = format!("it has {} bytes where {count} should be", self.bytes.len());
            return Err(StorageError::damaged(self.path, KIND.name, detail));
        };
        self.bytes = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64> {
        self.take(8).map(le_u64)
    }

    fn bitmap(&mut self) -> Result<RoaringBitmap> {
        let length = self.number()?;
        let bytes = self.take(length)?;
        RoaringBitmap::deserialize_from(bytes).map_err(|e| StorageError::damaged(self.path, KIND.name, format!("bitmap: {e}")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ts(n: u64) -> Timestamp {
        Timestamp(n)
    }

    fn rows(mask: &RoaringBitmap) -> Vec<u32> {
        mask.iter().collect()
    }

    fn later(vector: &DeleteVector) -> Vec<(u32, Timestamp)> {
        vector.later().collect()
    }

    /// Rows that a commit deleted together are one group, in memory and on disk; each mask is that of the rows by themselves.
    #[test]
    fn rows_deleted_together_are_a_group() {
        let dir = tempfile::tempdir().unwrap();
        let id = SegmentId(7);
        let together = |from: u32, to: u32| RoaringBitmap::from_sorted_iter(from..to).unwrap();
        let singles: Vec<_> = (0..3000).map(|row| (row, ts(10 + u64::from(row % 2) * 20))).collect();
        let vector = DeleteVector::empty().with_groups(&[(5000, ts(15)), (5, ts(15))], &[(ts(40), together(2500, 6000))], ts(0));
        let vector = vector.with(&singles, ts(0));
        assert_eq!(vector.later.len(), 2);
        assert_eq!(vector.groups.len(), 3);
        let deleted_at = |row: u32| match row {
            5000 | 5 => Some(15),
            0..3000 => Some(10 + u64::from(row % 2) * 20),
            3000..6000 => Some(40),
            _ => None,
        };
        let check = |vector: &DeleteVector, horizon: u64| {
            for at in [horizon, 10, 14, 15, 29, 30, 39, 40, 99].into_iter().filter(|at| *at >= horizon) {
                let expected: Vec<u32> = (0..7000).filter(|row| deleted_at(*row).is_some_and(|ts| ts <= at)).collect();
                assert_eq!(rows(&vector.mask_at(ts(at))), expected, "at {at}");
            }
            for row in [0, 1, 5, 2600, 2999, 3000, 5000, 5999, 6000] {
                assert_eq!(
                    vector.deleted_at(row).map(|ts| ts.0),
                    deleted_at(row).map(|ts| ts.max(horizon)),
                    "row {row}"
                );
            }
            assert_eq!((vector.len(), vector.max_timestamp()), (6000, ts(40)));
        };
        check(&vector, 0);
        check(&vector.with(&[], ts(20)), 20);
        let file = vector.write(dir.path(), id, 3).unwrap();
        check(&DeleteVector::read(dir.path(), id, &file).unwrap(), 0);
        let path = delete_path(dir.path(), id, 3);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(DeleteVector::read(dir.path(), id, &file).is_err(), "cut at {at}");
        }
    }

    /// Many commits that delete many rows each: as many groups as are searched quickly, and the same answers.
    #[test]
    fn there_are_only_so_many_groups() {
        let dir = tempfile::tempdir().unwrap();
        let mut vector = DeleteVector::empty();
        let rows_of = |i: u32| {
            let mut rows = RoaringBitmap::new();
            rows.insert_range(i * 2000..i * 2000 + 1500 + i);
            rows
        };
        for i in 0..100_u32 {
            vector = vector.with_groups(&[], &[(ts(u64::from(i) + 10), rows_of(i))], ts(0));
        }
        let mut all = RoaringBitmap::new();
        all.insert_range(900_000..1_100_000);
        vector = vector.with_groups(&[(900_007, ts(50))], &[(ts(500), all)], ts(0));
        assert_eq!(vector.groups.len(), MOST_GROUPS);
        let file = vector.write(dir.path(), SegmentId(7), 3).unwrap();
        let back = DeleteVector::read(dir.path(), SegmentId(7), &file).unwrap();
        for vector in [&vector, &back] {
            assert_eq!(vector.len(), (0..100).map(|i| 1500 + i).sum::<u64>() + 200_000);
            for i in [0, 1, 50, 99_u32] {
                let at = |row: u32| vector.deleted_at(row).map(|ts| ts.0);
                assert_eq!(
                    (at(i * 2000), at(i * 2000 + 1499 + i)),
                    (Some(u64::from(i) + 10), Some(u64::from(i) + 10))
                );
                assert_eq!(at(i * 2000 + 1500 + i), None);
            }
            assert_eq!(vector.deleted_at(900_007), Some(ts(50)));
            assert_eq!(vector.deleted_at(900_008), Some(ts(500)));
            assert_eq!(vector.mask_at(ts(59)).len(), (0..50).map(|i| 1500 + i).sum::<u64>() + 1);
        }
    }

    /// A file of before there were groups.
    #[test]
    fn a_vector_without_groups_is_written_as_before() {
        let dir = tempfile::tempdir().unwrap();
        let vector = DeleteVector::empty().with(&[(1, ts(10)), (5, ts(50))], ts(30));
        let file = vector.write(dir.path(), SegmentId(7), 3).unwrap();
        let (body, header, version) = read_versioned(&delete_path(dir.path(), SegmentId(7), 3), KIND).unwrap();
        assert_eq!((version, header.crc), (1, file.crc));
        assert_eq!(body.len(), 16 + vector.base.serialized_size() + PAIR);
    }

    #[test]
    fn readers_see_rows_deleted_after_them() {
        let vector = DeleteVector::empty().with(&[(5, ts(50)), (1, ts(10)), (9, ts(30))], Timestamp::ZERO);
        assert_eq!(rows(&vector.mask_at(ts(9))), Vec::<u32>::new());
        assert_eq!(rows(&vector.mask_at(ts(30))), vec![1, 9]);
        assert_eq!(rows(&vector.mask_at(Timestamp::MAX)), vec![1, 5, 9]);
        assert_eq!((vector.deleted_at(9), vector.deleted_at(2)), (Some(ts(30)), None));
        assert_eq!((vector.len(), vector.max_timestamp()), (3, ts(50)));
    }

    #[test]
    fn folding_keeps_every_mask_from_the_horizon_on() {
        let vector = DeleteVector::empty().with(&[(1, ts(10)), (9, ts(30)), (5, ts(50))], Timestamp::ZERO);
        let folded = vector.with(&[(7, ts(60)), (9, ts(99))], ts(30));
        assert_eq!((rows(folded.base()), later(&folded)), (vec![1, 9], vec![(5, ts(50)), (7, ts(60))]));
        assert_eq!(folded.base_timestamp(), ts(30));
        for at in [30, 49, 50] {
            assert_eq!(vector.mask_at(ts(at)), folded.mask_at(ts(at)));
        }
        assert_eq!(folded.with(&[], ts(1)).base_timestamp(), ts(30), "a horizon never goes back");
    }

    #[test]
    fn the_file_gives_the_vector_back_and_notices_every_flipped_byte() {
        let dir = tempfile::tempdir().unwrap();
        let id = SegmentId(7);
        let vector = DeleteVector::empty().with(&[(1, ts(10)), (70000, ts(30)), (5, ts(50)), (6, ts(u64::MAX))], ts(30));
        let file = vector.write(dir.path(), id, 3).unwrap();
        let back = DeleteVector::read(dir.path(), id, &file).unwrap();
        assert_eq!(
            (back.base(), later(&back), back.base_timestamp()),
            (vector.base(), later(&vector), ts(30))
        );
        assert_eq!(file.rows, 4);
        let path = delete_path(dir.path(), id, 3);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x41;
            std::fs::write(&path, &bad).unwrap();
            assert!(DeleteVector::read(dir.path(), id, &file).is_err(), "byte {at}");
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(DeleteVector::read(dir.path(), id, &file).is_err(), "cut at {at}");
        }
        // Sound in itself, but not the one that the manifest names.
        let other = DeleteVector::empty().write(dir.path(), id, 3).unwrap();
        assert_ne!(other, file);
        assert!(matches!(
            DeleteVector::read(dir.path(), id, &file),
            Err(StorageError::Damaged { .. })
        ));
    }

    /// A sound checksum over nonsense is still no reason to panic.
    #[test]
    fn nonsense_with_a_right_checksum_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let id = SegmentId(1);
        let mut body = vec![0u8; 40];
        for fill in 0..=255u8 {
            body.fill(fill);
            body[8..16].copy_from_slice(&12u64.to_le_bytes());
            for kind in [WITHOUT_GROUPS, KIND] {
                let written = write_checked(&delete_path(dir.path(), id, 1), kind, &body).unwrap();
                let file = DeleteFile {
                    version: 1,
                    crc: written.crc,
                    bytes: written.bytes,
                    rows: 0,
                };
                assert!(DeleteVector::read(dir.path(), id, &file).is_err());
            }
        }
    }
}
