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
use super::transport::{Listener, Stream, Transport};
use super::{HANDSHAKE_LIMIT, MAX_CONNECTIONS, PeerIdentity, PeerService, session};
use crate::runtime;

/// How long to wait after a failed accept: where file descriptors run out, the next one fails too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Held by all that a server has running, so that it is known when nothing is.
pub type Running = mpsc::Sender<Infallible>;

/// A bound port, not yet served: callers wait.
pub struct PeerServer {
    listener: Box<dyn Listener>,
    address: SocketAddr,
    identity: PeerIdentity,
}

impl PeerServer {
    /// Binds the address; port 0 takes a free one.
    pub async fn bind(address: SocketAddr, identity: PeerIdentity, transport: &dyn Transport) -> io::Result<PeerServer> {
        let listener = transport.bind(address).await?;
        let address = listener.address()?;
        Ok(PeerServer {
            listener,
            address,
            identity,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the handle is dropped. To be called within a tokio runtime.
    pub fn serve(self, service: Arc<dyn PeerService>) -> PeerServing {
        let (running, ended) = mpsc::channel(1);
        let address = self.address;
        let task = runtime::spawn(accept(self, service, running));
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

async fn accept(server: PeerServer, service: Arc<dyn PeerService>, running: Running) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            Some(_) = connections.join_next() => continue,
            accepted = server.listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                let (identity, service) = (server.identity.clone(), service.clone());
                connections.spawn(runtime::task(connection(running.clone(), stream, remote, identity, service)));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of a node");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// `running` comes first because the first parameter is dropped last.
async fn connection(running: Running, mut stream: Stream, remote: SocketAddr, identity: PeerIdentity, service: Arc<dyn PeerService>) {
    let from = match timeout(HANDSHAKE_LIMIT, handshake::receive(&mut stream, &identity)).await {
        Ok(Ok(from)) => from,
        Ok(Err(HandshakeError::Refused(reason))) => {
            tracing::warn!(%remote, %reason, "refused a node");
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
