//! The listening server: bound first, so that the caller can print the address or report a port in use, then served until told to stop.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use pyralog_models::Database;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::broken_stream;
use super::options::FlightOptions;
use super::service::Service;
use super::state::State;

/// How long cancelled calls may take to end before their connections are dropped.
const CANCEL_GRACE: Duration = Duration::from_secs(1);

/// Why the server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum FlightServerError {
    /// The address cannot be listened on: in use, not this machine's, or not allowed.
    #[error("cannot listen for Flight SQL on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The metadata that never changes cannot be built.
    #[error("cannot build the server's metadata: {0}")]
    Metadata(#[from] arrow_flight::error::FlightError),
    /// The transport failed.
    #[error("the Flight SQL server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// A server that listens but does not answer yet.
pub struct FlightServer {
    listener: TcpListener,
    address: SocketAddr,
    state: Arc<State>,
}

impl FlightServer {
    /// Listens on an address; port 0 takes a free one.
    pub async fn bind(database: Database, address: SocketAddr, options: FlightOptions) -> Result<Self, FlightServerError> {
        let failed = |source| FlightServerError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        Ok(FlightServer {
            listener,
            address: bound,
            state: Arc::new(State::new(database, options)?),
        })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers calls until `shutdown` completes, then lets running calls end, cancels those that take too long and rolls back what is open.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), FlightServerError> {
        let FlightServer { listener, state, .. } = self;
        let options = state.options.clone();
        let service = FlightServiceServer::new(Service::new(state.clone()))
            .max_decoding_message_size(options.max_request_bytes)
            .max_encoding_message_size(usize::MAX);
        let incoming = TcpIncoming::from(listener)
            .with_nodelay(Some(true))
            .with_keepalive(Some(options.keepalive));
        let stop = CancellationToken::new();
        let serving = Server::builder()
            .concurrency_limit_per_connection(options.calls_per_connection)
            .http2_max_header_list_size(options.max_header_bytes)
            .http2_keepalive_interval(Some(options.keepalive))
            .http2_keepalive_timeout(Some(options.keepalive))
            .http2_adaptive_window(Some(true))
            .layer(tower::util::MapRequestLayer::new(broken_stream::watch))
            .serve_with_incoming_shutdown(service, incoming, stop.clone().cancelled_owned());
        tokio::pin!(serving);
        let ended = tokio::select! {
            ended = &mut serving => Some(ended),
            never = expire_forever(&state) => match never {},
            () = shutdown => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                stop.cancel();
                match tokio::time::timeout(options.drain, &mut serving).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        state.cancel_all();
                        // What still runs after this is dropped with its connection.
                        tokio::time::timeout(CANCEL_GRACE, &mut serving).await.unwrap_or(Ok(()))
                    }
                }
            }
        };
        state.close().await;
        Ok(ended?)
    }
}

/// Binds and serves in one; for callers that know the address.
pub async fn serve(
    database: Database,
    address: SocketAddr,
    options: FlightOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), FlightServerError> {
    FlightServer::bind(database, address, options).await?.serve(shutdown).await
}

/// Lets go of what is idle, now and then.
async fn expire_forever(state: &State) -> std::convert::Infallible {
    let options = &state.options;
    let shortest = options
        .session_idle
        .min(options.transaction_idle)
        .min(options.prepared_idle)
        .min(options.query_idle);
    let period = (shortest / 4).clamp(Duration::from_millis(100), Duration::from_secs(30));
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        state.expire().await;
    }
}
