//! Delete vectors: which rows of a segment are gone, and since when.
//!
//! A row's deletion at or before the base timestamp is one bit; later ones carry their own timestamp, so that a reader at any timestamp from
//! the base on sees exactly what was there. The file (see [`crate::file`] for its header):
//!
//! ```text
//! | base timestamp u64 | bitmap length u64 | roaring bitmap | row u32, timestamp u64 | row u32, timestamp u64 | ...
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::error::{Result, StorageError};
use crate::file::{FileKind, le_u32, le_u64, read_checked, write_checked};
use crate::ids::{SegmentId, Timestamp};

const KIND: FileKind = FileKind {
    magic: *b"PYRA_DEL",
    version: 1,
    name: "delete vector",
};
const PAIR: usize = 12;

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
    max_timestamp: Timestamp,
    /// The last mask asked for: readers mostly ask at the newest timestamp.
    cached: Mutex<Option<(Timestamp, Arc<RoaringBitmap>)>>,
}

impl DeleteVector {
    /// No row deleted.
    pub fn empty() -> Self {
        DeleteVector::default()
    }

    fn new(base_timestamp: Timestamp, base: RoaringBitmap, later: Vec<(u32, Timestamp)>) -> Self {
        let newest = later.iter().map(|(_, ts)| *ts).max();
        let max_timestamp = newest.unwrap_or(if base.is_empty() { Timestamp::ZERO } else { base_timestamp });
        DeleteVector {
            base_timestamp,
            base: Arc::new(base),
            later,
            max_timestamp,
            cached: Mutex::new(None),
        }
    }

    /// Reads the file that `file` describes.
    pub fn read(dir: &Path, segment: SegmentId, file: &DeleteFile) -> Result<Self> {
        let path = delete_path(dir, segment, file.version);
        let damaged = |detail: String| StorageError::damaged(&path, KIND.name, detail);
        let (body, header) = read_checked(&path, KIND)?;
        if (header.crc, header.bytes) != (file.crc, file.bytes) {
            return Err(damaged("it is not the file that the manifest names".to_owned()));
        }
        if body.len() < 16 {
            return Err(damaged("it ends within its first fields".to_owned()));
        }
        let (fields, rest) = body.split_at(16);
        let bitmap_bytes = usize::try_from(le_u64(&fields[8..])).unwrap_or(usize::MAX);
        if bitmap_bytes > rest.len() || (rest.len() - bitmap_bytes) % PAIR != 0 {
            return Err(damaged(format!("a bitmap of {bitmap_bytes} bytes does not fit in it")));
        }
        let (bitmap, pairs) = rest.split_at(bitmap_bytes);
        let base = RoaringBitmap::deserialize_from(bitmap).map_err(|e| damaged(format!("bitmap: {e}")))?;
        let later: Vec<_> = pairs
            .chunks_exact(PAIR)
            .map(|p| (le_u32(&p[..4]), Timestamp(le_u64(&p[4..]))))
            .collect();
        if !later.windows(2).all(|w| w[0].0 < w[1].0) {
            return Err(damaged("its rows are not in order".to_owned()));
        }
        Ok(DeleteVector::new(Timestamp(le_u64(&fields[..8])), base, later))
    }

    /// Writes and syncs a new file (not its directory: that goes with the manifest edit).
    pub fn write(&self, dir: &Path, segment: SegmentId, version: u64) -> Result<DeleteFile> {
        let path = delete_path(dir, segment, version);
        let mut body = Vec::with_capacity(16 + self.base.serialized_size() + self.later.len() * PAIR);
        body.extend_from_slice(&self.base_timestamp.0.to_le_bytes());
        body.extend_from_slice(&(self.base.serialized_size() as u64).to_le_bytes());
        self.base.serialize_into(&mut body).map_err(StorageError::io(&path, "encode"))?;
        for (row, ts) in &self.later {
            body.extend_from_slice(&row.to_le_bytes());
            body.extend_from_slice(&ts.0.to_le_bytes());
        }
        let file = write_checked(&path, KIND, &body)?;
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
        let at = self.later.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        Some(self.later[at].1)
    }

    /// Rows that a reader at `timestamp` (not before the base timestamp) does not see. The last answer is cached.
    pub fn mask_at(&self, timestamp: Timestamp) -> Arc<RoaringBitmap> {
        if self.later.is_empty() {
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
        let mask = Arc::new(mask);
        *cached = Some((timestamp, mask.clone()));
        mask
    }

    /// This vector and `additions` (row, timestamp of deletion), in any order; what was deleted at or before `horizon` loses its own timestamp.
    /// A row that is deleted already stays deleted since then.
    pub fn with(&self, additions: &[(u32, Timestamp)], horizon: Timestamp) -> DeleteVector {
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
        DeleteVector::new(base_timestamp, base, later)
    }

    /// Deletions that still have their own timestamp, by row.
    pub fn later(&self) -> &[(u32, Timestamp)] {
        &self.later
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
        self.base.len() + self.later.len() as u64
    }

    /// Whether no row is deleted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest deletion's timestamp (the base timestamp where only folded ones are left); zero when there is none.
    pub fn max_timestamp(&self) -> Timestamp {
        self.max_timestamp
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
        assert_eq!((rows(folded.base()), folded.later()), (vec![1, 9], &[(5, ts(50)), (7, ts(60))][..]));
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
            (back.base(), back.later(), back.base_timestamp()),
            (vector.base(), vector.later(), ts(30))
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
            let written = write_checked(&delete_path(dir.path(), id, 1), KIND, &body).unwrap();
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
