//! The ordered key index of a memtable.
//!
//! Ascending bulk batches are kept as sorted runs, each above all keys before it, at a few nanoseconds a row; everything else goes to a
//! B-tree. A key can be in both: then the tree's entry is newer.

use std::collections::{BTreeMap, HashMap, btree_map};
use std::ops::Bound;

use arrow_row::Rows;

/// Fewer rows than this are not worth a run of their own.
const RUN_ROWS: usize = 64;

/// Keys in ascending order whose rows have consecutive ordinals.
#[derive(Debug)]
struct Run {
    keys: Rows,
    start: u32,
}

impl Run {
    fn key(&self, i: usize) -> &[u8] {
        self.keys.row(i).data()
    }

    /// The first position whose key is not below `key` (`above`: not below or equal).
    fn position(&self, key: &[u8], above: bool) -> usize {
        let (mut low, mut high) = (0, self.keys.num_rows());
        while low < high {
            let middle = (low + high) / 2;
            let order = self.key(middle).cmp(key);
            if order.is_lt() || (above && order.is_eq()) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        low
    }
}

/// Newest ordinal of each key, and the chain to older ones.
#[derive(Debug, Default)]
pub(crate) struct KeyIndex {
    runs: Vec<Run>,
    tree: BTreeMap<Box<[u8]>, u32>,
    older: HashMap<u32, u32>,
}

impl KeyIndex {
    /// The largest key.
    pub fn last_key(&self) -> Option<&[u8]> {
        let run = self.runs.last().map(|run| run.key(run.keys.num_rows() - 1));
        let tree = self.tree.last_key_value().map(|(key, _)| key.as_ref());
        run.max(tree)
    }

    /// The smallest key.
    pub fn first_key(&self) -> Option<&[u8]> {
        let run = self.runs.first().map(|run| run.key(0));
        let tree = self.tree.first_key_value().map(|(key, _)| key.as_ref());
        match (run, tree) {
            (Some(run), Some(tree)) => Some(run.min(tree)),
            (run, tree) => run.or(tree),
        }
    }

    /// The ordinal of the newest version of `key`.
    pub fn newest(&self, key: &[u8]) -> Option<u32> {
        self.tree.get(key).copied().or_else(|| self.in_runs(key))
    }

    /// The ordinal of the version before this one.
    pub fn older(&self, ordinal: u32) -> Option<u32> {
        self.older.get(&ordinal).copied()
    }

    fn in_runs(&self, key: &[u8]) -> Option<u32> {
        let run = self
            .runs
            .partition_point(|run| run.key(0) <= key)
            .checked_sub(1)
            .map(|i| &self.runs[i])?;
        let position = run.position(key, false);
        (position < run.keys.num_rows() && run.key(position) == key).then(|| run.start + position as u32)
    }

    /// Whether a strictly ascending batch that begins with `first` may become a run.
    pub fn takes_run(&self, first: &[u8], rows: usize) -> bool {
        rows >= RUN_ROWS && self.last_key().is_none_or(|last| first > last)
    }

    /// Adds a batch for which [`Self::takes_run`] holds.
    pub fn push_run(&mut self, keys: Rows, start: u32) {
        self.runs.push(Run { keys, start });
    }

    /// Adds one key; the ordinal that was newest before.
    pub fn insert(&mut self, key: &[u8], ordinal: u32) -> Option<u32> {
        let before = match self.tree.get_mut(key) {
            Some(newest) => Some(std::mem::replace(newest, ordinal)),
            None => {
                let in_runs = self.in_runs(key);
                self.tree.insert(key.into(), ordinal);
                in_runs
            }
        };
        if let Some(before) = before {
            self.older.insert(ordinal, before);
        }
        before
    }

    /// Keys and newest ordinals in key order, from `start` on, below `end`.
    pub fn range<'a>(&'a self, start: Bound<&'a [u8]>, end: Option<&'a [u8]>) -> Ordered<'a> {
        let empty = match (start, end) {
            (Bound::Included(start) | Bound::Excluded(start), Some(end)) => start >= end,
            _ => false,
        };
        let (run, position) = match start {
            _ if empty => (self.runs.len(), 0),
            Bound::Unbounded => (0, 0),
            Bound::Included(key) | Bound::Excluded(key) => {
                let run = self.runs.partition_point(|run| run.key(run.keys.num_rows() - 1) < key);
                (
                    run,
                    self.runs
                        .get(run)
                        .map_or(0, |r| r.position(key, matches!(start, Bound::Excluded(_)))),
                )
            }
        };
        let tree = (!empty).then(|| {
            let end = end.map_or(Bound::Unbounded, Bound::Excluded);
            self.tree.range::<[u8], _>((start, end))
        });
        let mut ordered = Ordered {
            index: self,
            run,
            position,
            end,
            tree,
            ahead: None,
        };
        ordered.step_tree();
        ordered
    }
}

/// Iterator of [`KeyIndex::range`].
pub(crate) struct Ordered<'a> {
    index: &'a KeyIndex,
    run: usize,
    position: usize,
    end: Option<&'a [u8]>,
    tree: Option<btree_map::Range<'a, Box<[u8]>, u32>>,
    /// The entry of the tree that comes next.
    ahead: Option<(&'a [u8], u32)>,
}

impl<'a> Ordered<'a> {
    fn step_tree(&mut self) {
        self.ahead = self
            .tree
            .as_mut()
            .and_then(Iterator::next)
            .map(|(key, ordinal)| (key.as_ref(), *ordinal));
    }

    /// The next entry of the runs.
    fn peek_run(&mut self) -> Option<(&'a [u8], u32)> {
        loop {
            let run = self.index.runs.get(self.run)?;
            if self.position < run.keys.num_rows() {
                let key = run.key(self.position);
                return self
                    .end
                    .is_none_or(|end| key < end)
                    .then(|| (key, run.start + self.position as u32));
            }
            (self.run, self.position) = (self.run + 1, 0);
        }
    }
}

impl<'a> Iterator for Ordered<'a> {
    type Item = (&'a [u8], u32);

    fn next(&mut self) -> Option<Self::Item> {
        let (run, tree) = (self.peek_run(), self.ahead);
        let order = match (&run, &tree) {
            (None, None) => return None,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((run, _)), Some((tree, _))) => (*run).cmp(tree),
        };
        if order.is_le() {
            self.position += 1;
        }
        if order.is_ge() {
            self.step_tree();
            return tree;
        }
        run
    }
}
