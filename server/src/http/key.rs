//! Keys and query values from the raw request target.
//!
//! Keys are bytes. A framework's own path matching decodes to text and so loses `%ff`, `%2F` and `%00`; here the target is split at its
//! real slashes first and each part decoded to bytes once.

use std::borrow::Cow;

use actix_web::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use percent_encoding::percent_decode_str;

use super::error::Problem;

/// Marks a query value (or the `next` of a scan) that is base64 and not text.
const BASE64_MARK: &str = "base64:";
/// Keys are at most so long: they are compared, indexed and held in memory.
pub const MAX_KEY_BYTES: usize = 64 << 10;

/// What a path under `/kv/` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The bucket.
    pub bucket: String,
    /// The key; `None`: the bucket itself.
    pub key: Option<Vec<u8>>,
}

/// Reads `/kv/{bucket}` or `/kv/{bucket}/{key}` from a raw path. Everything behind the bucket's slash is the key, further slashes included.
pub fn parse_path(raw: &str) -> Result<Target, Problem> {
    let rest = raw.strip_prefix("/kv/").ok_or_else(|| bad_key("expected /kv/{bucket}/{key}"))?;
    let (bucket, key) = match rest.split_once('/') {
        Some((bucket, key)) => (bucket, Some(key)),
        None => (rest, None),
    };
    let bucket = String::from_utf8(decode(bucket)?).map_err(|_| bad_key("the bucket's name is not UTF-8"))?;
    if bucket.is_empty() {
        return Err(bad_key("the bucket's name is empty"));
    }
    let key = key.map(decode).transpose()?;
    match &key {
        Some(key) if key.is_empty() => Err(bad_key("the key is empty").with_hint("GET /kv/{bucket} without the last slash scans")),
        Some(key) if key.len() > MAX_KEY_BYTES => Err(Problem::new(
            StatusCode::URI_TOO_LONG,
            "KEY_TOO_LONG",
            format!("a key has at most {MAX_KEY_BYTES} bytes"),
        )),
        _ => Ok(Target { bucket, key }),
    }
}

/// Percent-decoding to bytes; a `%` without two hexadecimal digits is refused rather than taken as it is.
fn decode(raw: &str) -> Result<Vec<u8>, Problem> {
    let bytes = raw.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        let digits = bytes.get(index + 1..index + 3);
        if *byte == b'%' && !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(bad_key(format!("`%` at {index} has no two hexadecimal digits behind it")));
        }
    }
    Ok(percent_decode_str(raw).collect())
}

/// The values of a query string, decoded to bytes.
#[derive(Debug, Clone, Default)]
pub struct Query {
    values: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads a raw query string; `+` is a blank, as forms write it.
pub fn parse_query(raw: Option<&str>) -> Result<Query, Problem> {
    let part = |text: &str| {
        let text: Cow<'_, str> = if text.contains('+') {
            text.replace('+', "%20").into()
        } else {
            text.into()
        };
        decode(&text)
    };
    let pairs = raw.unwrap_or("").split('&').filter(|pair| !pair.is_empty());
    let values = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((part(name)?, part(value)?))
    });
    Ok(Query {
        values: values.collect::<Result<_, Problem>>()?,
    })
}

impl Query {
    /// A value as bytes; the last one wins.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.values
            .iter()
            .rev()
            .find(|(key, _)| key == name.as_bytes())
            .map(|(_, value)| value.as_slice())
    }

    /// A value as text.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let Some(bytes) = self.bytes(name) else { return Ok(None) };
        std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| Problem::bad_request("BAD_QUERY", format!("{name} is not UTF-8")))
    }

    /// All values of one name as text, in their order.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, Problem> {
        let values = self.values.iter().filter(|(key, _)| key == name.as_bytes());
        values
            .map(|(_, value)| {
                String::from_utf8(value.clone()).map_err(|_| Problem::bad_request("BAD_QUERY", format!("{name} is not UTF-8")))
            })
            .collect()
    }

    /// A value as a key: the bytes as they are, or what follows `base64:` decoded.
    pub fn key(&self, name: &str) -> Result<Option<Vec<u8>>, Problem> {
        let Some(bytes) = self.bytes(name) else { return Ok(None) };
        let Some(encoded) = bytes.strip_prefix(BASE64_MARK.as_bytes()) else {
            return Ok(Some(bytes.to_vec()));
        };
        for alphabet in [&URL_SAFE_NO_PAD, &URL_SAFE, &STANDARD, &STANDARD_NO_PAD] {
            if let Ok(key) = alphabet.decode(encoded) {
                return Ok(Some(key));
            }
        }
        Err(bad_key(format!("{name}: what follows `base64:` is not base64")))
    }

    /// The names given.
    pub fn names(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.values.iter().map(|(name, _)| String::from_utf8_lossy(name))
    }
}

