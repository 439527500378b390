//! Accepts the connections of other nodes.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::handshake::{self, HandshakeError};
use super::links::Links;
use super::transport::{Listener, Stream};
use super::{HANDSHAKE_LIMIT, MAX_CONNECTIONS, PeerIdentity, PeerService, session};

/// How long to wait after a failed accept: where file descriptors run out, the next one fails too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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

    /// Serves as this node until the handle is dropped. To be called within a tokio runtime.
    pub fn serve(self, identity: PeerIdentity, service: Arc<dyn PeerService>) -> PeerServing {
        let (running, ended) = mpsc::channel(1);
        let address = self.address;
        let task = tokio::spawn(accept(self, identity, service, running));
        PeerServing { address, task, ended }
    }
}

/// A server at work. Dropping it closes the port and all connections.
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

    /// Closes the port and all connections, drops the service's futures, and waits until the last of them is gone.
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

async fn accept(server: PeerServer, identity: PeerIdentity, service: Arc<dyn PeerService>, running: Running) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = server.listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, remote)) => {
                let (links, identity, service) = (server.links.clone(), identity.clone(), service.clone());
                // From here on: however slow one caller is, the others are let in.
                let received = async move { receive(&links, stream, &identity).await };
                connections.spawn(connection(running.clone(), received, remote, service));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of a node");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Who calls, on what stream.
async fn receive(links: &Links, stream: Stream, identity: &PeerIdentity) -> Result<(u64, Stream), HandshakeError> {
    let mut stream = links.incoming(stream).await?;
    let from = handshake::receive(&mut stream, identity).await?;
    Ok((from, stream))
}

/// `running` comes first because the first parameter is dropped last.
async fn connection(
    running: Running,
    received: impl Future<Output = Result<(u64, Stream), HandshakeError>>,
    remote: SocketAddr,
    service: Arc<dyn PeerService>,
) {
    let (from, stream) = match timeout(HANDSHAKE_LIMIT, received).await {
        Ok(Ok(received)) => received,
        Ok(Err(reason @ (HandshakeError::Refused(_) | HandshakeError::Tls))) => {
            tracing::warn!(%remote, %reason, "a caller and this node refuse each other");
            return;
        }
        Ok(Err(error)) => {
            tracing::debug!(%remote, %error, "a connection without a handshake");
            return;
        }
        Err(_) => {
            tracing::debug!(%remote, "a connection without a handshake in time");
            return;
        }
    };
    match session::run(stream, from, service, running.clone()).await {
        Ok(()) => tracing::debug!(from, %remote, "a node closed its connection"),
        Err(error) => tracing::debug!(from, %remote, %error, "a node's connection broke"),
    }
}
