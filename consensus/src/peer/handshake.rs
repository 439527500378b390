//! The first bytes of a connection: both sides say who they are. Little-endian.
//!
//! ```text
//! part      magic:4 protocol:4 length:4 crc32c:4              = 16 bytes, then `length` bytes
//! hello     from:8 to:8 incarnation:16 purpose:1, then the database's id   from the caller; zeros and no id: a node that wants to join
//! verdict   0:1 node:8 incarnation:16, then the database's id              from the server: welcome
//!           1:1, then the reason                                           from the server: refused; it closes
//!           2:1, then the reason                                           the same, because another process is the caller's node
//! ```
//!
//! The purpose is 0 for calls, and frames follow; or 1 for a stream, whose bytes follow as they are.
//!
//! The checksum covers everything but itself. The layout of a part and of a refusal is the same in every protocol, so that nodes of
//! different protocols can tell each other why they do not speak.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::PeerIdentity;
use super::roll::{Incarnation, Presence, Roll};
use super::tls::reason;

const MAGIC: [u8; 4] = *b"PYRP";
const HEADER_BYTES: usize = 16;
const MAX_BODY_BYTES: usize = 1024;
const MAX_DATABASE_BYTES: usize = 256;
const WELCOME: u8 = 0;
const REFUSED: u8 = 1;
const OCCUPIED: u8 = 2;
/// As the callee's id: whoever is there. As the caller's id, with an empty database: a node that belongs to no database yet.
const ANY: u64 = 0;
/// How long, and for how many bytes, a node that refuses a caller waits until it has gone.
const LINGER_LIMIT: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 << 10;

/// Why two nodes do not speak.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The network's reason.
    #[error(transparent)]
    Io(io::Error),
    /// Records of TLS where a part is expected.
    #[error("it speaks TLS, and this node does not; set peer-tls-cert, peer-tls-key and peer-tls-ca at both, or at neither")]
    Tls,
    /// Something else than a node speaks there.
    #[error("no handshake of a Pyralog node ({0})")]
    Garbage(&'static str),
    /// One of them does not want to.
    #[error("{0}")]
    Refused(String),
    /// Another process is the caller's node.
    #[error("{0}")]
    Occupied(String),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match reason::of(&error) {
            Some(reason) => HandshakeError::Refused(reason),
            None => HandshakeError::Io(error),
        }
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Requests with their answers, and files.
    Calls = 0,
    /// Bytes that are none of this protocol's business.
    Stream = 1,
}

impl Purpose {
    fn from_byte(byte: u8) -> Option<Purpose> {
        [Purpose::Calls, Purpose::Stream].into_iter().find(|purpose| *purpose as u8 == byte)
    }
}

/// A node that has introduced itself.
#[derive(Debug)]
pub struct Caller {
    /// Its id.
    pub node: u64,
    /// What it wants.
    pub purpose: Purpose,
    /// Keeps other processes of the same node away.
    pub presence: Presence,
}

/// The caller's side: introduces itself to the node that it means to reach. Which process answered as which node.
pub async fn introduce<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    own: &PeerIdentity,
    to: u64,
    purpose: Purpose,
) -> Result<(u64, Incarnation), HandshakeError> {
    if own.database.len() > MAX_DATABASE_BYTES {
        let bytes = own.database.len();
        return Err(refused(format!(
            "the database's id has {bytes} bytes, more than {MAX_DATABASE_BYTES}"
        )));
    }
    let mut hello = Vec::new();
    hello.extend_from_slice(&own.node.to_le_bytes());
    hello.extend_from_slice(&to.to_le_bytes());
    hello.extend_from_slice(&own.incarnation.0.to_le_bytes());
    hello.push(purpose as u8);
    hello.extend_from_slice(own.database.as_bytes());
    write_part(stream, own.format, &hello).await?;

    let (protocol, verdict) = read_part(stream).await?;
    let mut fields = &verdict[..];
    match fields.try_get_u8() {
        Ok(REFUSED) => Err(refused(String::from_utf8_lossy(fields).into_owned())),
        Ok(OCCUPIED) => Err(HandshakeError::Occupied(String::from_utf8_lossy(fields).into_owned())),
        Ok(WELCOME) if protocol != own.format => Err(refused(other_protocol(protocol, own.format))),
        Ok(WELCOME) => {
            let (Ok(node), Ok(incarnation)) = (fields.try_get_u64_le(), fields.try_get_u128_le()) else {
                return Err(HandshakeError::Garbage("a welcome that is too short"));
            };
            if !own.is_stranger() {
                check_database(fields, own)?;
            }
            if node != to && to != ANY {
                return Err(refused(format!(
                    "this is node {node}, not node {to}; correct the address of node {to}"
                )));
            }
            Ok((node, Incarnation(incarnation)))
        }
        _ => Err(HandshakeError::Garbage("an unknown verdict")),
    }
}

