//! What a server remembers a client by: a bearer token after a login, and cookies (RFC 6265's `name=value` pairs).

use tonic::metadata::{AsciiMetadataValue, MetadataMap};

/// Cookies kept a server; more are ignored.
const MAX_COOKIES: usize = 64;
/// The longest cookie kept, in bytes of name and value.
const MAX_COOKIE_BYTES: usize = 4096;

/// One server's token and cookies.
#[derive(Default)]
pub(super) struct Session {
    token: Option<AsciiMetadataValue>,
    cookies: Vec<(String, String)>,
}

impl Session {
    /// Keeps the token of an `authorization: Bearer …` answer; whether there was one.
    pub fn keep_token(&mut self, headers: &MetadataMap) -> bool {
        let bearer = headers
            .get("authorization")
            .filter(|value| value.as_bytes().starts_with(b"Bearer "));
        if let Some(value) = bearer {
            self.token = Some(value.clone());
        }
        bearer.is_some()
    }

    /// Whether a token is kept.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether the server has a session for this client that means something.
    pub fn has_cookies(&self) -> bool {
        !self.cookies.is_empty()
    }

    /// Keeps what the server set by `set-cookie`. An empty value or `Max-Age=0` removes a cookie.
    pub fn keep_cookies(&mut self, headers: &MetadataMap) {
        for text in headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok()) {
            let mut parts = text.split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
                continue;
            };
            let expired = value.is_empty() || parts.any(|attribute| attribute.eq_ignore_ascii_case("max-age=0"));
            self.cookies.retain(|(known, _)| known != name);
            if !expired && name.len() + value.len() <= MAX_COOKIE_BYTES && self.cookies.len() < MAX_COOKIES {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    /// Adds token and cookies to a request.
    pub fn mark(&self, headers: &mut MetadataMap) {
        if let Some(token) = &self.token {
            headers.insert("authorization", token.clone());
        }
        if self.cookies.is_empty() {
            return;
        }
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        // Both halves came in as header text, so they go out as header text.
        if let Ok(value) = pairs.join("; ").parse::<AsciiMetadataValue>() {
            headers.insert("cookie", value);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn answer(cookies: &[&str]) -> MetadataMap {
        let mut headers = MetadataMap::new();
        for cookie in cookies {
            headers.append("set-cookie", cookie.parse().unwrap());
        }
        headers
    }

    fn sent(session: &Session) -> Option<String> {
        let mut headers = MetadataMap::new();
        session.mark(&mut headers);
        headers.get("cookie").map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn cookies_are_kept_replaced_and_removed() {
        let mut session = Session::default();
        assert_eq!(sent(&session), None);
        session.keep_cookies(&answer(&["sid=1; Path=/; HttpOnly", "b=2"]));
        assert_eq!(sent(&session).as_deref(), Some("sid=1; b=2"));
        session.keep_cookies(&answer(&["sid=3"]));
        assert_eq!(sent(&session).as_deref(), Some("b=2; sid=3"));
        session.keep_cookies(&answer(&["b=; Max-Age=0", "sid=3; max-age=0", "nonsense"]));
        assert_eq!(sent(&session), None);
    }

    #[test]
    fn a_server_cannot_fill_the_memory() {
        let mut session = Session::default();
        for i in 0..1000 {
            session.keep_cookies(&answer(&[&format!("c{i}=v")]));
        }
        assert_eq!(session.cookies.len(), MAX_COOKIES);
        let mut session = Session::default();
        session.keep_cookies(&answer(&[&format!("big={}", "x".repeat(MAX_COOKIE_BYTES))]));
        assert_eq!(sent(&session), None);
    }

    #[test]
    fn only_bearer_tokens_are_kept() {
        let mut session = Session::default();
        let mut headers = MetadataMap::new();
        headers.insert("authorization", "Basic abc".parse().unwrap());
        assert!(!session.keep_token(&headers));
        headers.insert("authorization", "Bearer abc".parse().unwrap());
        assert!(session.keep_token(&headers) && session.has_token());
    }
}
