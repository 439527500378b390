//! `pyralog serve`: opens the database, answers on both wires, stops when told to.
//!
//! Order: addresses are tried first (a wrong one must not cost a recovery), then the directory is opened, then both wires answer and the
//! addresses are printed. At SIGTERM or SIGINT both wires stop taking work, what runs may end within the time limit, and the database is
//! closed last.
//!
//! Two runtimes: statements (and the wire of Flight SQL, which runs them) have threads of their own, so that a query that keeps all of
//! them busy starves neither the Raft groups, which live on the process's runtime with the database, nor the stop.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pyralog_models::distributed::Mode;
use pyralog_models::{Database, DatabaseConfig};
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::carrier::{self, PeerCarrier};
use crate::cli::STACK_BYTES;
use crate::config::{Config, peer};
use crate::fetch;
use crate::flight::{Authenticator, Credentials, FlightOptions, FlightServer, Principal};
use crate::http::metrics::HttpCounters;
use crate::http::{HttpOptions, HttpState, cors, server};

/// What `serve` needs to know.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// How to open the directory.
    pub database: DatabaseConfig,
    /// Where Flight SQL listens.
    pub flight: SocketAddr,
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Whether callers from elsewhere than this machine are let in.
    pub insecure: bool,
    /// Limits of HTTP.
    pub limits: HttpOptions,
}

impl ServeOptions {
    /// Options from the configuration. The error is wrong usage.
    pub fn of(config: &Config) -> Result<Self, String> {
        let dir: PathBuf = config.path("data-dir").ok_or("give --data-dir")?;
        let statement_timeout = config.duration("statement-timeout")?;
        let limits = HttpOptions {
            max_body_bytes: usize::try_from(config.bytes("max-request-size")?).map_err(|_| "max-request-size: too large")?,
            request_timeout: config.duration("request-timeout")?.max(Duration::from_millis(1)),
            statement_timeout: (!statement_timeout.is_zero()).then_some(statement_timeout),
            shutdown_timeout: config.duration("shutdown-timeout")?,
            cors_origins: cors::origins(config.text("cors-origins").unwrap_or_default())?,
        };
        let mut database = config.database(dir)?;
        database.peer = peer::of(config)?;
        database.remote = fetch::of(config)?;
        let mode = config.text("distributed").unwrap_or_default();
        database.distributed = Mode::of(mode).ok_or_else(|| format!("distributed: `{mode}` is none of off, auto and always"))?;
        let options = ServeOptions {
            database,
            flight: config.address("flight-addr")?,
            http: config.address("http-addr")?,
            insecure: config.flag("insecure")?,
            limits,
        };
        let exposed = |address: &SocketAddr| !options.insecure && !address.ip().is_loopback();
        for (name, address) in [("flight-addr", options.flight), ("http-addr", options.http)] {
            if exposed(&address) {
                return Err(format!(
                    "{name} {address} can be reached from other machines, and this version has neither TLS nor users there: \
                     give a loopback address such as 127.0.0.1, or --insecure if the network is to be trusted"
                ));
            }
        }
        let without_tls = options.database.peer.as_ref().filter(|peer| peer.tls.is_none());
        if let Some(listen) = without_tls.map(|peer| peer.listen).filter(exposed) {
            return Err(format!(
                "peer-addr {listen} can be reached from other machines: give --peer-tls-cert, --peer-tls-key and --peer-tls-ca, \
                 a loopback address such as 127.0.0.1, or --insecure if the network is to be trusted"
            ));
        }
        Ok(options)
    }
}

