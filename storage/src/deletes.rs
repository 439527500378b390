//! Delete vectors: which rows of a segment are gone, and since when.
//!
//! A row's deletion at or before the base timestamp is one bit; later ones carry their own timestamp, so that a reader at any timestamp from
//! the base on sees exactly what was there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::ids::{SegmentId, Timestamp};

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
pub struct DeleteVector {}

impl DeleteVector {
    /// No row deleted.
    pub fn empty() -> Self {
        DeleteVector::default()
    }

    /// Reads the file that `file` describes.
    pub fn read(_dir: &Path, _segment: SegmentId, _file: &DeleteFile) -> Result<Self> {
        todo!()
    }

    /// Writes and syncs a new file (not its directory: that goes with the manifest edit).
    pub fn write(&self, _dir: &Path, _segment: SegmentId, _version: u64) -> Result<DeleteFile> {
        todo!()
    }

    /// When the row was deleted; the base timestamp for those deleted at or before it.
    pub fn deleted_at(&self, _row: u32) -> Option<Timestamp> {
        todo!()
    }

    /// Rows that a reader at `timestamp` (not before the base timestamp) does not see. Cached for the newest timestamps.
    pub fn mask_at(&self, _timestamp: Timestamp) -> Arc<RoaringBitmap> {
        todo!()
    }

    /// This vector and `additions` (row, timestamp of deletion), in any order; what was deleted at or before `horizon` loses its own timestamp.
    pub fn with(&self, _additions: &[(u32, Timestamp)], _horizon: Timestamp) -> DeleteVector {
        todo!()
    }

    /// Deletions that still have their own timestamp, by row.
    pub fn later(&self) -> &[(u32, Timestamp)] {
        todo!()
    }

    /// Rows deleted at or before [`Self::base_timestamp`].
    pub fn base(&self) -> &RoaringBitmap {
        todo!()
    }

    /// The timestamp up to which deletions are folded.
    pub fn base_timestamp(&self) -> Timestamp {
        todo!()
    }

    /// Deleted rows.
    pub fn len(&self) -> u64 {
        todo!()
    }

    /// Whether no row is deleted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest deletion's timestamp; zero when there is none.
    pub fn max_timestamp(&self) -> Timestamp {
        todo!()
    }
}
