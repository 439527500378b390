//! `EXISTS`: a pattern in an expression, which sees the solution it is asked for.
//!
//! Where the pattern finds the same whether it sees the solution's values or not, it is a plan of its own that is joined (semi, anti or mark
//! join) on what both bind. Where it does not (a condition on a variable that only the outer side binds, an OPTIONAL, a MINUS), the different
//! values of the outer variables are joined to every leaf of the pattern first (the domain of Neumann and Kemper, "Unnesting arbitrary
//! queries", 2015), so that the pattern is matched for each of them by itself.

use datafusion::common::JoinType;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::prelude::{ident, lit};
use spargebra::algebra::{Expression, GraphPattern};
use spargebra::term::{NamedNodePattern, Variable};

use super::growth;
use super::operator::Operator;
use super::pattern::Translator;
use super::projected::projected;
use super::scope::{self, Names};
use super::solutions::{Binding, Solutions, compatible, first_of, is_hidden, is_key};
use super::triple::Graphs;
use crate::error::Result;
use crate::rdf::term_id::TermId;

/// The hidden variable that tells a solution from others.
pub const SOLUTION: &str = "#solution";
/// With what the names of hidden truth values begin.
const MARK: &str = "#exists";

/// Whether a variable is a truth value instead of a term.
pub fn is_mark(name: &str) -> bool {
    name.starts_with(MARK)
}

/// Values of outer variables that are joined to the leaves of a pattern.
#[derive(Clone)]
pub struct Injected {
    /// One solution for each different combination, with its keys.
    pub solutions: Solutions,
    /// The variables, which the pattern sees as if they were terms.
    pub fixed: Names,
}

impl Injected {
    /// Whether the outer solution that a solution within belongs to leaves a variable unbound; `None` where each binds it.
    pub fn is_unbound(&self, name: &str, within: &Solutions) -> Option<Expr> {
        let optional = self.solutions.variables.get(name).is_some_and(|binding| binding.optional);
        let key = within.variables.get(&key_name(name)).filter(|_| optional)?;
        Some(key.expr().eq(lit(TermId::DEFAULT_GRAPH.0)))
    }
}

type Sides = (Solutions, Solutions, Option<Vec<Expr>>);

/// A value that is never null: the default graph's id, which no variable has, stands for an unbound one.
fn key_of(binding: &Binding) -> Expr {
    match binding.optional {
        true => first_of(vec![binding.expr(), lit(TermId::DEFAULT_GRAPH.0)]),
        false => binding.expr(),
    }
}

fn key_name(name: &str) -> String {
    format!("=outer {name}")
}

