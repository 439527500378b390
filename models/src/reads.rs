//! What a serializable transaction has read so far. It goes with its writes, and they are applied only where none of it has changed.
//!
//! Reads are recorded before they happen, and rather too much than too little: a table that is scanned by a predicate which says nothing of its
//! key is read as a whole, and so is one of which more was read than is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use parking_lot::Mutex;
use pyralog_storage::{KeySpan, PartitionId, Placement, RelationId, RelationReads, RelationView, StorageError};

/// More keys, or ranges of keys, than this of one relation are kept as the whole of it.
const MAX_KEYS: usize = 4096;
const MAX_SPANS: usize = 64;

/// What one transaction has read.
#[derive(Debug)]
pub(crate) struct Reads {
    placement: Placement,
    found: Mutex<BTreeMap<RelationId, OfRelation>>,
}

#[derive(Debug, Default)]
struct OfRelation {
    keys: BTreeMap<Box<[u8]>, PartitionId>,
    spans: BTreeSet<KeySpan>,
}

impl OfRelation {
    fn is_whole(&self) -> bool {
        self.spans.first().is_some_and(|span| *span == KeySpan::all())
    }

    fn bound(&mut self) {
        if self.is_whole() || self.keys.len() > MAX_KEYS || self.spans.len() > MAX_SPANS {
            self.keys.clear();
            self.spans = BTreeSet::from([KeySpan::all()]);
        }
    }
}

impl Reads {
    /// Nothing yet.
    pub(crate) fn new(placement: Placement) -> Arc<Reads> {
        Arc::new(Reads {
            placement,
            found: Mutex::default(),
        })
    }

    /// All of a relation.
    pub(crate) fn whole(&self, relation: RelationId) {
        self.span(relation, KeySpan::all());
    }

    /// A range of keys, in all partitions.
    pub(crate) fn span(&self, relation: RelationId, span: KeySpan) {
        let mut found = self.found.lock();
        let of_relation = found.entry(relation).or_default();
        if !of_relation.is_whole() && !span.is_empty() {
            of_relation.spans.insert(span);
            of_relation.bound();
        }
    }

    /// Keys, whether or not there are rows. `keys`: key columns in key order, without nulls.
    pub(crate) fn keys(&self, view: &RelationView, keys: &[ArrayRef]) -> Result<(), StorageError> {
        let relation = view.schema().id;
        if keys.first().map_or(0, |column| column.len()) > MAX_KEYS {
            self.whole(relation);
            return Ok(());
        }
        let homes = self.placement.of_keys(view.schema(), keys)?;
        let encoded = view.encode_keys(keys)?;
        let mut found = self.found.lock();
        let of_relation = found.entry(relation).or_default();
        if !of_relation.is_whole() {
            of_relation.keys.extend(encoded.into_iter().zip(homes));
            of_relation.bound();
        }
        Ok(())
    }

    /// What is to be found unchanged in each partition, by number.
    pub(crate) fn by_partition(&self) -> Vec<Vec<RelationReads>> {
        let found = self.found.lock();
        let of_partition = |number: usize| {
            let of_relation = |(relation, read): (&RelationId, &OfRelation)| {
                let keys = read.keys.iter().filter(|(_, home)| home.0 as usize == number);
                let reads = RelationReads {
                    relation: *relation,
                    keys: keys.map(|(key, _)| key.clone()).collect(),
                    spans: read.spans.iter().cloned().collect(),
                };
                (!reads.keys.is_empty() || !reads.spans.is_empty()).then_some(reads)
            };
            found.iter().filter_map(of_relation).collect()
        };
        (0..self.placement.partitions()).map(of_partition).collect()
    }
}
