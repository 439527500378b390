//! What runs the tasks of other nodes' queries.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};
use datafusion_distributed::{DistributedExt, Worker, WorkerPlanRewriteEvent, WorkerPlanRewriteEventResponse, WorkerQueryContext};

use super::channel::Channels;
use super::codec::Codec;
use super::{eligible, panics};
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
        }
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
    Ok(WorkerPlanRewriteEventResponse::new(panics::caught(event.plan)?))
}

/// The worker of a node.
pub(super) fn worker(engine: &Engine, states: WorkerStates) -> Worker {
    let build = move |context: WorkerQueryContext| {
        let state = states.state(context.builder);
        async move { Ok(state) as Result<SessionState> }
    };
    Worker::from_session_builder(build)
        .with_runtime_env(Arc::clone(&engine.runtime))
        .with_version(env!("CARGO_PKG_VERSION"))
}
