//! From a logical plan of SPARQL to its rows, by the rules that such plans need: they have no subqueries, no names to resolve and one type of
//! column, and most of them run for less time than all of the optimizer's rules take, three times each.

use std::sync::{Arc, LazyLock};

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::source_as_provider;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, TableScan};
use datafusion::optimizer::analyzer::Analyzer;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::eliminate_group_by_constant::EliminateGroupByConstant;
use datafusion::optimizer::eliminate_limit::EliminateLimit;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::propagate_empty_relation::PropagateEmptyRelation;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::push_down_limit::PushDownLimit;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;
use datafusion::optimizer::{ApplyOrder, Optimizer, OptimizerContext, OptimizerRule};
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions, execute_stream};

use super::bind::{BindExec, bind_rows};
use super::counted::counted_rows;
use super::expand::{ExpandExec, expand_rows};
use super::plain;
use crate::cooperative_joins;
use crate::engine::SmallState;
use crate::error::Result;
use crate::scan::RelationTable;
use crate::session::Session;

static ANALYZER: LazyLock<Analyzer> = LazyLock::new(|| Analyzer::with_rules(vec![Arc::new(TypeCoercion::new())]));

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// Which plans need a rule.
type Needed = fn(&Shape) -> bool;

/// Rules in the order in which they run, and for which plans.
static RULES: LazyLock<Vec<(Needed, Rule)>> = LazyLock::new(|| {
    let has_distinct: Needed = |shape| shape.has_distinct;
    let is_limited: Needed = |shape| shape.has_limit;
    let is_joined: Needed = |shape| !shape.is_plain;
    // Different values are counted by groups, which spill; a set of them would be measured anew for each batch.
    let is_grouped: Needed = |shape| shape.has_aggregate;
    vec![
        (is_joined, Arc::new(SimplifyExpressions::new())),
        (has_distinct, Arc::new(ReplaceDistinctWithAggregate::new())),
        (is_joined, Arc::new(ExtractEquijoinPredicate::new())),
        (is_joined, Arc::new(EliminateFilter::new())),
        (is_joined, Arc::new(EliminateCrossJoin::new())),
        (is_limited, Arc::new(EliminateLimit::new())),
        (is_joined, Arc::new(PropagateEmptyRelation::new())),
        (is_limited, Arc::new(PushDownLimit::new())),
        (is_joined, Arc::new(PushDownFilter::new())),
        (is_grouped, Arc::new(SingleDistinctToGroupBy::new())),
        (is_joined, Arc::new(EliminateGroupByConstant::new())),
        (is_joined, Arc::new(OptimizeProjections::new())),
    ]
});

/// Rows of a scan or a bind join, or edges of a path, above which a plan is not small.
pub const SMALL: f64 = 20_000.0;

/// Where plans run.
#[derive(Clone)]
pub struct Runner {
    /// The session's state.
    state: Arc<SessionState>,
    /// For plans that read little.
    small: SmallState,
    /// For those of them that have one order of operators, on one thread.
    plain: SmallState,
}

/// Operators that can be made anew without planning: none of them keeps what it has read.
const REPEATABLE: [&str; 20] = [
    "AggregateExec",
    "BindJoinExec",
    "CoalescePartitionsExec",
    "ColumnsExec",
    "CooperativeExec",
    "CountedExec",
    "CrossJoinExec",
    "EmptyExec",
    "ExpandExec",
    "FilterExec",
    "GlobalLimitExec",
    "HashJoinExec",
    "LocalLimitExec",
    "NestedLoopJoinExec",
    "PlaceholderRowExec",
    "ProjectionExec",
    "SortExec",
    "SortExec(TopK)",
    "UnionExec",
    "YieldExec",
];

/// A plan that is ready to be run, once.
pub struct Prepared {
    plan: Arc<dyn ExecutionPlan>,
    task: Arc<TaskContext>,
    is_small: bool,
}

impl Prepared {
    /// Runs it.
    pub fn run(self) -> Result<SendableRecordBatchStream> {
        Ok(execute_stream(self.plan, self.task)?)
    }

    /// Another one of the same plan; `None` where that would have to be planned.
    pub fn again(&self) -> Result<Option<Prepared>> {
        let mut is_repeatable = self.is_small;
        self.plan.apply(|node| {
            is_repeatable &= REPEATABLE.contains(&node.name()) || is_values(node.as_ref());
            Ok(TreeNodeRecursion::Continue)
        })?;
        if !is_repeatable {
            return Ok(None);
        }
        Ok(Some(Prepared {
            plan: anew(&self.plan)?,
            task: Arc::clone(&self.task),
            is_small: true,
        }))
    }
}