impl Translator<'_> {
    /// Makes what an expression needs beside the solution's variables: the truth of each EXISTS, and what labels of blank nodes are told by.
    pub fn prepare(&mut self, mut solutions: Solutions, expression: &Expression, graphs: &Graphs) -> Result<(Solutions, Expression)> {
        if scope::labels_blank_nodes(expression) && !solutions.variables.contains_key(SOLUTION) {
            let new = Operator::Blank.call(&self.context, Vec::new());
            solutions = solutions.extend(&mut self.names, SOLUTION, new, false)?;
        }
        if !scope::has_exists(expression) {
            return Ok((solutions, expression.clone()));
        }
        let mut left = Some(solutions);
        let prepared = scope::replace_exists(expression.clone(), &mut |pattern| {
            let solutions = left.take().ok_or_else(|| crate::Error::internal("solutions are gone"))?;
            let (marked, name) = self.mark(solutions, &pattern, graphs)?;
            left = Some(marked);
            Ok::<_, crate::Error>(Expression::Variable(Variable::new_unchecked(name)))
        })?;
        let solutions = left.ok_or_else(|| crate::Error::internal("solutions are gone"))?;
        Ok((solutions, prepared))
    }

    /// Keeps the solutions for which a condition is true.
    pub fn filtered(&mut self, solutions: Solutions, condition: &Expression, graphs: &Graphs) -> Result<Solutions> {
        match condition {
            Expression::And(left, right) if scope::has_exists(condition) => {
                // What needs no other pattern goes first.
                let (first, second) = match scope::has_exists(left) {
                    true => (right, left),
                    false => (left, right),
                };
                let solutions = self.filtered(solutions, first, graphs)?;
                self.filtered(solutions, second, graphs)
            }
            Expression::Exists(pattern) => self.semi_join(solutions, pattern, graphs, JoinType::LeftSemi),
            Expression::Not(inner) if let Expression::Exists(pattern) = inner.as_ref() => {
                self.semi_join(solutions, pattern, graphs, JoinType::LeftAnti)
            }
            _ => {
                let waits = |part: &&Expression| {
                    let estimate = solutions.estimate.as_ref();
                    estimate.is_some_and(|estimate| estimate.waits(&scope::of_expression(part)))
                };
                let (late, early) = scope::conjuncts(condition).into_iter().partition::<Vec<_>, _>(waits);
                let mut solutions = solutions;
                for (parts, is_late) in [(early, false), (late, true)] {
                    let Some(all) = scope::all_of(parts) else { continue };
                    let (prepared, condition) = self.prepare(solutions, &all, graphs)?;
                    let condition = self.expressions(&prepared.variables).boolean(&condition)?;
                    solutions = match is_late {
                        true => prepared.filter_here(&mut self.names, condition)?,
                        false => prepared.filter(condition)?,
                    };
                }
                Ok(solutions)
            }
        }
    }

    fn semi_join(&mut self, solutions: Solutions, pattern: &GraphPattern, graphs: &Graphs, kind: JoinType) -> Result<Solutions> {
        let (solutions, inner, on) = self.sides(solutions, pattern, graphs)?;
        match on {
            Some(on) => solutions.joined(inner, kind, on),
            None => self.kept(solutions, inner, kind),
        }
    }

    /// The solutions with a further hidden variable: whether the pattern has a solution for each.
    fn mark(&mut self, solutions: Solutions, pattern: &GraphPattern, graphs: &Graphs) -> Result<(Solutions, String)> {
        let (solutions, inner, on) = self.sides(solutions, pattern, graphs)?;
        let on = on.unwrap_or_else(|| compatible(&solutions, &inner));
        let column = self.names.fresh(MARK);
        let mut marked = solutions.joined(inner, JoinType::LeftMark, on)?;
        // The join calls its column so.
        let mut columns = marked.columns();
        columns.push(ident("mark").alias(&column));
        marked.plan = projected(marked.plan, columns)?;
        marked.variables.insert(column.clone(), Binding::new(column.clone(), false));
        Ok((marked, column))
    }

    /// The outer solutions, those of the pattern, and when one of these belongs to an outer one; `None`: where they agree.
    fn sides(&mut self, outer: Solutions, pattern: &GraphPattern, graphs: &Graphs) -> Result<Sides> {
        let before = self.injected.take();
        let result = self.sides_of(outer, pattern, graphs);
        self.injected = before;
        result
    }

    fn sides_of(&mut self, outer: Solutions, pattern: &GraphPattern, graphs: &Graphs) -> Result<Sides> {
        let visible: Names = outer.variables.keys().filter(|name| !is_hidden(name)).cloned().collect();
        let made = scope::made(pattern);
        let fixed: Names = scope::mentioned(pattern)
            .into_iter()
            .filter(|name| visible.contains(name) && !made.contains(name))
            .collect();
        if is_independent(pattern, &visible) || fixed.is_empty() {
            let inner = self.pattern(pattern, graphs)?.visible();
            return Ok((outer, inner, None));
        }
        let outer = self.shared(outer)?;
        self.injected = Some(self.inject(&outer, fixed)?);
        let inner = self.pattern(pattern, graphs)?;
        growth::check_plan(&inner.plan)?;
        let mut on = Vec::new();
        for (name, binding) in &outer.variables {
            if let Some(key) = inner.variables.get(&key_name(name)) {
                on.push(key_of(binding).eq(key.expr()));
            }
        }
        // What the pattern makes itself must agree as well, and so must the graph.
        let (mut left, mut right) = (outer.clone(), inner.clone());
        left.variables.retain(|name, _| made.contains(name) || is_key(name));
        right.variables.retain(|name, _| made.contains(name) || is_key(name));
        on.extend(compatible(&left, &right));
        Ok((outer, inner, Some(on)))
    }

    /// The different values that solutions give variables.
    pub fn inject(&mut self, outer: &Solutions, fixed: Names) -> Result<Injected> {
        let mut solutions = Solutions {
            plan: outer.plan.clone(),
            variables: Default::default(),
            order: Vec::new(),
            estimate: None,
        };
        let mut columns = Vec::new();
        for name in &fixed {
            let Some(binding) = outer.variables.get(name) else { continue };
            let column = self.names.fresh(name);
            columns.push(binding.expr().alias(&column));
            solutions.variables.insert(name.clone(), Binding::new(column, binding.optional));
            let column = self.names.fresh(name);
            columns.push(key_of(binding).alias(&column));
            solutions.variables.insert(key_name(name), Binding::new(column, false));
        }
        solutions.plan = LogicalPlanBuilder::from(solutions.plan).project(columns)?.distinct()?.build()?;
        Ok(Injected { solutions, fixed })
    }

    /// A leaf's solutions for each of the injected ones.
    pub fn with_injected(&mut self, leaf: Solutions) -> Result<Solutions> {
        let Some(injected) = self.injected.clone() else { return Ok(leaf) };
        // Each place where they are joined in needs columns of its own.
        let again = injected.solutions.renamed(&mut self.names)?;
        again.join(&mut self.names, leaf)
    }

    /// OPTIONAL whose condition has an EXISTS: the pairs that fulfil it, and the solutions that are in none.
    pub fn left_join_by_parts(
        &mut self,
        left: &GraphPattern,
        right: &GraphPattern,
        condition: &Expression,
        graphs: &Graphs,
    ) -> Result<Solutions> {
        let left = self.pattern(left, graphs)?.visible();
        let mut first = self.shared(left)?;
        let alone = Solutions {
            estimate: first.estimate.clone(),
            ..first.renamed(&mut self.names)?
        };
        let names: Vec<String> = first.variables.keys().cloned().collect();
        // Under a name that no join looks at, the value before the right side may bind it.
        for name in &names {
            let key = key_of(&first.variables[name]);
            first = first.extend(&mut self.names, &format!("#left {name}"), key, false)?;
        }
        let right = self.pattern(right, graphs)?;
        let pairs = first.join(&mut self.names, right)?;
        let pairs = self.filtered(pairs, condition, graphs)?;
        let pairs = self.shared(pairs)?;
        let taken = pairs.renamed(&mut self.names)?;
        let on = names
            .iter()
            .filter_map(|name| Some(key_of(alone.variables.get(name)?).eq(taken.variables.get(&format!("#left {name}"))?.expr())))
            .collect();
        let alone = alone.joined(taken, JoinType::LeftAnti, on)?;
        let all = pairs.visible().union(&mut self.names, alone)?;
        growth::check_plan(&all.plan)?;
        Ok(all)
    }
}

