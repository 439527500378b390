//! Joins of tables that are placed alike are made where their rows lie.
//!
//! Tables whose partition keys have the same types keep equal keys in partitions of one number, which one task reads for both. So where a join compares
//! the partition keys, column by column, each task joins what it reads: neither side is sent to all tasks, nor shuffled. The planner for several nodes
//! knows hash joins and gives each a boundary; so such a join is another operator until that planner is done (`ColocatedJoinExec`).

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinSide, JoinType};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Distribution, Partitioning};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::InterleaveExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties};

use crate::cooperative_joins;
use crate::scan::{RelationSource, address, over};

/// The rule. The last one: it relies on what is settled.
#[derive(Debug)]
pub(super) struct ColocatedJoins;

impl PhysicalOptimizerRule for ColocatedJoins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let joins = colocated_joins(&plan);
        let plan = plan.transform_down(|node| match node.downcast_ref::<HashJoinExec>() {
            Some(join) if joins.contains(&address(&node)) => {
                let (left, right) = sides(join);
                let join = ColocatedJoinExec::over(join, Arc::clone(left), Arc::clone(right))?;
                Ok(Transformed::yes(Arc::new(join)))
            }
            _ => Ok(Transformed::no(node)),
        })?;
        Ok(plan.data)
    }

    fn name(&self) -> &'static str {
        "ColocatedJoins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Hash joins again, once a plan has its boundaries.
pub(super) fn settled(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|node| {
        Ok(match node.downcast_ref::<ColocatedJoinExec>() {
            Some(join) => Transformed::yes(Arc::clone(&join.join) as Arc<dyn ExecutionPlan>),
            None => Transformed::no(node),
        })
    })?;
    Ok(plan.data)
}

/// Columns of an operator that have, part by part, the partition key of a relation: each row is in the task that reads the partition of its key.
type Key = Vec<usize>;

/// What is known of an operator's rows.
#[derive(Default)]
struct Placed {
    /// Each of these says where a row is.
    keys: Vec<Key>,
    /// The same of its input, where it only brings that together for a join.
    gathered: Vec<Key>,
}

impl Placed {
    fn at(keys: Vec<Key>) -> Placed {
        Placed {
            keys,
            gathered: Vec::new(),
        }
    }
}

/// An operator, and where its inputs are in the list.
struct Operator<'a> {
    plan: &'a Arc<dyn ExecutionPlan>,
    inputs: Vec<usize>,
}

/// A plan's operators, each before its inputs. Without recursion: plans may be deep.
fn listed(plan: &Arc<dyn ExecutionPlan>) -> Vec<Operator<'_>> {
    let mut operators = vec![Operator { plan, inputs: Vec::new() }];
    let mut next = 0;
    while let Some(plan) = operators.get(next).map(|operator| operator.plan) {
        for input in plan.children() {
            let place = operators.len();
            operators[next].inputs.push(place);
            operators.push(Operator {
                plan: input,
                inputs: Vec::new(),
            });
        }
        next += 1;
    }
    operators
}

/// The hash joins that tasks can make of what they read. One whose sides are divided by hash divides them within its task only, on which no operator must
/// rely that meets rows of other tasks: so all are taken at first, and those that are relied on left out, until none is.
fn colocated_joins(plan: &Arc<dyn ExecutionPlan>) -> HashSet<*const ()> {
    let operators = listed(plan);
    let mut left_out = vec![false; operators.len()];
    loop {
        let mut is_joined = vec![false; operators.len()];
        let mut placed: Vec<Placed> = operators.iter().map(|_| Placed::default()).collect();
        for (place, operator) in operators.iter().enumerate().rev() {
            let inputs: Vec<&Placed> = operator.inputs.iter().map(|input| &placed[*input]).collect();
            let join = operator.plan.downcast_ref::<HashJoinExec>();
            placed[place] = match (join, inputs.as_slice()) {
                (Some(join), [left, right]) => {
                    let keys = (!left_out[place]).then(|| joined(join, left, right)).flatten();
                    is_joined[place] = keys.is_some();
                    Placed::at(keys.unwrap_or_else(|| probed(join, right)))
                }
                (_, inputs) => through(operator.plan, inputs),
            };
        }
        let mut is_relied_on = vec![false; operators.len()];
        let mut is_settled = true;
        for (place, operator) in operators.iter().enumerate() {
            let relied_on = match is_joined[place] {
                true => vec![is_relied_on[place]; operator.inputs.len()],
                false => relied_on(operator.plan, is_relied_on[place]),
            };
            for (input, relied_on) in operator.inputs.iter().zip(relied_on) {
                is_relied_on[*input] = relied_on;
            }
            let join = operator.plan.downcast_ref::<HashJoinExec>();
            if is_joined[place] && is_relied_on[place] && join.is_some_and(is_divided) {
                left_out[place] = true;
                is_settled = false;
            }
        }
        if is_settled {
            let of = |joined: bool| {
                let places = operators.iter().zip(&is_joined).filter(move |(_, is_joined)| **is_joined == joined);
                places.map(|(operator, _)| address(operator.plan)).collect::<HashSet<_>>()
            };
            // One operator may stand in two places.
            return of(true).difference(&of(false)).copied().collect();
        }
    }
}

