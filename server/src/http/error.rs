//! Errors on the HTTP wire: one body for people (`error`), the same as RFC 9457 problem details for programs.

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use pyralog_models::{Error, ErrorKind, Position};
use serde_json::{Value, json};

/// An answer that says what was wrong.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Status of the response.
    pub status: StatusCode,
    /// Stable code: an SQLSTATE where the database refused, a name where the wire did.
    pub code: Cow<'static, str>,
    /// What was wrong.
    pub message: String,
    /// Where in the statement.
    pub position: Option<Position>,
    /// What to do.
    pub hint: Option<String>,
}

/// Longest message that is sent, in bytes: some quote what a client sent, which may be long.
const MAX_MESSAGE_BYTES: usize = 4096;

impl Problem {
    /// A problem that the wire itself found.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Problem {
            status,
            code: Cow::Borrowed(code),
            message: shortened(message.into()),
            position: None,
            hint: None,
        }
    }

    /// A request that cannot be understood.
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// The same problem with a hint.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The `error` member: code, message, position, hint.
    pub fn error_member(&self) -> Value {
        let position = self.position.map(|place| json!({"line": place.line, "column": place.column}));
        json!({"code": self.code, "message": self.message, "position": position, "hint": self.hint})
    }

    fn body(&self) -> Value {
        json!({
            "type": format!("urn:pyralog:error:{}", self.code),
            "title": self.status.canonical_reason().unwrap_or("Client Closed Request"),
            "status": self.status.as_u16(),
            "detail": self.message,
            "error": self.error_member(),
        })
    }
}

/// The HTTP status of an error's kind.
pub fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists | ErrorKind::Constraint | ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        ErrorKind::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        // 499: nobody listens any more; the status is for logs and metrics.
        ErrorKind::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT),
        ErrorKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Corruption | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        if matches!(error.kind, ErrorKind::Internal | ErrorKind::Corruption) {
            tracing::error!(code = error.code, "{}", error.message);
        }
        Problem {
            status: status_of(error.kind),
            code: Cow::Borrowed(error.code),
            message: shortened(error.message),
            position: error.position,
            hint: error.hint,
        }
    }
}

/// Cut at a character's edge.
fn shortened(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        message.push('…');
    }
    message
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.insert_header((RETRY_AFTER, "1"));
        }
        response.body(self.body().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_both_forms() {
        let mut error = Error::new(ErrorKind::InvalidInput, "42601", "unexpected FORM").with_hint("did you mean FROM?");
        error.position = Some(Position { line: 1, column: 10 });
        let problem = Problem::from(error);
        let body = problem.body();
        assert_eq!(problem.status, StatusCode::BAD_REQUEST);
        assert_eq!(body["error"]["code"], "42601");
        assert_eq!(body["error"]["position"], json!({"line": 1, "column": 10}));
        assert_eq!(body["error"]["hint"], "did you mean FROM?");
        assert_eq!((&body["status"], &body["detail"]), (&json!(400), &json!("unexpected FORM")));
        assert_eq!(body["type"], "urn:pyralog:error:42601");
    }

    #[test]
    fn what_is_quoted_is_cut() {
        let long = Problem::bad_request("BAD_GRAPH", "é".repeat(1 << 20));
        assert!(long.message.len() < 5000 && long.message.ends_with("é…"));
        assert_eq!(Problem::from(Error::invalid("22000", "x".repeat(1 << 20))).message.len(), 4096 + 3);
    }

    #[test]
    fn kinds_have_their_status() {
        assert_eq!(status_of(ErrorKind::PreconditionFailed).as_u16(), 412);
        assert_eq!(status_of(ErrorKind::Cancelled).as_u16(), 499);
        assert_eq!(status_of(ErrorKind::DeadlineExceeded).as_u16(), 504);
        assert_eq!(status_of(ErrorKind::Unsupported).as_u16(), 501);
    }
}
