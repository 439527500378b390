//! Requests: each URL is checked, also those that redirects lead to.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Request, StatusCode};
use pyralog_models::rdf::not_allowed;
use pyralog_models::{Error, ErrorKind};
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsConnector;
use url::{Position, Url};

use super::allow::Allowed;
use super::body::{self, Body};
use super::connection;

/// Redirects that one request follows.
const MAX_REDIRECTS: usize = 5;
/// Bytes that are shown of an answer that says what is wrong.
const SHOWN: u64 = 200;
const USER_AGENT: &str = concat!("pyralog/", env!("CARGO_PKG_VERSION"));

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The media types that can be read.
    pub accept: &'static str,
    /// The form to send by POST; `None`: a GET.
    pub form: Option<String>,
}

/// A successful answer.
pub struct Answer {
    /// Where it came from, after redirects.
    pub url: Url,
    /// Its media type, in lower case, without parameters; empty where it has none.
    pub media: String,
    /// Its bytes as they come.
    pub body: Body,
}

/// Sends requests to what is allowed.
pub struct Client {
    allowed: Allowed,
    max_bytes: u64,
    tls: TlsConnector,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("allowed", &self.allowed).finish_non_exhaustive()
    }
}

impl Client {
    /// Of answers of at most so many bytes.
    pub fn new(allowed: Allowed, max_bytes: u64) -> Result<Client, String> {
        Ok(Client {
            allowed,
            max_bytes,
            tls: connection::tls()?,
        })
    }

    /// Asks, and follows redirects to what is allowed too.
    pub async fn send(&self, iri: &str, mut ask: Ask) -> Result<Answer, Error> {
        let mut url =
            Url::parse(iri).map_err(|error| Error::new(ErrorKind::InvalidInput, "22000", format!("<{iri}> is no URL: {error}")))?;
        for _ in 0..=MAX_REDIRECTS {
            if !matches!(url.scheme(), "http" | "https") {
                return Err(Error::unsupported(format!("<{url}> cannot be fetched: only http and https can")));
            }
            if !self.allowed.allows(&url) {
                return Err(not_allowed(url.as_str()));
            }
            let (response, driver) = connection::exchange(&url, &self.tls, request(&url, &ask)?).await?;
            let status = response.status();
            let text = |name: HeaderName| text_of(response.headers(), &name);
            if let Some(to) = text(header::LOCATION).filter(|_| is_redirect(status)) {
                let next = url.join(&to);
                let next = next.map_err(|error| answered(&url, &format!("leads to {to}, which is no URL: {error}")))?;
                if status == StatusCode::SEE_OTHER {
                    ask.form = None;
                }
                url = next;
                continue;
            }
            let media = text(header::CONTENT_TYPE).unwrap_or_default();
            let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            let is_zipped = match text(header::CONTENT_ENCODING).unwrap_or_default().to_ascii_lowercase().as_str() {
                "" | "identity" => false,
                "gzip" | "x-gzip" => true,
                other => return Err(answered(&url, &format!("has the encoding {other}, which was not asked for"))),
            };
            let body = Body::new(response.into_body(), driver, &url, is_zipped, self.max_bytes);
            if !status.is_success() {
                return Err(refused(&url, status, body).await);
            }
            return Ok(Answer { url, media, body });
        }
        Err(answered(&url, &format!("is the end of {MAX_REDIRECTS} redirects, and leads on")))
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn request(url: &Url, ask: &Ask) -> Result<Request<Full<Bytes>>, Error> {
    let mut request = Request::builder()
        .uri(&url[Position::BeforePath..Position::AfterQuery])
        .header(header::HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, ask.accept)
        .header(header::ACCEPT_ENCODING, "gzip")
        .header(header::CONNECTION, "close");
    let body = match &ask.form {
        None => Bytes::new(),
        Some(form) => {
            request = request
                .method(Method::POST)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            Bytes::from(form.clone())
        }
    };
    let problem = |error| Error::new(ErrorKind::InvalidInput, "22000", format!("<{url}> cannot be asked: {error}"));
    request.body(Full::new(body)).map_err(problem)
}

fn text_of(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_owned())
}

/// The error of an answer that is of no use.
pub fn answered(url: &Url, problem: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "HV000", format!("<{url}> {problem}"))
}

/// The error of an answer with a status that says so, with the beginning of its text.
async fn refused(url: &Url, status: StatusCode, body: Body) -> Error {
    let mut text = Vec::new();
    // Where the text breaks off, its beginning will do.
    let _ = body.reader().take(SHOWN).read_to_end(&mut text).await;
    let text = String::from_utf8_lossy(&text).trim().replace(['\r', '\n'], " ");
    let text = if text.is_empty() { text } else { format!(": {text}") };
    answered(url, &format!("answers {status}{text}"))
}

/// The error behind one of reading an answer.
pub fn of_reading(url: &Url, error: std::io::Error) -> Error {
    body::own_error(error).unwrap_or_else(|error| answered(url, &format!("cannot be read: {error}")))
}
