//! From a logical plan of SPARQL to its rows, by the rules that such plans need: they have no subqueries, no names to resolve and one type of
//! column, and most of them run for less time than all of the optimizer's rules take, three times each.

use std::sync::{Arc, LazyLock};

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::{LogicalPlan, TableScan};
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
use datafusion::optimizer::{Optimizer, OptimizerContext};
use datafusion::physical_plan::execute_stream;

use super::bind::bind_rows;
use super::expand::expand_rows;
use crate::error::Result;
use crate::scan::RelationTable;
use crate::session::Session;

static ANALYZER: LazyLock<Analyzer> = LazyLock::new(|| Analyzer::with_rules(vec![Arc::new(TypeCoercion::new())]));

static OPTIMIZER: LazyLock<Optimizer> = LazyLock::new(|| {
    Optimizer::with_rules(vec![
        Arc::new(SimplifyExpressions::new()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(EliminateLimit::new()),
        Arc::new(PropagateEmptyRelation::new()),
        Arc::new(PushDownLimit::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(SingleDistinctToGroupBy::new()),
        Arc::new(EliminateGroupByConstant::new()),
        Arc::new(OptimizeProjections::new()),
    ])
});

/// Rows of a scan or a bind join, or edges of a path, above which a plan is not small.
const SMALL: f64 = 20_000.0;

/// Where plans run.
#[derive(Clone)]
pub struct Runner {
    /// The session's state.
    state: Arc<SessionState>,
    /// For plans that read little.
    small: Arc<SessionState>,
}

impl Runner {
    /// For plans of a session.
    pub fn new(session: &Session) -> Runner {
        Runner {
            state: session.shared_state(),
            small: Arc::clone(&session.engine().small_state),
        }
    }

    /// Where what plans need beside their operators' memory is counted.
    pub fn memory(&self, consumer: &str) -> MemoryReservation {
        MemoryConsumer::new(consumer).register(&self.state.runtime_env().memory_pool)
    }

    /// Starts a plan.
    pub async fn start(&self, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
        match is_small(plan) {
            true => start(&self.small, plan).await,
            false => start(&self.state, plan).await,
        }
    }
}

/// Rows that a scan is expected to read.
fn scanned_rows(scan: &TableScan) -> Option<f64> {
    let table = source_as_provider(&scan.source).ok()?;
    table.downcast_ref::<RelationTable>()?.expected_rows()
}

/// Whether a plan is expected to scan and look up little.
fn is_small(plan: &LogicalPlan) -> bool {
    let mut small = true;
    let walked = plan.apply(|node| {
        small &= match node {
            LogicalPlan::TableScan(scan) => scanned_rows(scan).is_some_and(|rows| rows <= SMALL),
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_ref();
                bind_rows(node).or_else(|| expand_rows(node)).is_none_or(|rows| rows <= SMALL)
            }
            _ => true,
        };
        Ok(if small {
            TreeNodeRecursion::Continue
        } else {
            TreeNodeRecursion::Stop
        })
    });
    walked.is_ok() && small
}

async fn start(state: &SessionState, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
    let options = Arc::clone(state.config_options());
    let analyzed = ANALYZER.execute_and_check(plan.clone(), &options, |_, _| {})?;
    // Once: a second pass finds next to nothing in such plans.
    let context = OptimizerContext::new_with_config_options(options).with_max_passes(1);
    let optimized = OPTIMIZER.optimize(analyzed, &context, |_, _| {})?;
    let physical = state.query_planner().create_physical_plan(&optimized, state).await?;
    Ok(execute_stream(physical, state.task_ctx())?)
}
