//! How the Flight SQL server behaves: limits, time-outs and who may come in.

use std::sync::Arc;
use std::time::Duration;

use super::auth::{AllowLoopback, Authenticator};

/// Settings of the Flight SQL server.
#[derive(Debug, Clone)]
pub struct FlightOptions {
    /// Largest request message in bytes; one message of an ingest is one.
    pub max_request_bytes: usize,
    /// Largest decoded size of one request message in bytes: what a compressed message may grow to.
    pub max_decoded_bytes: usize,
    /// Target size of one response message in bytes. Clients refuse messages over 4 MiB by default.
    pub response_bytes: usize,
    /// Largest header list of a request in bytes. JDBC sends unknown URL parameters as headers.
    pub max_header_bytes: u32,
    /// Calls that one connection may have in flight; more wait.
    pub calls_per_connection: usize,
    /// HTTP/2 keep-alive: time between pings, and how long an answer may take.
    pub keepalive: Duration,
    /// Sessions (by token or cookie) at one time.
    pub max_sessions: usize,
    /// Transactions at one time.
    pub max_transactions: usize,
    /// Prepared statements at one time.
    pub max_prepared: usize,
    /// Tickets at one time, running queries included.
    pub max_queries: usize,
    /// Bytes of parameters that one prepared statement may keep bound.
    pub max_bound_bytes: usize,
    /// An unused session goes after this time.
    pub session_idle: Duration,
    /// An open transaction that nobody uses is rolled back after this time.
    pub transaction_idle: Duration,
    /// An unused prepared statement goes after this time.
    pub prepared_idle: Duration,
    /// A ticket that nobody reads goes after this time.
    pub query_idle: Duration,
    /// At shutdown, how long running calls may take to end by themselves.
    pub drain: Duration,
    /// Who may come in.
    pub authenticator: Arc<dyn Authenticator>,
}

impl Default for FlightOptions {
    fn default() -> Self {
        FlightOptions {
            max_request_bytes: 64 << 20,
            max_decoded_bytes: 256 << 20,
            response_bytes: 2 << 20,
            max_header_bytes: 64 << 10,
            calls_per_connection: 256,
            keepalive: Duration::from_secs(30),
            max_sessions: 10_000,
            max_transactions: 10_000,
            max_prepared: 50_000,
            max_queries: 10_000,
            max_bound_bytes: 16 << 20,
            session_idle: Duration::from_secs(24 * 3600),
            transaction_idle: Duration::from_secs(15 * 60),
            prepared_idle: Duration::from_secs(3600),
            query_idle: Duration::from_secs(10 * 60),
            drain: Duration::from_secs(10),
            authenticator: Arc::new(AllowLoopback),
        }
    }
}
