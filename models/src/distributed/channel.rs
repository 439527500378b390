//! Ways to workers: to this node's own, and through the carrier to others'.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_distributed::{
    ChannelResolver, CoordinatorToWorkerMsg, ExecuteTaskRequest, GetWorkerInfoRequest, GetWorkerInfoResponse, MaybeEncoded, SetPlanRequest,
    Worker, WorkerChannel, WorkerToCoordinatorMsg,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::HeaderMap;
use url::Url;

use super::SharedCarrier;
use super::deal::node_of;
use crate::error::{Error, ErrorKind};

/// Finds the channel of a node by its URL.
#[derive(Clone)]
pub(super) struct Channels {
    /// This node.
    pub own: u64,
    /// Its worker; at a worker, which calls itself without this, `None`.
    pub worker: Option<Worker>,
    /// The way to others.
    pub carrier: SharedCarrier,
}

#[async_trait]
impl ChannelResolver for Channels {
    async fn get_worker_client_for_url(&self, url: &Url) -> Result<Box<dyn WorkerChannel>> {
        let node = node_of(url).ok_or_else(|| DataFusionError::from(Error::internal(format!("{url} names no node"))))?;
        match &self.worker {
            Some(worker) if node == self.own => Ok(in_process(worker.clone())),
            _ => self.carrier.channel(node).await.map_err(|error| lost(node, error)),
        }
    }
}

/// A channel to a worker of this process, which gets what it is sent as one of another process would.
pub fn in_process(worker: Worker) -> Box<dyn WorkerChannel> {
    Box::new(OwnWorker(worker))
}

fn lost(node: u64, error: DataFusionError) -> DataFusionError {
    let error = Error::from(error);
    Error::new(
        ErrorKind::Unavailable,
        "08006",
        format!("node {node} cannot be reached: {}", error.message),
    )
    .with_hint("retry")
    .into()
}

/// A worker of this process. Plans are encoded for it as for any other one: tasks must not share what operators change as they run, such as the
/// filter which a join gives to a scan. A task of a join has some of the rows, and would filter for all tasks.
struct OwnWorker(Worker);

#[async_trait]
impl WorkerChannel for OwnWorker {
    async fn coordinator_channel(
        &mut self,
        headers: HeaderMap,
        mut request: SetPlanRequest,
        messages: BoxStream<'static, CoordinatorToWorkerMsg>,
        _metrics: ExecutionPlanMetricsSet,
        task: &Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<WorkerToCoordinatorMsg>>> {
        request.plan = MaybeEncoded::Encoded(request.plan.encode(task)?);
        self.0.coordinator_channel(headers, request, messages.map(Ok).boxed()).await
    }

    async fn execute_task(
        &mut self,
        _headers: HeaderMap,
        request: ExecuteTaskRequest,
        _metrics: ExecutionPlanMetricsSet,
        _task: &Arc<TaskContext>,
    ) -> Result<Vec<BoxStream<'static, Result<RecordBatch>>>> {
        let (streams, _) = self.0.execute_task(request).await?;
        Ok(streams.into_iter().map(StreamExt::boxed).collect())
    }

    async fn get_worker_info(&mut self, _request: GetWorkerInfoRequest) -> Result<GetWorkerInfoResponse> {
        Ok(GetWorkerInfoResponse {
            version: self.0.version().to_owned(),
        })
    }
}