fn is_divided(join: &HashJoinExec) -> bool {
    *join.partition_mode() == PartitionMode::Partitioned
}

/// Of which inputs an operator relies on how they are divided among all tasks: such as read stream `i` of several inputs together. One that has one input
/// relies on less: rows that agree in what a join compares are in one stream of one task.
fn relied_on(node: &Arc<dyn ExecutionPlan>, is_relied_on: bool) -> Vec<bool> {
    let inputs = node.children().len();
    // They divide anew, or not at all.
    if node.is::<RepartitionExec>() || node.is::<CoalescePartitionsExec>() || node.is::<SortPreservingMergeExec>() {
        return vec![false; inputs];
    }
    if inputs == 1 {
        return vec![is_relied_on];
    }
    let required = node.input_distribution_requirements();
    let inputs = (0..inputs).map(|input| match required.child_distribution(input) {
        Some(Distribution::UnspecifiedDistribution) if !node.is::<InterleaveExec>() => is_relied_on,
        _ => true,
    });
    inputs.collect()
}

/// What an operator other than a hash join leaves of its input's keys.
fn through(node: &Arc<dyn ExecutionPlan>, inputs: &[&Placed]) -> Placed {
    // So many rows of a stream are not so many of all tasks.
    if node.fetch().is_some() {
        return Placed::default();
    }
    if let Some(scan) = node.downcast_ref::<DataSourceExec>() {
        let relation = scan.data_source().downcast_ref::<RelationSource>();
        let key = relation
            .filter(|relation| relation.is_shared())
            .and_then(RelationSource::partition_key);
        return Placed::at(key.into_iter().collect());
    }
    let [input] = inputs else { return Placed::default() };
    let moved = |position: &dyn Fn(usize) -> Option<usize>| Placed::at(mapped(&input.keys, position));
    if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        let exprs = projection.expr();
        return moved(&|column| exprs.iter().position(|output| is_column(&output.expr, column)));
    }
    if let Some(filter) = node.downcast_ref::<FilterExec>() {
        return match filter.projection() {
            Some(kept) => moved(&|column| kept.iter().position(|kept| *kept == column)),
            None => moved(&Some),
        };
    }
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        let groups = aggregate.group_expr();
        return match groups.is_single() {
            true => moved(&|column| groups.expr().iter().position(|(group, _)| is_column(group, column))),
            false => Placed::default(),
        };
    }
    if node.is::<CooperativeExec>() || cooperative_joins::yields(node.as_ref()) {
        return moved(&Some);
    }
    match is_gathering(node) {
        true => Placed {
            keys: Vec::new(),
            gathered: input.keys.clone(),
        },
        false => Placed::default(),
    }
}

/// Whether an operator only brings together, or divides, the side of a join.
fn is_gathering(node: &Arc<dyn ExecutionPlan>) -> bool {
    if let Some(coalesce) = node.downcast_ref::<CoalescePartitionsExec>() {
        return coalesce.fetch().is_none();
    }
    let shuffle = node.downcast_ref::<RepartitionExec>();
    shuffle.is_some_and(|shuffle| matches!(shuffle.partitioning(), Partitioning::Hash(..)) && !shuffle.preserve_order())
}

fn is_column(expr: &Arc<dyn PhysicalExpr>, index: usize) -> bool {
    expr.downcast_ref::<Column>().is_some_and(|column| column.index() == index)
}

/// Keys of which all parts have a position.
fn mapped(keys: &[Key], position: &dyn Fn(usize) -> Option<usize>) -> Vec<Key> {
    let keys = keys.iter().filter_map(|key| key.iter().map(|column| position(*column)).collect());
    keys.collect()
}

