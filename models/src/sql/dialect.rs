//! What DataFusion's planner would get wrong or refuses for its form only, rewritten or refused on the syntax tree.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Fetch, Ident, LimitClause, Offset, Query, Select, SelectItem, SetExpr, SetOperator, SetQuantifier, Statement,
    VisitMut, VisitorMut,
};

use crate::error::{Error, Result};

/// Rewrites a statement in place.
pub(crate) fn rewrite(statement: &mut Statement) -> Result<()> {
    match statement.visit(&mut Rewrite) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Gives every unnamed expression of every SELECT a name of its own: DataFusion refuses two columns of one name, `SELECT 1, 1`.
pub(crate) fn name_columns(statement: &mut Statement) {
    let _: ControlFlow<()> = statement.visit(&mut NameColumns);
}

struct Rewrite;

impl VisitorMut for Rewrite {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        if let Some(fetch) = query.fetch.take()
            && let Err(error) = fetch_to_limit(query, fetch)
        {
            return ControlFlow::Break(error);
        }
        check_set_operation(&query.body)
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            Expr::AnyOp {
                left,
                compare_op: BinaryOperator::Eq,
                right,
                ..
            } => {
                if let Expr::Subquery(subquery) = right.as_ref() {
                    *expr = Expr::InSubquery {
                        expr: left.clone(),
                        subquery: subquery.clone(),
                        negated: false,
                    };
                }
                ControlFlow::Continue(())
            }
            Expr::AllOp {
                left,
                compare_op: BinaryOperator::NotEq,
                right,
            } => {
                if let Expr::Subquery(subquery) = right.as_ref() {
                    *expr = Expr::InSubquery {
                        expr: left.clone(),
                        subquery: subquery.clone(),
                        negated: true,
                    };
                }
                ControlFlow::Continue(())
            }
            // The planner would keep every row.
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } if matches!(right.as_ref(), Expr::Subquery(_)) => ControlFlow::Break(
                Error::unsupported("ANY and ALL over a subquery are supported as = ANY and <> ALL only")
                    .with_hint("compare with (SELECT min(…)) or (SELECT max(…)), or use EXISTS"),
            ),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// `FETCH FIRST n ROWS ONLY` is `LIMIT n`.
fn fetch_to_limit(query: &mut Query, fetch: Fetch) -> Result<()> {
    if fetch.with_ties || fetch.percent {
        return Err(Error::unsupported("FETCH … WITH TIES and PERCENT are not supported"));
    }
    let limit = match fetch.quantity {
        Some(quantity) => quantity,
        None => super::parse::parse_expression("1")?,
    };
    let offset: Option<Offset> = match query.limit_clause.take() {
        None => None,
        Some(LimitClause::LimitOffset {
            limit: None,
            offset,
            limit_by,
        }) if limit_by.is_empty() => offset,
        Some(_) => return Err(Error::invalid("42601", "LIMIT and FETCH cannot stand together")),
    };
    query.limit_clause = Some(LimitClause::LimitOffset {
        limit: Some(limit),
        offset,
        limit_by: Vec::new(),
    });
    Ok(())
}

/// The planner would answer EXCEPT ALL and INTERSECT ALL without counting duplicates.
fn check_set_operation(body: &SetExpr) -> ControlFlow<Error> {
    let mut body = body;
    // Chains lean to the left; what stands on the right in parentheses is a query of its own, which is visited too.
    while let SetExpr::SetOperation {
        op, set_quantifier, left, ..
    } = body
    {
        if matches!(op, SetOperator::Except | SetOperator::Intersect) && matches!(set_quantifier, SetQuantifier::All) {
            return ControlFlow::Break(
                Error::unsupported(format!("{op} ALL is not supported")).with_hint(format!("use {op}, or count with GROUP BY")),
            );
        }
        body = left;
    }
    ControlFlow::Continue(())
}

struct NameColumns;

impl VisitorMut for NameColumns {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let mut used: Vec<String> = Vec::with_capacity(select.projection.len());
        for item in &mut select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let text = match &*expr {
                        Expr::Identifier(ident) => super::name::fold(ident),
                        Expr::CompoundIdentifier(parts) => parts.last().map(super::name::fold).unwrap_or_default(),
                        other => other.to_string(),
                    };
                    let name = unused(&used, text);
                    *item = SelectItem::ExprWithAlias {
                        expr: expr.clone(),
                        alias: Ident::with_quote('"', name.clone()),
                    };
                    used.push(name);
                }
                SelectItem::ExprWithAlias { alias, .. } => used.push(super::name::fold(alias)),
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }
}

fn unused(used: &[String], name: String) -> String {
    if !used.contains(&name) {
        return name;
    }
    (1..).map(|n| format!("{name}_{n}")).find(|n| !used.contains(n)).unwrap_or(name)
}
