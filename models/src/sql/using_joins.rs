//! `JOIN … USING (columns)` with the standard's merged columns, rewritten on the syntax tree to `ON`.
//!
//! The planner takes one side's column for the merged one, whichever name sorts first: of a row without a partner that is null. Here it is
//! the preserved side's column, or of a full join the one that is there; `*` gives the merged columns first, then the rest of each side.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, ExcludeSelectItem, Expr, GroupByExpr, Ident, JoinConstraint, JoinOperator, ObjectName, OrderByKind, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableFactor, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use super::name;
use super::parse::parse_expression;
use super::template::column;
use crate::error::{Error, Result};

/// Rewrites every query of a statement. For use in a visitor, before it goes into the query.
pub(super) fn rewrite(query: &mut Query) -> Result<()> {
    let merged = match query.body.as_mut() {
        SetExpr::Select(select) => rewrite_select(select)?,
        _ => return Ok(()),
    };
    // ORDER BY means a column of the result first.
    if let SetExpr::Select(select) = query.body.as_ref()
        && let Some(OrderByKind::Expressions(orders)) = query.order_by.as_mut().map(|order| &mut order.kind)
    {
        let mut merged = merged;
        merged.retain(|(name, _)| !select.projection.iter().any(|item| gives(item, name)));
        orders.iter_mut().for_each(|order| put(&mut order.expr, &merged));
    }
    Ok(())
}

fn gives(item: &SelectItem, column: &str) -> bool {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => name::fold(alias) == column,
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => name::fold(ident) == column,
        _ => false,
    }
}

/// Merged columns by name, in order.
type Merged = Vec<(String, Expr)>;

/// Rewrites one SELECT; its merged columns.
pub(super) fn rewrite_select(select: &mut Select) -> Result<Merged> {
    let Some(using) = Using::of(select)? else {
        return Ok(Merged::new());
    };
    let [from] = select.from.as_mut_slice() else {
        return Ok(Merged::new());
    };
    let mut merged = Merged::new();
    let mut owned: Vec<Vec<String>> = vec![Vec::new(); using.relations.len()];
    for (at, join) in from.joins.iter_mut().enumerate() {
        let side = side_of(&join.join_operator);
        let Some((side, constraint)) = side.zip(constraint_of(&mut join.join_operator)) else {
            continue;
        };
        let JoinConstraint::Using(columns) = constraint else { continue };
        let mut conditions = Vec::with_capacity(columns.len());
        for sql_name in columns.iter() {
            let name = name::last_part(sql_name)?;
            let known = merged.iter().position(|(known, _)| *known == name);
            let left = match known {
                Some(known) => merged[known].1.clone(),
                None => {
                    owned[0].push(name.clone());
                    column(&using.relations[0], &name)
                }
            };
            let right = column(&using.relations[at + 1], &name);
            owned[at + 1].push(name.clone());
            conditions.push(Expr::BinaryOp {
                left: Box::new(left.clone()),
                op: BinaryOperator::Eq,
                right: Box::new(right.clone()),
            });
            let value = match side {
                Side::Left => left,
                Side::Right => right,
                Side::Both => parse_expression(&format!("coalesce({left}, {right})"))?,
            };
            match known {
                Some(known) => merged[known].1 = value,
                None => merged.push((name, value)),
            }
        }
        let on = conditions.into_iter().reduce(|left, right| Expr::BinaryOp {
            left: Box::new(left),
            op: BinaryOperator::And,
            right: Box::new(right),
        });
        if let Some(on) = on {
            *constraint = JoinConstraint::On(on);
        }
    }
    expand(select, &using.relations, &owned, &merged);
    if let Some(condition) = &mut select.selection {
        put(condition, &merged);
    }
    if let GroupByExpr::Expressions(groups, _) = &mut select.group_by {
        groups.iter_mut().for_each(|group| put(group, &merged));
    }
    if let Some(condition) = &mut select.having {
        put(condition, &merged);
    }
    Ok(merged)
}

/// Where the merged column's value is for certain.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
    Both,
}

fn side_of(operator: &JoinOperator) -> Option<Side> {
    match operator {
        JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => Some(Side::Left),
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) => Some(Side::Right),
        JoinOperator::FullOuter(_) => Some(Side::Both),
        _ => None,
    }
}

fn is_outer(operator: &JoinOperator) -> bool {
    !matches!(operator, JoinOperator::Join(_) | JoinOperator::Inner(_))
}

fn constraint_of(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint) => Some(constraint),
        _ => None,
    }
}

/// The relations of a FROM with USING in it, by the names under which their columns are known.
struct Using {
    relations: Vec<String>,
}

