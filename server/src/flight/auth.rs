//! Who calls: credentials from headers or the handshake, and the seam behind which they are checked.
//!
//! Flight clients send `authorization: Basic …` to Handshake, take the `authorization: Bearer …` of its answer and send that from then on.

use std::fmt::Debug;
use std::net::SocketAddr;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use tonic::Status;
use tonic::metadata::MetadataMap;

/// What a caller offers.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    None,
    /// A name and a password.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
    /// A token that this server did not issue.
    Bearer(String),
}

impl Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Credentials::None => f.write_str("None"),
            Credentials::Basic { user, .. } => write!(f, "Basic({user})"),
            Credentials::Bearer(_) => f.write_str("Bearer"),
        }
    }
}

/// Who a caller is, once checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// User name; empty for nobody in particular.
    pub user: String,
}

/// Checks credentials.
#[async_trait]
pub trait Authenticator: Debug + Send + Sync + 'static {
    /// The principal behind the credentials of a caller at `peer` (`None`: in this process). Errors with `Unauthenticated`.
    async fn authenticate(&self, credentials: Credentials, peer: Option<SocketAddr>) -> Result<Principal, Status>;
}

/// Lets in everybody on this machine, whatever the credentials, and nobody else: right as long as there are no users.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowLoopback;

#[async_trait]
impl Authenticator for AllowLoopback {
    async fn authenticate(&self, _credentials: Credentials, peer: Option<SocketAddr>) -> Result<Principal, Status> {
        match peer {
            Some(peer) if !peer.ip().to_canonical().is_loopback() => Err(Status::unauthenticated(
                "no users exist yet, so only callers on the server's own machine are let in",
            )),
            // One principal for all: without users, what one caller made another may use.
            _ => Ok(Principal { user: String::new() }),
        }
    }
}

/// The credentials in a call's headers.
pub(super) fn credentials(headers: &MetadataMap) -> Result<Credentials, Status> {
    if let Some(value) = headers.get("authorization") {
        let text = value
            .to_str()
            .map_err(|_| Status::unauthenticated("the authorization header is not ASCII"))?;
        return from_header(text);
    }
    // The first generation of Flight authentication: the handshake's payload comes back in this header.
    if let Some(value) = headers.get_bin("auth-token-bin") {
        let bytes = value
            .to_bytes()
            .map_err(|_| Status::unauthenticated("the auth-token-bin header is not base64"))?;
        let token = String::from_utf8(bytes.to_vec()).map_err(|_| Status::unauthenticated("the token is not text"))?;
        return Ok(Credentials::Bearer(token));
    }
    Ok(Credentials::None)
}

/// The credentials in an `authorization` header's value.
fn from_header(text: &str) -> Result<Credentials, Status> {
    let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Credentials::Bearer(rest.trim().to_string()));
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let encoded = rest.trim();
        let bytes = BASE64_STANDARD
            .decode(encoded)
            .or_else(|_| BASE64_STANDARD_NO_PAD.decode(encoded))
            .map_err(|_| Status::unauthenticated("the basic credentials are not base64"))?;
        let pair = String::from_utf8(bytes).map_err(|_| Status::unauthenticated("the basic credentials are not UTF-8"))?;
        let (user, password) = pair
            .split_once(':')
            .ok_or_else(|| Status::unauthenticated("the basic credentials have no colon"))?;
        return Ok(Credentials::Basic {
            user: user.to_string(),
            password: password.to_string(),
        });
    }
    Err(Status::unauthenticated(format!(
        "unknown authorization scheme {scheme:?}: use Basic or Bearer"
    )))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(value: &str) -> MetadataMap {
        let mut headers = MetadataMap::new();
        headers.insert("authorization", value.parse().unwrap());
        headers
    }

    #[test]
    fn basic_with_and_without_padding() {
        let want = Credentials::Basic {
            user: "ann".into(),
            password: "a:b".into(),
        };
        assert_eq!(credentials(&headers("Basic YW5uOmE6Yg==")).unwrap(), want);
        assert_eq!(credentials(&headers("basic YW5uOmE6Yg")).unwrap(), want);
    }

    #[test]
    fn bearer_none_and_nonsense() {
        assert_eq!(credentials(&headers("Bearer abc")).unwrap(), Credentials::Bearer("abc".into()));
        assert_eq!(credentials(&MetadataMap::new()).unwrap(), Credentials::None);
        for bad in ["Digest x", "Basic !!!", "Basic YW5u"] {
            assert_eq!(
                credentials(&headers(bad)).unwrap_err().code(),
                tonic::Code::Unauthenticated,
                "{bad}"
            );
        }
    }

    #[tokio::test]
    async fn only_this_machine() {
        let local = ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"];
        for peer in local {
            assert!(
                AllowLoopback
                    .authenticate(Credentials::None, Some(peer.parse().unwrap()))
                    .await
                    .is_ok(),
                "{peer}"
            );
        }
        assert!(
            AllowLoopback
                .authenticate(Credentials::None, Some("192.0.2.7:1".parse().unwrap()))
                .await
                .is_err()
        );
    }
}
