//! Where the newest version of a key is, for applying: memtables first, then segments by key range, bloom filter and key index.

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::version::RelationVersion;
use crate::error::Result;
use crate::key::key_hash;
use crate::memtable::{ALIVE, Memtable};

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
    /// The newest version of a key and when it changed.
    ///
    /// A memtable that knows the key knows its newest version, since every later change goes to a later memtable. Segments have no such
    /// order; there the live row, if there is one, is the newest.
    pub(super) fn key_state(&self, key: &[u8]) -> Result<KeyState> {
        let state = |memtable: &Arc<Memtable>, place: fn(usize, u32) -> Place, i: usize| {
            memtable.newest(key).map(|newest| {
                let live = newest.end == ALIVE;
                KeyState {
                    modified: if live { newest.begin } else { newest.begin.max(newest.end) },
                    live: live.then(|| place(i, newest.ordinal)),
                }
            })
        };
        if let Some(found) = state(&self.active, |_, ordinal| Place::Active(ordinal), 0) {
            return Ok(found);
        }
        for (i, memtable) in self.sealed.iter().enumerate().rev() {
            if let Some(found) = state(memtable, Place::Sealed, i) {
                return Ok(found);
            }
        }
        let hash = key_hash(key);
        let mut found = KeyState::default();
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
