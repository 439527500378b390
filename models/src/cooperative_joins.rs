//! Joins make room for others: they make many rows of few, so that one poll of what reads them, such as a count, could go on for hours. DataFusion
//! makes only the leaves of a plan do so (`EnsureCooperative`), and counts batches: a hundred of them can take minutes where an expression is slow.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::SchedulingType;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties};
use futures::{Stream, StreamExt};

/// How long a task goes on before others have their turn.
const TURN: Duration = Duration::from_millis(10);

/// Wraps each join, so that a time limit or a client's leaving ends it. The last rule.
#[derive(Debug, Default)]
pub(crate) struct CooperativeJoins {
    /// Conditions that can be stopped belong to one process: whoever runs the plan adds them.
    travel: bool,
}

impl CooperativeJoins {
    /// The rule's name.
    pub(crate) const NAME: &'static str = "CooperativeJoins";

    /// For plans of which other nodes run a part.
    pub(crate) fn that_travel() -> CooperativeJoins {
        CooperativeJoins { travel: true }
    }
}

fn is_join(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<CrossJoinExec>() || plan.is::<NestedLoopJoinExec>() || plan.is::<HashJoinExec>() || plan.is::<SortMergeJoinExec>()
}

impl PhysicalOptimizerRule for CooperativeJoins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let wrapped = plan.transform_up(|plan| {
            if !self.travel
                && let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>()
                && let Some(filter) = join.filter()
            {
                return Ok(Transformed::yes(stoppable(join, filter)?));
            }
            Ok(match is_join(&plan) {
                true => Transformed::yes(Arc::new(YieldExec::new(plan, None)) as Arc<dyn ExecutionPlan>),
                false => Transformed::no(plan),
            })
        })?;
        Ok(wrapped.data)
    }

    fn name(&self) -> &'static str {
        CooperativeJoins::NAME
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A join of all pairs whose filter takes none of them gives no batch for hours: it works in a task of its own, and its filter fails as soon as
/// nobody waits for it.
fn stoppable(join: &NestedLoopJoinExec, filter: &JoinFilter) -> Result<Arc<dyn ExecutionPlan>> {
    let is_stopped = Arc::new(AtomicBool::new(false));
    let condition = Stoppable {
        condition: Arc::clone(filter.expression()),
        is_stopped: Arc::clone(&is_stopped),
    };
    let filter = JoinFilter::new(Arc::new(condition), filter.column_indices().to_vec(), Arc::clone(filter.schema()));
    let join = NestedLoopJoinExecBuilder::new(Arc::clone(join.left()), Arc::clone(join.right()), *join.join_type())
        .with_projection_ref(join.projection().clone())
        .with_filter(Some(filter))
        .build()?;
    Ok(Arc::new(YieldExec::new(Arc::new(join), Some(is_stopped))))
}

/// Whether an operator only yields.
pub(crate) fn yields(plan: &dyn ExecutionPlan) -> bool {
    plan.is::<YieldExec>()
}

/// An operator that yields over an input that has come from elsewhere.
pub(crate) fn yielding(input: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    match input.downcast_ref::<NestedLoopJoinExec>() {
        Some(join) if let Some(filter) = join.filter() => stoppable(join, filter),
        _ => Ok(Arc::new(YieldExec::new(Arc::clone(input), None))),
    }
}

/// A plan for several nodes whose joins can be stopped above what other nodes run.
pub(crate) fn stoppable_head(
    plan: Arc<dyn ExecutionPlan>,
    is_elsewhere: impl Fn(&Arc<dyn ExecutionPlan>) -> bool,
) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_down(|node| {
        if is_elsewhere(&node) {
            return Ok(Transformed::new(node, false, TreeNodeRecursion::Jump));
        }
        match (yields(node.as_ref()), node.children().first()) {
            (true, Some(input)) if input.is::<NestedLoopJoinExec>() => {
                let plan = yielding(input)?;
                Ok(Transformed::yes(plan))
            }
            _ => Ok(Transformed::no(node)),
        }
    })?;
    Ok(plan.data)
}

