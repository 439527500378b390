//! Whether what arrives at another node is what was sent. The encoding of plans leaves some things out without a word; a query that needs one
//! of them is run by one node.

use std::sync::Arc;

use datafusion::common::exec_err;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, FetchType, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};

use super::eligible;

/// Whether a query has a scalar subquery of which nobody knows that it gives one row at most: the planner for several nodes makes a join of it,
/// which does not find that out.
pub(super) fn has_unsure_subquery(plan: &LogicalPlan) -> Result<bool> {
    let mut is_unsure = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarSubquery(subquery) = expr {
                    is_unsure |= subquery.outer_ref_columns.is_empty() && !gives_one_row_at_most(&subquery.subquery);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(is_unsure)
}

/// Whether that is sure. (`LogicalPlan::max_rows` is an estimate: it has 0 for `SELECT 1`, and for what is joined with it.)
fn gives_one_row_at_most(plan: &LogicalPlan) -> bool {
    let mut plan = plan;
    loop {
        plan = match plan {
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Sort(sort) => &sort.input,
            LogicalPlan::Filter(filter) => &filter.input,
            LogicalPlan::EmptyRelation(_) => return true,
            LogicalPlan::Aggregate(aggregate) => return aggregate.group_expr.is_empty(),
            LogicalPlan::Limit(limit) => match limit.get_fetch_type() {
                Ok(FetchType::Literal(Some(0 | 1))) => return true,
                _ => &limit.input,
            },
            _ => return false,
        };
    }
}

/// Refuses limits that are cut to 32 bits on their way.
pub(super) fn check_limits(node: &Arc<dyn ExecutionPlan>) -> Result<()> {
    let skip = node.downcast_ref::<GlobalLimitExec>().map_or(0, GlobalLimitExec::skip);
    match node.fetch().unwrap_or(0).max(skip) > u32::MAX as usize {
        true => exec_err!("a limit of more than {} rows does not travel", u32::MAX),
        false => Ok(()),
    }
}

/// Refuses a stage that would arrive as another one, or that would not be run.
pub(super) fn check_arrived(sent: &Arc<dyn ExecutionPlan>, arrived: &Arc<dyn ExecutionPlan>) -> Result<()> {
    eligible::check_stage(arrived)?;
    match features(sent)? == features(arrived)? {
        true => Ok(()),
        false => exec_err!("a window or an aggregate would arrive as another one"),
    }
}

/// What is lost, if it is there: a window's FILTER, IGNORE NULLS and direction, and what operators know of the order of their input.
fn features(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<String>> {
    let mut features = Vec::new();
    plan.apply(|node| {
        if let Some(window) = node.downcast_ref::<WindowAggExec>() {
            features.push(without_schema(&format!("{:?}", window.window_expr())));
        } else if let Some(window) = node.downcast_ref::<BoundedWindowAggExec>() {
            // Fails where rows are not known any more to come by partition.
            window.partition_by_sort_keys()?;
            features.push(without_schema(&format!("{:?}", window.window_expr())));
            features.push(format!("{:?}", window.input_order_mode));
        } else if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
            features.push(format!("{:?}", aggregate.input_order_mode()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(features)
}

/// A window's description without the schema that its aggregate was planned with: at first, that has the window's own column too.
fn without_schema(description: &str) -> String {
    let mut kept = String::with_capacity(description.len());
    let mut rest = description;
    while let Some((before, schema)) = rest.split_once(" schema: Schema {") {
        kept.push_str(before);
        rest = schema.split_once(", order_bys: [").map_or("", |(_, after)| after);
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::without_schema;

    #[test]
    fn schemas_are_left_out_and_nothing_else() {
        let description =
            |schema| format!("[Window {{ name: \"w\", schema: Schema {{ {schema} }}, order_bys: [], filter: Some(x) }}, Other]");
        assert_eq!(without_schema(&description("a")), without_schema(&description("a, w")));
        assert!(without_schema(&description("a")).ends_with("], filter: Some(x) }, Other]"));
        assert_eq!(without_schema("nothing"), "nothing");
    }
}