/// Serves until a signal. `ready` is called with the addresses once both wires answer. The error is one line.
pub async fn serve(options: ServeOptions, ready: impl FnOnce(SocketAddr, SocketAddr)) -> Result<(), String> {
    let http_listener = listen("http-addr", options.http)?;
    // Only tried here: the wire takes it when the database is open.
    drop(listen("flight-addr", options.flight)?);
    let mut signals = Signals::new().map_err(|error| format!("signals cannot be heard: {error}"))?;
    let dir = options.database.data_dir.display().to_string();
    let opening = Database::open_with(options.database.clone());
    let database = tokio::select! {
        opened = opening => opened.map_err(|error| format!("cannot open {dir}: {error}"))?,
        () = signals.stop() => return Ok(()),
    };
    let queries = query_runtime(options.database.threads)?;
    let served = answer(&options, &database, queries.handle(), http_listener, signals, ready).await;
    // Statements that outlived the drain are dropped when they next come up for air.
    queries.shutdown_background();
    let closed = database.close().await.map_err(|error| format!("cannot close {dir}: {error}"));
    served.and(closed)
}

/// The runtime of statements; `threads` 0: one a core.
fn query_runtime(threads: usize) -> Result<Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if threads > 0 {
        builder.worker_threads(threads);
    }
    builder.thread_name("pyralog-query").thread_stack_size(STACK_BYTES).enable_all();
    builder.build().map_err(|error| format!("threads cannot start: {error}"))
}

async fn answer(
    options: &ServeOptions,
    database: &Database,
    queries: &Handle,
    http_listener: TcpListener,
    mut signals: Signals,
    ready: impl FnOnce(SocketAddr, SocketAddr),
) -> Result<(), String> {
    let mut flight_options = FlightOptions {
        drain: options.limits.shutdown_timeout,
        ..FlightOptions::default()
    };
    if options.insecure {
        flight_options.authenticator = Arc::new(AllowAnyone);
    }
    let binding = queries.spawn(FlightServer::bind(database.clone(), options.flight, flight_options));
    let flight = binding
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    let flight_address = flight.address();
    let http_address = http_listener.local_addr().map_err(|error| error.to_string())?;
    let state = Arc::new(HttpState {
        database: database.clone(),
        runtime: queries.clone(),
        options: options.limits.clone(),
        counters: HttpCounters::default(),
        started: Instant::now(),
    });
    let http = server(http_listener, state).map_err(|error| format!("cannot serve HTTP on {http_address}: {error}"))?;
    let http_handle = http.handle();
    let stop = CancellationToken::new();
    distribute(database, queries, &stop);
    let mut flight_task = queries.spawn(flight.serve(stop.clone().cancelled_owned()));
    let mut http_task = tokio::spawn(http);
    if let Some(address) = published(options, flight_address) {
        tokio::spawn(publish(database.clone(), address));
    }
    ready(flight_address, http_address);
    let mut early: Option<String> = None;
    tokio::select! {
        () = signals.stop() => tracing::info!("stopping; what runs may end within {} s", options.limits.shutdown_timeout.as_secs_f64()),
        ended = &mut flight_task => early = Some(ended_early("Flight SQL", flatten(ended))),
        ended = &mut http_task => early = Some(ended_early("HTTP", flatten(ended))),
    }
    let force = tokio::spawn(async move {
        signals.stop().await;
        tracing::warn!("stopped at once");
        std::process::exit(130);
    });
    stop.cancel();
    let limit = options.limits.shutdown_timeout + STOP_GRACE;
    let (_, flight_end, http_end) = tokio::join!(http_handle.stop(true), within(limit, flight_task), within(limit, http_task));
    force.abort();
    match early {
        Some(problem) => Err(problem),
        None => flight_end.and(http_end),
    }
}

/// Lets queries run on several nodes, and serves those of others, where there can be any.
fn distribute(database: &Database, queries: &Handle, stop: &CancellationToken) {
    let _within = queries.enter();
    let carrier = Arc::new(PeerCarrier::new(database.peers()));
    if let Some(worker) = database.distribute_by(carrier)
        && let Some(streams) = database.streams()
    {
        queries.spawn(carrier::serve(worker, streams, stop.clone()));
    }
}

/// How long to wait before other nodes are told again.
const PUBLISH_PAUSE: Duration = Duration::from_secs(2);

/// Where clients reach this node, if it has others: at the host that the nodes use where Flight listens at all addresses.
fn published(options: &ServeOptions, flight: SocketAddr) -> Option<String> {
    let peer = options.database.peer.as_ref()?;
    if !flight.ip().is_unspecified() {
        return Some(format!("grpc://{flight}"));
    }
    let (host, _) = peer.advertise.as_ref()?.rsplit_once(':')?;
    Some(format!("grpc://{host}:{}", flight.port()))
}

