//! An open segment in its place in the tree: level, deleted rows, and whether its files are to go.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use super::delete_overlay::DeleteOverlay;
use crate::deletes::{DeleteVector, delete_path};
use crate::error::Result;
use crate::file::remove_file;
use crate::ids::Timestamp;
use crate::key::KeyEncoder;
use crate::manifest::SegmentEntry;
use crate::segment::{Segment, SegmentInfo};

/// A segment of the tree. When it is obsolete, its files go with its last user.
#[derive(Debug)]
pub(crate) struct LiveSegment {
    segment: Arc<Segment>,
    dir: PathBuf,
    deletes: DeleteOverlay,
    level: AtomicU8,
    persisted: AtomicBool,
    obsolete: AtomicBool,
    /// Dead rows that the compaction which wrote this had to keep.
    kept_dead: AtomicU64,
    /// Rows that begin after a timestamp, for the last timestamp asked for.
    unborn: Mutex<Option<(u64, Arc<RoaringBitmap>)>>,
}

impl LiveSegment {
    /// Opens what a manifest names.
    pub fn open(dir: &Path, entry: &SegmentEntry) -> Result<Self> {
        let segment = Segment::open(dir, entry.info.clone(), entry.uniform_ts)?;
        let deletes = match &entry.deletes {
            Some(file) => DeleteVector::read(dir, entry.info.id, file)?,
            None => DeleteVector::empty(),
        };
        Ok(LiveSegment {
            segment,
            dir: dir.to_owned(),
            deletes: DeleteOverlay::new(Arc::new(deletes), entry.deletes.clone()),
            level: AtomicU8::new(entry.level),
            persisted: AtomicBool::new(true),
            obsolete: AtomicBool::new(false),
            kept_dead: AtomicU64::new(0),
            unborn: Mutex::new(None),
        })
    }

    /// Opens a segment that no manifest names yet.
    pub fn open_new(dir: &Path, info: SegmentInfo, uniform_ts: Option<Timestamp>, level: u8) -> Result<Self> {
        let new = LiveSegment::open(
            dir,
            &SegmentEntry {
                info,
                level,
                uniform_ts,
                deletes: None,
            },
        )?;
        new.persisted.store(false, Ordering::Release);
        Ok(new)
    }

    /// The segment.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Where its files are.
    pub fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// What the manifest knows of the files.
    pub fn info(&self) -> &SegmentInfo {
        self.segment.info()
    }

    /// Deleted rows.
    pub fn deletes(&self) -> &DeleteOverlay {
        &self.deletes
    }

    /// Level in the tree.
    pub fn level(&self) -> u8 {
        self.level.load(Ordering::Acquire)
    }

    /// Moves it to another level.
    pub fn set_level(&self, level: u8) {
        self.level.store(level, Ordering::Release);
    }

    /// Whether a stored manifest names it.
    pub fn is_persisted(&self) -> bool {
        self.persisted.load(Ordering::Acquire)
    }

    /// A stored manifest names it now.
    pub fn set_persisted(&self) {
        self.persisted.store(true, Ordering::Release);
    }

    /// Its files go when the last user lets go.
    pub fn set_obsolete(&self) {
        self.obsolete.store(true, Ordering::Release);
        self.segment.remove_on_drop();
    }

    /// The manifest's entry for it as of now.
    pub fn entry(&self) -> SegmentEntry {
        let deletes = self.deletes.persisted().1;
        SegmentEntry {
            info: self.info().clone(),
            level: self.level(),
            uniform_ts: self.segment.uniform_ts(),
            deletes,
        }
    }

    /// Bytes of both files.
    pub fn bytes(&self) -> u64 {
        self.info().bytes + self.info().sidecar_bytes
    }

    /// Rows that a reader at `at` does not see.
    pub fn mask_at(&self, at: u64) -> Result<Arc<RoaringBitmap>> {
        let deleted = self.deletes.mask_at(at);
        if self.segment.max_timestamp().0 <= at {
            return Ok(deleted);
        }
        let unborn = self.unborn_at(at)?;
        if unborn.is_empty() {
            return Ok(deleted);
        }
        Ok(Arc::new(&*deleted | &*unborn))
    }

    /// Rows that begin after `at`.
    pub fn unborn_since(&self, at: u64) -> Result<Arc<RoaringBitmap>> {
        match self.segment.max_timestamp().0 <= at {
            true => Ok(Arc::default()),
            false => self.unborn_at(at),
        }
    }

    fn unborn_at(&self, at: u64) -> Result<Arc<RoaringBitmap>> {
        if let Some((_, unborn)) = self.unborn.lock().as_ref().filter(|(t, _)| *t == at) {
            return Ok(unborn.clone());
        }
        let mut unborn = RoaringBitmap::new();
        for batch in 0..self.segment.batch_count() {
            if self.segment.batch_max_timestamp(batch).0 <= at {
                continue;
            }
            let timestamps = self.segment.timestamps(batch)?;
            let start = self.segment.batch_start(batch);
            unborn.extend(
                (0..self.segment.batch_rows(batch))
                    .filter(|i| timestamps.at(*i).0 > at)
                    .map(|i| start + i as u32),
            );
        }
        let unborn = Arc::new(unborn);
        *self.unborn.lock() = Some((at, unborn.clone()));
        Ok(unborn)
    }

    /// When a row begins.
    pub fn begin(&self, row: u32) -> Result<u64> {
        if let Some(uniform) = self.segment.uniform_ts() {
            return Ok(uniform.0);
        }
        let (batch, i) = self.segment.locate(row);
        Ok(self.segment.timestamps(batch)?.at(i).0)
    }

    /// Persisted rows that no reader from `horizon` on sees, and how many of them can go whatever else there is.
    pub fn dead(&self, horizon: Timestamp, floor: Timestamp) -> (u64, u64) {
        let deletes = self.deletes.persisted().0;
        let base = if deletes.base_timestamp() <= horizon {
            deletes.base().len()
        } else {
            0
        };
        (base + deletes.later_until(horizon), base + deletes.later_until(horizon.min(floor)))
    }

    /// Dead rows that were there when a compaction wrote this segment.
    pub fn kept_dead(&self) -> u64 {
        self.kept_dead.load(Ordering::Relaxed)
    }

    /// The rows dead at `horizon` had to be kept.
    pub fn set_kept_dead(&self, horizon: Timestamp) {
        self.kept_dead.store(self.dead(horizon, Timestamp::ZERO).0, Ordering::Relaxed);
    }

    /// The row of a key that a reader at `at` sees.
    pub fn find_visible(&self, key: &[u8], hash: u64, encoder: &KeyEncoder, at: u64) -> Result<Option<u32>> {
        for row in self.segment.find(key, hash, encoder)? {
            if self.begin(row)? <= at && self.deletes.deleted_at(row).is_none_or(|deleted| deleted > at) {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

impl Drop for LiveSegment {
    fn drop(&mut self) {
        if !self.obsolete.load(Ordering::Acquire) {
            return;
        }
        // The segment removes its own two files; a delete file that cannot be removed is found by the next collection of garbage.
        if let Some(file) = self.deletes.persisted().1
            && let Err(error) = remove_file(&delete_path(&self.dir, self.info().id, file.version))
        {
            tracing::warn!(%error, "a delete file stays until the next start");
        }
    }
}
