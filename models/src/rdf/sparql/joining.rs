//! Joining the triples of a basic graph pattern, greedily or by a tree that a search found.

use spargebra::algebra::Expression;

use super::basic::Steps;
use super::counted::counted;
use super::estimate::{Estimate, FEWER, Wanted};
use super::order::{self, Tree};
use super::pattern::Translator;
use super::query::SparqlJoin;
use super::solutions::Solutions;
use super::triple::Graphs;
use crate::error::Result;

/// With so few solutions, a triple that makes them no more is as good as any.
const FEW: f64 = 50.0;

/// With more solutions, a product with others is made as they come: one side of it would be held.
const HELD: f64 = 1_000_000.0;

/// Triples that are being joined.
pub struct Joining {
    left: Solutions,
    /// What is looked up for the solutions of `left`.
    steps: Steps,
    /// Of both.
    estimate: Option<Estimate>,
    /// The variables of both.
    bound: Vec<String>,
    /// Microseconds that it will take, about; `None` where that is not known.
    cost: Option<f64>,
}

impl Joining {
    fn new(mut left: Solutions) -> Joining {
        let estimate = left.estimate.take();
        Joining {
            estimate: estimate.map(|estimate| estimate.of_variables(|name| left.variables.contains_key(name))),
            bound: left.variables.keys().cloned().collect(),
            steps: Steps::new(),
            cost: Some(0.0),
            left,
        }
    }

    fn rows(&self) -> f64 {
        self.estimate.as_ref().map_or(f64::MAX, |estimate| estimate.rows)
    }
}

