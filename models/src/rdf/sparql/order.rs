//! The order of joins by dynamic programming: the cheapest tree over all connected sets of triples (Selinger et al., "Access Path Selection in a
//! Relational Database Management System", 1979; bushy trees: Moerkotte and Neumann, "Analysis of Two Existing and One New Dynamic Programming
//! Algorithm", 2006). How many solutions a set of triples has is measured, as for the greedy order ([`super::estimate`]), so a search is worth
//! while only where what it may save is much more than it looks up.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::estimate::{Estimate, Wanted};
use super::joining::is_connected;
use crate::error::Result;
use crate::rdf::blocking;
use crate::rdf::quad_index::QuadIndex;

/// Microseconds, about, on one core. To look something up for a row:
pub const LOOKUP: f64 = 0.7;
/// to make a row that was looked up,
pub const FOUND: f64 = 0.1;
/// to read a quad in a scan,
pub const SCANNED: f64 = 0.02;
/// to take a row through a hash join,
pub const HASHED: f64 = 0.05;
/// to plan and start a scan and a join.
pub const JOIN: f64 = 300.0;

/// An order that is expected to cost less than this is not improved, in microseconds.
pub const WORTH: f64 = 10_000.0;
/// The part of what an order costs that a search may cost.
const SHARE: f64 = 0.05;
/// How much of the cost an order must save to be taken: estimates err.
const BETTER: f64 = 0.7;
/// Lookups of a search, at most: some tens of milliseconds.
const LOOKUPS: f64 = 50_000.0;
/// A search ends after so long, with the order that was there: what was written lately is looked up slowly.
const TIME: Duration = Duration::from_millis(if cfg!(debug_assertions) { 5000 } else { 100 });
/// Triples of which sets are made at most.
const MOST: usize = 12;

/// How triples are joined. Numbers are positions among the patterns.
#[derive(Debug, Clone)]
pub enum Tree {
    /// What is there before.
    Input,
    /// One more triple, looked up for each solution or joined by hash.
    Then(Box<Tree>, usize, bool),
    /// Two sets of triples, joined by hash. The second begins with nothing; what both are expected to be comes third.
    Both(Box<Tree>, Box<Tree>, Estimate),
}

/// The best way to some triples.
struct Best {
    /// Microseconds, about.
    cost: f64,
    way: Way,
    estimate: Estimate,
    /// Their variables.
    names: Vec<String>,
}

#[derive(Clone, Copy)]
enum Way {
    Input,
    Then(u32, usize, bool),
    Both(u32, u32),
}

/// What a triple costs that is looked up, and that is joined by hash: for so many solutions before and after, of so many quads.
pub fn costs(before: f64, after: f64, alone: f64) -> (f64, f64) {
    let by_lookup = before * LOOKUP + after * FOUND;
    let by_hash = JOIN + alone * SCANNED + (before + after) * HASHED;
    (by_lookup, by_hash)
}

/// Whether orders of so many patterns are searched.
pub fn can_differ(patterns: usize) -> bool {
    (3..=MOST).contains(&patterns)
}

/// A much cheaper order than one of such a cost; `None` where there is none, or none was found in time.
pub fn search(index: &QuadIndex, input: &Estimate, bound: &[String], wanted: &[Wanted], cost: f64) -> Result<Option<Tree>> {
    let mut search = Search {
        index,
        wanted,
        alone: wanted.iter().map(|one| one.alone(index)).collect::<Result<_>>()?,
        best: HashMap::from([(
            0,
            Best {
                cost: 0.0,
                way: Way::Input,
                estimate: input.clone(),
                names: bound.to_vec(),
            },
        )]),
        lookups: (cost * SHARE / LOOKUP).min(LOOKUPS),
        until: Instant::now() + TIME,
    };
    if !blocking(usize::MAX, || search.run())? {
        return Ok(None);
    }
    let all = (1_u32 << wanted.len()) - 1;
    let Some(found) = search.best.get(&all).filter(|found| found.cost <= cost * BETTER) else {
        return Ok(None);
    };
    tracing::debug!(cost, found = found.cost, "another order of joins");
    Ok(search.tree(all))
}

