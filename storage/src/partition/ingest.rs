//! Applying staged segments: bulk writes become part of the tree as the files they are.
//!
//! Nothing is done per row where the new keys overlap nothing. Where they do, both sides are read in key order (a merge join), so that no
//! lookup is random.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_row::Rows;

use super::apply::{Refusal, conflict};
use super::live_segment::LiveSegment;
use super::lookup::{Endings, Place};
use super::version::RelationVersion;
use super::{Applied, Partition, WriteConflict, files};
use crate::compaction::DEEPEST_LEVEL;
use crate::error::{Result, StorageError};
use crate::file::{remove_file, sync_dir, write_atomic};
use crate::ids::{RelationId, SegmentId, Timestamp};
use crate::key::{KeyEncoder, key_hash};
use crate::memtable::ALIVE;
use crate::segment::{Segment, SegmentInfo, move_segment, remove_segment};
use crate::write_set::{StagedSegment, WriteSet};

/// A staged segment, opened in its relation's folder.
pub(super) struct Ingest {
    pub segment: Arc<LiveSegment>,
}

impl Partition {
    /// Moves a staged segment to its relation (a replay may find it there), and finds the live rows that it replaces.
    pub(super) fn prepare_ingest(
        &self,
        relation: &RelationVersion,
        staged: &StagedSegment,
        start: Option<Timestamp>,
        timestamp: Timestamp,
        endings: &mut Endings,
    ) -> Result<Ingest, Refusal> {
        let dir = self.relation_dir(relation.schema.id);
        let moved = self
            .ensure_relation_dir(relation.schema.id)
            .and_then(|()| move_segment(&self.staging_dir(), &dir, staged.segment));
        self.poison(moved)?;
        let info = SegmentInfo::from_staged(&dir, staged)?;
        let (first, last) = (info.first_key.clone(), info.last_key.clone());
        let overlapping: Vec<_> = relation.segments.overlapping(&first, &last).collect();
        let level = if overlapping.is_empty() { DEEPEST_LEVEL } else { 0 };
        let segment = LiveSegment::open_new(&dir, info, Some(timestamp), level)?;
        let mut overlap = Overlap {
            start,
            endings,
            conflict: None,
        };
        for (i, memtable) in relation.memtables().enumerate() {
            memtable.for_each_newest_within(&first, &last, |key, newest| {
                if segment.segment().find(key, key_hash(key), &relation.encoder)?.is_empty() {
                    return Ok(());
                }
                let live = newest.end == ALIVE;
                let modified = if live { newest.begin } else { newest.begin.max(newest.end) };
                overlap.note(key, modified, live.then(|| relation.memtable_place(i, newest.ordinal)));
                Ok(())
            })?;
        }
        for (position, other) in overlapping {
            join(segment.segment(), other.segment(), &relation.encoder, |key, row| {
                let deleted = other.deletes().deleted_at(row);
                let modified = other.begin(row)?.max(deleted.unwrap_or(0));
                overlap.note(key, modified, deleted.is_none().then_some(Place::Segment(position, row)));
                Ok(())
            })?;
        }
        if let Some(key) = overlap.conflict {
            return Err(conflict(relation, &key));
        }
        Ok(Ingest {
            segment: Arc::new(segment),
        })
    }

    /// Answers as before if a write set was refused in an earlier run: its staged files may be gone.
    pub(super) fn check_refused(&self, write_set: &WriteSet) -> Result<(), Refusal> {
        for writes in &write_set.relations {
            for staged in &writes.staged {
                let path = files::refused_path(&self.dir, staged.segment);
                match std::fs::read_to_string(&path) {
                    Ok(text) => {
                        let (relation, key) = text.split_once(' ').unwrap_or(("", &text));
                        let relation = relation.parse().map_or(writes.relation, RelationId);
                        return Err(Refusal::Conflict(WriteConflict {
                            relation,
                            key: key.to_owned(),
                            // Its files are gone.
                            is_locked: false,
                        }));
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(Refusal::Error(StorageError::io(path, "read")(error))),
                }
            }
        }
        Ok(())
    }

    /// Removes the staged files of a refused write set; a marker keeps the answer for a replay.
    pub(super) fn refuse_staged(&self, applied: &mut Applied, write_set: &WriteSet, conflict: &mut WriteConflict) -> Result<()> {
        let staged: Vec<_> = write_set
            .relations
            .iter()
            .flat_map(|w| w.staged.iter().map(|staged| (w.relation, staged.segment)))
            .collect();
        if let Some((_, segment)) = staged.first() {
            conflict.is_locked = false;
            let text = format!("{} {}", conflict.relation.0, conflict.key);
            write_atomic(&files::refused_path(&self.dir, *segment), text.as_bytes())?;
            applied.refused.push(*segment);
        }
        for (relation, segment) in staged {
            remove_segment(&self.staging_dir(), segment)?;
            remove_segment(&self.relation_dir(relation), segment)?;
            self.release_claim(segment);
        }
        Ok(())
    }

    /// Removes the markers of refused write sets that the log no longer holds.
    pub(super) fn forget_refused(&self, refused: &[SegmentId]) -> Result<()> {
        if refused.is_empty() {
            return Ok(());
        }
        for segment in refused {
            remove_file(&files::refused_path(&self.dir, *segment))?;
        }
        sync_dir(&self.staging_dir())
    }
}

/// What the keys of an ingested segment meet.
struct Overlap<'a> {
    start: Option<Timestamp>,
    endings: &'a mut Endings,
    /// The smallest key that somebody else changed: the same on every replica, however its rows are spread.
    conflict: Option<Vec<u8>>,
}

