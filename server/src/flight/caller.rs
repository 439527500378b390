//! One call's caller: who it is, which session it brings, and the cookie to answer with.
//!
//! A session is found by the token of the handshake or by the cookie `arrow_flight_session_id`. A caller with neither gets a session for
//! the one statement; if that statement leaves something behind in it (a transaction, a setting), the session is kept and its cookie sent.

use std::net::SocketAddr;

use parking_lot::Mutex;
use tonic::Response;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use uuid::Uuid;

use super::auth::Principal;

/// The cookie that Flight's session middleware uses.
const COOKIE: &str = "arrow_flight_session_id";
/// What tokens that this server issues begin with; no other token is taken for a session.
const TOKEN_PREFIX: &str = "pyralog-";

/// The caller of one call.
pub struct Caller {
    /// Who it is.
    pub principal: Principal,
    /// The id of the session that it brought.
    pub session: Option<Uuid>,
    /// The other end of its connection; `None` in this process.
    pub peer: Option<SocketAddr>,
    /// Value of a `set-cookie` header for the answer.
    cookie: Mutex<Option<String>>,
}

impl Caller {
    /// A caller that brought the session with this id, if any.
    pub fn new(principal: Principal, session: Option<Uuid>, peer: Option<SocketAddr>) -> Self {
        Caller {
            principal,
            session,
            peer,
            cookie: Mutex::new(None),
        }
    }

    /// Tells the client at the end of this call to send this session's id from now on.
    pub fn keep(&self, id: Uuid) {
        *self.cookie.lock() = Some(format!("{COOKIE}={id}; Path=/; HttpOnly"));
    }

    /// Tells the client at the end of this call to forget its session's id.
    pub fn forget(&self) {
        *self.cookie.lock() = Some(format!("{COOKIE}=; Path=/; Max-Age=0"));
    }

    /// The answer with the cookie, if there is one.
    pub fn answer<T>(&self, body: T) -> Response<T> {
        let mut response = Response::new(body);
        let cookie = self.cookie.lock().take();
        if let Some(value) = cookie.and_then(|text| text.parse::<AsciiMetadataValue>().ok()) {
            response.metadata_mut().insert("set-cookie", value);
        }
        response
    }
}

/// The token that stands for a session.
pub fn token(id: Uuid) -> String {
    format!("{TOKEN_PREFIX}{}", id.simple())
}

/// The session behind a token of this server's making; `None` for tokens made elsewhere.
pub fn session_of_token(token: &str) -> Option<Uuid> {
    token.strip_prefix(TOKEN_PREFIX).and_then(|id| Uuid::try_parse(id).ok())
}

/// The session id in a call's cookies: `Err` with the text if it is none of ours.
pub fn session_of_cookie(headers: &MetadataMap) -> Option<Result<Uuid, String>> {
    headers
        .get_all("cookie")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, value)| *name == COOKIE && !value.is_empty())
        .map(|(_, value)| {
            // Java's cookie store sends version-1 cookies with quotes.
            let text = value.trim_matches('"');
            Uuid::try_parse(text).map_err(|_| text.chars().take(64).collect())
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cookies(lines: &[&str]) -> MetadataMap {
        let mut headers = MetadataMap::new();
        for line in lines {
            headers.append("cookie", line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_cookie_comes_back() {
        let caller = Caller::new(Principal { user: String::new() }, None, None);
        assert!(caller.answer(()).metadata().get("set-cookie").is_none());
        let id = Uuid::new_v4();
        caller.keep(id);
        let response = caller.answer(());
        let header = response.metadata().get("set-cookie").unwrap().to_str().unwrap();
        let pair = header.split(';').next().unwrap();
        assert_eq!(session_of_cookie(&cookies(&["a=b; x=", &format!("c=d; {pair}")])), Some(Ok(id)));
        let quoted = format!("{COOKIE}=\"{id}\"");
        assert_eq!(session_of_cookie(&cookies(&[&quoted])), Some(Ok(id)));
    }

    #[test]
    fn other_cookies_and_tokens_are_no_sessions() {
        assert_eq!(session_of_cookie(&cookies(&["a=b"])), None);
        assert_eq!(session_of_cookie(&cookies(&["arrow_flight_session_id="])), None);
        assert_eq!(
            session_of_cookie(&cookies(&["arrow_flight_session_id=nonsense"])),
            Some(Err("nonsense".into()))
        );
        let id = Uuid::new_v4();
        assert_eq!(session_of_token(&token(id)), Some(id));
        assert_eq!(session_of_token(&id.to_string()), None);
    }
}
