//! Where the streams between nodes come from. The operating system's TCP, or what a test puts in its place.

use std::io;
use std::net::SocketAddr;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A stream of bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Any stream.
pub type Stream = Box<dyn Duplex>;

/// Connects and listens.
pub trait Transport: Send + Sync + 'static {
    /// Connects to a `host:port`, which is resolved at each call.
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Stream>>;

    /// Binds an address; port 0 takes a free one.
    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;
}

/// A bound port.
pub trait Listener: Send + Sync + 'static {
    /// Waits for a caller. To drop the future loses none.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>>;

    /// Where it listens.
    fn address(&self) -> io::Result<SocketAddr>;
}

/// TCP of the operating system.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tcp;

impl Transport for Tcp {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Stream>> {
        async move {
            let stream = not_itself(TcpStream::connect(address).await?)?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Stream)
        }
        .boxed()
    }

    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        async move { Ok(Box::new(TcpListener::bind(address).await?) as Box<dyn Listener>) }.boxed()
    }
}

/// Refuses a connection with itself: who connects to a port of this machine where nobody listens may be given that very port as his own. It is
/// reset, so that the port is free at once for whom it belongs to.
fn not_itself(stream: TcpStream) -> io::Result<TcpStream> {
    if stream.local_addr()? != stream.peer_addr()? {
        return Ok(stream);
    }
    stream.set_zero_linger()?;
    Err(io::ErrorKind::ConnectionRefused.into())
}

impl Listener for TcpListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        async move {
            let (stream, remote) = TcpListener::accept(self).await?;
            if let Err(error) = stream.set_nodelay(true) {
                // The caller is gone already; reading finds that out.
                tracing::debug!(%remote, %error, "a connection ended at once");
            }
            Ok((Box::new(stream) as Stream, remote))
        }
        .boxed()
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_with_itself_is_refused_and_leaves_its_port() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let stream = socket.connect(address).await.unwrap();
        assert_eq!(not_itself(stream).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let listener = TcpListener::bind(address).await.unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        not_itself(stream).unwrap();
        drop(listener);
    }
}
