//! Plans a query for several nodes, checks that its stages travel, and runs it, or the plan for this node alone where that fails at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::analyze::AnalyzeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, execute_stream};
use datafusion_distributed::{
    DistributedCodec, DistributedConfig, DistributedExec, DistributedExt, DistributedLeafExec, ExecuteTaskRequest, MaybeEncoded,
    NetworkBoundaryExt, ProducerHead, SessionStateBuilderExt, Stage, TaskKey, Worker, display_plan_ascii,
};
use datafusion_proto::bytes::physical_plan_from_bytes_with_proto_converter;
use datafusion_proto::physical_plan::DeduplicatingProtoConverter;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use pyralog_consensus::Node;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::channel::Channels;
use super::check::{check_arrived, check_limits, has_unsure_subquery};
use super::codec::Codec;
use super::colocated::{self, ColocatedJoins};
use super::deal::{Deal, Nodes, desired_tasks, routes, scale_up, url_of};
use super::worker::{Tasks, WorkerStates, worker};
use super::{Mode, SharedCarrier, eligible, explain};
use crate::cooperative_joins::{self, CooperativeJoins};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use crate::session::Reader;

/// Rows that a plan reads, from which on other nodes are asked to help. A node reads as many in some tenths of a second. To plan again and to send
/// stages takes some thousandths, and rows that change nodes cost several times what rows that change threads do: TPC-H at 6 million rows took
/// twice its time where three nodes shared one machine, so the nodes' own processors must have a good deal to win.
const MANY_ROWS: u64 = 25_000_000;
/// Rows that make a task worth while.
const ROWS_A_TASK: u64 = 1_000_000;
/// How often a worker is made to forget tasks that are over, while it has any, and after how many reads its cache does so (moka's
/// `READ_LOG_FLUSH_POINT`, and the one that notices).
const SWEEP: Duration = Duration::from_millis(40);
const SWEEP_READS: usize = 65;
/// Bytes of one connection that are buffered for a task, at most, and which part of a query's memory that is.
const BUFFER: (u64, usize) = (64, 16 << 20);

/// Runs queries on several nodes, and tasks of other nodes' queries.
pub(crate) struct Distributed {
    node: Arc<Node>,
    base: Arc<SessionState>,
    worker: Worker,
    states: WorkerStates,
    codec: Codec,
    channels: Channels,
    buffer: usize,
    sweeper: JoinHandle<()>,
    /// Queries that have run on several nodes, and those of them which this node had to run again alone.
    pub(crate) queries: AtomicU64,
    pub(crate) fallbacks: Arc<AtomicU64>,
}

/// A query that is planned for this node.
pub(crate) struct Attempt<'a> {
    pub(crate) state: &'a SessionState,
    pub(crate) logical: &'a LogicalPlan,
    pub(crate) local: &'a Arc<dyn ExecutionPlan>,
    pub(crate) reader: &'a Reader,
    pub(crate) mode: Mode,
}

/// A plan for several nodes.
pub(crate) struct DistributedPlan {
    plan: Arc<dyn ExecutionPlan>,
    task: Arc<TaskContext>,
    schema: SchemaRef,
    /// Where it is to be explained: whether at length.
    explained: Option<bool>,
}

impl DistributedPlan {
    /// Its stages, as text.
    pub(crate) fn display(&self) -> String {
        explain::tasks(&self.task) + &display_plan_ascii(self.plan.as_ref(), false)
    }

    fn execute(self) -> Result<SendableRecordBatchStream> {
        match self.explained {
            Some(verbose) => explain::analyze(&self.plan, verbose, self.task),
            None => execute_stream(self.plan, self.task),
        }
    }
}

impl Distributed {
    /// For a node with others, and several partitions; `None` for any other.
    pub(crate) fn new(engine: &Engine, carrier: SharedCarrier) -> Option<Distributed> {
        if engine.node.partitions().len() < 2 || engine.config.peer.is_none() {
            return None;
        }
        let codec = Codec::new(Arc::clone(&engine.node));
        let mut channels = Channels {
            own: engine.node.status().node_id,
            worker: None,
            carrier,
        };
        let states = WorkerStates::new(&engine.base_state, codec.clone(), channels.clone());
        let worker = worker(engine, states.clone());
        channels.worker = Some(worker.clone());
        let buffer = usize::try_from(engine.query_memory_limit / BUFFER.0).unwrap_or(usize::MAX);
        Some(Distributed {
            node: Arc::clone(&engine.node),
            base: Arc::clone(&engine.base_state),
            sweeper: tokio::spawn(sweep(worker.clone(), Arc::clone(states.tasks()))),
            worker,
            states,
            codec,
            channels,
            buffer: buffer.clamp(1 << 20, BUFFER.1),
            queries: AtomicU64::new(0),
            fallbacks: Arc::default(),
        })
    }

