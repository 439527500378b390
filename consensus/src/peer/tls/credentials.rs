//! The files that prove a node, and what TLS makes of them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::reason;

/// The files that prove a node to others, in PEM format. They may be replaced while the node runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerTls {
    /// The node's certificate, then those between it and the authority. It is for servers and clients, and for the host at which other
    /// nodes reach this one.
    pub certificate: PathBuf,
    /// Its key, without a password.
    pub key: PathBuf,
    /// Certificates of the authorities whose nodes are let in.
    pub authority: PathBuf,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("TLS between nodes: {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file does not hold what it is to hold.
    #[error("TLS between nodes: {} holds no {what} in PEM format{detail}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it is to hold.
        what: &'static str,
        /// What it holds instead, with a colon before it, if that is known.
        detail: String,
    },
    /// The key is that of another certificate.
    #[error("TLS between nodes: the key {} does not belong to the certificate {}", key.display(), certificate.display())]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// Other nodes would not let this one in.
    #[error("TLS between nodes: the certificate {} {detail}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// An address without a host that a certificate could be for.
    #[error("TLS between nodes: {host:?} is neither a host name nor an IP address, so no certificate is for it")]
    Host {
        /// What stands there.
        host: String,
    },
    /// TLS does not accept the files.
    #[error("TLS between nodes: {} cannot be used: {detail}", path.display())]
    SetUp {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
}

/// By which a change of the files is seen: times of modification and lengths, where they are there.
pub type Stamp = [Option<(Option<SystemTime>, u64)>; 3];

impl PeerTls {
    /// The files as they are now.
    pub fn stamp(&self) -> Stamp {
        [&self.certificate, &self.key, &self.authority].map(|path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.modified().ok(), found.len()))
        })
    }
}

/// Both roles of a node.
pub struct Credentials {
    /// Calls.
    pub connector: TlsConnector,
    /// Is called.
    pub acceptor: TlsAcceptor,
}

impl Credentials {
    /// Reads the files of a node that others call `own`.
    pub fn read(files: &PeerTls, own: &ServerName<'_>) -> Result<Credentials, TlsError> {
        let chain = certificates(&files.certificate)?;
        let key = key(&files.key)?;
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots(&files.authority)?);
        let set_up = |path: &Path, detail: &dyn std::fmt::Display| TlsError::SetUp {
            path: path.to_owned(),
            detail: detail.to_string(),
        };
        let authority = |error: rustls::server::VerifierBuilderError| set_up(&files.authority, &error);
        let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(authority)?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(authority)?;
        check_own(&chain, own, servers.as_ref(), clients.as_ref()).map_err(|error| TlsError::Certificate {
            path: files.certificate.clone(),
            detail: reason::of_own(&error),
        })?;
        let keyed = |error: rustls::Error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch {
                key: files.key.clone(),
                certificate: files.certificate.clone(),
            },
            error => set_up(&files.key, &error),
        };
        let connector = connector(provider.clone(), servers, chain.clone(), key.clone_key()).map_err(keyed)?;
        let acceptor = acceptor(provider, clients, chain, key).map_err(keyed)?;
        Ok(Credentials { connector, acceptor })
    }
}

fn connector(
    provider: Arc<CryptoProvider>,
    servers: Arc<WebPkiServerVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<TlsConnector, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(servers)
        .with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config).into())
}

fn acceptor(
    provider: Arc<CryptoProvider>,
    clients: Arc<dyn ClientCertVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<TlsAcceptor, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config).into())
}

/// What other nodes with the same authority will check.
fn check_own(
    chain: &[CertificateDer<'static>],
    own: &ServerName<'_>,
    servers: &dyn ServerCertVerifier,
    clients: &dyn ClientCertVerifier,
) -> Result<(), rustls::Error> {
    let Some((certificate, between)) = chain.split_first() else {
        return Err(rustls::Error::NoCertificatesPresented);
    };
    let now = UnixTime::now();
    servers.verify_server_cert(certificate, between, own, &[], now)?;
    clients.verify_client_cert(certificate, between, now)?;
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn content(path: &Path, what: &'static str, error: Option<&pem::Error>) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        what,
        detail: match error {
            None | Some(pem::Error::NoItemsFound) => String::new(),
            Some(error) => format!(": {error}"),
        },
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| content(path, "certificate", Some(&error)))?;
    match found.is_empty() {
        true => Err(content(path, "certificate", None)),
        false => Ok(found),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| content(path, "private key without a password", Some(&error)))
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::SetUp {
            path: path.to_owned(),
            detail: error.to_string(),
        })?;
    }
    Ok(roots)
}
