//! Mutual TLS 1.3 over a stream between nodes. Each node shows its certificate in both roles, and demands one that its authority signed.
//! The caller also demands that the certificate is for the host that it called; to the node that is called, whoever has a certificate of
//! the authority is a node.
//!
//! ```text
//! transport ─▶ TLS ─▶ handshake of nodes ─▶ frames
//! ```
//!
//! The files are looked at for each new connection, so that renewed ones are taken up without a restart. Ones that cannot be used leave
//! those before in use, and are told in the log once.
//!
//! Invariants:
//! - Sessions are not resumed: each connection is proved anew.
//! - Why a node refuses the other is told as [`HandshakeError::Refused`]. A caller whose certificate is refused learns that only behind its
//!   own end of TLS 1.3, so errors of the nodes' handshake become reasons too, by [`reason::of`].

mod credentials;
pub mod reason;

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::ServerName;

pub use credentials::{PeerTls, TlsError};

use super::handshake::{HandshakeError, linger};
use super::transport::Stream;
use crate::runtime;
use credentials::{Credentials, Stamp};

/// What a node proves itself with, and by what it knows others.
pub struct Tls {
    files: PeerTls,
    /// This node as others call it.
    own: ServerName<'static>,
    state: Mutex<State>,
}

struct State {
    /// The files when they were last read, whether they could be used or not.
    seen: Stamp,
    using: Arc<Credentials>,
}

impl Tls {
    /// Reads the files of a node that others reach at `address` (`host:port`). What they would refuse is an error here. Blocking.
    pub fn open(files: PeerTls, address: &str) -> Result<Tls, TlsError> {
        let own = host(address)?;
        let seen = files.stamp();
        let using = Arc::new(Credentials::read(&files, &own)?);
        let state = Mutex::new(State { seen, using });
        Ok(Tls { files, own, state })
    }

    /// The caller's end of a stream to an address.
    pub async fn connect(self: &Arc<Self>, stream: Stream, address: &str) -> Result<Stream, HandshakeError> {
        let host = host(address).map_err(|error| HandshakeError::Refused(error.to_string()))?;
        let credentials = self.credentials().await?;
        match credentials.connector.connect(host, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) if reason::of(&error).is_none() => {
                let why = format!("it ended the connection within the TLS handshake ({error}); does it speak TLS?");
                Err(io::Error::new(error.kind(), why).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The called node's end of a stream.
    pub async fn accept(self: &Arc<Self>, stream: Stream) -> Result<Stream, HandshakeError> {
        let credentials = self.credentials().await?;
        match credentials.acceptor.accept(stream).into_fallible().await {
            Ok(stream) => Ok(Box::new(stream)),
            Err((error, mut stream)) => {
                if reason::of(&error).is_some() {
                    linger(&mut stream).await;
                }
                Err(error.into())
            }
        }
    }

    async fn credentials(self: &Arc<Self>) -> io::Result<Arc<Credentials>> {
        let tls = self.clone();
        runtime::blocking(move || tls.renewed()).await
    }

    /// What is in use, from now on.
    fn renewed(&self) -> Arc<Credentials> {
        let mut state = self.state.lock();
        // Before the files are read: what changes in the meantime is seen the next time.
        let found = self.files.stamp();
        if found != state.seen {
            state.seen = found;
            match Credentials::read(&self.files, &self.own) {
                Ok(renewed) => {
                    tracing::info!(certificate = %self.files.certificate.display(), "the files of TLS between nodes were renewed");
                    state.using = Arc::new(renewed);
                }
                Err(error) => {
                    tracing::error!(%error, "the renewed files of TLS between nodes cannot be used; those before stay in use");
                }
            }
        }
        state.using.clone()
    }
}

/// The host of a `host:port`, as a certificate names it.
fn host(address: &str) -> Result<ServerName<'static>, TlsError> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Host { host: host.to_owned() })
}
