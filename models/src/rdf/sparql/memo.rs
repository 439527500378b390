//! What operators made of single terms: of joined solutions many have the same terms, and those of one batch are not those of the next.

use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::HashMap;
use parking_lot::RwLock;

use super::operator::Operator;
use crate::rdf::term_id::TermId;

/// Results that are kept, at most.
const MOST: usize = 1 << 18;

/// Bytes of a result in the table, about.
const RESULT_BYTES: usize = 2 * size_of::<((Operator, TermId), Option<TermId>)>();

/// Results of the operators of one query.
#[derive(Default)]
pub struct Memo {
    results: RwLock<HashMap<(Operator, TermId), Option<TermId>>>,
    /// How many were there when they were asked for, and how many were not.
    hits: AtomicUsize,
    misses: AtomicUsize,
}

impl Memo {
    /// Whether it is worth while to ask: not where nearly all terms are different.
    pub fn pays(&self) -> bool {
        let (hits, misses) = (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed));
        misses < MOST || hits > misses
    }

    /// Bytes of the results, about.
    pub fn held_bytes(&self) -> usize {
        self.results.read().len() * RESULT_BYTES
    }

    /// The results for terms, in their order; those that are not known are left out, and their places told.
    pub fn known(
        &self,
        operator: Operator,
        terms: impl ExactSizeIterator<Item = Option<TermId>>,
    ) -> (Vec<Option<TermId>>, Vec<(usize, TermId)>) {
        let mut answers = Vec::with_capacity(terms.len());
        let mut left = Vec::new();
        let results = self.results.read();
        for (place, term) in terms.enumerate() {
            let known = term.map(|term| (term, results.get(&(operator, term))));
            if let Some((term, None)) = known {
                left.push((place, term));
            }
            answers.push(known.and_then(|(_, result)| result.copied().flatten()));
        }
        drop(results);
        self.hits.fetch_add(answers.len() - left.len(), Ordering::Relaxed);
        self.misses.fetch_add(left.len(), Ordering::Relaxed);
        (answers, left)
    }

    /// Keeps results.
    pub fn keep(&self, operator: Operator, found: impl ExactSizeIterator<Item = (TermId, Option<TermId>)>) {
        let mut results = self.results.write();
        if results.len() + found.len() > MOST {
            results.clear();
        }
        results.extend(found.take(MOST).map(|(term, result)| ((operator, term), result)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(numbers: std::ops::Range<usize>) -> impl ExactSizeIterator<Item = TermId> {
        numbers.map(|number| TermId(number as u64))
    }

    #[test]
    fn results_are_of_their_operator_and_bounded() {
        let memo = Memo::default();
        memo.keep(Operator::Plus, terms(0..3).zip([Some(TermId(10)), None, Some(TermId(12))]));
        let asked = [Some(TermId(2)), None, Some(TermId(1)), Some(TermId(3))];
        let (answers, left) = memo.known(Operator::Plus, asked.into_iter());
        assert_eq!(answers, [Some(TermId(12)), None, None, None]);
        assert_eq!(left, [(3, TermId(3))]);
        assert_eq!(memo.known(Operator::Minus, asked.into_iter()).1.len(), 3);
        for start in (0..4 * MOST).step_by(MOST / 2 + 1) {
            let some = terms(start..start + MOST / 2 + 1);
            memo.keep(Operator::Minus, some.map(|term| (term, Some(term))));
            assert!(memo.results.read().len() <= MOST);
        }
    }

    #[test]
    fn where_all_are_different_it_is_not_asked() {
        let memo = Memo::default();
        assert!(memo.pays());
        memo.known(Operator::Plus, terms(0..MOST).map(Some));
        assert!(!memo.pays());
    }
}
