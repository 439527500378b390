//! How a connection to one server is made.

use std::error::Error as StdError;
use std::time::Duration;

use tonic::transport::Endpoint;

use crate::address::Address;
use crate::config::ClientConfig;
use crate::error::{ClientError, ErrorKind, Result};

/// Bytes of one result that may be on the way before its reader has asked for more: the back-pressure of a stream.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// The same for all results of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// The settings of a connection to an address.
pub(super) fn endpoint(address: &Address, config: &ClientConfig) -> Result<Endpoint> {
    let wrong = |error: tonic::transport::Error| ClientError::usage(format!("address {}: {error}", address.authority)).with_source(error);
    let endpoint = Endpoint::from_shared(address.uri())
        .map_err(wrong)?
        .user_agent(concat!("pyralog-client/", env!("CARGO_PKG_VERSION")))
        .map_err(wrong)?
        .connect_timeout(config.connect_timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(Duration::from_secs(30)))
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    if address.tls {
        encrypted(endpoint, config).map_err(|error| error.at(address))
    } else {
        Ok(endpoint)
    }
}

/// The error of a connection that could not be made, with the cause that the transport hides.
pub(super) fn connect_error(address: &Address, error: tonic::transport::Error) -> ClientError {
    let root = std::iter::successors(Some(&error as &dyn StdError), |e| (*e).source())
        .last()
        .map(ToString::to_string)
        .unwrap_or_default();
    ClientError::new(ErrorKind::Connection, format!("cannot connect to {}: {root}", address.authority)).with_source(error)
}

/// Why an encrypted connection cannot be set up.
struct TlsError(ClientError);

impl TlsError {
    fn at(self, address: &Address) -> ClientError {
        ClientError::new(self.0.kind(), format!("address grpc+tls://{}: {}", address.authority, self.0)).with_source(self.0)
    }
}

#[cfg(feature = "tls")]
fn encrypted(endpoint: Endpoint, config: &ClientConfig) -> Result<Endpoint, TlsError> {
    use tonic::transport::{Certificate, ClientTlsConfig, Identity};

    let mut tls = match &config.tls.ca_certificate {
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().with_enabled_roots(),
    };
    if let Some(name) = &config.tls.domain_name {
        tls = tls.domain_name(name);
    }
    if let Some((certificate, key)) = &config.tls.identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    endpoint
        .tls_config(tls)
        .map_err(|error| TlsError(ClientError::usage(error.to_string()).with_source(error)))
}

#[cfg(not(feature = "tls"))]
fn encrypted(_endpoint: Endpoint, _config: &ClientConfig) -> Result<Endpoint, TlsError> {
    Err(TlsError(ClientError::new(
        ErrorKind::Unsupported,
        "this build has no TLS; enable the `tls` feature of pyralog-client",
    )))
}
