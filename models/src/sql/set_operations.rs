//! `EXCEPT ALL` and `INTERSECT ALL` with the standard's count of duplicates.
//!
//! DataFusion plans both as a join that only asks whether a row occurs on the other side. Numbering the occurrences of equal rows on either
//! side and joining on that number too makes it count: of m and n equal rows, m - n and min(m, n) stay.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::functions_window::row_number::row_number;
use datafusion::logical_expr::{Expr, ExprFunctionExt, Join, LogicalPlan, LogicalPlanBuilder};

use crate::error::Result;

/// The number of a row among its equals.
const OCCURRENCE: &str = "__occurrence";

/// Makes the set operations of a fresh plan count duplicates.
pub(crate) fn count_duplicates(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Join(join) if is_set_operation(&join) => Ok(Transformed::yes(counted(join)?)),
        plan => Ok(Transformed::no(plan)),
    })?;
    Ok(plan.data)
}

/// Whether a join came from a set operation with ALL: only those compare nulls as equal, and without ALL the left side is made distinct.
fn is_set_operation(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftAnti | JoinType::LeftSemi)
        && join.null_equality == NullEquality::NullEqualsNull
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(_))
}

fn counted(join: Join) -> datafusion::error::Result<LogicalPlan> {
    let columns: Vec<Expr> = join.left.schema().columns().into_iter().map(Expr::Column).collect();
    let left = numbered(join.left)?;
    let right = numbered(join.right)?;
    let occurrence = || Expr::Column(Column::from_name(OCCURRENCE));
    let mut on = join.on;
    on.push((occurrence(), occurrence()));
    let join = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on,
        join.filter,
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    LogicalPlanBuilder::from(LogicalPlan::Join(join)).project(columns)?.build()
}

/// A plan with the number of each row among its equals as one more column.
fn numbered(plan: Arc<LogicalPlan>) -> datafusion::error::Result<LogicalPlan> {
    let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
    let number = row_number().partition_by(columns.clone()).build()?;
    let name = number.schema_name().to_string();
    let numbered = LogicalPlanBuilder::from(Arc::unwrap_or_clone(plan)).window(vec![number])?;
    let occurrence = Expr::Column(Column::from_name(name)).alias(OCCURRENCE);
    numbered.project(columns.into_iter().chain([occurrence]))?.build()
}
