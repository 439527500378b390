//! The ids of a load's terms, given out by several threads at once.
//!
//! A term's first id is its hash; where that belongs to another term, it takes the first free one of further attempts, as in the
//! [dictionary](crate::rdf::dictionary). What decides is who claims an id first, in this table, which stands for all terms of the load that
//! were seen so far; those of the dataset are asked for before an id is claimed.

use std::borrow::Cow;

use datafusion::common::HashMap;
use datafusion::common::hash_map::Entry as Place;
use parking_lot::{Mutex, MutexGuard};

use crate::error::Result;
use crate::rdf::dictionary::Dictionary;
use crate::rdf::term_entry::EntryRef;
use crate::rdf::term_id::TermId;

/// Parts of the table that are locked on their own.
const SHARDS: usize = 64;
/// Bytes that a term takes here, about.
const TERM_BYTES: u64 = 24;

/// Ids of one load.
pub struct Interner {
    shards: Vec<Mutex<Shard>>,
    /// The terms that were there before; none while the dataset has no terms.
    dictionary: Option<Dictionary>,
    hash_bits: u32,
}

#[derive(Default)]
struct Shard {
    /// Ids that are taken, with bits that tell terms with one id apart.
    owners: HashMap<TermId, u64>,
    /// Terms with another id than their first.
    displaced: HashMap<(TermId, u64), TermId>,
}

/// What a term got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// Its id.
    pub id: TermId,
    /// Whether nobody had it before: it has to be written.
    pub is_new: bool,
    /// Whether it is not the first id of the term.
    pub is_displaced: bool,
}

enum Claim {
    New,
    Known,
    Taken,
}

impl Interner {
    /// A table without terms over those of a dataset.
    pub fn new(dictionary: Option<Dictionary>, hash_bits: u32) -> Interner {
        Interner {
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            dictionary,
            hash_bits,
        }
    }

    /// Whether terms have to be looked for in the dataset, which is best done for many at once.
    pub fn has_dictionary(&self) -> bool {
        self.dictionary.is_some()
    }

    /// Bytes held, estimated.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().owners.len() as u64 * TERM_BYTES).sum()
    }

    /// Forgets everything: all terms are in this dictionary from now on.
    pub fn forget(&mut self, dictionary: Dictionary) {
        *self = Interner::new(Some(dictionary), self.hash_bits);
    }

    fn shard(&self, id: TermId) -> MutexGuard<'_, Shard> {
        // Low bits of a hash.
        self.shards[id.0 as usize % SHARDS].lock()
    }

    /// The id of a term that was seen before.
    pub fn known(&self, entry: &EntryRef<'_>) -> Option<TermId> {
        self.look(entry.id(0, self.hash_bits))
    }

    fn look(&self, (first, mark): (TermId, u64)) -> Option<TermId> {
        let shard = self.shard(first);
        match shard.owners.get(&first) {
            Some(owner) if *owner == mark => Some(first),
            _ if shard.displaced.is_empty() => None,
            // Its owner may be in the dataset only.
            _ => shard.displaced.get(&(first, mark)).copied(),
        }
    }

    /// Gives ids to different terms, in their order.
    pub fn give(&self, entries: &[EntryRef<'_>]) -> Result<Vec<Given>> {
        let mut given: Vec<Option<Given>> = vec![None; entries.len()];
        let mut left: Vec<usize> = (0..entries.len()).collect();
        let mut attempt = 0;
        while !left.is_empty() {
            let ids: Vec<TermId> = left.iter().map(|&i| entries[i].id(attempt, self.hash_bits).0).collect();
            let there = match &self.dictionary {
                Some(dictionary) => dictionary.entries(&ids)?,
                None => vec![None; ids.len()],
            };
            let mut next = Vec::new();
            for ((i, id), there) in left.into_iter().zip(ids).zip(there) {
                let (first, mark) = entries[i].id(0, self.hash_bits);
                let is_there = match &there {
                    Some(other) => other.borrowed() == entries[i],
                    None => false,
                };
                let claim = match there {
                    Some(_) if !is_there => Claim::Taken,
                    _ => self.claim(id, mark),
                };
                if let Claim::Taken = claim {
                    next.push(i);
                    continue;
                }
                if attempt > 0 {
                    self.shard(first).displaced.insert((first, mark), id);
                }
                given[i] = Some(Given {
                    id,
                    is_new: matches!(claim, Claim::New) && !is_there,
                    is_displaced: attempt > 0,
                });
            }
            left = next;
            attempt += 1;
        }
        Ok(given.into_iter().flatten().collect())
    }

    fn claim(&self, id: TermId, mark: u64) -> Claim {
        match self.shard(id).owners.entry(id) {
            Place::Occupied(owner) if *owner.get() == mark => Claim::Known,
            Place::Occupied(_) => Claim::Taken,
            Place::Vacant(free) => {
                free.insert(mark);
                Claim::New
            }
        }
    }
}

/// New terms, with their texts one behind the other.
#[derive(Debug, Default)]
pub struct NewTerms {
    text: String,
    rows: Vec<NewTerm>,
}

/// Where a new term's texts are.
#[derive(Debug, Clone, Copy)]
pub struct NewTerm {
    /// Its id.
    pub id: TermId,
    start: usize,
    value: u32,
    /// One more than the bytes of the qualifier; 0 if there is none.
    qualifier: u32,
    /// Whether its first id belongs to another term.
    pub is_displaced: bool,
}

impl NewTerm {
    /// Bytes of its texts.
    pub fn bytes(&self) -> usize {
        self.value as usize + self.qualifier as usize
    }
}

impl NewTerms {
    /// Adds a term.
    pub fn push(&mut self, entry: &EntryRef<'_>, given: Given) -> Result<()> {
        let too_long = |_| crate::Error::invalid("54000", "a term has more than 4 GB");
        let qualifier = entry.qualifier.as_ref().map(Cow::as_ref);
        self.rows.push(NewTerm {
            id: given.id,
            start: self.text.len(),
            value: u32::try_from(entry.value.len()).map_err(too_long)?,
            qualifier: u32::try_from(qualifier.map_or(0, |text| text.len() + 1)).map_err(too_long)?,
            is_displaced: given.is_displaced,
        });
        self.text.push_str(entry.value);
        self.text.push_str(qualifier.unwrap_or_default());
        Ok(())
    }

    /// The terms, in the order in which they came.
    pub fn rows(&self) -> &[NewTerm] {
        &self.rows
    }

    /// Value and qualifier of a term of these.
    pub fn text(&self, term: &NewTerm) -> (&str, Option<&str>) {
        let end = term.start + term.value as usize;
        let qualifier = term.qualifier.checked_sub(1).map(|length| &self.text[end..end + length as usize]);
        (&self.text[term.start..end], qualifier)
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        (self.text.capacity() + self.rows.capacity() * size_of::<NewTerm>()) as u64
    }
}
