//! Where the newest version of a key is, for applying: memtables first, then segments by key range, bloom filter and key index.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::version::RelationVersion;
use crate::error::Result;
use crate::ids::Timestamp;
use crate::key::key_hash;
use crate::memtable::ALIVE;

/// A live row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the active memtable.
    Active(u32),
    /// In a sealed memtable.
    Sealed(usize, u32),
    /// In a segment, by its position in the set.
    Segment(usize, u32),
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KeyState {
    /// When it was last written or deleted; zero if never (or before the conflict floor).
    pub modified: u64,
    /// Its live row.
    pub live: Option<Place>,
}

/// Rows that a write set ends in one relation.
#[derive(Debug, Default)]
pub(super) struct Endings {
    pub segments: BTreeMap<usize, RoaringBitmap>,
    pub sealed: Vec<(usize, u32)>,
    pub active: Vec<u32>,
}

impl Endings {
    /// Adds a row.
    pub fn add(&mut self, place: Place) {
        match place {
            Place::Active(ordinal) => self.active.push(ordinal),
            Place::Sealed(memtable, ordinal) => self.sealed.push((memtable, ordinal)),
            Place::Segment(segment, row) => {
                self.segments.entry(segment).or_default().insert(row);
            }
        }
    }

    /// Ends them all at `stamp`.
    pub fn apply(self, relation: &RelationVersion, stamp: u64) {
        for ordinal in self.active {
            relation.active.end(ordinal, stamp);
        }
        for (memtable, ordinal) in self.sealed {
            relation.sealed[memtable].end(ordinal, stamp);
        }
        for (segment, rows) in self.segments {
            relation.segments.all()[segment].deletes().add(&rows, stamp);
        }
    }
}

impl RelationVersion {
    /// The places of all live rows. `Err`: the smallest key that was changed after `start`; each change leaves a trace on every replica, while which
    /// traces differs, so a key that is new since then counts as well.
    pub(super) fn all_live(&self, start: Option<Timestamp>) -> Result<std::result::Result<Endings, Vec<u8>>> {
        let mut endings = Endings::default();
        let mut changed: Option<Vec<u8>> = None;
        let mut note = |key: &[u8]| {
            if changed.as_deref().is_none_or(|known| key < known) {
                changed = Some(key.to_vec());
            }
        };
        let is_late = |stamp: u64| start.is_some_and(|start| stamp > start.0);
        for (i, memtable) in self.memtables().enumerate() {
            memtable.for_each_version(|key, version, _| {
                let is_live = version.end == ALIVE;
                if is_live {
                    endings.add(self.memtable_place(i, version.ordinal));
                }
                if is_late(version.begin) || (!is_live && is_late(version.end)) {
                    note(key);
                }
            });
        }
        for (i, live) in self.segments.all().iter().enumerate() {
            let deleted = live.deletes().mask_at(u64::MAX);
            if let Some(start) = start {
                let before = live.mask_at(start.0)?;
                // Rows that begin later are no part of what was deleted by then, and deleted later is what was not.
                let late = &*live.unborn_since(start.0)? | &(&*deleted - &*before);
                if let Some(row) = late.min() {
                    let (batch, place) = live.segment().locate(row);
                    note(live.segment().keys(batch, &self.encoder)?.row(place).data());
                }
            }
            let rows = u32::try_from(live.info().rows).unwrap_or(u32::MAX);
            let mut rest = RoaringBitmap::new();
            rest.insert_range(0..rows);
            rest -= &*deleted;
            if !rest.is_empty() {
                endings.segments.insert(i, rest);
            }
        }
        Ok(match changed {
            Some(key) => Err(key),
            None => Ok(endings),
        })
    }

    /// A row of the `i`th of [`RelationVersion::memtables`].
    pub(super) fn memtable_place(&self, i: usize, ordinal: u32) -> Place {
        match self.sealed.len().checked_sub(i) {
            Some(sealed) if i > 0 => Place::Sealed(sealed, ordinal),
            _ => Place::Active(ordinal),
        }
    }

    /// The live row of a key and when the key last changed.
    ///
    /// At most one version is live, and it is the newest. Where none is, every place that may know the key is asked: an ingested segment can
    /// be newer than what a memtable knows, and a memtable newer than any segment.
    pub(super) fn key_state(&self, key: &[u8]) -> Result<KeyState> {
        let mut found = KeyState::default();
        for (i, memtable) in self.memtables().enumerate() {
            let Some(newest) = memtable.newest(key) else { continue };
            if newest.end == ALIVE {
                let place = self.memtable_place(i, newest.ordinal);
                return Ok(KeyState {
                    modified: newest.begin,
                    live: Some(place),
                });
            }
            found.modified = found.modified.max(newest.begin).max(newest.end);
        }
        let hash = key_hash(key);
        for (i, segment) in self.segments.overlapping(key, key) {
            for row in segment.segment().find(key, hash, &self.encoder)? {
                let begin = segment.begin(row)?;
                match segment.deletes().deleted_at(row) {
                    None => {
                        return Ok(KeyState {
                            modified: begin,
                            live: Some(Place::Segment(i, row)),
                        });
                    }
                    Some(deleted) => found.modified = found.modified.max(begin).max(deleted),
                }
            }
        }
        Ok(found)
    }
}
