//! `POST /sql`: statements as text or as `{"query", "params"}`.
//!
//! Several statements separated by `;` run in order and the last one's result is the answer, so that `BEGIN; …; COMMIT` fits one request.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, CONTENT_TYPE};
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use pyralog_models::{Parameters, Session};
use serde::Deserialize;
use serde_json::Value;
use tokio_stream::wrappers::ReceiverStream;

use super::accept::Form;
use super::error::Problem;
use super::key::{Query, parse_query};
use super::statement::{self, Work};
use super::{State, body, parameters};

/// The header that limits a statement's time, in milliseconds.
const TIMEOUT_HEADER: &str = "X-Pyralog-Timeout-Ms";

/// The JSON form of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlRequest {
    query: String,
    #[serde(default)]
    params: Value,
}

/// Runs statements and streams the last one's result.
pub async fn sql(request: HttpRequest, payload: web::Payload, state: State) -> Result<HttpResponse, Problem> {
    let form = Form::negotiate(request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()))?;
    let limit = time_limit(&request)?.or(state.options.statement_timeout);
    let body = body::read(&request, payload, &state.options).await?;
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let (query, parameters) = read(content_type, &body)?;
    let statements = Session::split(&query)?;
    if statements.len() > 1 && !matches!(parameters, Parameters::None) {
        return Err(Problem::bad_request(
            "42601",
            "parameters go with one statement, and the query has several",
        ));
    }
    let work = Work {
        statements,
        parameters,
        form,
        limit,
        name: super::request_name(&request)?,
    };
    let (head, chunks) = statement::start(&state.runtime, state.database.session(), work).await?;
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, form.content_type()))
        .insert_header(("X-Pyralog-Tag", head.tag));
    if let Some(affected) = head.affected {
        response.insert_header(("X-Pyralog-Affected", affected.to_string()));
    }
    Ok(response.streaming(ReceiverStream::new(chunks)))
}

/// The statement text and parameters of a body.
fn read(content_type: Option<&str>, body: &Bytes) -> Result<(String, Parameters), Problem> {
    let media = content_type
        .unwrap_or("")
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    let json = match media.as_str() {
        "application/json" => true,
        "text/plain" | "application/sql" => false,
        // Without a type (or with that of a plain form post, curl's default) the text itself decides.
        "" | "application/x-www-form-urlencoded" | "application/octet-stream" => body.trim_ascii_start().starts_with(b"{"),
        other => {
            let message = format!("cannot read {other}");
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "BAD_CONTENT_TYPE", message)
                .with_hint("send application/json with {\"query\", \"params\"}, or text/plain"));
        }
    };
    if json {
        let request: SqlRequest = serde_json::from_slice(body)
            .map_err(|error| Problem::bad_request("BAD_JSON", format!("the body is not {{\"query\", \"params\"}}: {error}")))?;
        return Ok((request.query, parameters::from_json(&request.params)?));
    }
    let text = std::str::from_utf8(body).map_err(|error| Problem::bad_request("BAD_TEXT", format!("the body is not UTF-8: {error}")))?;
    Ok((text.to_owned(), Parameters::None))
}

/// The time limit that the request names: the header in milliseconds, or `?timeout=` in seconds (`0.5`, `500ms`).
pub fn time_limit(request: &HttpRequest) -> Result<Option<Duration>, Problem> {
    let query = parse_query(request.uri().query())?;
    limit_of(
        request.headers().get(TIMEOUT_HEADER).map(|value| value.to_str().unwrap_or("?")),
        &query,
    )
}

fn limit_of(header: Option<&str>, query: &Query) -> Result<Option<Duration>, Problem> {
    if let Some(header) = header {
        let millis: u64 = header
            .trim()
            .parse()
            .map_err(|_| Problem::bad_request("BAD_TIMEOUT", format!("{TIMEOUT_HEADER}: not a number")))?;
        return Ok((millis > 0).then(|| Duration::from_millis(millis)));
    }
    let Some(text) = query.text("timeout")? else { return Ok(None) };
    let limit =
        crate::config::size::parse_duration(text).map_err(|problem| Problem::bad_request("BAD_TIMEOUT", format!("timeout: {problem}")))?;
    Ok((!limit.is_zero()).then_some(limit))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_all_types() {
        let json = Bytes::from_static(b"{\"query\": \"SELECT $1\", \"params\": [1]}");
        for content_type in [
            Some("application/json; charset=utf-8"),
            None,
            Some("application/x-www-form-urlencoded"),
        ] {
            let (query, parameters) = read(content_type, &json).unwrap();
            assert_eq!(query, "SELECT $1");
            assert!(matches!(parameters, Parameters::Positional(values) if values.len() == 1));
        }
        assert_eq!(read(Some("text/plain"), &Bytes::from_static(b"SELECT 1")).unwrap().0, "SELECT 1");
        assert_eq!(read(None, &Bytes::from_static(b"SELECT 1")).unwrap().0, "SELECT 1");
        assert_eq!(read(Some("text/xml"), &json).unwrap_err().status.as_u16(), 415);
    }

    #[test]
    fn wrong_bodies_are_refused() {
        for body in [&b"{\"qery\": \"x\"}"[..], b"{", b"{\"query\": 1}", b"[]"] {
            assert_eq!(
                read(Some("application/json"), &Bytes::from_static(body))
                    .unwrap_err()
                    .status
                    .as_u16(),
                400
            );
        }
        let deep = "[".repeat(100_000);
        assert!(
            read(
                Some("application/json"),
                &Bytes::from(format!("{{\"query\":\"x\",\"params\":{deep}"))
            )
            .is_err()
        );
        assert!(read(Some("text/plain"), &Bytes::from_static(b"\xff")).is_err());
    }

    #[test]
    fn time_limits() {
        let none = parse_query(None).unwrap();
        assert_eq!(limit_of(Some("1500"), &none).unwrap(), Some(Duration::from_millis(1500)));
        assert_eq!(
            limit_of(None, &parse_query(Some("timeout=0.5")).unwrap()).unwrap(),
            Some(Duration::from_millis(500))
        );
        assert_eq!(limit_of(Some("0"), &none).unwrap(), None);
        assert!(limit_of(Some("soon"), &none).is_err());
    }
}