/// The keys of a join whose left side is sent to all tasks.
fn probed(join: &HashJoinExec, right: &Placed) -> Vec<Key> {
    let is_sent = matches!(
        join.join_type(),
        JoinType::Inner | JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark
    );
    match is_sent && !is_divided(join) && !join.null_aware && join.fetch().is_none() {
        true => mapped(&right.keys, &|column| output(join, JoinSide::Right, column)),
        false => Vec::new(),
    }
}

/// Which output column of a join has a column of one side.
fn output(join: &HashJoinExec, side: JoinSide, column: usize) -> Option<usize> {
    let left = join.left().schema().fields().len();
    let joined = match (join.join_type(), side) {
        (JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark, JoinSide::Left) => column,
        (JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark, JoinSide::Right) => column,
        (JoinType::Inner | JoinType::Left, JoinSide::Left) => column,
        (JoinType::Inner | JoinType::Right, JoinSide::Right) => left + column,
        // Not there, or null where the other side has a row without a match.
        _ => return None,
    };
    match join.projection.as_deref() {
        Some(kept) => kept.iter().position(|kept| *kept == joined),
        None => Some(joined),
    }
}

/// A hash join in each task of what that task reads.
struct ColocatedJoinExec {
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    /// The join of both, brought together or divided within a task.
    join: Arc<HashJoinExec>,
}

impl ColocatedJoinExec {
    fn over(join: &HashJoinExec, left: Arc<dyn ExecutionPlan>, right: Arc<dyn ExecutionPlan>) -> Result<ColocatedJoinExec> {
        let right_side = match is_divided(join) {
            true => within(join.right(), &right)?,
            false => Arc::clone(&right),
        };
        let builder = join.builder().with_new_children(vec![within(join.left(), &left)?, right_side])?;
        Ok(ColocatedJoinExec {
            left,
            right,
            join: Arc::new(builder.recompute_properties().build()?),
        })
    }
}

/// A side of a join, brought together or divided within a task, over another input.
fn within(side: &Arc<dyn ExecutionPlan>, input: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    match is_gathering(side) {
        true => over(side, Arc::clone(input)),
        false => Ok(Arc::clone(input)),
    }
}

/// The sides of a join as they are read.
fn sides(join: &HashJoinExec) -> (&Arc<dyn ExecutionPlan>, &Arc<dyn ExecutionPlan>) {
    match is_divided(join) {
        true => (below(join.left()), below(join.right())),
        false => (below(join.left()), join.right()),
    }
}

fn below(side: &Arc<dyn ExecutionPlan>) -> &Arc<dyn ExecutionPlan> {
    match side.children().first() {
        Some(input) if is_gathering(side) => input,
        _ => side,
    }
}

/// The keys of a join that each task makes, if rows that match are read by one task.
fn joined(join: &HashJoinExec, left: &Placed, right: &Placed) -> Option<Vec<Key>> {
    // Whether a null is among all rows is more than one task knows, and so is how many rows there are.
    if join.null_aware || join.fetch().is_some() {
        return None;
    }
    let (left_side, right_side) = sides(join);
    let left_keys = if is_gathering(join.left()) { &left.gathered } else { &left.keys };
    let right_keys = if is_divided(join) && is_gathering(join.right()) {
        &right.gathered
    } else {
        &right.keys
    };
    let (left_schema, right_schema) = (left_side.schema(), right_side.schema());
    let is_compared = |l: usize, r: usize| {
        left_schema.field(l).data_type() == right_schema.field(r).data_type()
            && join.on().iter().any(|(left, right)| is_column(left, l) && is_column(right, r))
    };
    let meet = |left: &Key, right: &Key| left.len() == right.len() && left.iter().zip(right).all(|(l, r)| is_compared(*l, *r));
    if !left_keys.iter().any(|left| right_keys.iter().any(|right| meet(left, right))) {
        return None;
    }
    let left = mapped(left_keys, &|column| output(join, JoinSide::Left, column));
    let right = mapped(right_keys, &|column| output(join, JoinSide::Right, column));
    Some([left, right].concat())
}

impl DisplayAs for ColocatedJoinExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.join.fmt_as(t, f)
    }
}

impl fmt::Debug for ColocatedJoinExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ColocatedJoinExec({:?})", self.join.on())
    }
}

impl ExecutionPlan for ColocatedJoinExec {
    fn name(&self) -> &'static str {
        "ColocatedJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.join.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.left, &self.right]
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        self.join.apply_expressions(f)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.pop(), children.pop()) {
            (Some(right), Some(left), None) => Ok(Arc::new(Self::over(&self.join, left, right)?)),
            _ => Err(DataFusionError::Internal("ColocatedJoinExec takes two inputs".to_owned())),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.join.execute(partition, context)
    }
}
