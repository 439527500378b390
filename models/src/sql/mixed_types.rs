//! Expressions over two kinds of types, where DataFusion's common type would lose what the values say.
//!
//! - A float beside a decimal (`v > 0.5`: the literal is a decimal) becomes a decimal of 15 places there: small floats would be zero, large
//!   ones, infinities and NaN an error. Here the decimal becomes a float.
//! - A date plus an interval stays a date there, and the interval's hours are lost. Here it becomes a timestamp where the interval has a
//!   part of a day.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, Union, cast};
use datafusion::scalar::ScalarValue;

use crate::error::Result;

/// Functions whose arguments get one type.
const SAME_TYPE: [&str; 7] = ["coalesce", "greatest", "least", "nullif", "nvl", "nvl2", "make_array"];

/// Settles the types in a fresh plan.
pub(crate) fn settle(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|plan| {
        if let LogicalPlan::Union(union) = plan {
            return settle_union(union);
        }
        let mut schema = merge_schema(&plan.inputs());
        if let LogicalPlan::TableScan(scan) = &plan {
            schema.merge(&scan.projected_schema);
        }
        let names = NamePreserver::new(&plan);
        let mut settled = plan.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(settle_expr(expr, &schema)?.update_data(|expr| name.restore(expr)))
        })?;
        if let LogicalPlan::Join(join) = &mut settled.data {
            for (left, right) in &mut join.on {
                settled.transformed |= floats(&schema, [left, right]);
            }
        }
        if settled.transformed {
            return settled.map_data(LogicalPlan::recompute_schema);
        }
        Ok(settled)
    })?;
    Ok(plan.data)
}

/// Makes the decimal columns of a union floats where another input has floats.
fn settle_union(mut union: Union) -> DataFusionResult<Transformed<LogicalPlan>> {
    let type_of = |input: &Arc<LogicalPlan>, at: usize| input.schema().fields().get(at).map(|field| field.data_type().clone());
    let columns = union.inputs.first().map_or(0, |input| input.schema().fields().len());
    let mixed: Vec<bool> = (0..columns)
        .map(|at| {
            let types: Vec<DataType> = union.inputs.iter().filter_map(|input| type_of(input, at)).collect();
            types.iter().any(DataType::is_floating) && types.iter().any(DataType::is_decimal)
        })
        .collect();
    if !mixed.contains(&true) {
        return Ok(Transformed::no(LogicalPlan::Union(union)));
    }
    for input in &mut union.inputs {
        let items: Vec<Expr> = input
            .schema()
            .columns()
            .into_iter()
            .enumerate()
            .map(|(at, column)| {
                let is_decimal = type_of(input, at).is_some_and(|data_type| data_type.is_decimal());
                if mixed[at] && is_decimal {
                    let (relation, name) = (column.relation.clone(), column.name.clone());
                    return cast(Expr::Column(column), DataType::Float64).alias_qualified(relation, name);
                }
                Expr::Column(column)
            })
            .collect();
        *input = Arc::new(LogicalPlanBuilder::from(input.as_ref().clone()).project(items)?.build()?);
    }
    Ok(Transformed::yes(LogicalPlan::Union(Union::try_new(union.inputs)?)))
}

/// Settles the types in an expression over a schema.
pub(crate) fn settle_expr(expr: Expr, schema: &DFSchema) -> DataFusionResult<Transformed<Expr>> {
    expr.transform_up(|mut expr| {
        let changed = match &mut expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if op.supports_propagation() => {
                floats(schema, [left.as_mut(), right.as_mut()])
            }
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::Plus,
                right,
            }) => keep_hours(schema, left, right) || keep_hours(schema, right, left),
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::Minus,
                right,
            }) => keep_hours(schema, left, right),
            Expr::Between(between) => floats(schema, [between.expr.as_mut(), between.low.as_mut(), between.high.as_mut()]),
            Expr::InSubquery(search) => {
                let found = search
                    .subquery
                    .subquery
                    .schema()
                    .fields()
                    .first()
                    .map(|field| field.data_type().clone());
                match (search.expr.get_type(schema), found) {
                    (Ok(left), Some(right)) if left.is_decimal() && right.is_floating() => {
                        *search.expr = cast(std::mem::take(search.expr.as_mut()), DataType::Float64);
                        true
                    }
                    (Ok(left), Some(right)) if left.is_floating() && right.is_decimal() => {
                        let columns = search.subquery.subquery.schema().columns().into_iter();
                        let items = columns.map(|column| cast(Expr::Column(column), DataType::Float64).alias("__float"));
                        let plan = search.subquery.subquery.as_ref().clone();
                        search.subquery.subquery = Arc::new(LogicalPlanBuilder::from(plan).project(items)?.build()?);
                        true
                    }
                    _ => false,
                }
            }
            Expr::InList(list) => floats(schema, std::iter::once(list.expr.as_mut()).chain(&mut list.list)),
            Expr::Case(case) => {
                let whens = case.when_then_expr.iter_mut();
                let (whens, mut results): (Vec<&mut Expr>, Vec<&mut Expr>) =
                    whens.map(|(when, then)| (when.as_mut(), then.as_mut())).unzip();
                results.extend(case.else_expr.as_deref_mut());
                let compared = match case.expr.as_deref_mut() {
                    Some(expr) => floats(schema, std::iter::once(expr).chain(whens)),
                    None => false,
                };
                floats(schema, results) || compared
            }
            Expr::ScalarFunction(call) if SAME_TYPE.contains(&call.func.name()) => floats(schema, &mut call.args),
            _ => false,
        };
        Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
    })
}

/// Makes the decimals among expressions floats if one of the others is a float.
fn floats<'a>(schema: &DFSchema, exprs: impl IntoIterator<Item = &'a mut Expr>) -> bool {
    let (mut has_float, mut decimals) = (false, Vec::new());
    for expr in exprs {
        match expr.get_type(schema) {
            Ok(data_type) if data_type.is_floating() => has_float = true,
            Ok(data_type) if data_type.is_decimal() => decimals.push(expr),
            _ => {}
        }
    }
    if !has_float || decimals.is_empty() {
        return false;
    }
    for expr in decimals {
        let literal = match expr {
            Expr::Literal(value, None) => value.cast_to(&DataType::Float64).ok(),
            _ => None,
        };
        *expr = match literal {
            Some(value) => Expr::Literal(value, None),
            None => cast(std::mem::take(expr), DataType::Float64),
        };
    }
    true
}

/// Makes a date a timestamp if an interval beside it has, or may have, a part of a day.
fn keep_hours(schema: &DFSchema, date: &mut Expr, interval: &Expr) -> bool {
    let is_date = matches!(date.get_type(schema), Ok(DataType::Date32 | DataType::Date64));
    if !is_date || !matches!(interval.get_type(schema), Ok(DataType::Interval(_))) {
        return false;
    }
    let whole_days = match interval {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(value)), _) => value.nanoseconds == 0,
        Expr::Literal(ScalarValue::IntervalDayTime(Some(value)), _) => value.milliseconds == 0,
        Expr::Literal(ScalarValue::IntervalYearMonth(_), _) => true,
        Expr::Literal(value, _) => value.is_null(),
        _ => false,
    };
    if whole_days {
        return false;
    }
    *date = cast(std::mem::take(date), DataType::Timestamp(TimeUnit::Nanosecond, None));
    true
}
