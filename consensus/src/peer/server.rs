//! Accepts the connections of other nodes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::cancellation::{Cancellation, Cancelled};
use super::channel::Channel;
use super::handshake::{self, Caller, HandshakeError, Purpose};
use super::links::Links;
use super::roll::{Presence, Roll};
use super::transport::{Listener, Stream};
use super::{HANDSHAKE_LIMIT, MAX_CONNECTIONS, MAX_STREAMS, PeerIdentity, PeerService, TELL_AGAIN, session};
use crate::runtime;

/// How long to wait after a failed accept: where file descriptors run out, the next one fails too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections without a handshake. One more ends the oldest, so that those who connect and say nothing do not keep nodes out.
const MAX_STRANGERS: usize = 64;

/// Held by all that a server has running, so that it is known when nothing is.
pub type Running = mpsc::Sender<Infallible>;

/// A bound port, not yet served: callers wait. The node need not have an identity yet.
pub struct PeerServer {
    listener: Box<dyn Listener>,
    address: SocketAddr,
    links: Links,
}

impl PeerServer {
    /// Binds the address; port 0 takes a free one.
    pub async fn bind(address: SocketAddr, links: Links) -> io::Result<PeerServer> {
        let listener = links.transport.bind(address).await?;
        let address = listener.address()?;
        Ok(PeerServer { listener, address, links })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves as this node until the handle is dropped. Callers are noted on the roll. To be called within a tokio runtime.
    pub fn serve(self, identity: PeerIdentity, service: Arc<dyn PeerService>, roll: Roll) -> PeerServing {
        let (running, ended) = mpsc::channel(1);
        let address = self.address;
        let task = runtime::spawn(accept(self, identity, service, roll, running));
        PeerServing { address, task, ended }
    }
}

/// A server at work. Dropping it closes the port and all connections, and ends the streams that it accepted.
pub struct PeerServing {
    address: SocketAddr,
    task: JoinHandle<()>,
    ended: mpsc::Receiver<Infallible>,
}

impl PeerServing {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port and all connections, drops the service's futures, and waits until the last of them is gone. The streams that the service
    /// took end too; whoever holds one finds that out by itself.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        while self.ended.recv().await.is_some() {}
    }
}

impl Drop for PeerServing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(server: PeerServer, identity: PeerIdentity, service: Arc<dyn PeerService>, roll: Roll, running: Running) {
    // Dropped with this task, whatever the service has done with them.
    let streams = Cancellation::default();
    let door = Arc::new(Door {
        links: server.links.clone(),
        identity,
        service,
        roll,
        refused: Mutex::default(),
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        end_of_streams: streams.cancelled(),
    });
    let mut connections = JoinSet::new();
    let mut strangers: VecDeque<(AbortHandle, Arc<AtomicBool>)> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            biased;
            Some(_) = connections.join_next() => continue,
            accepted = server.listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                let introduced = Arc::new(AtomicBool::new(false));
                let connection = connection(running.clone(), stream, remote, door.clone(), introduced.clone());
                let task = connections.spawn(runtime::task(connection));
                strangers.retain(|(task, introduced)| !task.is_finished() && !introduced.load(Ordering::Relaxed));
                if strangers.len() >= MAX_STRANGERS
                    && let Some((oldest, _)) = strangers.pop_front()
                {
                    oldest.abort();
                }
                strangers.push_back((task, introduced));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of a node");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What a server does with callers.
struct Door {
    links: Links,
    identity: PeerIdentity,
    service: Arc<dyn PeerService>,
    roll: Roll,
    /// Whom it refused last, why, and when that was told.
    refused: Mutex<Option<(IpAddr, String, Instant)>>,
    /// A permit for each further stream.
    streams: Arc<Semaphore>,
    /// When the server is gone.
    end_of_streams: Cancelled,
}

impl Door {
    /// Who calls, on what stream.
    async fn receive(&self, stream: Stream, remote: SocketAddr) -> Result<(Caller, Stream), HandshakeError> {
        let mut stream = self.links.incoming(stream).await?;
        let caller = handshake::receive(&mut stream, &self.identity, &self.roll, remote).await?;
        Ok((caller, stream))
    }

    /// Gives a stream to the service.
    fn hand_over(&self, from: u64, presence: Presence, stream: Stream) {
        let Ok(slot) = self.streams.clone().try_acquire_owned() else {
            tracing::warn!(
                from,
                "a node opens a stream more than the {MAX_STREAMS} that are open already; it is closed"
            );
            return;
        };
        let ends = vec![presence.end_of_streams(), self.end_of_streams.clone()];
        // Only calls count.
        drop(presence);
        self.service.take(from, Channel::new(stream, ends, Some(slot)));
    }

    /// Tells the log of a refusal; of the same one again only after a while, since callers try again and again.
    fn tell(&self, remote: SocketAddr, reason: String) {
        let mut last = self.refused.lock();
        let told = last
            .as_ref()
            .is_some_and(|(ip, told, at)| *ip == remote.ip() && *told == reason && at.elapsed() < TELL_AGAIN);
        if told {
            tracing::debug!(%remote, %reason, "refused a node");
        } else {
            tracing::warn!(%remote, %reason, "refused a node");
            *last = Some((remote.ip(), reason, Instant::now()));
        }
    }
}

/// `running` comes first because the first parameter is dropped last.
async fn connection(running: Running, stream: Stream, remote: SocketAddr, door: Arc<Door>, introduced: Arc<AtomicBool>) {
    let (caller, stream) = match timeout(HANDSHAKE_LIMIT, door.receive(stream, remote)).await {
        Ok(Ok(received)) => received,
        Ok(Err(HandshakeError::Refused(reason) | HandshakeError::Occupied(reason))) => return door.tell(remote, reason),
        Ok(Err(error @ HandshakeError::Tls)) => return door.tell(remote, error.to_string()),
        Ok(Err(error)) => {
            tracing::debug!(%remote, %error, "a connection without a handshake");
            return;
        }
        Err(_) => {
            tracing::debug!(%remote, "a connection without a handshake in time");
            return;
        }
    };
    introduced.store(true, Ordering::Relaxed);
    let Caller {
        node: from,
        purpose,
        presence,
    } = caller;
    if purpose == Purpose::Stream {
        return door.hand_over(from, presence, stream);
    }
    let _presence = presence;
    match session::run(stream, from, door.service.clone(), running.clone()).await {
        Ok(()) => tracing::debug!(from, %remote, "a node closed its connection"),
        Err(error) => tracing::debug!(from, %remote, %error, "a node's connection broke"),
    }
}