/// Whether a plan is rows of VALUES.
fn is_values(plan: &dyn ExecutionPlan) -> bool {
    let source = plan.downcast_ref::<DataSourceExec>();
    source.is_some_and(|source| source.data_source().downcast_ref::<MemorySourceConfig>().is_some())
}

/// The same operators, of which nothing has been run.
fn anew(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let children = plan.children().into_iter().map(anew).collect::<Result<Vec<_>>>()?;
    if let Some(expand) = plan.downcast_ref::<ExpandExec>() {
        return Ok(expand.anew(children)?);
    }
    if let [input] = children.as_slice() {
        if let Some(bind) = plan.downcast_ref::<BindExec>() {
            return Ok(Arc::new(bind.anew(Arc::clone(input))));
        }
        if let Some(own) = cooperative_joins::anew(plan.as_ref(), input)? {
            return Ok(own);
        }
    }
    if children.is_empty() {
        return Ok(Arc::clone(plan));
    }
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
    Ok(Arc::clone(plan).replace_children(children, options)?.reset_state()?)
}

impl Runner {
    /// For plans of a session.
    pub fn new(session: &Session) -> Runner {
        Runner {
            state: session.shared_state(),
            small: session.engine().small_states.small.clone(),
            plain: session.engine().small_states.plain.clone(),
        }
    }

    /// Where what plans need beside their operators' memory is counted.
    pub fn memory(&self, consumer: &str) -> MemoryReservation {
        MemoryConsumer::new(consumer).register(&self.state.runtime_env().memory_pool)
    }

    /// Starts a plan.
    pub async fn start(&self, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
        self.prepare(plan).await?.run()
    }

    /// Plans a plan.
    pub async fn prepare(&self, plan: &LogicalPlan) -> Result<Prepared> {
        let shape = Shape::of(plan)?;
        let small = match (shape.is_plain, shape.is_small) {
            (true, _) => Some(&self.plain),
            (_, true) => Some(&self.small),
            _ => None,
        };
        let state = small.map_or(&self.state, |small| &small.state);
        Ok(Prepared {
            plan: planned(state, plan, &shape).await?,
            task: small.map_or_else(|| state.task_ctx(), |small| Arc::clone(&small.task)),
            is_small: shape.is_small,
        })
    }
}

/// Rows that a scan is expected to read.
fn scanned_rows(scan: &TableScan) -> Option<f64> {
    let table = source_as_provider(&scan.source).ok()?;
    table.downcast_ref::<RelationTable>()?.expected_rows()
}

/// What tells how much of planning a plan needs.
struct Shape {
    /// Whether it is expected to scan and look up little.
    is_small: bool,
    /// Whether it only looks up, computes, filters, groups, sorts and cuts, in one order: nothing is to be moved, spread or converted.
    is_plain: bool,
    has_distinct: bool,
    has_aggregate: bool,
    has_limit: bool,
}