/// Whether a pattern finds the same in an EXISTS if it does not see the outer solution.
fn is_independent(pattern: &GraphPattern, outer: &Names) -> bool {
    let sees_own = |expression: &Expression, inner: &GraphPattern| {
        let own = scope::certain(inner);
        scope::of_expression(expression)
            .iter()
            .all(|name| own.contains(name) || !outer.contains(name))
    };
    match pattern {
        GraphPattern::Bgp { .. } | GraphPattern::Path { .. } | GraphPattern::Values { .. } => true,
        GraphPattern::Join { left, right } | GraphPattern::Union { left, right } => {
            is_independent(left, outer) && is_independent(right, outer)
        }
        GraphPattern::Graph { inner, .. } => is_independent(inner, outer),
        GraphPattern::Filter { expr, inner } => is_independent(inner, outer) && sees_own(expr, inner),
        GraphPattern::Extend { inner, expression, .. } => is_independent(inner, outer) && sees_own(expression, inner),
        // What a subquery does not give out is its own.
        GraphPattern::Project { .. }
        | GraphPattern::Distinct { .. }
        | GraphPattern::Reduced { .. }
        | GraphPattern::Slice { .. }
        | GraphPattern::OrderBy { .. }
        | GraphPattern::Group { .. } => true,
        // Within, it sees nothing; but its name may be an outer variable's value.
        GraphPattern::Service { name, .. } => !matches!(name, NamedNodePattern::Variable(name) if outer.contains(name.as_str())),
        GraphPattern::LeftJoin { .. } | GraphPattern::Minus { .. } => false,
    }
}
