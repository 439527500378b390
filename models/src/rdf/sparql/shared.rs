//! Solutions that several operators of one plan read, made once.
//!
//! An EXISTS that sees outer variables joins the outer solutions to each of its leaves (`exists`), and within it stands another one: as plans in
//! each place, they would grow by a factor at each level. Here they are a table, whose rows are made by whoever asks first, held, and read by all.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::project_schema;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::utils::memory::RecordBatchMemoryCounter;
use datafusion::datasource::{TableProvider, TableType, provider_as_source, source_as_provider};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties, execute_stream};
use datafusion::prelude::ident;
use futures::future::{BoxFuture, FutureExt, Shared};
use futures::{StreamExt, TryFutureExt, TryStreamExt, stream};
use parking_lot::Mutex;

use super::growth;
use super::pattern::Translator;
use super::plan::planned_apart;
use super::solutions::Solutions;
use crate::error::Result;
use crate::large_stack::OnLargeStack;

/// A plan of fewer nodes is run in each place: nothing of it has to be held.
const SMALL: usize = 64;

/// The numbers of tables.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl Translator<'_> {
    /// Solutions that will stand in several places: made once, if their plan is large.
    pub fn shared(&mut self, solutions: Solutions) -> Result<Solutions> {
        if growth::nodes(&solutions.plan, SMALL)? <= SMALL {
            return Ok(solutions);
        }
        self.held(solutions)
    }

    /// Solutions that will stand in several places: made once.
    pub fn held(&mut self, solutions: Solutions) -> Result<Solutions> {
        if is_held(&solutions.plan) {
            return Ok(solutions);
        }
        growth::check_plan(&solutions.plan)?;
        let solutions = solutions.only_variables()?;
        let schema = Arc::clone(solutions.plan.schema().inner());
        let columns: Vec<Expr> = schema
            .fields()
            .iter()
            .map(|field| ident(field.name()).alias(field.name()))
            .collect();
        let table: Arc<dyn TableProvider> = Arc::new(SharedTable {
            plan: solutions.plan,
            schema,
            rows: tokio::sync::Mutex::default(),
        });
        // Plans of several queries may be in one statement, and scans are told apart by their names only.
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let plan = LogicalPlanBuilder::scan(format!("#shared{number}"), provider_as_source(table), None)?
            .project(columns)?
            .build()?;
        Ok(Solutions { plan, ..solutions })
    }
}

/// Whether a plan only reads what is made once.
fn is_held(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => source_as_provider(&scan.source).is_ok_and(|table| table.downcast_ref::<SharedTable>().is_some()),
        LogicalPlan::Projection(projection) => is_held(&projection.input),
        LogicalPlan::Filter(filter) => is_held(&filter.input),
        _ => false,
    }
}

/// A plan as a table.
#[derive(Debug)]
struct SharedTable {
    plan: LogicalPlan,
    schema: SchemaRef,
    /// What all scans of the plan that is being made read.
    rows: tokio::sync::Mutex<Weak<Once>>,
}

#[async_trait]
impl TableProvider for SharedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let mut rows = self.rows.lock().await;
        let once = match rows.upgrade() {
            Some(once) => once,
            None => {
                let state = session.as_any().downcast_ref::<SessionState>();
                let state = state.ok_or_else(|| DataFusionError::Internal("a session without a state".to_owned()))?;
                let once = Arc::new(Once {
                    // Within it stand others.
                    plan: OnLargeStack::new(planned_apart(state, &self.plan)).await?,
                    rows: Mutex::default(),
                });
                *rows = Arc::downgrade(&once);
                once
            }
        };
        let schema = project_schema(&self.schema, projection)?;
        Ok(Arc::new(SharedExec {
            once,
            projection: projection.cloned(),
            properties: Arc::new(PlanProperties::new(
                EquivalenceProperties::new(schema),
                Partitioning::UnknownPartitioning(1),
                EmissionType::Final,
                Boundedness::Bounded,
            )),
        }))
    }
}

/// Rows, and the memory that they take.
struct Held {
    batches: Vec<RecordBatch>,
    _memory: MemoryReservation,
}

/// Rows that are on their way. Each who waits for them makes them go on.
type Making = Shared<BoxFuture<'static, std::result::Result<Arc<Held>, Arc<DataFusionError>>>>;

/// A plan that is run once.
struct Once {
    plan: Arc<dyn ExecutionPlan>,
    rows: Mutex<Option<Making>>,
}

impl Once {
    fn rows(&self, context: Arc<TaskContext>) -> Making {
        let mut rows = self.rows.lock();
        let making = rows.get_or_insert_with(|| OnLargeStack::new(made(Arc::clone(&self.plan), context)).boxed().shared());
        making.clone()
    }
}

async fn made(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> std::result::Result<Arc<Held>, Arc<DataFusionError>> {
    let memory = MemoryConsumer::new("SharedExec").register(context.memory_pool());
    let mut rows = execute_stream(plan, context)?;
    let mut counter = RecordBatchMemoryCounter::new();
    let mut batches = Vec::new();
    while let Some(batch) = rows.try_next().await? {
        // Many batches may be slices of one.
        memory.try_grow(counter.count_batch(&batch))?;
        batches.push(batch);
    }
    Ok(Arc::new(Held { batches, _memory: memory }))
}

/// Reads what is made once.
struct SharedExec {
    once: Arc<Once>,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
}

impl fmt::Debug for SharedExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedExec")
            .field("projection", &self.projection)
            .finish_non_exhaustive()
    }
}

impl DisplayAs for SharedExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "SharedExec: of={}", self.once.plan.name())
    }
}

impl ExecutionPlan for SharedExec {
    fn name(&self) -> &'static str {
        "SharedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    // None: rules would go through the plan once for each place.
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn ExecutionPlan>>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let making = self.once.rows(context);
        let projection = self.projection.clone();
        let batches = async move {
            let held = making.await.map_err(DataFusionError::Shared)?;
            let number = held.batches.len();
            Ok(stream::iter((0..number).map(move |i| held.batches[i].clone())).map(Ok::<_, DataFusionError>))
        };
        let batches = batches.try_flatten_stream().map(move |batch| match &projection {
            Some(columns) => Ok(batch?.project(columns)?),
            None => batch,
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}
