//! Basic graph patterns: in which order their triples are joined, and how.
//!
//! The next triple is always the one with which the fewest solutions are expected. It is looked up for each solution (a bind join) where that
//! is cheaper than reading all quads that match it, and else joined by hash.

use std::collections::BTreeMap;
use std::sync::Arc;

use spargebra::algebra::{Expression, GraphPattern};
use spargebra::term::{NamedNodePattern, TriplePattern};

use super::bind::{self, Bind, BindJoin, SlotPlan};
use super::estimate::{Estimate, Wanted};
use super::order::{self, HASHED, JOIN, LOOKUP, SCANNED};
use super::pattern::Translator;
use super::probe::{Place, Probe};
use super::query::SparqlJoin;
use super::scope;
use super::solutions::{Binding, Names, Solutions};
use super::triple::{Graphs, Slot};
use crate::error::Result;
use crate::rdf::term_id::Encoded;

/// Steps of a bind join that is being planned, and the variables that they speak of.
pub struct Steps {
    /// In their order.
    pub steps: Vec<Bind>,
    names: Vec<String>,
    slots: Vec<SlotPlan>,
    /// The variables that have a value at the end.
    certain: Vec<bool>,
    /// Microseconds that what groups look up will take, about.
    cost: f64,
}

impl Steps {
    /// None.
    pub fn new() -> Steps {
        Steps {
            steps: Vec::new(),
            names: Vec::new(),
            slots: Vec::new(),
            certain: Vec::new(),
            cost: 0.0,
        }
    }

    /// The slot of a variable.
    fn slot(&mut self, names: &mut Names, input: &BTreeMap<String, Binding>, name: &str) -> usize {
        if let Some(known) = self.names.iter().position(|known| known == name) {
            return known;
        }
        let bound = input.get(name);
        let certain = bound.is_some_and(|bound| !bound.optional);
        self.names.push(name.to_owned());
        self.certain.push(certain);
        self.slots.push(SlotPlan {
            input: bound.map(|bound| bound.column.clone()),
            output: (!certain).then(|| (names.fresh(name), true)),
        });
        self.slots.len() - 1
    }

    fn probe(&mut self, names: &mut Names, input: &BTreeMap<String, Binding>, wanted: &Wanted) -> Probe {
        wanted.probe(|name| Place::Slot(self.slot(names, input, name)))
    }

    /// A pattern that each row must match.
    pub fn require(&mut self, names: &mut Names, input: &BTreeMap<String, Binding>, wanted: &Wanted) {
        let probe = self.probe(names, input, wanted);
        for place in probe.places {
            if let Place::Slot(slot) = place {
                self.certain[slot] = true;
            }
        }
        self.steps.push(Bind::Match(probe, wanted.text.clone()));
    }

    /// The variables as conditions see them.
    fn variables(&self) -> BTreeMap<String, Binding> {
        let columns = self.names.iter().zip(&self.slots);
        let bindings = columns.filter_map(|(name, slot)| Some((name.clone(), Binding::new(slot.column()?.to_owned(), true))));
        bindings.collect()
    }
}

