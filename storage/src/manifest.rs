//! The manifest: what segments and delete vectors a partition has, changed as a whole.
//!
//! `CURRENT` names `MANIFEST-<n>`. A change writes the next file, syncs it, renames a new `CURRENT` over the old one and syncs the directory;
//! after that the old file goes. A crash at any point leaves the old or the new state.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::deletes::DeleteFile;
use crate::error::Result;
use crate::ids::Timestamp;
use crate::partition::AppliedState;
use crate::schema::RelationSchema;
use crate::segment::SegmentInfo;

/// The durable state of a partition.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifest {
    /// Number of this manifest; [`Manifest::store`] writes `MANIFEST-<number>`. Each stored one has a higher number.
    pub number: u64,
    /// The log position that the segments hold.
    pub applied: AppliedState,
    /// The highest commit timestamp in the segments.
    pub last_timestamp: Timestamp,
    /// The oldest timestamp that can still be read.
    pub horizon: Timestamp,
    /// The next segment id to give out.
    pub next_segment: u64,
    /// Relations by id.
    pub relations: Vec<RelationManifest>,
}

/// One relation of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RelationManifest {
    /// Its schema.
    pub schema: RelationSchema,
    /// Its segments.
    pub segments: Vec<SegmentEntry>,
}

/// One segment of a relation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// The files.
    pub info: SegmentInfo,
    /// Level in the tree.
    pub level: u8,
    /// The commit timestamp of all rows, for segments without a timestamp column.
    pub uniform_ts: Option<Timestamp>,
    /// Deleted rows.
    pub deletes: Option<DeleteFile>,
}

impl Manifest {
    /// The current manifest of a partition directory; `None` for a new one.
    pub fn load(_dir: &Path) -> Result<Option<Manifest>> {
        todo!()
    }

    /// Makes this the current manifest, durably; then removes older ones. The caller has synced the files it names and their directories.
    pub fn store(&self, _dir: &Path) -> Result<()> {
        todo!()
    }
}
