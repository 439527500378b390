//! `x op ANY (subquery)` and `x op ALL (subquery)` with the standard's three values, rewritten on the syntax tree: DataFusion has `IN` only.
//!
//! An ordering holds for all values if it holds for their least or greatest. Of no values it is true, and it is unknown where only a null
//! stands in its way. ANY is the negation of ALL of the negated comparison.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, Query, Select, SelectItem, SetExpr, TableFactor, UnaryOperator, VisitMut, VisitorMut,
    visit_expressions,
};

use super::parse::parse_expression;
use crate::error::{Error, Result};

/// Stands for the left side in the templates.
const LEFT: &str = "__left";

/// `left operator ANY (query)`.
pub(crate) fn any(left: Expr, operator: &BinaryOperator, query: Query) -> Result<Expr> {
    let negated = match operator {
        BinaryOperator::Eq => return Ok(is_in(left, query, false)),
        BinaryOperator::NotEq => BinaryOperator::Eq,
        BinaryOperator::Lt => BinaryOperator::GtEq,
        BinaryOperator::LtEq => BinaryOperator::Gt,
        BinaryOperator::Gt => BinaryOperator::LtEq,
        BinaryOperator::GtEq => BinaryOperator::Lt,
        other => return Err(unsupported(other)),
    };
    Ok(Expr::UnaryOp {
        op: UnaryOperator::Not,
        expr: Box::new(Expr::Nested(Box::new(all(left, &negated, query)?))),
    })
}

/// `left operator ALL (query)`.
pub(crate) fn all(left: Expr, operator: &BinaryOperator, query: Query) -> Result<Expr> {
    let bound = |function: &str| format!("{LEFT} {operator} (SELECT {function}(q.c) FROM (SELECT 1) AS q(c))");
    let holds = match operator {
        BinaryOperator::NotEq => return Ok(is_in(left, query, true)),
        BinaryOperator::Eq => format!("{} AND {}", bound("min"), bound("max")),
        BinaryOperator::Lt | BinaryOperator::LtEq => bound("min"),
        BinaryOperator::Gt | BinaryOperator::GtEq => bound("max"),
        other => return Err(unsupported(other)),
    };
    let mut expr = parse_expression(&format!(
        "CASE WHEN (SELECT count(*) FROM (SELECT 1) AS q(c)) = 0 THEN true WHEN NOT ({holds}) THEN false \
         WHEN {LEFT} IS NULL OR (SELECT count(*) - count(q.c) FROM (SELECT 1) AS q(c)) > 0 THEN NULL ELSE true END"
    ))?;
    let _: ControlFlow<()> = expr.visit(&mut Fill { left, query });
    Ok(expr)
}

fn is_in(left: Expr, query: Query, negated: bool) -> Expr {
    Expr::InSubquery {
        expr: Box::new(left),
        subquery: Box::new(query),
        negated,
    }
}

fn unsupported(operator: &BinaryOperator) -> Error {
    Error::unsupported(format!("ANY and ALL over a subquery are not supported with {operator}")).with_hint("use EXISTS")
}

/// Puts the left side and the subquery into a template.
struct Fill {
    left: Expr,
    query: Query,
}

impl VisitorMut for Fill {
    type Break = ();

    // After the visit of what they replace, so that what is put in is not searched for templates.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if matches!(expr, Expr::Identifier(ident) if ident.value == LEFT) {
            *expr = Expr::Nested(Box::new(self.left.clone()));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        // The inner template, `(SELECT 1) AS q(c)`, has no FROM.
        if let SetExpr::Select(outer) = query.body.as_mut()
            && let Some(from) = outer.from.first_mut()
            && let Some(item) = outer.projection.first_mut()
        {
            match plain(&self.query) {
                Some((select, value)) => {
                    let mut select = select.clone();
                    let mut item = item.clone();
                    let _: ControlFlow<()> = item.visit(&mut PutValue(value));
                    select.projection = vec![item];
                    *query.body = SetExpr::Select(Box::new(select));
                }
                None => {
                    if let TableFactor::Derived { subquery, .. } = &mut from.relation {
                        **subquery = self.query.clone();
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// A query that gives one value for each row of its FROM and WHERE, whose aggregate can stand in the same SELECT. That matters where the
/// query refers to columns outside: the planner finds those in a subquery, but not in a table made from one.
fn plain(query: &Query) -> Option<(&Select, &Expr)> {
    let select = ungrouped(query)?;
    let [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] = select.projection.as_slice() else {
        return None;
    };
    // Any function may be an aggregate.
    let calls = visit_expressions(value, |expr| match expr {
        Expr::Function(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    calls.is_continue().then_some((select, value))
}

/// A query that, unless its list aggregates, gives a row for each row of its FROM and WHERE.
pub(super) fn ungrouped(query: &Query) -> Option<&Select> {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty()) || select.having.is_some();
    let cut = select.distinct.is_some() || query.limit_clause.is_some() || query.with.is_some();
    (!grouped && !cut && !select.from.is_empty()).then_some(select)
}

/// Puts a value in place of `q.c`.
struct PutValue<'a>(&'a Expr);

impl VisitorMut for PutValue<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if matches!(expr, Expr::CompoundIdentifier(parts) if parts.len() == 2 && parts[0].value == "q" && parts[1].value == "c") {
            *expr = Expr::Nested(Box::new(self.0.clone()));
        }
        ControlFlow::Continue(())
    }
}
