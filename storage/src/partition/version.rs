//! What a partition consists of at one moment. Replaced as a whole: readers keep the one they have.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::live_segment::LiveSegment;
use crate::error::{Result, StorageError};
use crate::ids::RelationId;
use crate::key::KeyEncoder;
use crate::memtable::Memtable;
use crate::schema::RelationSchema;

/// All relations.
#[derive(Debug, Default, Clone)]
pub(crate) struct Version {
    pub relations: BTreeMap<RelationId, Arc<RelationVersion>>,
}

impl Version {
    /// One relation.
    pub fn relation(&self, id: RelationId) -> Result<&Arc<RelationVersion>> {
        self.relations.get(&id).ok_or(StorageError::UnknownRelation(id))
    }

    /// This version with one relation replaced.
    pub fn with(&self, relation: RelationVersion) -> Version {
        let mut next = self.clone();
        next.relations.insert(relation.schema.id, Arc::new(relation));
        next
    }
}

/// One relation: segments, memtables being flushed, and the one being written.
#[derive(Debug, Clone)]
pub(crate) struct RelationVersion {
    pub schema: Arc<RelationSchema>,
    pub encoder: Arc<KeyEncoder>,
    pub segments: Arc<SegmentSet>,
    /// Oldest first.
    pub sealed: Vec<Arc<Memtable>>,
    pub active: Arc<Memtable>,
}

impl RelationVersion {
    /// A relation without rows.
    pub fn empty(schema: RelationSchema, batch_rows: usize) -> Result<Self> {
        Ok(RelationVersion {
            encoder: Arc::new(KeyEncoder::new(&schema)?),
            schema: Arc::new(schema),
            segments: Arc::default(),
            sealed: Vec::new(),
            active: Arc::new(Memtable::new(batch_rows)),
        })
    }

    /// Memtables, newest first.
    pub fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(self.sealed.iter().rev())
    }

    /// Whether `key` is above every key of the relation.
    pub fn is_below(&self, key: &[u8]) -> bool {
        self.segments.last_key().is_none_or(|last| last < key) && self.memtables().all(|memtable| memtable.is_below(key))
    }
}

/// Segments by first key.
#[derive(Debug, Default)]
pub(crate) struct SegmentSet {
    sorted: Vec<Arc<LiveSegment>>,
    /// For each position, the position up to there whose last key is largest: an implicit interval tree.
    largest_last: Vec<usize>,
}

impl SegmentSet {
    /// Sorts segments.
    pub fn new(mut sorted: Vec<Arc<LiveSegment>>) -> Self {
        sorted.sort_by(|a, b| a.info().first_key.cmp(&b.info().first_key).then(a.info().id.cmp(&b.info().id)));
        let mut largest_last: Vec<usize> = Vec::with_capacity(sorted.len());
        for (i, segment) in sorted.iter().enumerate() {
            let largest = match largest_last.last() {
                Some(&before) => {
                    if sorted[before].info().last_key >= segment.info().last_key {
                        before
                    } else {
                        i
                    }
                }
                None => i,
            };
            largest_last.push(largest);
        }
        SegmentSet { sorted, largest_last }
    }

    /// All segments by first key.
    pub fn all(&self) -> &[Arc<LiveSegment>] {
        &self.sorted
    }

    /// The largest key.
    pub fn last_key(&self) -> Option<&[u8]> {
        self.largest_last.last().map(|&i| self.sorted[i].info().last_key.as_slice())
    }

    /// Positions and segments whose key range meets `first..=last`; those with larger first keys first.
    pub fn overlapping<'a>(&'a self, first: &'a [u8], last: &'a [u8]) -> impl Iterator<Item = (usize, &'a Arc<LiveSegment>)> {
        let end = self.sorted.partition_point(|segment| segment.info().first_key.as_slice() <= last);
        (0..end)
            .rev()
            .take_while(move |&i| self.sorted[self.largest_last[i]].info().last_key.as_slice() >= first)
            .filter(move |&i| self.sorted[i].info().last_key.as_slice() >= first)
            .map(|i| (i, &self.sorted[i]))
    }

    /// This set without `removed` and with `added`.
    pub fn replaced(&self, removed: &[Arc<LiveSegment>], added: impl IntoIterator<Item = Arc<LiveSegment>>) -> SegmentSet {
        let stays = |segment: &&Arc<LiveSegment>| !removed.iter().any(|r| Arc::ptr_eq(r, segment));
        SegmentSet::new(self.sorted.iter().filter(stays).cloned().chain(added).collect())
    }
}