impl Using {
    /// `None` where nothing is to be done; an error where the planner would answer wrong and it cannot be put right here.
    fn of(select: &mut Select) -> Result<Option<Using>> {
        let mut outer = false;
        let (mut natural, mut using) = (false, false);
        for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
            let is_outer = is_outer(&join.join_operator);
            match constraint_of(&mut join.join_operator) {
                Some(JoinConstraint::Using(_)) => (using, outer) = (true, outer || is_outer),
                Some(JoinConstraint::Natural) => (natural, outer) = (true, outer || is_outer),
                _ => {}
            }
        }
        if natural && outer {
            return Err(Error::unsupported("outer NATURAL joins are not supported").with_hint("name the columns: JOIN … USING (…)"));
        }
        if !using || natural {
            return Ok(None);
        }
        let relations = match select.from.as_mut_slice() {
            [from] => std::iter::once(&from.relation)
                .chain(from.joins.iter().map(|join| &join.relation))
                .map(alias_of)
                .collect::<Option<Vec<String>>>(),
            _ => None,
        };
        let plain_stars = select.projection.iter().all(|item| match item {
            SelectItem::Wildcard(options) => *options == WildcardAdditionalOptions::default(),
            _ => true,
        });
        // A column of a later USING that no earlier one merged could be any earlier relation's.
        let known_sides = Self::sides_are_known(select);
        match relations {
            Some(relations) if plain_stars && known_sides => Ok(Some(Using { relations })),
            _ if outer => Err(Error::unsupported("an outer join with USING is not supported in this FROM").with_hint("write ON a.x = b.x")),
            _ => Ok(None),
        }
    }

    fn sides_are_known(select: &mut Select) -> bool {
        let [from] = select.from.as_mut_slice() else { return false };
        let mut merged: Vec<String> = Vec::new();
        for (at, join) in from.joins.iter_mut().enumerate() {
            if let Some(JoinConstraint::Using(columns)) = constraint_of(&mut join.join_operator) {
                for column in columns.iter() {
                    match name::last_part(column) {
                        Ok(name) if merged.contains(&name) => {}
                        Ok(name) if at == 0 => merged.push(name),
                        _ => return false,
                    }
                }
            }
        }
        true
    }
}

fn alias_of(factor: &TableFactor) -> Option<String> {
    match factor {
        TableFactor::Table {
            alias: None,
            name: sql_name,
            args: None,
            ..
        } => name::last_part(sql_name).ok(),
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => Some(name::fold(&alias.name)),
        _ => None,
    }
}

/// Puts the merged columns into the list: for their names, and first for `*`.
fn expand(select: &mut Select, relations: &[String], owned: &[Vec<String>], merged: &Merged) {
    let named = |(name, value): &(String, Expr)| SelectItem::ExprWithAlias {
        expr: value.clone(),
        alias: Ident::with_quote('"', name.clone()),
    };
    let mut items = Vec::with_capacity(select.projection.len());
    for mut item in std::mem::take(&mut select.projection) {
        match &mut item {
            SelectItem::Wildcard(_) => {
                items.extend(merged.iter().map(named));
                items.extend(relations.iter().zip(owned).map(|(relation, owned)| rest_of(relation, owned)));
                continue;
            }
            SelectItem::UnnamedExpr(Expr::Identifier(ident)) => {
                let wanted = name::fold(ident);
                if let Some(column) = merged.iter().find(|(name, _)| *name == wanted) {
                    item = named(column);
                }
            }
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => put(expr, merged),
            _ => {}
        }
        items.push(item);
    }
    select.projection = items;
}

/// `relation.* EXCLUDE (owned)`.
fn rest_of(relation: &str, owned: &[String]) -> SelectItem {
    let names = owned
        .iter()
        .map(|name| ObjectName::from(vec![Ident::with_quote('"', name.clone())]))
        .collect();
    let options = WildcardAdditionalOptions {
        opt_exclude: (!owned.is_empty()).then_some(ExcludeSelectItem::Multiple(names)),
        ..WildcardAdditionalOptions::default()
    };
    let relation = ObjectName::from(vec![Ident::with_quote('"', relation)]);
    SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(relation), options)
}

/// Puts merged columns in place of their bare names; queries inside have names of their own.
fn put(expr: &mut Expr, merged: &Merged) {
    let _: ControlFlow<()> = expr.visit(&mut Put { merged, depth: 0 });
}

struct Put<'a> {
    merged: &'a Merged,
    depth: usize,
}

impl VisitorMut for Put<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth == 0
            && let Expr::Identifier(ident) = expr
        {
            let wanted = name::fold(ident);
            if let Some((_, value)) = self.merged.iter().find(|(name, _)| *name == wanted) {
                *expr = value.clone();
            }
        }
        ControlFlow::Continue(())
    }
}
