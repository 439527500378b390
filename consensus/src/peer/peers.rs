//! The nodes that this one can call, and its connection to each.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::channel::Channel;
use super::connection::{Connection, Ended, Target};
use super::frame::MAX_TEXT_BYTES;
use super::links::Links;
use super::roll::Roll;
use super::{MAX_MESSAGE_BYTES, PeerError, PeerIdentity, RETRY_AFTER, TELL_AGAIN, file};

/// Calls other nodes. Cheap to clone; the connections close with the last clone. A connection is made at the first call that needs it.
#[derive(Clone)]
pub struct Peers {
    book: Arc<Book>,
}

struct Book {
    identity: PeerIdentity,
    links: Links,
    roll: Roll,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    closed: bool,
    peers: BTreeMap<u64, Peer>,
    /// Calls without an answer, by node.
    failed: BTreeMap<u64, u64>,
}

struct Peer {
    address: String,
    connection: Option<Arc<Connection>>,
    /// When the log was last told of a refusal, if there is one.
    told: Option<Instant>,
}

/// How it stands with another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerState {
    /// The node.
    pub node: u64,
    /// Whether there is a connection, in either direction.
    pub connected: bool,
    /// Calls that got no answer since the start.
    pub failed_calls: u64,
}

impl Peers {
    /// Knows nobody yet.
    pub fn new(identity: PeerIdentity, links: Links) -> Peers {
        Peers {
            book: Arc::new(Book {
                identity,
                links,
                roll: Roll::default(),
                entries: Mutex::default(),
            }),
        }
    }

    /// Says where a node is, as `host:port`, which is resolved at each connect. Node 0 stands for whoever is at the address. Another address
    /// than before closes the connection and ends the streams to and from the node.
    pub fn set_address(&self, node: u64, address: String) {
        let mut entries = self.book.entries.lock();
        if entries.peers.get(&node).is_some_and(|peer| peer.address == address) {
            return;
        }
        let connection = None;
        let before = entries.peers.insert(
            node,
            Peer {
                address,
                connection,
                told: None,
            },
        );
        drop(entries);
        if let Some(before) = before {
            before.close();
            self.end_streams(node);
        }
    }

    /// Who is connected, in both directions: for the server too.
    pub fn roll(&self) -> &Roll {
        &self.book.roll
    }

    /// How it stands with each node whose address is known.
    pub fn states(&self) -> Vec<PeerState> {
        let entries = self.book.entries.lock();
        let nodes = entries.peers.keys().filter(|node| **node != 0);
        let mut states: Vec<PeerState> = nodes
            .map(|node| PeerState {
                node: *node,
                connected: self.book.roll.is_present(*node),
                failed_calls: entries.failed.get(node).copied().unwrap_or(0),
            })
            .collect();
        states.sort_by_key(|state| state.node);
        states
    }

    /// Forgets a node, closes the connection to it and ends the streams to and from it.
    pub fn remove(&self, node: u64) {
        let before = self.book.entries.lock().peers.remove(&node);
        before.into_iter().for_each(Peer::close);
        self.end_streams(node);
    }

    fn end_streams(&self, node: u64) {
        self.book.roll.keep_streams(|other| other != node);
    }

    /// Opens a stream to a node, after the connection for calls if there is none, on which it depends: see [`Channel`]. The other node gets it by
    /// [`PeerService::take`](super::PeerService::take). Whether that one keeps it shows when it is read from.
    ///
    /// # Errors
    ///
    /// [`PeerError::Unreachable`], [`PeerError::Refused`] or [`PeerError::Occupied`], as for a call.
    pub async fn stream(&self, node: u64) -> Result<Channel, PeerError> {
        self.connection(node)?.stream().await
    }

    /// Sends a request and waits for the answer, both together for at most `limit`. To drop the future gives the call up.
    pub async fn call(&self, node: u64, request: Bytes, limit: Duration) -> Result<Bytes, PeerError> {
        if request.len() > MAX_MESSAGE_BYTES {
            let bytes = request.len();
            return Err(PeerError::Failed(format!(
                "a request of {bytes} bytes is larger than the {MAX_MESSAGE_BYTES} that one message holds; nothing was sent"
            )));
        }
        let answer = match self.connection(node) {
            Ok(connection) => timeout(limit, connection.call(request)).await.unwrap_or(Err(PeerError::TimedOut)),
            Err(error) => Err(error),
        };
        if answer.as_ref().is_err_and(|error| !matches!(error, PeerError::Failed(_))) {
            *self.book.entries.lock().failed.entry(node).or_default() += 1;
        }
        answer
    }

    /// Streams the file that the node's service knows as `name` into `to`, checks its length and checksum and syncs it; its size, or `None`
    /// where there is no such file. What was at `to` is replaced. After a failure nothing is there; when the future is dropped, nothing is
    /// soon. The directory is not synced. Takes as long as it takes: put a time-out around it.
    pub async fn fetch_file(&self, node: u64, name: &str, to: &Path) -> Result<Option<u64>, PeerError> {
        if name.len() > MAX_TEXT_BYTES {
            let bytes = name.len();
            return Err(PeerError::Failed(format!(
                "a file name of {bytes} bytes is too long; nothing was sent"
            )));
        }
        let connection = self.connection(node)?;
        let closed = |_| PeerError::Unreachable("this node closed the connection".to_owned());
        let _permit = connection.files.acquire().await.map_err(closed)?;
        file::fetch(&connection, name, to).await
    }

    /// Closes all connections and ends all streams, also those that others opened; later calls fail.
    pub fn close(&self) {
        self.book.close();
    }

    fn connection(&self, node: u64) -> Result<Arc<Connection>, PeerError> {
        let mut entries = self.book.entries.lock();
        if entries.closed {
            return Err(PeerError::Unreachable("this node is stopping".to_owned()));
        }
        let Some(peer) = entries.peers.get_mut(&node) else {
            return Err(PeerError::Unreachable(format!("the address of node {node} is not known")));
        };
        if let Some(connection) = &peer.connection {
            match connection.ended() {
                None => return Ok(connection.clone()),
                Some(ended) if !ended.was_open && ended.at.elapsed() < RETRY_AFTER => return Err(ended.error),
                Some(_) => {}
            }
        }
        let refused = |ended: Ended| matches!(ended.error, PeerError::Refused(_));
        let still_refused = peer
            .connection
            .as_ref()
            .and_then(|connection| connection.ended())
            .is_some_and(refused);
        let tell = !(still_refused && peer.told.is_some_and(|told| told.elapsed() < TELL_AGAIN));
        if tell {
            peer.told = Some(Instant::now());
        }
        let connection = Arc::new(Connection::open(Target {
            identity: self.book.identity.clone(),
            node,
            address: peer.address.clone(),
            links: self.book.links.clone(),
            roll: self.book.roll.clone(),
            tell,
        }));
        peer.connection = Some(connection.clone());
        Ok(connection)
    }
}

impl Peer {
    fn close(self) {
        if let Some(connection) = self.connection {
            connection.close();
        }
    }
}

impl Book {
    fn close(&self) {
        let peers = {
            let mut entries = self.entries.lock();
            entries.closed = true;
            std::mem::take(&mut entries.peers)
        };
        peers.into_values().for_each(Peer::close);
        self.roll.keep_streams(|_| false);
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        self.close();
    }
}