struct Search<'a> {
    index: &'a QuadIndex,
    wanted: &'a [Wanted],
    /// How many quads match each pattern.
    alone: Vec<f64>,
    /// By set of patterns: a bit each.
    best: HashMap<u32, Best>,
    /// Lookups that are left.
    lookups: f64,
    until: Instant,
}

/// How the set was reached by one triple more: the set before, the triple, and the solutions expected.
type Step = (u32, usize, f64);

impl Search<'_> {
    /// Fills in all sets; `false` where there was no time.
    fn run(&mut self) -> Result<bool> {
        let mut last = vec![0_u32];
        for _ in 0..self.wanted.len() {
            let mut steps: BTreeMap<u32, Vec<Step>> = BTreeMap::new();
            for set in last {
                let Some(before) = self.best.get(&set) else { continue };
                let is_candidate =
                    |i: &usize| set & (1 << i) == 0 && (before.names.is_empty() || is_connected(&self.wanted[*i], &before.names));
                for next in (0..self.wanted.len()).filter(is_candidate) {
                    let after = before.estimate.expected(self.index, &self.wanted[next])?;
                    steps.entry(set | (1 << next)).or_default().push((set, next, after));
                    self.lookups -= before.estimate.lookups();
                }
                if self.lookups < 0.0 || Instant::now() > self.until {
                    return Ok(false);
                }
            }
            last = steps.keys().copied().collect();
            for (set, steps) in steps {
                let best = self.best_of(set, &steps)?;
                self.lookups -= 2.0 * best.estimate.lookups();
                self.best.insert(set, best);
            }
        }
        Ok(true)
    }

    /// The best way to a set that these steps lead to.
    fn best_of(&self, set: u32, steps: &[Step]) -> Result<Best> {
        // Each way has a sample of its own. That of the fewest solutions tells most: of many, few are seen, and what is rare is seen of none.
        let before = |(from, ..): &Step| self.best[from].estimate.rows;
        let surest = steps.iter().min_by(|one, other| before(one).total_cmp(&before(other)));
        let Some(&(surest, last, rows)) = surest else {
            return Err(crate::Error::internal("a set of patterns that nothing leads to"));
        };
        let surest = &self.best[&surest];
        let (mut cost, mut way) = (f64::INFINITY, Way::Input);
        for &(from, next, _) in steps {
            let before = &self.best[&from];
            let (by_lookup, by_hash) = costs(before.estimate.rows, rows, self.alone[next]);
            let so_far = before.cost + by_lookup.min(by_hash);
            if so_far < cost {
                (cost, way) = (so_far, Way::Then(from, next, by_lookup <= by_hash));
            }
        }
        // Two parts both begin with what is there before: only where that is one solution that binds nothing.
        let mut part = match self.best[&0].names.is_empty() {
            true => (set - 1) & set,
            false => 0,
        };
        while part > 0 {
            let other = set ^ part;
            if part > other
                && let (Some(left), Some(right)) = (self.best.get(&part), self.best.get(&other))
                && left.names.iter().any(|name| right.names.contains(name))
            {
                let join = JOIN + (left.estimate.rows + right.estimate.rows + rows) * HASHED;
                if left.cost + right.cost + join < cost {
                    (cost, way) = (left.cost + right.cost + join, Way::Both(part, other));
                }
            }
            part = (part - 1) & set;
        }
        let mut names = surest.names.clone();
        names.extend(self.wanted[last].variables().map(str::to_owned));
        Ok(Best {
            cost,
            way,
            estimate: surest.estimate.joined(self.index, &self.wanted[last])?,
            names,
        })
    }

    fn tree(&self, set: u32) -> Option<Tree> {
        let best = self.best.get(&set)?;
        Some(match best.way {
            Way::Input => Tree::Input,
            Way::Then(from, next, looks_up) => Tree::Then(Box::new(self.tree(from)?), next, looks_up),
            Way::Both(left, right) => Tree::Both(Box::new(self.tree(left)?), Box::new(self.tree(right)?), best.estimate.clone()),
        })
    }
}