    /// What runs the tasks of other nodes.
    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Tasks that this node runs, or has not yet forgotten.
    pub(crate) fn tasks(&self) -> u64 {
        self.states.tasks().count() as u64
    }

    /// A plan for several nodes; `None`: it is to be run here.
    pub(crate) async fn plan(&self, attempt: &Attempt<'_>) -> Option<DistributedPlan> {
        match self.try_plan(attempt).await {
            Ok(plan) => plan,
            Err(error) => {
                tracing::debug!(%error, "a query is run by this node alone");
                None
            }
        }
    }

    async fn try_plan(&self, attempt: &Attempt<'_>) -> Result<Option<DistributedPlan>> {
        let Some(deal) = self.deal(attempt)? else { return Ok(None) };
        let state = self.state(attempt, deal)?;
        let plan = state.create_physical_plan(attempt.logical).await?;
        if !plan.exists(|node| Ok(node.is::<DistributedExec>()))? {
            return Ok(None);
        }
        let plan = colocated::settled(plan)?;
        let task = state.task_ctx();
        self.check(&plan, &task)?;
        let Some(schema) = common_schema(&plan.schema(), &attempt.local.schema()) else {
            return Ok(None);
        };
        Ok(Some(DistributedPlan {
            plan: cooperative_joins::stoppable_head(plan, |node| node.is_network_boundary())?,
            task,
            schema,
            explained: attempt.local.downcast_ref::<AnalyzeExec>().map(AnalyzeExec::verbose),
        }))
    }

    /// How the work is dealt, if it is worth while.
    fn deal(&self, attempt: &Attempt<'_>) -> Result<Option<Deal>> {
        let (least, rows_a_task) = match attempt.mode {
            Mode::Off => return Ok(None),
            Mode::Auto => (MANY_ROWS, ROWS_A_TASK),
            Mode::Always => (0, 1),
        };
        let Some(moment) = attempt.reader.moment() else { return Ok(None) };
        match eligible::rows_to_read(attempt.local)? {
            Some(rows) if rows >= least => {}
            _ => return Ok(None),
        }
        if !eligible::has_common_options(attempt.state, &self.base) || has_unsure_subquery(attempt.logical)? {
            return Ok(None);
        }
        let mut nodes = self.node.readers();
        nodes.truncate(moment.applied.len());
        if nodes.len() < 2 || nodes.first() != Some(&self.channels.own) {
            return Ok(None);
        }
        Ok(Some(Deal {
            moment: Arc::clone(moment),
            nodes,
            leaders: self.node.leaders(),
            rows_a_task,
        }))
    }

    /// The session's state, which plans for several nodes.
    fn state(&self, attempt: &Attempt<'_>, deal: Deal) -> Result<SessionState> {
        let urls: Result<Vec<_>> = deal.nodes.iter().map(|node| url_of(*node)).collect();
        let urls = urls?;
        let rules = attempt.state.physical_optimizers().iter().map(|rule| match rule.name() {
            CooperativeJoins::NAME => Arc::new(CooperativeJoins::that_travel()) as _,
            _ => Arc::clone(rule),
        });
        let rules = rules.chain([Arc::new(ColocatedJoins) as _]);
        let tasks = deal.nodes.len();
        let mut state = SessionStateBuilder::new_from_existing(attempt.state.clone())
            .with_config(attempt.state.config().clone().with_extension(Arc::new(deal)))
            .with_physical_optimizer_rules(rules.collect())
            .with_distributed_planner()
            .with_distributed_worker_resolver(Nodes(urls))
            .with_distributed_channel_resolver(self.channels.clone())
            .with_distributed_user_codec(self.codec.clone())
            .with_distributed_desired_task_count_handler(desired_tasks)
            .with_distributed_scale_up_leaf_node_handler(scale_up)
            .with_distributed_route_tasks_handler(routes)
            // A part of each child can run in each task: the parts are ranges of hashes.
            .with_distributed_children_isolator_unions(false)?
            .with_distributed_max_tasks_per_stage(tasks)?
            .with_distributed_worker_connection_buffer_budget_bytes(self.buffer)?
            .with_distributed_metrics_collection(attempt.local.is::<AnalyzeExec>())?
            .build();
        let options = state.config_mut().options_mut();
        // Nodes are near each other.
        DistributedConfig::from_config_options_mut(options)?.compression = "none".to_owned();
        Ok(state)
    }

