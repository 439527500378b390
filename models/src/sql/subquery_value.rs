//! `x IN (subquery)` and `EXISTS (subquery)` as values, in a list of SELECT: DataFusion has them as conditions only. Rewritten on the
//! syntax tree to counts.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Query, Select, SelectItem, SetExpr, Statement, TableFactor, UnaryOperator, VisitMut, VisitorMut,
};

use super::parse::parse_expression;
use super::quantified::ungrouped;
use crate::error::Error;

/// Stands for the left side of IN in the template.
const LEFT: &str = "__left";

/// Rewrites what stands in lists of SELECT, everywhere in a statement.
pub(super) fn rewrite(statement: &mut Statement) -> ControlFlow<Error> {
    statement.visit(&mut Lists)
}

struct Lists;

impl VisitorMut for Lists {
    type Break = Error;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                expr.visit(&mut Values { depth: 0 })?;
            }
        }
        ControlFlow::Continue(())
    }
}

/// Rewrites an expression, but not the queries inside: those have lists and conditions of their own.
struct Values {
    depth: usize,
}

impl VisitorMut for Values {
    type Break = Error;

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Error> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Error> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        let (rewritten, negated) = match expr {
            Expr::InSubquery { expr, subquery, negated } => (is_in(expr, subquery), *negated),
            Expr::Exists { subquery, negated } => (exists(subquery), *negated),
            _ => return ControlFlow::Continue(()),
        };
        match rewritten {
            Ok(value) => {
                let value = Expr::Nested(Box::new(value));
                *expr = match negated {
                    true => Expr::UnaryOp {
                        op: UnaryOperator::Not,
                        expr: Box::new(value),
                    },
                    false => value,
                };
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// True if a value is equal, else unknown if a null could be, else false.
fn is_in(left: &Expr, query: &Query) -> crate::Result<Expr> {
    let from = "FROM (SELECT 1) AS __q(__value)";
    let mut expr = parse_expression(&format!(
        "CASE WHEN (SELECT count(*) {from} WHERE __q.__value = {LEFT}) > 0 THEN true \
         WHEN {LEFT} IS NULL AND (SELECT count(*) {from}) > 0 THEN NULL \
         WHEN (SELECT count(*) - count(__q.__value) {from}) > 0 THEN NULL ELSE false END"
    ))?;
    let _: ControlFlow<()> = expr.visit(&mut Fill { left: Some(left), query });
    Ok(expr)
}

fn exists(query: &Query) -> crate::Result<Expr> {
    let mut expr = parse_expression("(SELECT count(*) FROM (SELECT 1) AS __q) > 0")?;
    let _: ControlFlow<()> = expr.visit(&mut Fill { left: None, query });
    Ok(expr)
}

/// Puts the left side and the query into a template.
struct Fill<'a> {
    left: Option<&'a Expr>,
    query: &'a Query,
}

impl VisitorMut for Fill<'_> {
    type Break = ();

    // After the visit of what they replace, so that what is put in is not searched for templates.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(left) = self.left
            && matches!(expr, Expr::Identifier(ident) if ident.value == LEFT)
        {
            *expr = Expr::Nested(Box::new(left.clone()));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(outer) = query.body.as_mut() else {
            return ControlFlow::Continue(());
        };
        let Some(from) = outer.from.first_mut() else {
            return ControlFlow::Continue(());
        };
        // Columns from outside are found in a subquery, but not in a table made from one.
        match rows_of(self.query).filter(|_| self.left.is_none()) {
            Some(rows) => {
                let mut rows = rows.clone();
                rows.projection = std::mem::take(&mut outer.projection);
                **outer = rows;
            }
            None => {
                if let TableFactor::Derived { subquery, .. } = &mut from.relation {
                    **subquery = self.query.clone();
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// A query that gives a row for each row of its FROM and WHERE.
fn rows_of(query: &Query) -> Option<&Select> {
    let select = ungrouped(query)?;
    let aggregates = select.projection.iter().any(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            !matches!(expr, Expr::Value(_) | Expr::Identifier(_) | Expr::CompoundIdentifier(_))
        }
        _ => false,
    });
    (!aggregates).then_some(select)
}
