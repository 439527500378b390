//! Segments: immutable sorted runs of rows, an Arrow IPC file and a side-car each.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::ids::{SegmentId, Timestamp};
use crate::write_set::StagedSegment;

pub mod distinct;
mod reader;
mod writer;

pub use distinct::DistinctSketch;
pub use reader::{Segment, Timestamps};
pub use writer::{SegmentWriteOptions, SegmentWriter};

/// Name of the commit timestamp column in a segment file.
pub const TIMESTAMP_COLUMN: &str = "_ts";

/// What the manifest knows of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentInfo {
    /// The segment.
    pub id: SegmentId,
    /// Version of the relation's schema it was written with.
    pub schema_version: u32,
    /// Rows, deleted ones included.
    pub rows: u64,
    /// Bytes of the segment file.
    pub bytes: u64,
    /// Bytes of the side-car.
    pub sidecar_bytes: u64,
    /// Checksum of the whole side-car, which in turn holds the checksums of the segment file.
    pub sidecar_crc: u32,
    /// First key, arrow-row encoded; empty without rows.
    pub first_key: Vec<u8>,
    /// Last key.
    pub last_key: Vec<u8>,
    /// Oldest commit timestamp of a row; zero for segments without a timestamp column.
    pub min_ts: Timestamp,
    /// Newest commit timestamp of a row; zero for segments without a timestamp column.
    pub max_ts: Timestamp,
    /// Whether the file has a timestamp column.
    pub timestamps: bool,
}

impl SegmentInfo {
    /// The info of a staged segment whose files now lie in `dir`. Checks the side-car.
    pub fn from_staged(_dir: &Path, _staged: &StagedSegment) -> Result<SegmentInfo> {
        todo!()
    }

    /// What a write set says of this segment.
    pub fn staged(&self) -> StagedSegment {
        StagedSegment {
            segment: self.id,
            rows: self.rows,
            bytes: self.bytes,
            sidecar_crc: self.sidecar_crc,
            first_key: self.first_key.clone(),
            last_key: self.last_key.clone(),
        }
    }
}

/// Where a segment's rows lie.
pub fn segment_path(dir: &Path, id: SegmentId) -> PathBuf {
    dir.join(format!("{id}.arrow"))
}

/// Where a segment's side-car lies.
pub fn sidecar_path(dir: &Path, id: SegmentId) -> PathBuf {
    dir.join(format!("{id}.idx.arrow"))
}

/// Renames a segment's two files from one directory to another and syncs both; what was moved already is left. Idempotent.
pub fn move_segment(_from: &Path, _to: &Path, _id: SegmentId) -> Result<()> {
    todo!()
}

/// Removes a segment's two files; no error if they are gone.
pub fn remove_segment(_dir: &Path, _id: SegmentId) -> Result<()> {
    todo!()
}
