//! The wire: one Arrow Flight SQL connection a server, its session, and the six calls that everything else is made of.
//!
//! The calls are written here on the plain Flight client, not on `FlightSqlServiceClient`: that one panics where a server ends
//! a call without a result, does not read an action's stream to its end (where a failed commit is reported), and sends a
//! failed upload as if it were complete.

mod call;
mod channel;
mod deadline;
mod names;
mod session;
mod upload;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arrow_flight::flight_service_client::FlightServiceClient;
use tonic::transport::Channel;

use crate::address::{self, Address};
use crate::config::ClientConfig;
use crate::error::{ClientError, ErrorKind, Result};

pub(crate) use call::affected_rows;
pub(crate) use deadline::Deadline;
pub(crate) use names::Name;

use names::Names;
use session::Session;

/// Servers that a client remembers: what it was given, and what servers told it.
const MAX_PEERS: usize = 1024;
/// For how long a server that could not be reached is not taken for the leader.
const LEADER_PAUSE: Duration = Duration::from_secs(5);
/// The index of no server.
const NOBODY: usize = usize::MAX;

/// Which of the client's servers: an index into its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerId(usize);

/// One server.
struct Peer {
    address: Address,
    channel: Channel,
    max_message_bytes: usize,
    session: Mutex<Session>,
    /// When it could not be reached last.
    left: Mutex<Option<Instant>>,
}

impl Peer {
    /// Connects at the first call.
    fn new(address: &Address, config: &ClientConfig) -> Result<Peer> {
        Ok(Peer {
            address: address.clone(),
            channel: channel::endpoint(address, config)?.connect_lazy(),
            max_message_bytes: config.max_message_bytes,
            session: Mutex::new(Session::default()),
            left: Mutex::new(None),
        })
    }

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
    /// The addresses given, then those that servers told. Only grows.
    peers: RwLock<Vec<Arc<Peer>>>,
    current: AtomicUsize,
    /// Where writes go that open no session; [`NOBODY`]: to the current one.
    leader: AtomicUsize,
    names: Arc<Names>,
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
            peers.push(Arc::new(Peer::new(address, &config)?));
        }
        let wire = Wire {
            config,
            peers: RwLock::new(peers),
            current: AtomicUsize::new(0),
            leader: AtomicUsize::new(NOBODY),
            names: Names::new(),
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

    async fn first_that_answers(&self) -> Result<()> {
        let mut last = None;
        for index in 0..self.config.addresses.len() {
            match self.greet(PeerId(index)).await {
                Ok(()) => {
                    self.current.store(index, Ordering::Release);
                    return Ok(());
                }
                Err(error) if unreachable(&error) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| ClientError::usage("no address given")))
    }

    /// Makes the connection, and logs in where a login was given.
    async fn greet(&self, peer: PeerId) -> Result<()> {
        let address = self.peer(peer).address.clone();
        let connection = channel::endpoint(&address, &self.config)?.connect().await;
        let channel = connection.map_err(|error| channel::connect_error(&address, error))?;
        let connected = Arc::new(Peer {
            channel,
            ..Peer::new(&address, &self.config)?
        });
        if let Some(place) = self.peers.write().unwrap_or_else(PoisonError::into_inner).get_mut(peer.0) {
            *place = connected;
        }
        self.log_in(peer).await
    }

    /// The server to use now.
    pub fn current(&self) -> PeerId {
        PeerId(self.current.load(Ordering::Acquire))
    }

    /// The server for a write that needs no session: the one that others name as the leader, unless the session here has something of
    /// its own.
    pub fn for_write(&self) -> PeerId {
        let (current, leader) = (self.current(), self.leader.load(Ordering::Acquire));
        let has_session = || self.with_session(current, |session| session.has_cookies());
        if leader == NOBODY || has_session() {
            return current;
        }
        PeerId(leader)
    }

    /// Leaves a server that could not be reached for the next one.
    pub fn leave(&self, peer: PeerId) {
        *self.peer(peer).left.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let next = (peer.0 + 1) % self.count();
        // Losing these races is fine: somebody else has left the same server.
        let _ = self.leader.compare_exchange(peer.0, NOBODY, Ordering::AcqRel, Ordering::Acquire);
        let _ = self.current.compare_exchange(peer.0, next, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Takes note of who leads, as a server told it.
    fn learn_leader(&self, uri: &str) {
        let Ok((addresses, _)) = address::parse(uri) else { return };
        let Some(address) = addresses.into_iter().next() else { return };
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let known = peers.iter().position(|peer| peer.address == address);
        let index = match known {
            Some(index) => index,
            None if peers.len() < MAX_PEERS => match Peer::new(&address, &self.config) {
                Ok(peer) => {
                    peers.push(Arc::new(peer));
                    peers.len() - 1
                }
                Err(_) => return,
            },
            None => return,
        };
        // A leader that this client cannot reach is not tried at each write.
        let left = *peers[index].left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.is_none_or(|left| left.elapsed() > LEADER_PAUSE) {
            self.leader.store(index, Ordering::Release);
        }
    }

    /// The server with this address, if it is one of the client's.
    pub fn peer_at(&self, uri: &str) -> Option<PeerId> {
        let (addresses, _) = address::parse(uri).ok()?;
        let wanted = addresses.first()?;
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.iter().position(|peer| peer.address == *wanted).map(PeerId)
    }

    /// How calls are repeated.
    pub fn retry(&self) -> crate::retry::RetryPolicy {
        self.config.retry
    }

    /// A name for a write, so that it can be sent again.
    pub fn name(&self) -> Name {
        self.names.next()
    }

    /// The servers, the current one first.
    pub fn all(&self) -> impl Iterator<Item = PeerId> {
        let (first, count) = (self.current().0, self.count());
        (0..count).map(move |step| PeerId((first + step) % count))
    }

    /// Whether a transaction was opened with a statement and is still open.
    pub fn in_session_transaction(&self) -> bool {
        self.session_transaction.load(Ordering::Acquire)
    }

    /// Notes that a statement opened or ended the session's transaction.
    pub fn set_session_transaction(&self, open: bool) {
        self.session_transaction.store(open, Ordering::Release);
    }

    fn count(&self) -> usize {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn peer(&self, peer: PeerId) -> Arc<Peer> {
        Arc::clone(&self.peers.read().unwrap_or_else(PoisonError::into_inner)[peer.0])
    }
}

/// Whether an error says that this server cannot serve now, so that another one is worth a try.
fn unreachable(error: &ClientError) -> bool {
    matches!(error.kind(), ErrorKind::Connection | ErrorKind::Unavailable)
}