impl Shape {
    fn of(plan: &LogicalPlan) -> Result<Shape> {
        let mut shape = Shape {
            is_small: true,
            is_plain: true,
            has_distinct: false,
            has_aggregate: false,
            has_limit: false,
        };
        plan.apply(|node| {
            match node {
                LogicalPlan::TableScan(scan) => {
                    shape.is_plain = false;
                    shape.is_small &= scanned_rows(scan).is_some_and(|rows| rows <= SMALL);
                }
                LogicalPlan::Extension(extension) => {
                    let node = extension.node.as_ref();
                    let rows = bind_rows(node).or_else(|| expand_rows(node)).or_else(|| counted_rows(node));
                    shape.is_small &= rows.is_none_or(|rows| rows <= SMALL);
                }
                LogicalPlan::Distinct(_) => shape.has_distinct = true,
                LogicalPlan::Aggregate(_) => shape.has_aggregate = true,
                LogicalPlan::Limit(_) => shape.has_limit = true,
                LogicalPlan::EmptyRelation(_) | LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::Sort(_) => {}
                _ => shape.is_plain = false,
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        shape.is_plain &= shape.is_small;
        Ok(shape)
    }

    fn rules(&self) -> Vec<Rule> {
        let rules = RULES.iter().filter(|(is_needed, _)| is_needed(self));
        rules.map(|(_, rule)| Arc::clone(rule)).collect()
    }
}

/// Plans a part of a plan by itself, for the threads of the whole.
pub async fn planned_apart(state: &SessionState, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    let shape = Shape {
        is_plain: false,
        ..Shape::of(plan)?
    };
    planned(state, plan, &shape).await
}

async fn planned(state: &SessionState, plan: &LogicalPlan, shape: &Shape) -> Result<Arc<dyn ExecutionPlan>> {
    let options = Arc::clone(state.config_options());
    // What translations of queries compare has one type already; what unions, joins and functions of SQL take together may not.
    let context = OptimizerContext::new_with_config_options(Arc::clone(&options)).with_max_passes(1);
    let optimized = match shape.is_plain {
        true => {
            if let Some(operators) = plain_operators(state, plan, shape, &context)? {
                return Ok(operators);
            }
            let mut plan = plan.clone();
            for rule in shape.rules() {
                plan = applied(rule.as_ref(), plan, &context)?;
            }
            plan.transform_up(merged_projections)?.data
        }
        false => {
            let analyzed = ANALYZER.execute_and_check(plan.clone(), &options, |_, _| {})?;
            // Once: a second pass finds next to nothing in such plans.
            Optimizer::with_rules(shape.rules()).optimize(analyzed, &context, |_, _| {})?
        }
    };
    Ok(state.query_planner().create_physical_plan(&optimized, state).await?)
}

/// The operators of a plain plan, if all its nodes are known.
fn plain_operators(
    state: &SessionState,
    plan: &LogicalPlan,
    shape: &Shape,
    context: &OptimizerContext,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let mut plan = plan.clone();
    if shape.has_aggregate {
        plan = applied(&SingleDistinctToGroupBy::new(), plan, context)?;
    }
    Ok(plain::operators(&plan.transform_up(merged_projections)?.data, state)?)
}

/// A plan after one rule. An optimizer would also look whether the plan became another one, which costs more than the rules.
fn applied(rule: &(dyn OptimizerRule + Send + Sync), plan: LogicalPlan, context: &OptimizerContext) -> DataFusionResult<LogicalPlan> {
    let rewritten = match rule.apply_order() {
        Some(ApplyOrder::TopDown) => plan.transform_down(|node| rule.rewrite(node, context)),
        Some(ApplyOrder::BottomUp) => plan.transform_up(|node| rule.rewrite(node, context)),
        None => rule.rewrite(plan, context),
    };
    Ok(rewritten?.data)
}

/// A projection of a projection is one, where nothing would be computed twice for it.
fn merged_projections(plan: LogicalPlan) -> DataFusionResult<Transformed<LogicalPlan>> {
    let LogicalPlan::Projection(outer) = &plan else {
        return Ok(Transformed::no(plan));
    };
    let LogicalPlan::Projection(inner) = outer.input.as_ref() else {
        return Ok(Transformed::no(plan));
    };
    let below = |column: &Column| inner.schema.maybe_index_of_column(column).map(|i| &inner.expr[i]);
    let is_plain = |expr: &Expr| matches!(bare(expr), Expr::Column(_));
    let mut computed: Vec<&Column> = Vec::new();
    for expr in &outer.expr {
        for column in expr.column_refs() {
            match below(column) {
                Some(under) if is_plain(under) => {}
                // Taken as it is, and once.
                Some(_) if is_plain(expr) && !computed.contains(&column) => computed.push(column),
                _ => return Ok(Transformed::no(plan)),
            }
        }
    }
    let merged = outer.expr.iter().map(|expr| {
        let name = expr.schema_name().to_string();
        let rewritten = bare(expr).clone().transform_up(|node| match &node {
            Expr::Column(column) => match below(column) {
                Some(under) => Ok(Transformed::yes(bare(under).clone())),
                None => Ok(Transformed::no(node)),
            },
            _ => Ok(Transformed::no(node)),
        })?;
        Ok(match &rewritten.data {
            Expr::Column(column) if column.name == name => rewritten.data,
            _ => rewritten.data.alias(name),
        })
    });
    let merged = merged.collect::<DataFusionResult<Vec<_>>>()?;
    let projection = Projection::try_new_with_schema(merged, Arc::clone(&inner.input), Arc::clone(&outer.schema))?;
    Ok(Transformed::yes(LogicalPlan::Projection(projection)))
}

/// An expression without its name.
fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => bare(&alias.expr),
        expr => expr,
    }
}