impl Overlap<'_> {
    /// A version of `key` is there, last changed at `modified`.
    fn note(&mut self, key: &[u8], modified: u64, live: Option<Place>) {
        if self.start.is_some_and(|start| modified > start.0) && self.conflict.as_ref().is_none_or(|known| key < known.as_slice()) {
            self.conflict = Some(key.to_vec());
        }
        live.into_iter().for_each(|place| self.endings.add(place));
    }
}

/// Those of a write set that overlap each other go to level 0, like those that overlap others.
pub(super) fn settle_levels(ingests: &[Ingest]) {
    let mut order: Vec<_> = ingests.iter().map(|ingest| &ingest.segment).collect();
    order.sort_by(|a, b| a.info().first_key.cmp(&b.info().first_key));
    let mut reach: Option<&Arc<LiveSegment>> = None;
    for segment in order {
        match reach {
            Some(before) if before.info().last_key >= segment.info().first_key => {
                before.set_level(0);
                segment.set_level(0);
                reach = Some(if before.info().last_key >= segment.info().last_key {
                    before
                } else {
                    segment
                });
            }
            _ => reach = Some(segment),
        }
    }
}

/// A place in a segment, batch by batch.
struct Cursor<'a> {
    segment: &'a Segment,
    encoder: &'a KeyEncoder,
    batch: usize,
    position: usize,
    keys: Option<Rows>,
}

impl<'a> Cursor<'a> {
    fn new(segment: &'a Segment, encoder: &'a KeyEncoder) -> Self {
        Cursor {
            segment,
            encoder,
            batch: 0,
            position: 0,
            keys: None,
        }
    }

    /// Skips batches that end below `key` without reading them.
    fn skip_below(&mut self, key: &[u8]) {
        while self.batch < self.segment.batch_count() && self.segment.last_key(self.batch) < key {
            (self.batch, self.position, self.keys) = (self.batch + 1, 0, None);
        }
    }

    /// Reads the current batch's keys; `false` at the end.
    fn load(&mut self) -> Result<bool> {
        while self.batch < self.segment.batch_count() {
            if self.keys.is_none() {
                self.keys = Some(self.segment.keys(self.batch, self.encoder)?);
            }
            if self.keys.as_ref().is_some_and(|keys| self.position < keys.num_rows()) {
                return Ok(true);
            }
            (self.batch, self.position, self.keys) = (self.batch + 1, 0, None);
        }
        Ok(false)
    }

    fn key(&self) -> &[u8] {
        self.keys.as_ref().map_or(&[], |keys| keys.row(self.position).data())
    }

    fn row(&self) -> u32 {
        self.segment.batch_start(self.batch) + self.position as u32
    }
}

/// Visits the rows of `other` whose keys are in `new` (which has each key once).
fn join(new: &Segment, other: &Segment, encoder: &KeyEncoder, mut visit: impl FnMut(&[u8], u32) -> Result<()>) -> Result<()> {
    let (mut a, mut b) = (Cursor::new(new, encoder), Cursor::new(other, encoder));
    a.skip_below(&other.info().first_key);
    b.skip_below(&new.info().first_key);
    while a.load()? && b.load()? {
        match a.key().cmp(b.key()) {
            Ordering::Equal => {
                visit(b.key(), b.row())?;
                b.position += 1;
            }
            Ordering::Less => {
                a.position += 1;
                if a.keys.as_ref().is_some_and(|keys| a.position >= keys.num_rows()) {
                    let target = b.key().to_vec();
                    (a.batch, a.position, a.keys) = (a.batch + 1, 0, None);
                    a.skip_below(&target);
                }
            }
            Ordering::Greater => {
                b.position += 1;
                if b.keys.as_ref().is_some_and(|keys| b.position >= keys.num_rows()) {
                    let target = a.key().to_vec();
                    (b.batch, b.position, b.keys) = (b.batch + 1, 0, None);
                    b.skip_below(&target);
                }
            }
        }
    }
    Ok(())
}

/// The smallest key that both segments have.
pub(super) fn common_keys(one: &Segment, other: &Segment, encoder: &KeyEncoder) -> Result<Option<Vec<u8>>> {
    let mut common = None;
    join(one, other, encoder, |key, _| {
        common.get_or_insert_with(|| key.to_vec());
        Ok(())
    })?;
    Ok(common)
}