    /// Whether each stage can be sent, and understood: what cannot be encoded would show as a time-out, after ten seconds.
    fn check(&self, plan: &Arc<dyn ExecutionPlan>, task: &Arc<TaskContext>) -> Result<()> {
        let builder = SessionStateBuilder::new().with_runtime_env(task.runtime_env());
        let there = self.states.state(builder).task_ctx();
        let codec = DistributedCodec::new_combined_with_user(there.session_config());
        Arc::clone(plan).transform_up(|node| {
            check_limits(&node)?;
            if let Some(leaf) = node.downcast_ref::<DistributedLeafExec>() {
                // They differ in their partitions only.
                let first = leaf.variants().first().map(Arc::clone);
                return Ok(first.map_or(Transformed::no(node), Transformed::yes));
            }
            let Some(boundary) = node.as_network_boundary() else {
                return Ok(Transformed::no(node));
            };
            if let Stage::Local(stage) = boundary.input_stage() {
                let bytes = MaybeEncoded::Decoded(Arc::clone(&stage.plan)).encode(task)?;
                let converter = DeduplicatingProtoConverter::default();
                let arrived = physical_plan_from_bytes_with_proto_converter(&bytes, &there, &codec, &converter)?;
                check_arrived(&stage.plan, &arrived)?;
            }
            // What is below travels by itself.
            let partitions = node.output_partitioning().partition_count();
            Ok(Transformed::yes(Arc::new(
                EmptyExec::new(node.schema()).with_partitions(partitions),
            )))
        })?;
        Ok(())
    }

    /// The rows of a plan for several nodes; those of the plan for this one where that fails before it has given any.
    pub(crate) fn run(
        &self,
        plan: DistributedPlan,
        local: Arc<dyn ExecutionPlan>,
        task: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        let fallbacks = Arc::clone(&self.fallbacks);
        let tasks = Arc::clone(self.states.tasks());
        let schema = Arc::clone(&plan.schema);
        let rows = stream::once(async move {
            let mut rows = plan.execute()?;
            let mut first = rows.next().await;
            while matches!(&first, Some(Ok(batch)) if batch.num_rows() == 0) {
                first = rows.next().await;
            }
            if let Some(Err(error)) = &first
                && may_pass(error)
            {
                tracing::warn!(%error, "a query could not be run on several nodes, and is run by this one");
                fallbacks.fetch_add(1, Ordering::Relaxed);
                drop(rows);
                // What its tasks held is needed now.
                let forgotten = async {
                    while tasks.count() > 0 {
                        tokio::time::sleep(SWEEP / 4).await;
                    }
                };
                let _others = tokio::time::timeout(4 * SWEEP, forgotten).await;
                (first, rows) = (None, execute_stream(local, task)?);
            }
            Ok::<_, DataFusionError>(stream::iter(first).chain(rows))
        });
        let typed = Arc::clone(&schema);
        let rows = rows.try_flatten().map(move |batch| with_schema(batch?, &typed));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

impl Drop for Distributed {
    fn drop(&mut self) {
        self.sweeper.abort();
    }
}

/// Whether this node may do what several could not: all but what the rows themselves are to blame for. One node's plan needs less memory: what
/// is sent to other nodes, and what comes from them, does not spill.
fn may_pass(error: &DataFusionError) -> bool {
    let error = Error::from(error);
    error.kind != ErrorKind::InvalidInput || error.code == "22000" || !error.code.starts_with("22")
}

/// The schema of both plans' rows. Planned in two ways, a column may be known not to be null in one only.
fn common_schema(ours: &SchemaRef, theirs: &SchemaRef) -> Option<SchemaRef> {
    if ours.fields().len() != theirs.fields().len() {
        return None;
    }
    let fields = ours.fields().iter().zip(theirs.fields()).map(|(ours, theirs)| {
        let is_same = ours.name() == theirs.name() && ours.data_type() == theirs.data_type();
        let nullable = ours.is_nullable() || theirs.is_nullable();
        is_same.then(|| Field::clone(theirs).with_nullable(nullable))
    });
    let fields: Option<Vec<_>> = fields.collect();
    Some(Arc::new(Schema::new_with_metadata(fields?, theirs.metadata().clone())))
}

fn with_schema(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        batch.columns().to_vec(),
        &options,
    )?)
}

/// Makes a worker forget what is over, and let go of its memory and its timestamps: its cache drops entries only when it was used a while after
/// they were removed, or often.
async fn sweep(worker: Worker, tasks: Arc<Tasks>) {
    loop {
        tasks.some().await;
        while tasks.count() > 0 {
            tokio::time::sleep(SWEEP).await;
            for _ in 0..SWEEP_READS {
                let nothing = ExecuteTaskRequest {
                    task_key: TaskKey {
                        query_id: Uuid::nil(),
                        stage_id: 0,
                        task_number: 0,
                    },
                    target_partition_start: 0,
                    target_partition_end: 0,
                    producer_head: ProducerHead::None,
                };
                // Nobody sets that task: it is only looked for.
                let _unknown = worker.execute_task(nothing).now_or_never();
            }
        }
    }
}
