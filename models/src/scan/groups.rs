//! Groups that lie whole in a partition are made there.
//!
//! Rows that agree in the partition key of a table are in one partition. So where a query groups by it (and by more, as it likes), each stream of a
//! plan can read whole partitions and make its groups alone: nothing is grouped twice, and no rows change streams, or nodes. Not where a
//! few partitions have most rows, as some streams would then do all the work.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_expr::Partitioning;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::combine_partial_final_agg::CombinePartialFinalAggregate;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};

use super::source::RelationSource;

/// The rule. Runs when filters, orders and distributions are settled.
#[derive(Debug)]
pub(crate) struct GroupsInPartitions;

impl PhysicalOptimizerRule for GroupsInPartitions {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let free = free_aggregates(&plan);
        if free.is_empty() {
            return Ok(plan);
        }
        let mut changed = false;
        let plan = plan.transform_down(|node| {
            let local = match free.contains(&address(&node)) {
                true => in_partitions(&node)?,
                false => None,
            };
            changed |= local.is_some();
            Ok(local.map_or(Transformed::no(node), Transformed::yes))
        });
        match changed {
            true => CombinePartialFinalAggregate::new().optimize(plan.data()?, config),
            false => plan.data(),
        }
    }

    fn name(&self) -> &'static str {
        "GroupsInPartitions"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// What tells operators of one plan apart.
pub(crate) fn address(plan: &Arc<dyn ExecutionPlan>) -> *const () {
    Arc::as_ptr(plan).cast()
}

/// Final aggregates on whose streams nothing above relies: an operator that reads stream `i` of two inputs together has both divided by one hash,
/// which is not that of partitions. Without recursion: plans may be deep.
fn free_aggregates(plan: &Arc<dyn ExecutionPlan>) -> HashSet<*const ()> {
    let mut free = HashSet::new();
    let mut waiting = vec![(plan, false)];
    while let Some((node, in_concert)) = waiting.pop() {
        if !in_concert
            && let Some(aggregate) = node.downcast_ref::<AggregateExec>()
            && *aggregate.mode() == AggregateMode::FinalPartitioned
        {
            free.insert(address(node));
        }
        let below = match node.children().len() {
            // What is below is divided anew, or not at all.
            1 if node.is::<RepartitionExec>() || node.is::<CoalescePartitionsExec>() || node.is::<SortPreservingMergeExec>() => false,
            0 | 1 => in_concert,
            _ if reads_streams_alone(node) => in_concert,
            _ => true,
        };
        waiting.extend(node.children().into_iter().map(|child| (child, below)));
    }
    free
}

/// Whether an operator of several inputs reads each stream of one by itself, or all of them.
fn reads_streams_alone(node: &Arc<dyn ExecutionPlan>) -> bool {
    let join = node.downcast_ref::<HashJoinExec>();
    join.is_some_and(|join| *join.partition_mode() == PartitionMode::CollectLeft)
        || node.is::<NestedLoopJoinExec>()
        || node.is::<CrossJoinExec>()
        || node.is::<UnionExec>()
}

/// The aggregate without its shuffle, where its groups are whole in partitions.
fn in_partitions(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(pair) = Pair::of(node) else { return Ok(None) };
    let columns = (0..pair.first.group_expr().expr().len()).filter_map(|group| pair.column(group));
    let Some(input) = read_by_partition(pair.first.input(), columns.collect())? else {
        return Ok(None);
    };
    let first = over(pair.node, input)?;
    Ok(Some(over(node, first)?))
}

/// An aggregate before a shuffle by its groups, and one behind it.
struct Pair<'a> {
    /// The one before, and what it is.
    node: &'a Arc<dyn ExecutionPlan>,
    first: &'a AggregateExec,
}

impl Pair<'_> {
    fn of(node: &Arc<dyn ExecutionPlan>) -> Option<Pair<'_>> {
        let last = node.downcast_ref::<AggregateExec>()?;
        let shuffle = last.input().downcast_ref::<RepartitionExec>()?;
        let first = shuffle.input().downcast_ref::<AggregateExec>()?;
        let is_pair = *last.mode() == AggregateMode::FinalPartitioned
            && matches!(shuffle.partitioning(), Partitioning::Hash(..))
            && *first.mode() == AggregateMode::Partial
            && first.group_expr().is_single()
            && last.group_expr().is_single();
        is_pair.then_some(Pair {
            node: shuffle.input(),
            first,
        })
    }

    /// The input's column that an output column is.
    fn column(&self, output: usize) -> Option<usize> {
        let (group, _) = self.first.group_expr().expr().get(output)?;
        Some(group.downcast_ref::<Column>()?.index())
    }
}

/// An operator over another input.
pub(crate) fn over(operator: &Arc<dyn ExecutionPlan>, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    Arc::clone(operator).replace_children(vec![input], options)
}

/// The input of an aggregate whose streams read whole partitions, if rows that agree in these columns are in one partition.
fn read_by_partition(input: &Arc<dyn ExecutionPlan>, mut columns: Vec<usize>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let mut above = Vec::new();
    let mut node = input;
    loop {
        if let Some(scan) = node.downcast_ref::<DataSourceExec>() {
            let relation = scan.data_source().downcast_ref::<RelationSource>();
            let Some(scan) = relation.map(|scan| scan.by_partition(&columns)).transpose()?.flatten() else {
                return Ok(None);
            };
            let scan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(scan);
            let plan = above.into_iter().rev().try_fold(scan, |below, operator| over(operator, below));
            return plan.map(Some);
        }
        if let Some(pair) = Pair::of(node) {
            // Its groups are parts of those above.
            columns = columns.iter().filter_map(|column| pair.column(*column)).collect();
            above.extend([node, pair.node]);
            node = pair.first.input();
            continue;
        }
        if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
            let source = |column: &usize| Some(projection.expr().get(*column)?.expr.downcast_ref::<Column>()?.index());
            columns = columns.iter().filter_map(source).collect();
        } else if let Some(filter) = node.downcast_ref::<FilterExec>()
            && filter.fetch().is_none()
        {
            if let Some(projection) = filter.projection() {
                columns = columns.iter().filter_map(|column| projection.get(*column).copied()).collect();
            }
        } else if !node.is::<CooperativeExec>() {
            return Ok(None);
        }
        above.push(node);
        let [below] = node.children()[..] else { return Ok(None) };
        node = below;
    }
}