/// Tells the other nodes, as soon as there is a majority of them.
async fn publish(database: Database, address: String) {
    while let Err(error) = database.publish(&address).await {
        tracing::debug!(%error, "the other nodes do not know yet where clients reach this one");
        tokio::time::sleep(PUBLISH_PAUSE).await;
    }
}

/// What the wires may take beyond the drain limit to let go of their connections.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// Waits for a wire to end; one that ended before is well.
async fn within<E: std::fmt::Display>(limit: Duration, task: tokio::task::JoinHandle<Result<(), E>>) -> Result<(), String> {
    if task.is_finished() {
        return Ok(());
    }
    match tokio::time::timeout(limit, task).await {
        Ok(ended) => flatten(ended),
        Err(_) => {
            tracing::warn!("connections that did not end in time were dropped");
            Ok(())
        }
    }
}

fn flatten<E: std::fmt::Display>(ended: Result<Result<(), E>, tokio::task::JoinError>) -> Result<(), String> {
    match ended {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn ended_early(wire: &str, outcome: Result<(), String>) -> String {
    format!("{wire} ended: {}", outcome.err().unwrap_or_else(|| "nobody told it to".into()))
}

/// What the error of an address that another process has says.
pub const IN_USE: &str = "is in use by another process";

/// Listens, or says in one line why not.
fn listen(setting: &str, address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => format!("{setting} {address} {IN_USE}; give another --{setting}"),
        _ => format!("cannot listen on {setting} {address}: {error}"),
    })
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Lets in everybody, from anywhere: what `--insecure` asks for.
#[derive(Debug, Clone, Copy)]
struct AllowAnyone;

#[async_trait]
impl Authenticator for AllowAnyone {
    async fn authenticate(&self, _credentials: Credentials, _peer: Option<SocketAddr>) -> Result<Principal, Status> {
        Ok(Principal { user: String::new() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::CommandSettings;

    fn options(flags: &[(&'static str, &str)]) -> Result<ServeOptions, String> {
        let flags: Vec<_> = flags.iter().map(|(name, value)| (*name, Some((*value).to_owned()))).collect();
        ServeOptions::of(&Config::resolve(CommandSettings::of("serve").unwrap(), &flags, |_| None, None))
    }

    #[test]
    fn other_than_loopback_needs_insecure() {
        assert!(options(&[]).is_ok());
        assert!(options(&[("http-addr", "[::1]:0")]).is_ok());
        for address in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80"] {
            assert!(options(&[("http-addr", address)]).unwrap_err().contains("--insecure"));
            assert!(options(&[("flight-addr", address)]).unwrap_err().contains("flight-addr"));
            assert!(options(&[("flight-addr", address), ("insecure", "true")]).is_ok());
        }
    }

    #[test]
    fn other_nodes_from_elsewhere_need_tls_or_insecure() {
        let tls = [("peer-tls-cert", "c"), ("peer-tls-key", "k"), ("peer-tls-ca", "a")];
        let peer = ("peer-addr", "192.0.2.1:7402");
        let problem = options(&[peer]).unwrap_err();
        assert!(problem.contains("--peer-tls-cert") && problem.contains("--insecure"), "{problem}");
        assert!(options(&[peer, ("insecure", "true")]).is_ok());
        assert!(options(&[&[peer][..], &tls].concat()).is_ok());
        // TLS between nodes says nothing of clients.
        let clients = ("http-addr", "192.0.2.1:8080");
        let problem = options(&[&[peer, clients][..], &tls].concat()).unwrap_err();
        assert!(problem.contains("http-addr"), "{problem}");
    }

    #[test]
    fn a_port_in_use_is_one_line() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let problem = listen("http-addr", taken.local_addr().unwrap()).unwrap_err();
        assert!(problem.contains("in use by another process") && !problem.contains('\n'));
    }
}
