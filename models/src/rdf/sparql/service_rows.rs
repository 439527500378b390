//! The rows that a SERVICE is joined with: which of them ask together, and with which of them an answer agrees.

use std::collections::BTreeMap;

use super::probe::UNBOUND;
use crate::rdf::term_id::{Class, TermId};

/// Different values that go along with one request.
const TOGETHER: usize = 200;
/// With more of them than this, none goes along: the whole pattern is asked for once.
const MANY: usize = 10 * TOGETHER;
/// Variables whose values can go along.
const MAX_KEYS: usize = 64;

/// Solutions: for each slot its ids, [`UNBOUND`] where there is none.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    /// One a slot.
    pub values: Vec<Vec<u64>>,
    /// How many solutions.
    pub rows: usize,
}

/// Rows that one request is for: of one endpoint, and all with values for the same variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The endpoint that the rows name.
    pub endpoint: Option<TermId>,
    /// The slots for which each row has a value that another endpoint knows too, as it does not know blank nodes.
    pub keys: Vec<usize>,
    /// Whether the values go along.
    pub sends: bool,
    /// The rows by their values for the keys.
    pub by_values: RowsByValues,
    /// All rows.
    pub rows: Vec<u32>,
}

/// Rows by some of their values.
type RowsByValues = BTreeMap<Vec<u64>, Vec<u32>>;

/// The requests for some rows. `shared`: the slots that the rows have columns for; `endpoints`: whom each row asks.
pub fn blocks(input: &Columns, shared: &[usize], endpoints: Option<&[TermId]>) -> Vec<Block> {
    let mut groups: BTreeMap<(Option<TermId>, Vec<usize>), RowsByValues> = BTreeMap::new();
    for row in 0..input.rows {
        let value = |slot: usize| input.values[slot][row];
        let is_known = |slot: &usize| value(*slot) != UNBOUND && TermId(value(*slot)).class() != Some(Class::Blank);
        let keys: Vec<usize> = shared.iter().copied().filter(is_known).take(MAX_KEYS).collect();
        let values = keys.iter().map(|slot| value(*slot)).collect();
        let group = groups.entry((endpoints.map(|endpoints| endpoints[row]), keys)).or_default();
        group.entry(values).or_default().push(row as u32);
    }
    let mut blocks = Vec::new();
    for ((endpoint, keys), group) in groups {
        let sends = !keys.is_empty() && group.len() <= MANY;
        let size = if sends { TOGETHER } else { group.len() };
        let mut group = group.into_iter().peekable();
        while group.peek().is_some() {
            let by_values: RowsByValues = group.by_ref().take(size).collect();
            blocks.push(Block {
                endpoint,
                keys: keys.clone(),
                sends,
                rows: by_values.values().flatten().copied().collect(),
                by_values,
            });
        }
    }
    blocks
}

impl Block {
    /// The rows that agree with an answer: they have the same values for what both bind.
    pub fn agreeing<'a>(
        &'a self,
        input: &'a Columns,
        shared: &'a [usize],
        answers: &'a Columns,
        answer: usize,
    ) -> impl Iterator<Item = u32> {
        let of_answer = move |slot: usize| answers.values[slot][answer];
        let key: Vec<u64> = self.keys.iter().map(|slot| of_answer(*slot)).collect();
        let candidates: &[u32] = match key.contains(&UNBOUND) {
            true => &self.rows,
            false => self.by_values.get(&key).map_or(&[], Vec::as_slice),
        };
        candidates.iter().copied().filter(move |row| {
            shared.iter().all(|slot| {
                let (one, other) = (input.values[*slot][*row as usize], of_answer(*slot));
                one == other || one == UNBOUND || other == UNBOUND
            })
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use oxrdf::BlankNodeRef;

    use super::*;
    use crate::rdf::term_id::{Encoded, Scope};

    fn number(number: i64) -> u64 {
        TermId::of_integer(number).unwrap().0
    }

    fn blank() -> u64 {
        match Encoded::of(BlankNodeRef::new_unchecked("b").into(), &Scope::new(1)) {
            Encoded::Entry(entry) => entry.id(0, 60).0.0,
            Encoded::Inline(id) => id.0,
        }
    }

    #[test]
    fn rows_with_the_same_variables_ask_together() {
        let input = Columns {
            values: vec![
                vec![number(1), number(2), UNBOUND, number(1), blank()],
                vec![number(7), number(7), number(7), number(7), number(7)],
            ],
            rows: 5,
        };
        let found = blocks(&input, &[0, 1], None);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].keys.as_slice(), found[0].rows.as_slice()), (&[0, 1][..], &[0, 3, 1][..]));
        assert_eq!((found[1].keys.as_slice(), found[1].rows.as_slice()), (&[1][..], &[2, 4][..]));
        let answers = Columns {
            values: vec![vec![number(1), UNBOUND, number(3)], vec![number(7), number(7), number(7)]],
            rows: 3,
        };
        let agreeing = |block: usize, answer: usize| found[block].agreeing(&input, &[0, 1], &answers, answer).collect::<Vec<u32>>();
        assert_eq!(agreeing(0, 0), [0, 3]);
        assert_eq!(agreeing(0, 1), [0, 3, 1]);
        assert!(agreeing(0, 2).is_empty());
        // A blank node of here is none of there.
        assert_eq!(agreeing(1, 0), [2]);
        assert_eq!(agreeing(1, 1), [2, 4]);
    }

    #[test]
    fn few_values_go_along_in_blocks_and_many_do_not() {
        let of = |count: usize| {
            let values = vec![(0..count as i64).map(number).collect()];
            blocks(&Columns { values, rows: count }, &[0], None)
        };
        let few = of(TOGETHER + 1);
        assert_eq!(few.iter().map(|block| block.rows.len()).collect::<Vec<_>>(), [TOGETHER, 1]);
        assert!(few.iter().all(|block| block.sends));
        let many = of(MANY + 1);
        assert_eq!((many.len(), many[0].sends), (1, false));
        let none = blocks(&Columns { values: vec![], rows: 3 }, &[], None);
        assert_eq!((none.len(), none[0].sends, none[0].rows.len()), (1, false, 3));
        assert!(blocks(&Columns::default(), &[], None).is_empty());
    }
}
