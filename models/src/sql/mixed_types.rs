//! Expressions over two kinds of types, where DataFusion's common type would lose what the values say.
//!
//! - A float beside a decimal (`v > 0.5`: the literal is a decimal) becomes a decimal of 15 places there: small floats would be zero, large
//!   ones, infinities and NaN an error. Here the decimal becomes a float.
//! - A date plus an interval stays a date there, and the interval's hours are lost. Here it becomes a timestamp where the interval has a
//!   part of a day.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, cast};
use datafusion::scalar::ScalarValue;

use crate::error::Result;

/// Functions whose arguments get one type.
const SAME_TYPE: [&str; 6] = ["coalesce", "greatest", "least", "nullif", "nvl", "nvl2"];

/// Settles the types in a fresh plan.
pub(crate) fn settle(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|plan| {
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
