//! Tasks of distributed queries between nodes: gRPC over streams of the port that nodes speak through, with its certificates and its handshake.
//! Clients never reach a worker.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_flight::error::FlightError;
use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_distributed::grpc::{BoxCloneSyncChannel, create_worker_client};
use datafusion_distributed::{
    CoordinatorToWorkerMsg, ExecuteTaskRequest, GetWorkerInfoRequest, GetWorkerInfoResponse, SetPlanRequest, WorkerToCoordinatorMsg,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::HeaderMap;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use pyralog_models::distributed::{Carrier, Peers, Worker, WorkerChannel};
use pyralog_models::{Channel as PeerStream, Error, ErrorKind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};
use tower::service_fn;

/// Windows of HTTP/2. One connection carries all stages between two nodes, and a stage whose reader waits keeps what it was sent: a small window
/// for all would let stages that wait for each other shut each other out. What is buffered is bounded elsewhere, a task.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;
/// Requests at a time between two nodes.
const STREAMS: u32 = 1 << 16;
/// How often a node is asked whether it is there, and how long it may take to answer: its threads may all be busy with rows. (One that is gone is
/// noticed by the peers, whose streams end then.)
const ASKED: Duration = Duration::from_secs(4);
const ANSWERED: Duration = Duration::from_secs(25);

/// Reaches the workers of other nodes.
pub struct PeerCarrier {
    peers: Peers,
    /// One connection a node, which is made anew when it breaks.
    channels: Mutex<HashMap<u64, Channel>>,
}

impl PeerCarrier {
    /// To the other nodes of a database.
    pub fn new(peers: Peers) -> PeerCarrier {
        PeerCarrier {
            peers,
            channels: Mutex::default(),
        }
    }

    fn connection(&self, node: u64) -> Channel {
        let mut channels = self.channels.lock();
        let channel = channels.entry(node).or_insert_with(|| {
            let peers = self.peers.clone();
            let dial = service_fn(move |_: http::Uri| {
                let peers = peers.clone();
                async move { peers.stream_to(node).await.map(TokioIo::new) }
            });
            // The name is for HTTP only; the stream is authenticated.
            Endpoint::from_static("http://pyralog")
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .http2_keep_alive_interval(ASKED)
                .keep_alive_timeout(ANSWERED)
                .keep_alive_while_idle(true)
                .connect_with_connector_lazy(dial)
        });
        channel.clone()
    }
}

#[async_trait]
impl Carrier for PeerCarrier {
    async fn channel(&self, node: u64) -> Result<Box<dyn WorkerChannel>> {
        let inner = create_worker_client(BoxCloneSyncChannel::new(self.connection(node)));
        Ok(Box::new(NodeWorker { node, inner }))
    }
}

/// Serves tasks of other nodes' queries, until told to stop.
pub async fn serve(worker: Worker, streams: mpsc::Receiver<(u64, PeerStream)>, stop: CancellationToken) {
    let incoming = ReceiverStream::new(streams).map(|(_, stream)| Ok::<_, Infallible>(Accepted(stream)));
    let served = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(ASKED))
        .http2_keepalive_timeout(Some(ANSWERED))
        .add_service(worker.into_worker_server())
        .serve_with_incoming(incoming);
    tokio::select! {
        ended = served => if let Err(error) = ended {
            tracing::error!(%error, "tasks of other nodes' queries are served no more");
        },
        () = stop.cancelled() => {}
    }
}

/// A stream that another node has opened.
struct Accepted(PeerStream);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// A worker whose errors say which node it was, where the way to it broke.
struct NodeWorker {
    node: u64,
    inner: Box<dyn WorkerChannel>,
}

/// What the wire says becomes what callers know: an error with its code also where it travels on.
fn told(node: u64, error: DataFusionError) -> DataFusionError {
    let DataFusionError::External(cause) = &error else { return error };
    let reason = match (cause.downcast_ref::<tonic::Status>(), cause.downcast_ref::<FlightError>()) {
        (Some(status), _) => status.message().to_owned(),
        (None, Some(error)) => error.to_string(),
        (None, None) => return error,
    };
    Error::new(
        ErrorKind::Unavailable,
        "08006",
        format!("node {node} was lost during a query: {reason}"),
    )
    .with_hint("retry")
    .into()
}

#[async_trait]
impl WorkerChannel for NodeWorker {
    async fn coordinator_channel(
        &mut self,
        headers: HeaderMap,
        request: SetPlanRequest,
        messages: BoxStream<'static, CoordinatorToWorkerMsg>,
        metrics: ExecutionPlanMetricsSet,
        task: &Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<WorkerToCoordinatorMsg>>> {
        let node = self.node;
        let answers = self.inner.coordinator_channel(headers, request, messages, metrics, task).await;
        let answers = answers.map_err(|error| told(node, error))?;
        Ok(answers.map(move |answer| answer.map_err(|error| told(node, error))).boxed())
    }

    async fn execute_task(
        &mut self,
        headers: HeaderMap,
        request: ExecuteTaskRequest,
        metrics: ExecutionPlanMetricsSet,
        task: &Arc<TaskContext>,
    ) -> Result<Vec<BoxStream<'static, Result<RecordBatch>>>> {
        let node = self.node;
        let streams = self.inner.execute_task(headers, request, metrics, task).await;
        let streams = streams.map_err(|error| told(node, error))?.into_iter();
        let streams = streams.map(|stream| stream.map(move |batch| batch.map_err(|error| told(node, error))).boxed());
        Ok(streams.collect())
    }

    async fn get_worker_info(&mut self, request: GetWorkerInfoRequest) -> Result<GetWorkerInfoResponse> {
        let told = |error| told(self.node, error);
        self.inner.get_worker_info(request).await.map_err(told)
    }
}