/// A key as `start=` reads it back: the text itself where that is unambiguous, else `base64:…` (URL-safe). Any bytes survive the round.
pub fn cursor(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.starts_with(BASE64_MARK) => text.to_owned(),
        _ => format!("{BASE64_MARK}{}", URL_SAFE_NO_PAD.encode(key)),
    }
}

fn bad_key(message: impl Into<String>) -> Problem {
    Problem::bad_request("BAD_KEY", message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn key(raw: &str) -> Vec<u8> {
        parse_path(&format!("/kv/b/{raw}")).unwrap().key.unwrap()
    }

    #[test]
    fn keys_of_any_bytes() {
        assert_eq!(key("%00%ff%2Fa%20b"), b"\x00\xff/a b");
        assert_eq!(key("a/b//c/"), b"a/b//c/");
        assert_eq!(key("a+b%2Bc"), b"a+b+c");
        assert_eq!(key("user:1;x=y"), b"user:1;x=y");
        assert_eq!(key("%0A"), b"\n");
        assert_eq!(key("%25ff"), b"%ff");
        for byte in 0..=255u8 {
            assert_eq!(key(&format!("%{byte:02x}")), [byte]);
        }
    }

    #[test]
    fn buckets() {
        assert_eq!(
            parse_path("/kv/cache").unwrap(),
            Target {
                bucket: "cache".into(),
                key: None
            }
        );
        assert_eq!(parse_path("/kv/a%2Fb/k").unwrap().bucket, "a/b");
        for raw in ["/kv/", "/kv//k", "/kv/%ff/k", "/kv/b/", "/kv/b/%", "/kv/b/%4", "/kv/b/%zz", "/kvx"] {
            assert_eq!(parse_path(raw).unwrap_err().status.as_u16(), 400, "{raw}");
        }
        assert_eq!(
            parse_path(&format!("/kv/b/{}", "x".repeat(MAX_KEY_BYTES + 1)))
                .unwrap_err()
                .status
                .as_u16(),
            414
        );
    }

    #[test]
    fn query_values() {
        let query = parse_query(Some("prefix=user%3A&limit=5&start=a+b%2B&flag")).unwrap();
        assert_eq!(query.bytes("prefix"), Some(&b"user:"[..]));
        assert_eq!(query.text("limit").unwrap(), Some("5"));
        assert_eq!(query.key("start").unwrap().unwrap(), b"a b+");
        assert_eq!(query.bytes("flag"), Some(&b""[..]));
        assert!(query.bytes("end").is_none());
        assert!(parse_query(Some("a=%f")).is_err());
        assert!(parse_query(Some("start=base64:!")).unwrap().key("start").is_err());
    }

    #[test]
    fn cursors_come_back_as_the_same_key() {
        for key in [
            &b"user:1"[..],
            b"\x00\xff/a b",
            b"base64:abc",
            b"a+b&c=d%20",
            b"\xff\xfe\xfd\xfc",
            "é".as_bytes(),
        ] {
            let encoded: String = percent_encoding::utf8_percent_encode(&cursor(key), percent_encoding::NON_ALPHANUMERIC).to_string();
            let query = parse_query(Some(&format!("start={encoded}"))).unwrap();
            assert_eq!(query.key("start").unwrap().unwrap(), key);
        }
    }
}
