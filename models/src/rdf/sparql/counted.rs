//! A plan of which the translation knows about how many rows it has.
//!
//! DataFusion's own estimates of products and of what is made by functions are absent or far off; by them it would take the larger side of a
//! join for the one to make a hash table of. And it takes inner joins apart and puts them together in an order of its own, which this ends at.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchemaRef, Statistics};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

/// The same plan, of about so many rows.
pub fn counted(input: LogicalPlan, rows: f64) -> LogicalPlan {
    LogicalPlan::Extension(Extension {
        node: Arc::new(Node { input, rows }),
    })
}

/// About how many rows a node has, if it is counted.
pub fn counted_rows(node: &dyn UserDefinedLogicalNode) -> Option<f64> {
    node.as_any().downcast_ref::<Node>().map(|node| node.rows)
}

#[derive(Debug, Clone)]
struct Node {
    input: LogicalPlan,
    rows: f64,
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.input == other.input
    }
}

impl Eq for Node {}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
    }
}

impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for Node {
    fn name(&self) -> &'static str {
        "Counted"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Counted: rows={:.0}", self.rows)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        match (inputs.pop(), inputs.pop()) {
            (Some(input), None) => Ok(Node { input, rows: self.rows }),
            _ => Err(DataFusionError::Internal("Counted takes one input".to_owned())),
        }
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::new()
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

/// Plans what is counted.
#[derive(Debug)]
pub struct CountedPlanner;

#[async_trait]
impl ExtensionPlanner for CountedPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(node), [input]) = (node.as_any().downcast_ref::<Node>(), physical_inputs) else {
            return Ok(None);
        };
        Ok(Some(Arc::new(CountedExec {
            input: Arc::clone(input),
            rows: node.rows,
        })))
    }
}

#[derive(Debug)]
struct CountedExec {
    input: Arc<dyn ExecutionPlan>,
    rows: f64,
}

impl DisplayAs for CountedExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "CountedExec: rows={:.0}", self.rows)
    }
}

impl ExecutionPlan for CountedExec {
    fn name(&self) -> &'static str {
        "CountedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.pop()) {
            (Some(input), None) => Ok(Arc::new(CountedExec { input, rows: self.rows })),
            _ => Err(DataFusionError::Internal("CountedExec takes one input".to_owned())),
        }
    }

    fn statistics_from_inputs(&self, _inputs: &[Arc<Statistics>], args: &StatisticsArgs) -> DataFusionResult<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        let partitions = self.properties().partitioning.partition_count().max(1);
        let share = args.partition().map_or(1, |_| partitions);
        statistics.num_rows = Precision::Inexact((self.rows / share as f64).ceil() as usize);
        Ok(Arc::new(statistics))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
