//! The terms behind ids, at one snapshot.
//!
//! A term's first id is its hash. Where another term has that id already, the term takes the first free id of its further attempts, and that id
//! is noted in `displaced`. So as long as nothing is displaced, and that is nearly always, the id of any term is its hash, and nobody needs to
//! look it up.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray, UInt64Array};
use oxrdf::Term;
use pyralog_storage::{RelationView, RowAddress};

use super::dataset::DatasetDefinition;
use super::term_id::{Class, Encoded, Entry, TermId};
use crate::error::{Error, ErrorKind, Result};
use crate::session::Reader;

/// The dictionary of a dataset at a snapshot. Cheap to clone. Reads may fault pages in.
#[derive(Clone)]
pub struct Dictionary {
    inner: Arc<Inner>,
}

struct Inner {
    /// One a partition.
    terms: Vec<RelationView>,
    /// Whether some term has another id than its first.
    has_displaced: bool,
    hash_bits: u32,
    name: String,
}

/// The id of a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its id, or the one that it would get.
    pub id: TermId,
    /// Whether it is in the dictionary.
    pub is_there: bool,
    /// How many other terms had its ids before.
    pub attempt: u64,
}

impl Dictionary {
    /// As a statement reads it.
    pub(crate) fn open(dataset: &DatasetDefinition, reader: &Reader) -> Result<Dictionary> {
        let displaced = reader.relation(dataset.displaced.id)?;
        Ok(Dictionary {
            inner: Arc::new(Inner {
                terms: reader.relation(dataset.terms.id)?,
                has_displaced: displaced.iter().any(|view| view.row_count() > 0),
                hash_bits: dataset.hash_bits,
                name: dataset.name.to_string(),
            }),
        })
    }

    /// The terms behind ids, in their order; `None` for the default graph.
    ///
    /// # Errors
    /// Where an id is not in the dictionary: its dataset is damaged.
    pub fn terms(&self, ids: &[TermId]) -> Result<Vec<Option<Term>>> {
        let mut terms: Vec<Option<Term>> = vec![None; ids.len()];
        let mut unknown: Vec<(TermId, usize)> = Vec::new();
        for (i, &id) in ids.iter().enumerate().filter(|(_, id)| **id != TermId::DEFAULT_GRAPH) {
            terms[i] = id.inlined();
            if terms[i].is_none() {
                unknown.push((id, i));
            }
        }
        unknown.sort_unstable();
        let places: Vec<&[(TermId, usize)]> = unknown.chunk_by(|left, right| left.0 == right.0).collect();
        let different: Vec<TermId> = places.iter().map(|places| places[0].0).collect();
        for (places, entry) in places.into_iter().zip(self.entries(&different)?) {
            let id = places[0].0;
            let entry = entry.ok_or_else(|| {
                Error::new(
                    ErrorKind::Corruption,
                    "XX001",
                    format!("dataset {}: the dictionary lacks the term {id}", self.inner.name),
                )
            })?;
            let term = entry.into_term(id);
            for (_, place) in &places[1..] {
                terms[*place] = Some(term.clone());
            }
            terms[places[0].1] = Some(term);
        }
        Ok(terms)
    }

    /// What the dictionary has under ids.
    pub(super) fn entries(&self, ids: &[TermId]) -> Result<Vec<Option<Entry>>> {
        let keys: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from_iter_values(ids.iter().map(|id| id.0)))];
        let mut entries = vec![None; ids.len()];
        for view in &self.inner.terms {
            let (places, addresses): (Vec<usize>, Vec<RowAddress>) = view
                .lookup(&keys)?
                .into_iter()
                .enumerate()
                .filter_map(|(i, found)| Some((i, found?)))
                .unzip();
            if addresses.is_empty() {
                continue;
            }
            view.visit(&addresses, &[1, 2], |i, rows, row| {
                let (values, qualifiers) = (rows.column(0).as_string_view(), rows.column(1).as_string_view());
                let id = ids[places[i]];
                entries[places[i]] = id.class().map(|class| Entry {
                    class,
                    value: values.value(row).to_owned(),
                    qualifier: qualifiers.is_valid(row).then(|| qualifiers.value(row).to_owned()),
                });
            })?;
        }
        Ok(entries)
    }

    /// The ids of different terms, in their order, and whether the dictionary has them.
    pub fn find(&self, terms: &[Entry]) -> Result<Vec<Found>> {
        let mut found: Vec<Option<Found>> = vec![None; terms.len()];
        let mut left: Vec<usize> = (0..terms.len()).collect();
        // Ids that go to new terms of this very call.
        let mut given = HashSet::new();
        let mut attempt = 0;
        while !left.is_empty() {
            let ids: Vec<TermId> = left.iter().map(|&i| terms[i].id(attempt, self.inner.hash_bits).0).collect();
            let entries = self.entries(&ids)?;
            let mut next = Vec::new();
            for ((i, id), entry) in left.into_iter().zip(ids).zip(entries) {
                match entry {
                    Some(entry) if entry != terms[i] => next.push(i),
                    None if !given.insert(id) => next.push(i),
                    entry => {
                        found[i] = Some(Found {
                            id,
                            is_there: entry.is_some(),
                            attempt,
                        });
                    }
                }
            }
            left = next;
            attempt += 1;
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// The id that a term has, or would have, whether it is there or not.
    pub fn id(&self, term: &Encoded) -> Result<TermId> {
        match term {
            Encoded::Inline(id) => Ok(*id),
            Encoded::Entry(entry) if self.inner.has_displaced => {
                let found = self.find(std::slice::from_ref(entry))?;
                found
                    .first()
                    .map(|found| found.id)
                    .ok_or_else(|| Error::internal("a term without an id"))
            }
            Encoded::Entry(entry) => Ok(entry.id(0, self.inner.hash_bits).0),
        }
    }
}

/// Rows of the dictionary.
pub(super) fn rows(dataset: &DatasetDefinition, terms: &[(TermId, Entry)]) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(terms.iter().map(|(id, _)| id.0))),
        Arc::new(StringViewArray::from_iter_values(
            terms.iter().map(|(_, entry)| entry.value.as_str()),
        )),
        Arc::new(StringViewArray::from_iter(
            terms.iter().map(|(_, entry)| entry.qualifier.as_deref()),
        )),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&dataset.terms.schema), columns)?)
}

/// Whether a term of this class may stand there: 0 subject, 1 predicate, 2 object, 3 graph.
pub(super) fn fits(class: Class, position: usize) -> bool {
    match class {
        Class::DefaultGraph => position == 3,
        Class::Iri => true,
        Class::Blank => position != 1,
        _ => position == 2,
    }
}
