//! How nodes are linked: a transport, and TLS over its streams or none.

use std::sync::Arc;

use super::handshake::HandshakeError;
use super::tls::Tls;
use super::transport::{Stream, Transport};

/// What connections between nodes are made of. Cheap to clone.
#[derive(Clone)]
pub struct Links {
    /// Makes streams.
    pub transport: Arc<dyn Transport>,
    /// Proves who is at their ends; `None`: nobody has to.
    pub tls: Option<Arc<Tls>>,
}

impl Links {
    /// The caller's end of a stream that the transport made to an address.
    pub async fn outgoing(&self, stream: Stream, address: &str) -> Result<Stream, HandshakeError> {
        match &self.tls {
            Some(tls) => tls.connect(stream, address).await,
            None => Ok(stream),
        }
    }

    /// The other end.
    pub async fn incoming(&self, stream: Stream) -> Result<Stream, HandshakeError> {
        match &self.tls {
            Some(tls) => tls.accept(stream).await,
            None => Ok(stream),
        }
    }
}
