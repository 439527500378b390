//! What DataFusion's planner would get wrong or refuses for its form only, rewritten or refused on the syntax tree.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Fetch, Ident, LimitClause, Offset, Query, Select, SelectItem, SetExpr, Statement, Value, VisitMut, VisitorMut,
};

use super::{quantified, subquery_value, using_joins};
use crate::error::{Error, Result};

/// Longest name that a column gets from its expression, in characters.
const NAME_CHARS: usize = 63;

/// Rewrites a statement in place.
pub(crate) fn rewrite(statement: &mut Statement) -> Result<()> {
    match statement {
        Statement::Query(query) => name_outputs(&mut query.body),
        Statement::CreateTable(create) => create.query.iter_mut().for_each(|query| name_outputs(&mut query.body)),
        Statement::CreateView(create) => name_outputs(&mut create.query.body),
        _ => {}
    }
    let rewritten = match statement.visit(&mut Rewrite) {
        ControlFlow::Continue(()) => subquery_value::rewrite(statement),
        stopped => stopped,
    };
    match rewritten {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Gives every unnamed expression of every SELECT a name of its own: DataFusion refuses two columns of one name, `SELECT 1, 1`.
pub(crate) fn name_columns(statement: &mut Statement) {
    let _: ControlFlow<()> = statement.visit(&mut NameColumns);
}

/// Calls the unnamed columns of a result as they are written: the planner would call `sum(a * 2)` something like `sum(t.a * Int64(2))`.
fn name_outputs(body: &mut SetExpr) {
    match body {
        // The planner looks for what DISTINCT is ordered by among the columns as they are written.
        SetExpr::Select(select) if select.distinct.is_none() => {
            name_items(&mut select.projection, false);
        }
        SetExpr::Query(query) => name_outputs(&mut query.body),
        SetExpr::SetOperation { left, .. } => name_outputs(left),
        _ => {}
    }
}

/// Names the unnamed expressions of a SELECT, each its own; plain columns too if asked.
fn name_items(items: &mut [SelectItem], columns_too: bool) {
    let mut used: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let column = match &*expr {
                    Expr::Identifier(ident) => Some(super::name::fold(ident)),
                    Expr::CompoundIdentifier(parts) => parts.last().map(super::name::fold),
                    _ => None,
                };
                if let Some(column) = column.as_ref().filter(|_| !columns_too) {
                    used.push(column.clone());
                    continue;
                }
                let text = column.unwrap_or_else(|| expr.to_string().chars().take(NAME_CHARS).collect());
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
        match using_joins::rewrite(query) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        match using_joins::rewrite_select(select) {
            Ok(_) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if let Expr::SimilarTo { pattern, escape_char, .. } = expr {
            return similar_to(pattern, escape_char.is_some());
        }
        let quantified = match &*expr {
            Expr::AnyOp {
                left, compare_op, right, ..
            } => match right.as_ref() {
                Expr::Subquery(query) => quantified::any(left.as_ref().clone(), compare_op, query.as_ref().clone()),
                _ => return ControlFlow::Continue(()),
            },
            Expr::AllOp { left, compare_op, right } => match right.as_ref() {
                Expr::Subquery(query) => quantified::all(left.as_ref().clone(), compare_op, query.as_ref().clone()),
                _ => return ControlFlow::Continue(()),
            },
            _ => return ControlFlow::Continue(()),
        };
        match quantified {
            Ok(rewritten) => {
                *expr = rewritten;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// Makes the pattern of SIMILAR TO the regular expression that the planner takes it for: it covers the whole text, and has wildcards.
fn similar_to(pattern: &mut Expr, has_escape: bool) -> ControlFlow<Error> {
    let Expr::Value(value) = pattern else {
        return ControlFlow::Break(
            Error::unsupported("SIMILAR TO takes a literal pattern only").with_hint("use ~ with a regular expression"),
        );
    };
    let Value::SingleQuotedString(text) = &mut value.value else {
        return ControlFlow::Continue(());
    };
    if has_escape || text.contains('\\') {
        return ControlFlow::Break(
            Error::unsupported("SIMILAR TO with escapes is not supported").with_hint("use ~ with a regular expression"),
        );
    }
    let mut regex = String::from("^(?s:");
    for c in text.chars() {
        match c {
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '.' | '^' | '$' => regex.extend(['\\', c]),
            c => regex.push(c),
        }
    }
    regex.push_str(")$");
    *text = regex;
    ControlFlow::Continue(())
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

struct NameColumns;

impl VisitorMut for NameColumns {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        name_items(&mut select.projection, true);
        ControlFlow::Continue(())
    }
}

fn unused(used: &[String], name: String) -> String {
    if !used.contains(&name) {
        return name;
    }
    (1..).map(|n| format!("{name}_{n}")).find(|n| !used.contains(n)).unwrap_or(name)
}
