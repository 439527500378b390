//! Web pages of other origins (Cross-Origin Resource Sharing): none may use this wire unless the configuration names its origin.

use actix_cors::Cors;
use actix_web::http::header::{self, HeaderName};
use oxiri::Iri;

/// Seconds for which a browser need not ask again.
const MAX_AGE: usize = 3600;
/// What a page may read of an answer beside its body.
const EXPOSED: [HeaderName; 2] = [header::ETAG, header::LOCATION];

/// Reads the setting: `*`, or origins such as `https://example.org`, with commas.
pub fn origins(text: &str) -> Result<Vec<String>, String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let is_origin = |iri: Iri<&str>| matches!(iri.scheme(), "http" | "https") && iri.authority().is_some() && iri.path().is_empty();
            match name == "*" || Iri::parse(name).is_ok_and(is_origin) {
                true => Ok(name.to_owned()),
                false => Err(format!(
                    "cors-origins: `{name}` is no origin: give one such as https://example.org, without a path, or *"
                )),
            }
        })
        .collect()
}

/// Lets pages of these origins in. Cookies are of no use here and so not allowed.
pub fn allow(origins: &[String]) -> Cors {
    let all = origins.iter().any(|origin| origin == "*");
    let cors = Cors::default()
        .allow_any_method()
        .allow_any_header()
        .expose_headers(EXPOSED)
        .max_age(MAX_AGE);
    match all {
        true => cors.allow_any_origin().send_wildcard(),
        false => origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_no_path() {
        assert_eq!(origins("").unwrap(), Vec::<String>::new());
        assert_eq!(origins(" *").unwrap(), ["*"]);
        assert_eq!(
            origins("https://example.org, http://localhost:3000").unwrap(),
            ["https://example.org", "http://localhost:3000"]
        );
        for wrong in ["https://example.org/", "example.org", "ftp://example.org", "https://example.org/a"] {
            assert!(origins(wrong).unwrap_err().contains(wrong));
        }
    }
}
