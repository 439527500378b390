//! How a client connects: addresses, login, encryption, limits, retries.

use std::time::Duration;

use crate::address::{self, Address, Credentials};
use crate::error::{ClientError, Result};
use crate::retry::RetryPolicy;

/// What `grpc+tls://` needs beyond the roots that are built in. Needs the crate's `tls` feature.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// Certificates (PEM) of the authorities to trust instead of the built-in ones.
    pub ca_certificate: Option<Vec<u8>>,
    /// The name that the server's certificate must bear, where it differs from the address.
    pub domain_name: Option<String>,
    /// This client's own certificate and key (both PEM).
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// How a [`Client`](crate::Client) connects.
///
/// ```
/// use pyralog_client::{ClientConfig, RetryPolicy};
/// # fn main() -> pyralog_client::Result<()> {
/// let config = ClientConfig::new("grpc://10.0.0.1:50051,grpc://10.0.0.2:50051")?
///     .login("ann", "secret")
///     .connect_timeout(std::time::Duration::from_secs(2))
///     .retry(RetryPolicy::NEVER);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ClientConfig {
    pub(crate) addresses: Vec<Address>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) tls: TlsConfig,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_message_bytes: usize,
    pub(crate) retry: RetryPolicy,
}

impl ClientConfig {
    /// Defaults for one or more addresses with commas between: `grpc://[user:password@]host[:port]` or `grpc+tls://…`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if an address is not one.
    pub fn new(addresses: &str) -> Result<Self> {
        let (addresses, credentials) = address::parse(addresses)?;
        Ok(ClientConfig {
            addresses,
            credentials,
            tls: TlsConfig::default(),
            connect_timeout: Duration::from_secs(5),
            max_message_bytes: 256 << 20,
            retry: RetryPolicy::default(),
        })
    }

    /// The user to log in as (Basic handshake, then a bearer token). Goes before a login in the address.
    pub fn login(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some(Credentials {
            user: user.into(),
            password: password.into(),
        });
        self
    }

    /// Encryption.
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.tls = tls;
        self
    }

    /// How long one connection may take to be made. Default: 5 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The largest message taken from a server, in bytes (one batch of rows is one message). Default: 256 MiB.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// How calls are repeated where that is safe.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }
}

impl TryFrom<&str> for ClientConfig {
    type Error = ClientError;

    fn try_from(addresses: &str) -> Result<Self> {
        ClientConfig::new(addresses)
    }
}

impl TryFrom<String> for ClientConfig {
    type Error = ClientError;

    fn try_from(addresses: String) -> Result<Self> {
        ClientConfig::new(&addresses)
    }
}

impl TryFrom<&String> for ClientConfig {
    type Error = ClientError;

    fn try_from(addresses: &String) -> Result<Self> {
        ClientConfig::new(addresses)
    }
}