impl Translator<'_> {
    /// The solutions that agree with a basic graph pattern.
    pub fn join_basic(&mut self, left: Solutions, patterns: &[TriplePattern], graphs: &Graphs) -> Result<Solutions> {
        let wanted = self.wanted(patterns, graphs)?;
        self.join_where(left, wanted, &mut Vec::new(), graphs)
    }

    /// A basic graph pattern with conditions: the solutions, and the conditions that are still to be tried.
    pub fn basic_where<'c>(
        &mut self,
        patterns: &[TriplePattern],
        condition: &'c Expression,
        graphs: &Graphs,
    ) -> Result<(Solutions, Vec<&'c Expression>)> {
        let names = scope::mentioned_in(patterns);
        let (mut pending, others) = match self.injected.is_none() {
            true => conditions_on(condition, &names),
            false => (Vec::new(), vec![condition]),
        };
        let wanted = self.wanted(patterns, graphs)?;
        let found = self.join_where(Solutions::one()?, wanted, &mut pending, graphs)?;
        pending.extend(others);
        Ok((found, pending))
    }

    /// Tries the conditions of which all variables have values by now.
    pub fn keep_bound(
        &mut self,
        pending: &mut Vec<&Expression>,
        bound: &[String],
        steps: &mut Steps,
        input: &BTreeMap<String, Binding>,
    ) -> Result<()> {
        let is_ready = |part: &mut &Expression| scope::of_expression(part).iter().all(|name| bound.contains(name));
        for condition in pending.extract_if(.., is_ready).collect::<Vec<_>>() {
            let keep = self.keep(condition, steps, input)?;
            steps.steps.push(keep);
        }
        Ok(())
    }

    /// Triple patterns with the ids of their terms.
    pub fn wanted(&self, patterns: &[TriplePattern], graphs: &Graphs) -> Result<Vec<Wanted>> {
        let wanted = patterns.iter().map(|pattern| {
            let predicate = match &pattern.predicate {
                NamedNodePattern::NamedNode(iri) => Slot::Constant(self.context.id(Encoded::iri(iri.as_ref()))?),
                NamedNodePattern::Variable(variable) => Slot::Variable(variable.as_str().to_owned()),
            };
            Ok(Wanted {
                slots: [self.slot(&pattern.subject)?, predicate, self.slot(&pattern.object)?],
                graphs: graphs.clone(),
                text: pattern.to_string(),
            })
        });
        wanted.collect()
    }

    /// The solutions after some steps.
    pub fn bound(&mut self, left: Solutions, steps: Steps, rows: f64) -> Result<Solutions> {
        if steps.steps.is_empty() {
            return Ok(left);
        }
        let Steps {
            steps,
            names,
            mut slots,
            certain,
            ..
        } = steps;
        let mut variables = left.variables;
        for ((name, slot), certain) in names.into_iter().zip(&mut slots).zip(certain) {
            if let Some((column, optional)) = &mut slot.output {
                *optional = !certain;
                variables.insert(name, Binding::new(column.clone(), *optional));
            }
        }
        let join = BindJoin {
            steps,
            slots,
            rows,
            most: rows,
        };
        Ok(Solutions {
            plan: bind::bind(left.plan, Arc::clone(&self.index), join)?,
            variables,
            order: Vec::new(),
            estimate: None,
        })
    }

    /// OPTIONAL as a bind join, where that is right and better than another; gives the left side back where not.
    pub fn bind_left_join(
        &mut self,
        left: Solutions,
        right: &GraphPattern,
        condition: Option<&Expression>,
        graphs: &Graphs,
    ) -> Result<std::result::Result<Solutions, Solutions>> {
        let has_labels = condition.is_some_and(scope::labels_blank_nodes);
        let outer: scope::Names = left.variables.keys().cloned().collect();
        let Some(estimate) = left
            .estimate
            .as_ref()
            .filter(|_| self.injected.is_none() && !has_labels && can_bind(right, &outer))
        else {
            return Ok(Err(left));
        };
        let estimate = estimate.of_variables(|name| outer.contains(name));
        if !self.looks_up(right, graphs, estimate.rows)? {
            return Ok(Err(left));
        }
        let mut steps = Steps::new();
        let (mut inner, mut after) = self.group(right, graphs, &mut steps, &left.variables, &estimate)?;
        if let Some(condition) = condition {
            inner.push(self.keep(condition, &mut steps, &left.variables)?);
        }
        steps.steps.push(Bind::Optional(inner));
        after.rows = after.rows.max(estimate.rows);
        let mut joined = self.bound(left, steps, after.rows)?;
        joined.estimate = Some(after);
        Ok(Ok(joined))
    }

    /// Whether it is better to look a pattern up for each of so many solutions than to read all that matches it. [`can_bind`] holds for it.
    fn looks_up(&self, pattern: &GraphPattern, graphs: &Graphs, rows: f64) -> Result<bool> {
        let mut patterns = Vec::new();
        basic_parts(pattern, &mut patterns);
        let by_lookup = rows * LOOKUP * patterns.len() as f64;
        let by_hash = self.hash_cost(pattern, graphs, rows)?;
        Ok(match self.join {
            SparqlJoin::Auto | SparqlJoin::Search => by_lookup <= by_hash,
            SparqlJoin::Lookup => true,
            SparqlJoin::Hash => false,
        })
    }

    /// What it costs to read all that matches a pattern and to join it to so many solutions.
    fn hash_cost(&self, pattern: &GraphPattern, graphs: &Graphs, rows: f64) -> Result<f64> {
        let mut patterns = Vec::new();
        basic_parts(pattern, &mut patterns);
        let mut cost = JOIN;
        for wanted in self.wanted(&patterns.into_iter().cloned().collect::<Vec<_>>(), graphs)? {
            cost += JOIN + wanted.alone(&self.index)? * SCANNED + rows * HASHED;
        }
        Ok(cost)
    }

    /// Solutions and a UNION: its parts are looked up for each, where that is right and better than another.
    pub fn join_union(&mut self, left: &GraphPattern, right: &GraphPattern, graphs: &Graphs) -> Result<Option<Solutions>> {
        let (left, union) = match (left, right) {
            (left, GraphPattern::Union { .. }) => (left, right),
            (GraphPattern::Union { .. }, right) => (right, left),
            _ => return Ok(None),
        };
        if self.injected.is_some() || !can_bind(union, &scope::mentioned(left)) {
            return Ok(None);
        }
        let is_basic = matches!(left, GraphPattern::Bgp { .. });
        let left = self.pattern(left, graphs)?.visible();
        match self.union_of_each(left, union, graphs)? {
            Ok(joined) => Ok(Some(joined)),
            // The union may have few solutions, for which triples are looked up.
            Err(_) if is_basic => Ok(None),
            Err(left) => {
                let union = self.pattern(union, graphs)?.visible();
                left.join(&mut self.names, union).map(Some)
            }
        }
    }

    /// A UNION that is looked up, where that is right and better than another.
    pub fn lookup_union(&mut self, union: &GraphPattern, graphs: &Graphs) -> Result<Option<Solutions>> {
        if self.injected.is_some() || matches!(graphs, Graphs::Each(..)) || !can_bind(union, &scope::Names::new()) {
            return Ok(None);
        }
        Ok(self.union_of_each(Solutions::one()?, union, graphs)?.ok())
    }

    /// Solutions with what the parts of a UNION make of each, as a bind join; gives them back where another is better.
    fn union_of_each(
        &mut self,
        left: Solutions,
        union: &GraphPattern,
        graphs: &Graphs,
    ) -> Result<std::result::Result<Solutions, Solutions>> {
        let Some(estimate) = &left.estimate else { return Ok(Err(left)) };
        let estimate = estimate.of_variables(|name| left.variables.contains_key(name));
        if !self.looks_up(union, graphs, estimate.rows)? {
            return Ok(Err(left));
        }
        let mut steps = Steps::new();
        let (parts, after) = self.group(union, graphs, &mut steps, &left.variables, &estimate)?;
        // Within a part, what was found for its first triples is looked up by the others.
        if self.join != SparqlJoin::Lookup && steps.cost > self.hash_cost(union, graphs, estimate.rows)? {
            return Ok(Err(left));
        }
        steps.steps = parts;
        let certain = scope::certain(union);
        for (name, is_certain) in steps.names.iter().zip(&mut steps.certain) {
            *is_certain |= certain.contains(name);
        }
        let mut joined = self.bound(left, steps, after.rows)?;
        joined.estimate = Some(after);
        Ok(Ok(joined))
    }

    fn keep(&mut self, condition: &Expression, steps: &mut Steps, input: &BTreeMap<String, Binding>) -> Result<Bind> {
        for name in scope::of_expression(condition) {
            if input.contains_key(&name) {
                steps.slot(&mut self.names, input, &name);
            }
        }
        let variables = steps.variables();
        Ok(Bind::Keep(self.expressions(&variables).boolean(condition)?))
    }

    /// The steps of a group that [`can_bind`] holds for, and what is expected after them.
    fn group(
        &mut self,
        pattern: &GraphPattern,
        graphs: &Graphs,
        steps: &mut Steps,
        input: &BTreeMap<String, Binding>,
        estimate: &Estimate,
    ) -> Result<(Vec<Bind>, Estimate)> {
        match pattern {
            GraphPattern::Bgp { patterns } => {
                let mut wanted = self.wanted(patterns, graphs)?;
                let mut bound: Vec<String> = input.keys().cloned().collect();
                let mut estimate = estimate.clone();
                let mut found = Vec::new();
                while !wanted.is_empty() {
                    let (next, _) = self.next(&wanted, &bound, Some(&estimate))?;
                    let next = wanted.remove(next);
                    found.push(Bind::Match(steps.probe(&mut self.names, input, &next), next.text.clone()));
                    bound.extend(next.variables().map(str::to_owned));
                    let before = estimate.rows;
                    estimate = estimate.left_joined(&self.index, &next)?;
                    steps.cost += order::costs(before, estimate.rows, 0.0).0;
                }
                Ok((found, estimate))
            }
            GraphPattern::LeftJoin { left, right, expression } => {
                let (mut found, estimate) = self.group(left, graphs, steps, input, estimate)?;
                let (mut inner, estimate) = self.group(right, graphs, steps, input, &estimate)?;
                if let Some(condition) = expression {
                    inner.push(self.keep(condition, steps, input)?);
                }
                found.push(Bind::Optional(inner));
                Ok((found, estimate))
            }
            GraphPattern::Union { left, right } => {
                let (left, first) = self.group(left, graphs, steps, input, estimate)?;
                let (right, second) = self.group(right, graphs, steps, input, estimate)?;
                let mut parts = Vec::new();
                for part in [left, right] {
                    // A union of unions is one.
                    match <[Bind; 1]>::try_from(part) {
                        Ok([Bind::Each(more)]) => parts.extend(more),
                        Ok([one]) => parts.push(vec![one]),
                        Err(several) => parts.push(several),
                    }
                }
                Ok((vec![Bind::Each(parts)], first.and(second)))
            }
            GraphPattern::Filter { expr, inner } => {
                let (mut found, estimate) = self.group(inner, graphs, steps, input, estimate)?;
                found.push(self.keep(expr, steps, input)?);
                Ok((found, estimate))
            }
            _ => Err(crate::Error::internal("a pattern that is no bind join")),
        }
    }
}

