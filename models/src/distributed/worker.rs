//! What runs the tasks of other nodes' queries.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::Result;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};
use datafusion_distributed::{DistributedExt, Worker, WorkerPlanRewriteEvent, WorkerPlanRewriteEventResponse, WorkerQueryContext};
use tokio::sync::Notify;

use super::channel::Channels;
use super::codec::Codec;
use super::{eligible, guard};
use crate::engine::Engine;
use crate::sql::{checked_arithmetic, scalar_subquery};

/// What a task is run with: this node's own options, and all functions, which plans name.
#[derive(Clone)]
pub(super) struct WorkerStates {
    base: Arc<SessionState>,
    scalars: Vec<Arc<ScalarUDF>>,
    aggregates: Vec<Arc<AggregateUDF>>,
    windows: Vec<Arc<WindowUDF>>,
    higher_order: Vec<Arc<HigherOrderUDF>>,
    codec: Codec,
    channels: Channels,
    tasks: Arc<Tasks>,
}

/// The tasks of a worker.
#[derive(Default)]
pub(super) struct Tasks {
    count: AtomicUsize,
    /// Told of each that comes.
    arrived: Notify,
}

impl Tasks {
    /// How many there are: that run, or that are over and not yet forgotten.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until there is one.
    pub(super) async fn some(&self) {
        self.arrived.notified().await;
    }
}

/// One task, as long as it is there.
struct Task(Arc<Tasks>);

impl Task {
    fn new(tasks: &Arc<Tasks>) -> Task {
        tasks.count.fetch_add(1, Ordering::Relaxed);
        tasks.arrived.notify_one();
        Task(Arc::clone(tasks))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl WorkerStates {
    pub(super) fn new(base: &Arc<SessionState>, codec: Codec, channels: Channels) -> WorkerStates {
        // Those which only the planner puts into plans are known here alone, so that no statement can name them.
        let planners = checked_arithmetic::functions().into_iter().chain([scalar_subquery::function()]);
        WorkerStates {
            scalars: base.scalar_functions().values().cloned().chain(planners).collect(),
            aggregates: base.aggregate_functions().values().cloned().collect(),
            windows: base.window_functions().values().cloned().collect(),
            higher_order: base.higher_order_functions().values().cloned().collect(),
            base: Arc::clone(base),
            codec,
            channels,
            tasks: Arc::default(),
        }
    }

    /// The tasks that were given states.
    pub(super) fn tasks(&self) -> &Arc<Tasks> {
        &self.tasks
    }

    /// The state of a task. What the builder's options carry for the task itself stays.
    pub(super) fn state(&self, mut builder: SessionStateBuilder) -> SessionState {
        let config = builder.config().get_or_insert_default();
        let extensions = std::mem::take(&mut config.options_mut().extensions);
        let mut options = self.base.config_options().as_ref().clone();
        options.extensions = extensions;
        *config.options_mut() = options;
        *builder.scalar_functions() = Some(self.scalars.clone());
        *builder.aggregate_functions() = Some(self.aggregates.clone());
        *builder.window_functions() = Some(self.windows.clone());
        builder
            .with_higher_order_functions(self.higher_order.clone())
            .with_distributed_user_codec(self.codec.clone())
            .with_distributed_channel_resolver(self.channels.clone())
            .with_distributed_worker_plan_rewrite_handler(checked)
            .build()
    }
}

fn checked(event: WorkerPlanRewriteEvent<'_>) -> Result<WorkerPlanRewriteEventResponse> {
    eligible::check_stage(&event.plan)?;
    Ok(WorkerPlanRewriteEventResponse::new(guard::guarded(event.plan)?))
}

/// The worker of a node.
pub(super) fn worker(engine: &Engine, states: WorkerStates) -> Worker {
    let build = move |context: WorkerQueryContext| {
        let mut builder = context.builder;
        // Kept by the task's context.
        let task = Arc::new(Task::new(&states.tasks));
        builder.config().get_or_insert_default().set_extension(task);
        let state = states.state(builder);
        async move { Ok(state) as Result<SessionState> }
    };
    Worker::from_session_builder(build)
        .with_runtime_env(Arc::clone(&engine.runtime))
        .with_version(env!("CARGO_PKG_VERSION"))
}
