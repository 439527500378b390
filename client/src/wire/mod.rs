//! The wire: one Arrow Flight SQL connection a server, its session, and the six calls that everything else is made of.
//!
//! The calls are written here on the plain Flight client, not on `FlightSqlServiceClient`: that one panics where a server ends
//! a call without a result, does not read an action's stream to its end (where a failed commit is reported), and sends a
//! failed upload as if it were complete.

mod call;
mod channel;
mod deadline;
mod session;
mod upload;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrow_flight::flight_service_client::FlightServiceClient;
use tonic::transport::Channel;

use crate::address::{self, Address};
use crate::config::ClientConfig;
use crate::error::{ClientError, ErrorKind, Result};

pub(crate) use call::affected_rows;
pub(crate) use deadline::Deadline;

use session::Session;

/// Which of the client's servers: an index into its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerId(usize);

/// One server.
struct Peer {
    address: Address,
    channel: Channel,
    max_message_bytes: usize,
    session: Mutex<Session>,
}

impl Peer {
    /// A Flight client on the peer's connection. Made for each call: it is a handle and two numbers.
    fn flight(&self) -> FlightServiceClient<Channel> {
        FlightServiceClient::new(self.channel.clone())
            .max_decoding_message_size(self.max_message_bytes)
            .max_encoding_message_size(usize::MAX)
    }
}

/// The connections of one client. Shared by all that the client hands out.
pub(crate) struct Wire {
    config: ClientConfig,
    peers: Vec<Peer>,
    current: AtomicUsize,
    /// Whether `BEGIN` was sent as a statement and not yet ended: then nothing is repeated and no other server is tried.
    session_transaction: AtomicBool,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("addresses", &self.config.addresses)
            .finish_non_exhaustive()
    }
}

impl Wire {
    /// Connects to the first server that answers, trying all of them in turn as often as the retry policy allows.
    pub async fn connect(config: ClientConfig) -> Result<Wire> {
        let mut peers = Vec::with_capacity(config.addresses.len());
        for address in &config.addresses {
            let channel = channel::endpoint(address, &config)?.connect_lazy();
            let max_message_bytes = config.max_message_bytes;
            peers.push(Peer {
                address: address.clone(),
                channel,
                max_message_bytes,
                session: Mutex::new(Session::default()),
            });
        }
        let mut wire = Wire {
            config,
            peers,
            current: AtomicUsize::new(0),
            session_transaction: AtomicBool::new(false),
        };
        let mut attempt = 0;
        loop {
            let error = match wire.first_that_answers().await {
                Ok(()) => return Ok(wire),
                Err(error) => error,
            };
            attempt += 1;
            if attempt >= wire.config.retry.attempts || !unreachable(&error) {
                return Err(error);
            }
            tokio::time::sleep(wire.config.retry.pause(attempt - 1)).await;
        }
    }

    async fn first_that_answers(&mut self) -> Result<()> {
        let mut last = None;
        for index in 0..self.peers.len() {
            match self.greet(PeerId(index)).await {
                Ok(()) => {
                    self.current = AtomicUsize::new(index);
                    return Ok(());
                }
                Err(error) if unreachable(&error) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| ClientError::usage("no address given")))
    }

    /// Makes the connection, and logs in where a login was given.
    async fn greet(&mut self, peer: PeerId) -> Result<()> {
        let Peer { address, channel, .. } = &mut self.peers[peer.0];
        let connection = channel::endpoint(address, &self.config)?.connect().await;
        *channel = connection.map_err(|error| channel::connect_error(address, error))?;
        self.log_in(peer).await
    }

    /// The server to use now.
    pub fn current(&self) -> PeerId {
        PeerId(self.current.load(Ordering::Acquire))
    }

    /// Leaves a server that could not be reached for the next one.
    pub fn leave(&self, peer: PeerId) {
        let next = (peer.0 + 1) % self.peers.len();
        // Losing this race is fine: somebody else has left the same server.
        let _ = self.current.compare_exchange(peer.0, next, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The server with this address, if it is one of the client's.
    pub fn peer_at(&self, uri: &str) -> Option<PeerId> {
        let (addresses, _) = address::parse(uri).ok()?;
        let wanted = addresses.first()?;
        self.peers.iter().position(|peer| peer.address == *wanted).map(PeerId)
    }

    /// How calls are repeated.
    pub fn retry(&self) -> crate::retry::RetryPolicy {
        self.config.retry
    }

    /// Whether a transaction was opened with a statement and is still open.
    pub fn in_session_transaction(&self) -> bool {
        self.session_transaction.load(Ordering::Acquire)
    }

    /// Notes that a statement opened or ended the session's transaction.
    pub fn set_session_transaction(&self, open: bool) {
        self.session_transaction.store(open, Ordering::Release);
    }

    fn peer(&self, peer: PeerId) -> &Peer {
        &self.peers[peer.0]
    }
}

/// Whether an error says that this server cannot serve now, so that another one is worth a try.
fn unreachable(error: &ClientError) -> bool {
    matches!(error.kind(), ErrorKind::Connection | ErrorKind::Unavailable)
}