impl Translator<'_> {
    /// As [`Self::join_basic`], with conditions on the pattern's variables; takes those away that are tried between lookups.
    pub fn join_where(
        &mut self,
        left: Solutions,
        wanted: Vec<Wanted>,
        pending: &mut Vec<&Expression>,
        graphs: &Graphs,
    ) -> Result<Solutions> {
        let is_open = matches!(self.join, SparqlJoin::Auto | SparqlJoin::Search) && order::can_differ(wanted.len());
        let again = is_open.then(|| (left.clone(), wanted.clone(), pending.clone()));
        let mut joining = Joining::new(left);
        self.join_greedily(&mut joining, wanted, pending, graphs)?;
        let limit = match self.join {
            SparqlJoin::Search => Some(f64::INFINITY),
            _ => joining.cost.filter(|cost| *cost >= order::WORTH),
        };
        if let (Some((left, wanted, conditions)), Some(cost)) = (again, limit) {
            let other = Joining::new(left);
            if let Some(input) = &other.estimate
                && let Some(tree) = order::search(&self.index, input, &other.bound, &wanted, cost)?
            {
                *pending = conditions;
                joining = self.join_by(other, &tree, &wanted, pending, graphs)?;
            }
        }
        self.finish(joining, pending)
    }

    /// The next triple is always the one with the fewest solutions.
    fn join_greedily(
        &mut self,
        joining: &mut Joining,
        mut wanted: Vec<Wanted>,
        pending: &mut Vec<&Expression>,
        graphs: &Graphs,
    ) -> Result<()> {
        while !wanted.is_empty() {
            let (next, expected) = self.next(&wanted, &joining.bound, joining.estimate.as_ref())?;
            let before = joining.rows();
            if (FEW..=HELD).contains(&before)
                && !joining.bound.is_empty()
                && !is_connected(&wanted[next], &joining.bound)
                && let Some(apart) = connected_to(&mut wanted, next)
            {
                // Joined by themselves, they are not looked up for every one of the solutions that they have nothing to do with.
                let mut apart = self.join_where(Solutions::one()?, apart, pending, graphs)?;
                if let Some(estimate) = &apart.estimate {
                    apart.plan = counted(apart.plan, estimate.rows);
                }
                self.pause(joining)?;
                joining.bound.extend(apart.variables.keys().cloned());
                joining.left.estimate = joining.estimate.take();
                joining.left = std::mem::replace(&mut joining.left, Solutions::none()?).join(&mut self.names, apart)?;
                joining.estimate = joining.left.estimate.take();
                joining.cost = None;
                continue;
            }
            let next = wanted.remove(next);
            let (by_lookup, by_hash) = order::costs(before, expected, next.alone(&self.index)?);
            let looks_up = match self.join {
                SparqlJoin::Auto | SparqlJoin::Search => by_lookup <= by_hash,
                SparqlJoin::Lookup => true,
                SparqlJoin::Hash => false,
            };
            joining.cost = joining.cost.map(|cost| cost + by_lookup.min(by_hash));
            self.take(joining, &next, expected, looks_up, pending, graphs)?;
        }
        Ok(())
    }

    /// Joins as a tree says.
    fn join_by(
        &mut self,
        input: Joining,
        tree: &Tree,
        wanted: &[Wanted],
        pending: &mut Vec<&Expression>,
        graphs: &Graphs,
    ) -> Result<Joining> {
        match tree {
            Tree::Input => Ok(input),
            Tree::Then(before, next, looks_up) => {
                let mut joining = self.join_by(input, before, wanted, pending, graphs)?;
                let next = &wanted[*next];
                let expected = match &joining.estimate {
                    Some(estimate) => estimate.expected(&self.index, next)?,
                    None => f64::MAX,
                };
                self.take(&mut joining, next, expected, *looks_up, pending, graphs)?;
                Ok(joining)
            }
            Tree::Both(left, right, estimate) => {
                let left = self.join_by(input, left, wanted, pending, graphs)?;
                let left = self.finish(left, pending)?;
                let right = self.join_by(Joining::new(Solutions::one()?), right, wanted, pending, graphs)?;
                let mut right = self.finish(right, pending)?;
                let mut estimate = estimate.clone();
                for side in [&left, &right] {
                    side.estimate.iter().for_each(|side| estimate.bring_in_from(side));
                }
                if let Some(expected) = &right.estimate {
                    right.plan = counted(right.plan, expected.rows);
                }
                let mut joined = left.join(&mut self.names, right)?;
                joined.estimate = Some(estimate);
                Ok(Joining::new(joined))
            }
        }
    }

    /// Joins one more triple.
    fn take(
        &mut self,
        joining: &mut Joining,
        next: &Wanted,
        expected: f64,
        looks_up: bool,
        pending: &mut Vec<&Expression>,
        graphs: &Graphs,
    ) -> Result<()> {
        if looks_up {
            // What takes more solutions away than conditions may goes first.
            if expected * FEWER > joining.rows() {
                self.keep_bound(pending, &joining.bound, &mut joining.steps, &joining.left.variables)?;
            }
            joining.steps.require(&mut self.names, &joining.left.variables, next);
        } else {
            self.pause(joining)?;
            let [subject, predicate, object] = &next.slots;
            let found = self
                .quads
                .matching(&mut self.names, [subject, predicate, object], graphs, &next.text)?;
            joining.left = std::mem::replace(&mut joining.left, Solutions::none()?).join(&mut self.names, found)?;
            if let Some(estimate) = &mut joining.estimate {
                let is_new = |name: &&str| !joining.bound.iter().any(|bound| bound == name);
                estimate.bring_in(next.variables().filter(is_new), next.alone(&self.index)?);
            }
        }
        joining.estimate = match joining.estimate.take() {
            Some(estimate) => Some(estimate.joined(&self.index, next)?),
            None => None,
        };
        joining.bound.extend(next.variables().map(str::to_owned));
        Ok(())
    }

    /// Puts the steps so far into the plan.
    fn pause(&mut self, joining: &mut Joining) -> Result<()> {
        let rows = joining.rows();
        let steps = std::mem::replace(&mut joining.steps, Steps::new());
        joining.left = self.bound(std::mem::replace(&mut joining.left, Solutions::none()?), steps, rows)?;
        Ok(())
    }

    /// The solutions, when all triples are joined.
    fn finish(&mut self, mut joining: Joining, pending: &mut Vec<&Expression>) -> Result<Solutions> {
        if !joining.steps.steps.is_empty() {
            self.keep_bound(pending, &joining.bound, &mut joining.steps, &joining.left.variables)?;
        }
        self.pause(&mut joining)?;
        joining.left.estimate = joining.estimate;
        Ok(joining.left)
    }

    /// The pattern to go on with, and how many solutions are expected then.
    pub fn next(&self, wanted: &[Wanted], bound: &[String], estimate: Option<&Estimate>) -> Result<(usize, f64)> {
        let any_connected = wanted.iter().any(|wanted| is_connected(wanted, bound));
        let mut best: Option<(usize, f64)> = None;
        for (i, candidate) in wanted.iter().enumerate() {
            if any_connected && !is_connected(candidate, bound) {
                continue;
            }
            let expected = match estimate {
                Some(estimate) => estimate.expected(&self.index, candidate)?,
                None => candidate.alone(&self.index)?,
            };
            if estimate.is_some_and(|estimate| any_connected && estimate.rows <= FEW && expected <= estimate.rows) {
                return Ok((i, expected));
            }
            if best.is_none_or(|(_, least)| expected < least) {
                best = Some((i, expected));
            }
        }
        best.ok_or_else(|| crate::Error::internal("no pattern to go on with"))
    }
}

/// Whether a pattern asks for something that has a value, or for nothing that varies.
pub fn is_connected(wanted: &Wanted, bound: &[String]) -> bool {
    let mut variables = wanted.variables().peekable();
    variables.peek().is_none() || variables.any(|name| bound.iter().any(|bound| bound == name))
}

/// Takes one of the patterns and those that share variables with it, also by way of others; `None` where there are no others.
fn connected_to(wanted: &mut Vec<Wanted>, first: usize) -> Option<Vec<Wanted>> {
    let mut names: Vec<String> = wanted[first].variables().map(str::to_owned).collect();
    let mut found = vec![first];
    while let Some(next) = (0..wanted.len()).find(|i| !found.contains(i) && is_connected(&wanted[*i], &names)) {
        names.extend(wanted[next].variables().map(str::to_owned));
        found.push(next);
    }
    if found.len() == 1 {
        return None;
    }
    let (taken, left) = std::mem::take(wanted)
        .into_iter()
        .enumerate()
        .partition::<Vec<_>, _>(|(i, _)| found.contains(i));
    *wanted = left.into_iter().map(|(_, wanted)| wanted).collect();
    Some(taken.into_iter().map(|(_, wanted)| wanted).collect())
}
