//! Addresses as people write them: `grpc://[user:password@]host[:port]` and `grpc+tls://…`, several with commas between.

use percent_encoding::percent_decode_str;

use crate::error::{ClientError, Result};

/// The port of an address that names none.
pub const DEFAULT_PORT: u16 = 50051;

/// One server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// `host:port`, IPv6 hosts in brackets.
    pub authority: String,
}

impl Address {
    /// The address as the transport wants it.
    pub fn uri(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

/// A user's name and password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Name.
    pub user: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Reads one or more addresses with commas between. The credentials are the first ones found.
pub(crate) fn parse(text: &str) -> Result<(Vec<Address>, Option<Credentials>)> {
    let mut addresses = Vec::new();
    let mut credentials = None;
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (address, own) = parse_one(part)?;
        addresses.push(address);
        credentials = credentials.or(own);
    }
    if addresses.is_empty() {
        return Err(ClientError::usage("no address given; write grpc://HOST:PORT"));
    }
    Ok((addresses, credentials))
}

fn parse_one(text: &str) -> Result<(Address, Option<Credentials>)> {
    let wrong = |why: &str| {
        ClientError::usage(format!(
            "address \"{}\": {why}; write grpc://HOST:PORT or grpc+tls://HOST:PORT",
            redacted(text)
        ))
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("the scheme is missing"))?;
    let tls = match scheme {
        "grpc" | "grpc+tcp" => false,
        "grpc+tls" => true,
        _ => return Err(wrong("the scheme is not known")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (credentials, host) = match rest.rsplit_once('@') {
        None => (None, rest),
        Some((login, host)) => {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            let decode = |s: &str| {
                percent_decode_str(s)
                    .decode_utf8()
                    .map(|s| s.into_owned())
                    .map_err(|_| wrong("the login is not UTF-8"))
            };
            (
                Some(Credentials {
                    user: decode(user)?,
                    password: decode(password)?,
                }),
                host,
            )
        }
    };
    if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
        return Err(wrong("the host is not a host"));
    }
    let after_bracket = host.rfind(']').map_or(host, |end| &host[end..]);
    let authority = match after_bracket.rsplit_once(':') {
        None => format!("{host}:{DEFAULT_PORT}"),
        Some((_, port)) => {
            port.parse::<u16>().map_err(|_| wrong("the port is not a number from 0 to 65535"))?;
            host.to_owned()
        }
    };
    Ok((Address { tls, authority }, credentials))
}

/// The address without a password, for messages.
fn redacted(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn authorities(text: &str) -> Vec<String> {
        parse(text).expect(text).0.iter().map(Address::uri).collect()
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(authorities("grpc://127.0.0.1:50051"), ["http://127.0.0.1:50051"]);
        assert_eq!(authorities("grpc+tls://db.example.org/"), ["https://db.example.org:50051"]);
        assert_eq!(
            authorities("grpc://[::1]:1, grpc://[::1]"),
            ["http://[::1]:1", "http://[::1]:50051"]
        );
    }

    #[test]
    fn a_login_is_decoded() {
        let (addresses, login) = parse("grpc://ann:p%40ss@h:1").expect("address");
        assert_eq!(addresses[0].authority, "h:1");
        assert_eq!(
            login,
            Some(Credentials {
                user: "ann".into(),
                password: "p@ss".into()
            })
        );
    }

    #[test]
    fn wrong_addresses_say_so_and_keep_the_password() {
        for text in [
            "",
            "127.0.0.1:50051",
            "http://h:1",
            "grpc://",
            "grpc://h:99999",
            "grpc://h:x",
            "grpc://a b:1",
            "grpc://h:1/x",
        ] {
            assert_eq!(parse(text).expect_err(text).kind(), crate::ErrorKind::Usage, "{text}");
        }
        assert!(!parse("http://ann:secret@h:1").expect_err("scheme").to_string().contains("secret"));
    }
}