/// The server's side: who calls. A caller that is refused has been told why.
pub async fn receive<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    own: &PeerIdentity,
    roll: &Roll,
    place: impl Display,
) -> Result<Caller, HandshakeError> {
    let (protocol, hello) = match read_part(stream).await {
        Ok(part) => part,
        Err(HandshakeError::Tls) => {
            // No record of TLS, which is how the caller knows.
            write_part(stream, own.format, &[REFUSED]).await?;
            linger(stream).await;
            return Err(HandshakeError::Tls);
        }
        Err(error) => return Err(error),
    };
    let checked = check_hello(protocol, &hello, own).and_then(|hello| {
        let Hello {
            node,
            incarnation,
            purpose,
        } = hello;
        match roll.enter(node, incarnation, place) {
            Ok(presence) => Ok(Caller { node, purpose, presence }),
            Err(reason) => Err(HandshakeError::Occupied(reason)),
        }
    });
    let mut verdict = Vec::new();
    match &checked {
        Ok(_) => {
            verdict.push(WELCOME);
            verdict.extend_from_slice(&own.node.to_le_bytes());
            verdict.extend_from_slice(&own.incarnation.0.to_le_bytes());
            verdict.extend_from_slice(own.database.as_bytes());
        }
        Err(HandshakeError::Refused(reason) | HandshakeError::Occupied(reason)) => {
            verdict.push(if matches!(checked, Err(HandshakeError::Occupied(_))) {
                OCCUPIED
            } else {
                REFUSED
            });
            verdict.extend_from_slice(&reason.as_bytes()[..reason.floor_char_boundary(MAX_BODY_BYTES - 1)]);
        }
        Err(_) => return checked,
    }
    write_part(stream, own.format, &verdict).await?;
    if checked.is_err() {
        stream.shutdown().await?;
    }
    checked
}

/// Ends a stream so that the other side can read why. The operating system takes back what was written when a socket is closed in which
/// bytes were not read.
pub async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let ended = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // The other side has had its time.
    let _ = timeout(LINGER_LIMIT, ended).await;
}

/// What a caller says of itself.
struct Hello {
    node: u64,
    incarnation: Incarnation,
    purpose: Purpose,
}

fn check_hello(protocol: u32, hello: &[u8], own: &PeerIdentity) -> Result<Hello, HandshakeError> {
    if protocol != own.format {
        return Err(refused(other_protocol(own.format, protocol)));
    }
    let mut fields = hello;
    let (Ok(from), Ok(to), Ok(incarnation)) = (fields.try_get_u64_le(), fields.try_get_u64_le(), fields.try_get_u128_le()) else {
        return Err(HandshakeError::Garbage("a hello that is too short"));
    };
    let Ok(purpose) = fields.try_get_u8() else {
        return Err(HandshakeError::Garbage("a hello that is too short"));
    };
    let Some(purpose) = Purpose::from_byte(purpose) else {
        return Err(refused(format!(
            "this node knows no purpose {purpose} of a connection; run the same version on both"
        )));
    };
    let hello = Hello {
        node: from,
        incarnation: Incarnation(incarnation),
        purpose,
    };
    if from == ANY && purpose == Purpose::Stream {
        return Err(refused(
            "streams are for nodes of the cluster; a node that has no id yet can only ask to join".to_owned(),
        ));
    }
    if from == ANY && to == ANY && fields.is_empty() {
        return Ok(hello);
    }
    check_database(fields, own)?;
    if to != own.node && to != ANY {
        let node = own.node;
        return Err(refused(format!(
            "this is node {node}, not node {to}; correct the address of node {to}"
        )));
    }
    if from == own.node && hello.incarnation == own.incarnation {
        return Err(refused(format!(
            "this is node {from} itself; correct the address of the node that is meant"
        )));
    }
    if from == own.node {
        return Err(HandshakeError::Occupied(format!(
            "this is node {from} itself, in another process; give each node a directory and an id of its own"
        )));
    }
    Ok(hello)
}

fn check_database(theirs: &[u8], own: &PeerIdentity) -> Result<(), HandshakeError> {
    if theirs == own.database.as_bytes() {
        return Ok(());
    }
    let theirs = String::from_utf8_lossy(&theirs[..theirs.len().min(MAX_DATABASE_BYTES)]);
    Err(refused(format!(
        "database {theirs:?} is not database {:?}; correct the address, or the node's directory",
        own.database
    )))
}

fn other_protocol(server: u32, caller: u32) -> String {
    format!(
        "this node speaks peer protocol {server}, the caller speaks {caller}; run the same version on both, which means to upgrade the one with the lower number"
    )
}

fn refused(reason: String) -> HandshakeError {
    HandshakeError::Refused(reason)
}

async fn write_part<S: AsyncWrite + Unpin>(stream: &mut S, protocol: u32, body: &[u8]) -> io::Result<()> {
    let mut part = Vec::with_capacity(HEADER_BYTES + body.len());
    part.extend_from_slice(&MAGIC);
    part.extend_from_slice(&protocol.to_le_bytes());
    part.extend_from_slice(&(body.len() as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&part), body);
    part.extend_from_slice(&crc.to_le_bytes());
    part.extend_from_slice(body);
    stream.write_all(&part).await?;
    stream.flush().await
}

async fn read_part<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(u32, Vec<u8>), HandshakeError> {
    let mut magic = [0; 4];
    stream.read_exact(&mut magic).await?;
    // The kind of a record, and the version of TLS that all of them claim.
    if matches!(magic, [20..=23, 3, 0..=4, _]) {
        return Err(HandshakeError::Tls);
    }
    if magic != MAGIC {
        return Err(HandshakeError::Garbage("wrong magic"));
    }
    let protocol = stream.read_u32_le().await?;
    let length = stream.read_u32_le().await?;
    let crc = stream.read_u32_le().await?;
    if length as usize > MAX_BODY_BYTES {
        return Err(HandshakeError::Garbage("too long"));
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await?;
    let mut expected = crc32c::crc32c(&magic);
    expected = crc32c::crc32c_append(expected, &protocol.to_le_bytes());
    expected = crc32c::crc32c_append(expected, &length.to_le_bytes());
    if crc != crc32c::crc32c_append(expected, &body) {
        return Err(HandshakeError::Garbage("wrong checksum"));
    }
    Ok((protocol, body))
}
