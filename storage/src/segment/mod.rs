//! Segments: immutable sorted runs of rows.
//!
//! A segment is two files. `<id>.arrow` is a plain Arrow IPC file, whose buffers are compressed where the relation's schema says so: the user's columns under their own names, and `_ts` (commit
//! timestamps) as the last one unless all rows share theirs. `<id>.idx.arrow`, the side-car, has one row a record batch: keys, bloom filter,
//! zone maps, checksums. Rows are sorted by (key ascending, timestamp descending), and no (key, timestamp) occurs twice.
//!
//! Writing goes [`writer`] → [`chunk`] (batches of one size) → [`zones`] (bounds, distinct values) and [`sink`] (checksums) → [`sidecar`].
//! Reading goes [`reader`] (maps both files, decodes a batch when it is first asked for, checks a column when it is first touched; [`unpacked`] keeps compressed ones) with
//! [`find`] for single keys. The manifest holds the side-car's checksum, the side-car those of the segment file, so that nothing is believed
//! before it is checked, and nothing is checked before it is needed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Result, StorageError};
use crate::file::{remove_file, sync_dir};
use crate::ids::{SegmentId, Timestamp};
use crate::write_set::StagedSegment;

mod body;
mod bytes_bounds;
mod chunk;
pub mod distinct;
mod find;
mod ipc_file;
mod mapped;
mod reader;
mod sidecar;
mod sink;
mod unpacked;
mod writer;
mod zones;

#[cfg(test)]
mod tests;

pub use distinct::DistinctSketch;
pub use mapped::set_resident_limit;
pub use reader::{Segment, Timestamps};
pub use unpacked::set_unpacked_limit;
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
    #[serde(with = "crate::hex")]
    pub first_key: Vec<u8>,
    /// Last key.
    #[serde(with = "crate::hex")]
    pub last_key: Vec<u8>,
    /// Oldest commit timestamp of a row; zero for segments without a timestamp column.
    pub min_ts: Timestamp,
    /// Newest commit timestamp of a row; zero for segments without a timestamp column.
    pub max_ts: Timestamp,
    /// Whether the file has a timestamp column.
    pub timestamps: bool,
}

impl SegmentInfo {
    /// The info of a staged segment whose files now lie in `dir`. Checks the side-car, and that it is the one the write set means.
    pub fn from_staged(dir: &Path, staged: &StagedSegment) -> Result<SegmentInfo> {
        let path = sidecar_path(dir, staged.segment);
        let sidecar = sidecar::Sidecar::open(&path, None, staged.sidecar_crc)?;
        let (facts, batches) = (sidecar.facts(), sidecar.batch_count());
        let (min_ts, max_ts) = sidecar.timestamp_range();
        let key = |keys: &arrow_array::LargeBinaryArray, at| if batches == 0 { Vec::new() } else { keys.value(at).to_vec() };
        let info = SegmentInfo {
            id: staged.segment,
            schema_version: facts.schema_version,
            rows: facts.rows,
            bytes: facts.bytes,
            sidecar_bytes: sidecar.file_bytes(),
            sidecar_crc: staged.sidecar_crc,
            first_key: key(sidecar.first_keys(), 0),
            last_key: key(sidecar.last_keys(), batches.saturating_sub(1)),
            min_ts: Timestamp(min_ts),
            max_ts: Timestamp(max_ts),
            timestamps: facts.timestamps,
        };
        if info.staged() != *staged {
            return Err(StorageError::damaged(
                path,
                "side-car",
                "it is not the one that the write set names",
            ));
        }
        Ok(info)
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
pub fn move_segment(from: &Path, to: &Path, id: SegmentId) -> Result<()> {
    // The side-car goes first: a segment file without one would be a stray, a side-car without a segment is not opened.
    for path in [sidecar_path, segment_path] {
        let (source, target) = (path(from, id), path(to, id));
        match std::fs::rename(&source, &target) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && target.exists() => {}
            Err(e) => return Err(StorageError::io(source, "rename")(e)),
            Ok(()) => {}
        }
    }
    sync_dir(to)?;
    sync_dir(from)
}

/// Removes a segment's two files; no error if they are gone.
pub fn remove_segment(dir: &Path, id: SegmentId) -> Result<()> {
    remove_file(&segment_path(dir, id))?;
    remove_file(&sidecar_path(dir, id))
}