/// Whether a pattern is one of triples, conditions and optional parts that finds the same where it sees the solutions it is joined to as where
/// it does not: what such a part sees of them must be bound by the pattern before ("well designed": Pérez, Arenas and Gutierrez, "Semantics and
/// complexity of SPARQL", 2009).
fn can_bind(pattern: &GraphPattern, outer: &scope::Names) -> bool {
    let sees = |names: &scope::Names, certain: &scope::Names| names.iter().any(|name| outer.contains(name) && !certain.contains(name));
    match pattern {
        GraphPattern::Bgp { patterns } => !patterns.is_empty(),
        GraphPattern::LeftJoin { left, right, expression } => {
            let before = scope::certain(left);
            let mut outer_of_right = outer.clone();
            outer_of_right.extend(scope::mentioned(left));
            can_bind(left, outer)
                && can_bind(right, &outer_of_right)
                && !sees(&scope::mentioned(right), &before)
                && expression.as_ref().is_none_or(|condition| {
                    let both = &before | &scope::certain(right);
                    is_plain(condition) && !sees(&scope::of_expression(condition), &both)
                })
        }
        GraphPattern::Union { left, right } => can_bind(left, outer) && can_bind(right, outer),
        GraphPattern::Filter { expr, inner } => {
            can_bind(inner, outer) && is_plain(expr) && !sees(&scope::of_expression(expr), &scope::certain(inner))
        }
        _ => false,
    }
}

/// The parts of a condition that can be tried as soon as some variables have values, and the others.
pub fn conditions_on<'c>(condition: &'c Expression, names: &scope::Names) -> (Vec<&'c Expression>, Vec<&'c Expression>) {
    scope::conjuncts(condition).into_iter().partition(|part| {
        let seen = scope::of_expression(part);
        is_plain(part) && !seen.is_empty() && seen.is_subset(names)
    })
}

/// Whether a condition needs nothing but the values of variables, and is the same however often it is tried.
fn is_plain(condition: &Expression) -> bool {
    !scope::has_exists(condition) && !scope::is_made_anew(condition)
}

/// The triple patterns of a pattern that [`can_bind`] holds for.
fn basic_parts<'a>(pattern: &'a GraphPattern, parts: &mut Vec<&'a TriplePattern>) {
    match pattern {
        GraphPattern::Bgp { patterns } => parts.extend(patterns),
        GraphPattern::LeftJoin { left, right, .. } | GraphPattern::Union { left, right } => {
            basic_parts(left, parts);
            basic_parts(right, parts);
        }
        GraphPattern::Filter { inner, .. } => basic_parts(inner, parts),
        _ => {}
    }
}
