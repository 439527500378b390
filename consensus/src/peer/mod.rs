//! The transport between nodes: requests with their answers, and files, over one TCP stream from each node to each other node it calls
//! (so two per pair, one each way); and any number of further ones for whatever else two nodes say to each other. It knows bytes, not Raft.
//!
//! ```text
//! Peers ─▶ connection ═ TLS or none, handshake, frames ═▶ server ─▶ session ─▶ PeerService
//!              ◀═ answers in any order, file chunks ═══════
//! Peers ─▶ Channel ════ TLS or none, handshake, bytes ══▶ server ─▶ Channel ─▶ PeerService
//! ```
//!
//! Invariants:
//! - [`PeerError::Unreachable`], [`PeerError::Refused`] and [`PeerError::Occupied`] are given only where no byte of the request was written.
//! - Nothing is allocated by a length that the other side claims, and what one connection can make a node hold is bounded: see
//!   [`MAX_CONNECTIONS`], [`MAX_REQUESTS`], [`FILES_AT_ONCE`], [`MAX_STREAMS`].
//! - Neither a large file nor a slow disk at its receiver holds up calls: few chunks are queued, and the receiver grants each further one.
//! - A connection on which nothing arrives for `SILENCE_LIMIT` is broken; each side sends at least every `ALIVE_INTERVAL`. So the
//!   calls after a node's power loss do not wait on a stream that nobody answers.
//! - A [`Channel`] does not outlive the connections for calls between its two processes.

mod cancellation;
mod channel;
mod connection;
mod file;
mod frame;
mod handshake;
mod links;
mod pace;
mod peers;
mod roll;
mod server;
mod session;
#[cfg(test)]
mod tests;
mod tls;
pub mod transport;
mod writer;

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

pub use channel::Channel;
pub use links::Links;
pub use pace::Pace;
pub use peers::{PeerState, Peers};
pub use roll::{Incarnation, Roll};
pub use server::{PeerServer, PeerServing};
pub use tls::{PeerTls, Tls, TlsError};

/// The protocol that this build speaks.
pub const PROTOCOL: u32 = 3;
/// Largest request or answer.
pub const MAX_MESSAGE_BYTES: usize = 80 << 20;
/// Connections that a server has open; further ones wait to be accepted.
pub const MAX_CONNECTIONS: usize = 256;
/// Streams that a server has accepted and that are open, beside the connections; further ones are closed at once.
pub const MAX_STREAMS: usize = 1024;
/// Requests in progress on one connection; the server does not read further ones before one of them is answered.
pub const MAX_REQUESTS: usize = 1024;
/// Files that one node fetches from another at once; further fetches wait.
pub const FILES_AT_ONCE: usize = 32;

/// How long finding and reaching an address may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// How long the handshake may take, with that of TLS.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// For how long a failed connect stands for the next ones, so that a dead peer costs nothing.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// After how long the same refusal is told to the log again: who is refused tries again and again.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// How long nothing may arrive on a connection.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection's writer may write nothing.
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Who may speak: nodes of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The database's id.
    pub database: String,
    /// The node's id in it.
    pub node: u64,
    /// The protocol it speaks; nodes of different protocols refuse each other.
    pub format: u32,
    /// The process that speaks for the node.
    pub incarnation: Incarnation,
}

impl PeerIdentity {
    /// A node that speaks this build's protocol, in a process that was not seen before.
    pub fn new(database: String, node: u64) -> PeerIdentity {
        PeerIdentity {
            database,
            node,
            format: PROTOCOL,
            incarnation: Incarnation::draw(),
        }
    }

    /// A node that belongs to no database yet; a server's service knows it as node 0.
    pub fn stranger() -> PeerIdentity {
        PeerIdentity::new(String::new(), 0)
    }

    fn is_stranger(&self) -> bool {
        self.node == 0 && self.database.is_empty()
    }
}

/// What a node answers. `from` is the calling node's id as its handshake gave it; 0: a node that belongs to no database yet
/// ([`PeerIdentity::stranger`]).
///
/// The futures are dropped when the caller's connection ends or the server stops. A future that never ends takes one of its connection's
/// [`MAX_REQUESTS`] for ever.
pub trait PeerService: Send + Sync + 'static {
    /// Answers a request. An `Err` is a message for the caller, who gets it as [`PeerError::Failed`].
    fn call(&self, from: u64, request: Bytes) -> BoxFuture<'static, Result<Bytes, String>>;

    /// Opens a file for the caller; the name is one the service understands, and not to be trusted as a path. `None`: no such file.
    fn open_file(&self, from: u64, name: String) -> BoxFuture<'static, Result<Option<OpenedFile>, String>>;

    /// Takes a stream that the caller opened, which is a node of the database (never 0). Without a wish for any, it is closed.
    fn take(&self, from: u64, channel: Channel) {
        tracing::debug!(from, "a stream that nobody takes");
        drop(channel);
    }
}

/// A file that is sent to a caller.
#[derive(Debug)]
pub struct OpenedFile {
    /// It.
    pub file: File,
    /// How fast it may go; `None`: as fast as the caller takes it.
    pub pace: Option<Arc<Pace>>,
}

impl OpenedFile {
    /// A file that somebody waits for.
    pub fn urgent(file: File) -> OpenedFile {
        OpenedFile { file, pace: None }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// There was no connection, or it broke before the request was written: nothing was done.
    #[error("{0}; the request was not sent, so it can be sent again")]
    Unreachable(String),
    /// The connection broke after the request was sent (or while it was).
    #[error("{0}; whether the request was carried out is not known")]
    Lost(String),
    /// The call's time is over.
    #[error("the peer did not answer in time; whether the request was carried out is not known")]
    TimedOut,
    /// One of the two nodes refuses to speak with the other: another database, another protocol, a wrong or duplicate node id, a certificate
    /// that is not accepted. Nothing was done, and trying again does not help before somebody corrects the configuration.
    #[error("{0}")]
    Refused(String),
    /// The other node knows this node as another process, which is alive. Nothing was done.
    #[error("{0}")]
    Occupied(String),
    /// The service answered with this message. Also a request that is too large to be sent, and a fetched file that cannot be written or
    /// arrived damaged.
    #[error("{0}")]
    Failed(String),
}