/// Over another input, of which nothing has been run, the same operator, if it is one that waits for joins.
pub(crate) fn anew(plan: &dyn ExecutionPlan, input: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if !plan.is::<YieldExec>() {
        return Ok(None);
    }
    // A run that was left has stopped its filter for good.
    if let Some(join) = input.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = join.filter()
        && let Some(stopped) = filter.expression().downcast_ref::<Stoppable>()
    {
        let condition = Arc::clone(&stopped.condition);
        let filter = JoinFilter::new(condition, filter.column_indices().to_vec(), Arc::clone(filter.schema()));
        return Ok(Some(stoppable(join, &filter)?));
    }
    Ok(Some(Arc::new(YieldExec::new(Arc::clone(input), None))))
}

/// Hands its input's batches on, and yields between them when its turn is over.
#[derive(Debug)]
struct YieldExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    /// Set when nobody waits for the input any more, which then works in a task of its own.
    is_stopped: Option<Arc<AtomicBool>>,
}

impl YieldExec {
    fn new(input: Arc<dyn ExecutionPlan>, is_stopped: Option<Arc<AtomicBool>>) -> YieldExec {
        let properties = PlanProperties::clone(input.properties()).with_scheduling_type(SchedulingType::Cooperative);
        YieldExec {
            input,
            properties: Arc::new(properties),
            is_stopped,
        }
    }
}

impl DisplayAs for YieldExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "YieldExec")
    }
}

impl ExecutionPlan for YieldExec {
    fn name(&self) -> &'static str {
        "YieldExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(&self, _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.pop()) {
            (Some(input), None) => Ok(Arc::new(YieldExec::new(input, self.is_stopped.clone()))),
            _ => Err(DataFusionError::Internal("YieldExec takes one input".to_owned())),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut input: SendableRecordBatchStream = Box::pin(Turns {
            input: self.input.execute(partition, context)?,
            begun: Instant::now(),
        });
        let Some(is_stopped) = &self.is_stopped else { return Ok(input) };
        let mut builder = RecordBatchReceiverStreamBuilder::new(input.schema(), 1);
        let output = builder.tx();
        builder.spawn(async move {
            while let Some(batch) = input.next().await {
                if output.send(batch).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        Ok(Box::pin(Stopping {
            input: builder.build(),
            is_stopped: Some(Arc::clone(is_stopped)),
        }))
    }
}

/// Sets a flag where it is dropped before its end.
struct Stopping {
    input: SendableRecordBatchStream,
    is_stopped: Option<Arc<AtomicBool>>,
}

impl Stream for Stopping {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.input.poll_next_unpin(cx);
        if matches!(next, Poll::Ready(None)) {
            self.is_stopped = None;
        }
        next
    }
}

impl RecordBatchStream for Stopping {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}

impl Drop for Stopping {
    fn drop(&mut self) {
        if let Some(is_stopped) = &self.is_stopped {
            is_stopped.store(true, Ordering::Relaxed);
        }
    }
}

/// A condition that fails once it is stopped.
#[derive(Debug)]
struct Stoppable {
    condition: Arc<dyn PhysicalExpr>,
    is_stopped: Arc<AtomicBool>,
}

impl PartialEq for Stoppable {
    fn eq(&self, other: &Self) -> bool {
        self.condition.eq(&other.condition)
    }
}

impl Eq for Stoppable {}

impl Hash for Stoppable {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.condition.hash(state);
    }
}

impl fmt::Display for Stoppable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.condition)
    }
}

impl PhysicalExpr for Stoppable {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.condition.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.condition.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        match self.is_stopped.load(Ordering::Relaxed) {
            true => Err(DataFusionError::Execution("the join was stopped".to_owned())),
            false => self.condition.evaluate(batch),
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.condition]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match (children.pop(), children.pop()) {
            (Some(condition), None) => Ok(Arc::new(Stoppable {
                condition,
                is_stopped: Arc::clone(&self.is_stopped),
            })),
            _ => Err(DataFusionError::Internal("Stoppable takes one condition".to_owned())),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt_sql(f)
    }
}

struct Turns {
    input: SendableRecordBatchStream,
    /// When the present turn began.
    begun: Instant,
}

impl Stream for Turns {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.begun.elapsed() > TURN {
            self.begun = Instant::now();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = self.input.poll_next_unpin(cx);
        if next.is_pending() {
            self.begun = Instant::now();
        }
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.input.size_hint()
    }
}

impl RecordBatchStream for Turns {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}
