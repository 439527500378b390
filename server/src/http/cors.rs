//! Web pages of other origins (Cross-Origin Resource Sharing): none may use this wire unless the configuration names its origin.

use actix_cors::Cors;
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName};
use actix_web::middleware::Next;
use oxiri::Iri;

use super::State;
use super::error::Problem;

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

/// Refuses what pages of other origins send to change something. Browsers hide the answer from such a page, but carry forms and plain text to
/// anybody without asking first.
pub async fn refuse_strangers(request: ServiceRequest, next: Next<impl MessageBody>) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let origin = request.headers().get(header::ORIGIN);
    if let (Some(origin), false) = (origin, request.method().is_safe()) {
        let allowed = request.app_data::<State>().map(|state| state.options.cors_origins.as_slice());
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let origin = origin.to_str().unwrap_or_default();
        if !is_welcome(origin, host, allowed.unwrap_or_default()) {
            let message = format!("pages of {origin:?} may not use this server");
            let problem = Problem::new(StatusCode::FORBIDDEN, "BAD_ORIGIN", message);
            return Err(problem.with_hint("name the origin in cors-origins").into());
        }
    }
    next.call(request).await
}

/// Whether a page is the server's own, or of an origin that is let in.
fn is_welcome(origin: &str, host: Option<&str>, allowed: &[String]) -> bool {
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    let is_own = authority.is_some_and(|authority| host.is_some_and(|host| host.eq_ignore_ascii_case(authority)));
    is_own || allowed.iter().any(|name| name == "*" || name == origin)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_others_are_no_guests() {
        let allowed = ["https://example.org".to_owned()];
        let welcome = |origin| is_welcome(origin, Some("127.0.0.1:8080"), &allowed);
        assert!(welcome("http://127.0.0.1:8080") && welcome("https://example.org"));
        for stranger in [
            "null",
            "http://127.0.0.1",
            "http://127.0.0.1:8081",
            "http://example.org",
            "https://example.org.evil",
            "",
        ] {
            assert!(!welcome(stranger), "{stranger}");
        }
        assert!(is_welcome("https://any", None, &["*".to_owned()]));
    }

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
