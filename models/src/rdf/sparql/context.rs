//! What all parts of one query share: the dataset's dictionary at one snapshot, and the terms that the query makes itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::HashMap;
use oxrdf::vocab::xsd;
use oxrdf::{Literal, Term};
use oxsdatatypes::{DateTime, Decimal};
use parking_lot::RwLock;

use super::memo::Memo;
use crate::error::{Error, ErrorKind, Result};
use crate::rdf::dictionary::Dictionary;
use crate::rdf::remote::Remote;
use crate::rdf::term_id::{Encoded, Entry, TermId};
use crate::rdf::values::Value;

/// Bytes of different terms that one query may compute.
pub const MAX_MADE_BYTES: usize = 256 << 20;
/// Bytes of such a term beside its text, about.
const ENTRY_BYTES: usize = 96;

/// One query at one snapshot. Cheap to clone.
#[derive(Clone)]
pub struct QueryContext {
    inner: Arc<Inner>,
}

struct Inner {
    dictionary: Dictionary,
    remote: Option<Arc<dyn Remote>>,
    /// Terms that the query made and that ids do not tell; the dictionary may have them too.
    made: RwLock<HashMap<TermId, Entry>>,
    made_bytes: AtomicUsize,
    memo: Memo,
    now: Literal,
}

impl QueryContext {
    /// A query over a dictionary, and what it may reach elsewhere.
    pub fn new(dictionary: Dictionary, remote: Option<Arc<dyn Remote>>) -> QueryContext {
        QueryContext {
            inner: Arc::new(Inner {
                dictionary,
                remote,
                made: RwLock::default(),
                made_bytes: AtomicUsize::new(0),
                memo: Memo::default(),
                now: Literal::new_typed_literal(DateTime::now().to_string(), xsd::DATE_TIME),
            }),
        }
    }

    /// What lies elsewhere, if anything may be reached.
    pub fn remote(&self) -> Option<&Arc<dyn Remote>> {
        self.inner.remote.as_ref()
    }

    /// Bytes of the terms that it made, and of what its operators made of single ones, about.
    pub fn held_bytes(&self) -> usize {
        self.inner.made_bytes.load(Ordering::Relaxed) + self.inner.memo.held_bytes()
    }

    /// What its operators made of single terms.
    pub fn memo(&self) -> &Memo {
        &self.inner.memo
    }

    /// When the query began, as `xsd:dateTime`.
    pub fn now(&self) -> &Literal {
        &self.inner.now
    }

    /// Whether both are one query.
    pub fn is(&self, other: &QueryContext) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// The id of a term of the query's text, or of one that the query made; it can be told again by [`Self::terms`].
    pub fn id(&self, term: Encoded) -> Result<TermId> {
        let id = self.inner.dictionary.id(&term)?;
        if let Encoded::Entry(entry) = term
            && !self.inner.made.read().contains_key(&id)
        {
            let bytes = entry.value.len() + ENTRY_BYTES;
            if self.inner.made_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > MAX_MADE_BYTES {
                let message = format!("the query computes more than {MAX_MADE_BYTES} bytes of different terms");
                return Err(
                    Error::new(ErrorKind::ResourceExhausted, "53200", message).with_hint("filter or aggregate before computing them")
                );
            }
            self.inner.made.write().insert(id, entry);
        }
        Ok(id)
    }

    /// A term that the query has or made itself, unless its id tells it.
    pub fn entry(&self, id: TermId) -> Option<Entry> {
        self.inner.made.read().get(&id).cloned()
    }

    /// The values behind different ids.
    pub fn values(&self, mut ids: Vec<TermId>) -> Result<HashMap<TermId, Value>> {
        ids.sort_unstable();
        ids.dedup();
        let terms = self.terms(&ids)?;
        let values = ids.into_iter().zip(terms);
        Ok(values.filter_map(|(id, term)| Some((id, Value::of(term?.as_ref())))).collect())
    }

    /// As [`Self::values`], for those who do not ask how a number is written.
    pub fn numbers_or_values(&self, ids: Vec<TermId>) -> Result<HashMap<TermId, Value>> {
        let mut numbers = HashMap::new();
        let mut others = Vec::new();
        for id in ids {
            match number(id) {
                Some(value) => drop(numbers.insert(id, value)),
                None => others.push(id),
            }
        }
        match others.is_empty() {
            true => Ok(numbers),
            false => {
                numbers.extend(self.values(others)?);
                Ok(numbers)
            }
        }
    }

    /// The terms behind ids, in their order; `None` for the default graph.
    pub fn terms(&self, ids: &[TermId]) -> Result<Vec<Option<Term>>> {
        let (mut left, mut places) = (Vec::new(), Vec::new());
        let mut terms = vec![None; ids.len()];
        {
            let made = self.inner.made.read();
            for (i, id) in ids.iter().enumerate() {
                match made.get(id) {
                    Some(entry) => terms[i] = Some(entry.clone().into_term(*id)),
                    None => {
                        left.push(*id);
                        places.push(i);
                    }
                }
            }
        }
        for (place, term) in places.into_iter().zip(self.inner.dictionary.terms(&left)?) {
            terms[place] = term;
        }
        Ok(terms)
    }
}

/// The number that an id tells.
fn number(id: TermId) -> Option<Value> {
    if let Some(number) = id.integer() {
        return Some(Value::Integer(number.into()));
    }
    let (digits, scale) = id.decimal()?;
    Some(Value::Decimal(Decimal::new(digits.into(), scale).ok()?))
}
