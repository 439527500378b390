//! How large plans become: some patterns are translated more than once, some plans stand in several places, and the optimizer puts expressions
//! where they are used. A text of a few hundred bytes could so become more than there is memory, before anything runs.

use std::collections::HashMap;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use spargebra::algebra::{Expression, GraphPattern, OrderExpression};

use super::scope;
use crate::error::{Error, Result};

/// Nodes of an expression that may be written out where it is used.
pub const INLINED: usize = 64;
/// Most patterns that are translated for one query, those that are so more than once counted each time.
const MAX_TRANSLATED: usize = 1024;
/// Most nodes of a plan, those in several places counted in each.
const MAX_NODES: usize = 32_768;
/// Most nodes of all expressions of a query.
const MAX_EXPRESSIONS: usize = 250_000;

fn too_large(what: &str, most: usize) -> Error {
    Error::invalid("54001", format!("the query becomes more than {most} {what}")).with_hint("ask in several queries")
}

/// What has been made for a query so far.
#[derive(Debug, Default)]
pub struct Growth {
    translated: usize,
    /// The nodes of the expressions behind columns.
    sizes: HashMap<String, usize>,
}

impl Growth {
    /// Counts a pattern that is translated.
    pub fn translate(&mut self) -> Result<()> {
        self.translated += 1;
        match self.translated > MAX_TRANSLATED {
            true => Err(too_large("patterns", MAX_TRANSLATED)),
            false => Ok(()),
        }
    }

    /// The nodes of an expression, with those of the columns that it uses.
    pub fn size(&self, expression: &Expr) -> Result<usize> {
        let mut size = 0_usize;
        expression.apply(|node| {
            let own = match node {
                Expr::Column(column) => self.sizes.get(&column.name).copied().unwrap_or(1),
                _ => 1,
            };
            size = size.saturating_add(own);
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(size)
    }

    /// Notes the size of what a column is computed from.
    pub fn note(&mut self, column: &str, size: usize) {
        self.sizes.insert(column.to_owned(), size);
    }
}

/// The nodes of a plan, counted until they are more than so many.
pub fn nodes(plan: &LogicalPlan, most: usize) -> Result<usize> {
    let mut nodes = 0;
    plan.apply(|_| {
        nodes += 1;
        Ok(match nodes > most {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(nodes)
}

/// Refuses a plan that is too large to be planned.
pub fn check_plan(plan: &LogicalPlan) -> Result<()> {
    match nodes(plan, MAX_NODES)? > MAX_NODES {
        true => Err(too_large("operators of a plan", MAX_NODES)),
        false => Ok(()),
    }
}

/// Refuses a pattern whose expressions are too large to be translated.
pub fn check_expressions(pattern: &GraphPattern) -> Result<()> {
    match of_pattern(pattern) > MAX_EXPRESSIONS {
        true => Err(too_large("operators of expressions", MAX_EXPRESSIONS)),
        false => Ok(()),
    }
}

fn of_pattern(pattern: &GraphPattern) -> usize {
    match pattern {
        GraphPattern::Bgp { .. } | GraphPattern::Path { .. } | GraphPattern::Values { .. } => 0,
        GraphPattern::Join { left, right } | GraphPattern::Union { left, right } | GraphPattern::Minus { left, right } => {
            of_pattern(left).saturating_add(of_pattern(right))
        }
        GraphPattern::LeftJoin { left, right, expression } => of_pattern(left)
            .saturating_add(of_pattern(right))
            .saturating_add(expression.as_ref().map_or(0, of_expression)),
        GraphPattern::Filter { expr, inner } => of_pattern(inner).saturating_add(of_expression(expr)),
        GraphPattern::Extend { inner, expression, .. } => of_pattern(inner).saturating_add(of_expression(expression)),
        GraphPattern::OrderBy { inner, expression } => {
            let keys = expression
                .iter()
                .map(|(OrderExpression::Asc(key) | OrderExpression::Desc(key))| of_expression(key));
            keys.fold(of_pattern(inner), usize::saturating_add)
        }
        GraphPattern::Group { inner, aggregates, .. } => {
            let arguments = aggregates.iter().filter_map(|(_, aggregate)| scope::argument(aggregate));
            arguments.map(of_expression).fold(of_pattern(inner), usize::saturating_add)
        }
        GraphPattern::Graph { inner, .. }
        | GraphPattern::Project { inner, .. }
        | GraphPattern::Distinct { inner }
        | GraphPattern::Reduced { inner }
        | GraphPattern::Slice { inner, .. }
        | GraphPattern::Service { inner, .. } => of_pattern(inner),
    }
}

fn of_expression(expression: &Expression) -> usize {
    let all = |list: &[Expression]| list.iter().map(of_expression).fold(1, usize::saturating_add);
    match expression {
        Expression::NamedNode(_) | Expression::Literal(_) | Expression::Variable(_) | Expression::Bound(_) => 1,
        Expression::Exists(pattern) => of_pattern(pattern).saturating_add(1),
        Expression::Or(left, right)
        | Expression::And(left, right)
        | Expression::Equal(left, right)
        | Expression::SameTerm(left, right)
        | Expression::Greater(left, right)
        | Expression::GreaterOrEqual(left, right)
        | Expression::Less(left, right)
        | Expression::LessOrEqual(left, right)
        | Expression::Add(left, right)
        | Expression::Subtract(left, right)
        | Expression::Multiply(left, right)
        | Expression::Divide(left, right) => of_expression(left).saturating_add(of_expression(right)).saturating_add(1),
        Expression::UnaryPlus(inner) | Expression::UnaryMinus(inner) | Expression::Not(inner) => of_expression(inner).saturating_add(1),
        // It is compared with each.
        Expression::In(inner, list) => of_expression(inner).saturating_mul(list.len()).saturating_add(all(list)),
        Expression::If(condition, yes, no) => [condition, yes, no]
            .iter()
            .map(|part| of_expression(part))
            .fold(1, usize::saturating_add),
        Expression::Coalesce(list) | Expression::FunctionCall(_, list) => all(list),
    }
}
