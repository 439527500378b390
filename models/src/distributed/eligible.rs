//! Which plans may run on several nodes.

use std::sync::Arc;

use datafusion::common::exec_datafusion_err;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::analyze::AnalyzeExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion_distributed::{BroadcastExec, NetworkBoundaryExt};

use crate::cooperative_joins;
use crate::scan::{PartitionScan, RelationSource};

/// Refuses a stage that has arrived with operators which this node's planner would not send. Plans can name any file of the machine.
pub(super) fn check_stage(plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    plan.apply(|node| {
        let is_known = match node.downcast_ref::<DataSourceExec>() {
            Some(scan) => scan.data_source().is::<PartitionScan>(),
            None => travels(node.as_ref()) || node.is_network_boundary() || node.is::<BroadcastExec>(),
        };
        match is_known {
            true => Ok(TreeNodeRecursion::Continue),
            false => Err(exec_datafusion_err!(
                "a stage that arrived has {}, which does not travel",
                node.name()
            )),
        }
    })?;
    Ok(())
}

/// Options of a session that may differ from what every node has: they are in the plan once it is made.
const IN_THE_PLAN: [&str; 4] = [
    "datafusion.execution.target_partitions",
    "datafusion.execution.batch_size",
    "datafusion.optimizer.hash_join_single_partition_threshold",
    "datafusion.optimizer.hash_join_single_partition_threshold_rows",
];

/// How many rows a plan's scans read, if it may run on several nodes: an operator that is not known here may hold what does not travel, or
/// rely on seeing all rows.
pub(super) fn rows_to_read(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<u64>> {
    let mut rows = Some(0u64);
    plan.apply(|node| {
        let scan = node.downcast_ref::<DataSourceExec>();
        rows = match (rows, scan) {
            (Some(rows), Some(scan)) => {
                let relation = scan.data_source().downcast_ref::<RelationSource>();
                relation.map(|relation| rows.saturating_add(relation.rows_to_read()))
            }
            (Some(rows), None) if travels(node.as_ref()) => Some(rows),
            _ => None,
        };
        Ok(match rows {
            Some(_) => TreeNodeRecursion::Continue,
            None => TreeNodeRecursion::Stop,
        })
    })?;
    Ok(rows)
}

/// Not among them: what reads streams of one number from several inputs (InterleaveExec), as the check of stages takes inputs away.
fn travels(plan: &dyn ExecutionPlan) -> bool {
    plan.is::<AggregateExec>()
        || plan.is::<HashJoinExec>()
        || plan.is::<SortMergeJoinExec>()
        || plan.is::<NestedLoopJoinExec>()
        || plan.is::<CrossJoinExec>()
        || plan.is::<FilterExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<SortExec>()
        || plan.is::<SortPreservingMergeExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<RepartitionExec>()
        || plan.is::<GlobalLimitExec>()
        || plan.is::<LocalLimitExec>()
        || plan.is::<UnionExec>()
        || plan.is::<WindowAggExec>()
        || plan.is::<BoundedWindowAggExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<EmptyExec>()
        || plan.is::<PlaceholderRowExec>()
        || plan.is::<ScalarSubqueryExec>()
        || plan.is::<AnalyzeExec>()
        || cooperative_joins::yields(plan)
}

/// Whether a session's options are those that every node has.
pub(super) fn has_common_options(state: &SessionState, base: &SessionState) -> bool {
    let (own, common) = (state.config_options().entries(), base.config_options().entries());
    own.len() == common.len()
        && own
            .iter()
            .zip(&common)
            .all(|(own, common)| own.key == common.key && (own.value == common.value || IN_THE_PLAN.contains(&own.key.as_str())))
}
