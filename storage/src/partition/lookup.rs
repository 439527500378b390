//! Where the newest version of a key is, for applying: memtables first, then segments by key range, bloom filter and key index.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::version::RelationVersion;
use crate::error::Result;
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
