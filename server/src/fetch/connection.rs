//! One request on a connection of its own, over TCP or TLS.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use pyralog_models::{Error, ErrorKind};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

/// Time in which a connection must be there.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// What moves a connection's bytes; they stop where it is dropped.
pub type Driver = JoinSet<()>;

/// TLS that trusts the authorities that Mozilla trusts.
pub fn tls() -> Result<TlsConnector, String> {
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    trusting(roots)
}

fn trusting(roots: RootCertStore) -> Result<TlsConnector, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config).into())
}

/// Sends a request to a URL's host.
pub async fn exchange(url: &Url, tls: &TlsConnector, request: Request<Full<Bytes>>) -> Result<(Response<Incoming>, Driver), Error> {
    let connected = tokio::time::timeout(CONNECT_WITHIN, connect(url, tls)).await;
    let late = || unreachable(url, &format!("no connection within {} s", CONNECT_WITHIN.as_secs()));
    match connected.map_err(|_| late())?? {
        Connection::Plain(stream) => send(url, stream, request).await,
        Connection::Tls(stream) => send(url, stream, request).await,
    }
}

enum Connection {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

async fn connect(url: &Url, tls: &TlsConnector) -> Result<Connection, Error> {
    let port = url.port_or_known_default().unwrap_or_default();
    let connected = match url.host() {
        Some(Host::Domain(name)) => TcpStream::connect((name, port)).await,
        Some(Host::Ipv4(address)) => TcpStream::connect((address, port)).await,
        Some(Host::Ipv6(address)) => TcpStream::connect((address, port)).await,
        None => return Err(unreachable(url, &"it has no host")),
    };
    let stream = connected.map_err(|error| unreachable(url, &error))?;
    stream.set_nodelay(true).map_err(|error| unreachable(url, &error))?;
    if url.scheme() == "http" {
        return Ok(Connection::Plain(stream));
    }
    let secured = tls.connect(server_name(url)?, stream).await;
    secured
        .map(|stream| Connection::Tls(Box::new(stream)))
        .map_err(|error| unreachable(url, &error))
}

fn server_name(url: &Url) -> Result<ServerName<'static>, Error> {
    match url.host() {
        Some(Host::Domain(name)) => ServerName::try_from(name.to_owned()).map_err(|error| unreachable(url, &error)),
        Some(Host::Ipv4(address)) => Ok(std::net::IpAddr::from(address).into()),
        Some(Host::Ipv6(address)) => Ok(std::net::IpAddr::from(address).into()),
        None => Err(unreachable(url, &"it has no host")),
    }
}

async fn send<S>(url: &Url, stream: S, request: Request<Full<Bytes>>) -> Result<(Response<Incoming>, Driver), Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let begun = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = begun.map_err(|error| broken(url, &error))?;
    let mut driver = Driver::new();
    // What goes wrong on it is seen by who waits for the answer.
    driver.spawn(async move { drop(connection.await) });
    let response = sender.send_request(request).await.map_err(|error| broken(url, &error))?;
    Ok((response, driver))
}

/// The error where a host cannot be reached.
fn unreachable(url: &Url, problem: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, "08001", format!("<{url}> cannot be reached: {problem}"))
}

/// The error where a connection breaks, or what comes is not HTTP.
pub fn broken(url: &Url, error: &hyper::Error) -> Error {
    let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
    Error::new(ErrorKind::Unavailable, "08006", format!("<{url}> broke off: {error}{cause}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// Answers on its port, as `localhost`; the authorities that know it.
    async fn serve() -> (u16, RootCertStore) {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // Callers that do not trust it hang up.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut head = [0; 1024];
                if stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                }
            }
        });
        let mut roots = RootCertStore::empty();
        roots.add(own.cert.der().clone()).unwrap();
        (port, roots)
    }

    #[tokio::test]
    async fn only_a_host_that_proves_its_name_is_asked() {
        let (port, roots) = serve().await;
        let ask = async |host: &str, tls: TlsConnector| {
            let url = Url::parse(&format!("https://{host}:{port}/")).unwrap();
            let request = Request::builder().uri("/").header("Host", host).body(Full::default()).unwrap();
            exchange(&url, &tls, request).await.map(|(response, _)| response.status().as_u16())
        };
        let known = trusting(roots).unwrap();
        assert_eq!(ask("localhost", known.clone()).await.unwrap(), 204);
        assert_eq!(ask("127.0.0.1", known).await.unwrap_err().code, "08001");
        assert_eq!(ask("localhost", tls().unwrap()).await.unwrap_err().code, "08001");
    }
}
