//! What can go wrong, as seen from a client: a coarse kind to act on, the server's SQLSTATE, the message for people.

use std::error::Error as StdError;

use arrow::error::ArrowError;
use arrow_flight::error::FlightError;
use tonic::{Code, Status};

/// The result of a call of this crate.
pub type Result<T, E = ClientError> = std::result::Result<T, E>;

/// Coarse kinds of errors. Match on these; show [`ClientError`]'s `Display` to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No server could be reached. Nothing was sent, so the call has had no effect.
    Connection,
    /// The client was used wrongly: a bad address, mixed parameters, an empty table.
    Usage,
    /// The statement or its parameters are wrong (syntax, names, types, values out of range).
    InvalidInput,
    /// A collection, statement or other object is not there.
    NotFound,
    /// An object of that name exists.
    AlreadyExists,
    /// A constraint (primary key, `NOT NULL`, `CHECK`) refused the rows.
    Constraint,
    /// Somebody else changed the same rows: the transaction was undone and can be tried again.
    Conflict,
    /// A precondition did not hold.
    PreconditionFailed,
    /// Memory, disk or a queue of the server is full.
    ResourceExhausted,
    /// The server cannot serve now, or went away in the middle of the call: a write may or may not have happened.
    Unavailable,
    /// The call was cancelled.
    Cancelled,
    /// The time limit passed.
    DeadlineExceeded,
    /// The server or this build of the client does not support it.
    Unsupported,
    /// A file of the server is damaged.
    Corruption,
    /// Who you are is not known.
    Unauthenticated,
    /// You may not do this.
    PermissionDenied,
    /// The server answered with something that is not Flight SQL.
    Protocol,
    /// A defect of the server.
    Internal,
}

/// An error of a call to the database.
///
/// `Display` gives the server's own message, which ends with its stable code in brackets, such as
/// `column "blance" does not exist. Hint: did you mean "balance"? [42703]`.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ClientError {
    kind: ErrorKind,
    code: Option<String>,
    message: String,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl ClientError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        ClientError {
            kind,
            code: sqlstate(&message).map(str::to_owned),
            message,
            source: None,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Protocol, message)
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The coarse kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The server's SQLSTATE (five characters, such as `42P01`), if it gave one.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The whole message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether doing the same again can succeed: nothing was reached, the server was busy, or a conflict undid the transaction.
    ///
    /// After [`ErrorKind::Unavailable`] a write may have happened: repeat it only if it is idempotent.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Connection | ErrorKind::Unavailable | ErrorKind::Conflict)
    }
}

/// The SQLSTATE in brackets at the end of a message: `… [42P01]`.
fn sqlstate(message: &str) -> Option<&str> {
    let rest = message.trim_end().strip_suffix(']')?;
    let open = rest.rfind('[')?;
    let code = &rest[open + 1..];
    let well_formed = code.len() == 5 && code.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
    well_formed.then_some(code)
}

/// The kind that an SQLSTATE tells more exactly than the gRPC status does.
fn kind_of_sqlstate(code: &str) -> Option<ErrorKind> {
    match code {
        "57014" => Some(ErrorKind::Cancelled),
        // Of class 40, but nothing says that the transaction was undone.
        "40003" => Some(ErrorKind::Unavailable),
        "XX001" | "XX002" => Some(ErrorKind::Corruption),
        _ => match &code[..2] {
            "23" => Some(ErrorKind::Constraint),
            "40" => Some(ErrorKind::Conflict),
            "53" | "54" => Some(ErrorKind::ResourceExhausted),
            "0A" => Some(ErrorKind::Unsupported),
            _ => None,
        },
    }
}

/// The kind of a gRPC status code.
fn kind_of_status(code: Code) -> ErrorKind {
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidInput,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::FailedPrecondition => ErrorKind::PreconditionFailed,
        Code::Aborted => ErrorKind::Conflict,
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::Cancelled => ErrorKind::Cancelled,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::DataLoss => ErrorKind::Corruption,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::Ok | Code::Unknown | Code::Internal => ErrorKind::Internal,
    }
}

/// Whether an error of this type is among the causes of a status that was made on this side.
fn caused_by<E: StdError + 'static>(status: &Status) -> bool {
    std::iter::successors(status.source(), |error| (*error).source()).any(|error| error.is::<E>())
}

/// Whether the status was made here because the connection broke, and not sent by the server.
fn connection_broke(status: &Status) -> bool {
    status.source().is_some() && matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled)
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let message = match status.message() {
            "" => status.code().description().to_owned(),
            text => text.to_owned(),
        };
        let mut error = ClientError::new(kind_of_status(status.code()), message);
        if caused_by::<tonic::ConnectError>(&status) {
            // No connection was made, so nothing was sent.
            error.kind = ErrorKind::Connection;
        } else if caused_by::<tonic::TimeoutExpired>(&status) {
            error.kind = ErrorKind::DeadlineExceeded;
        } else if connection_broke(&status) {
            error.kind = ErrorKind::Unavailable;
        } else if let Some(kind) = error.code.as_deref().and_then(kind_of_sqlstate) {
            error.kind = kind;
        }
        error.with_source(status)
    }
}

impl From<FlightError> for ClientError {
    fn from(error: FlightError) -> Self {
        match error {
            FlightError::Tonic(status) => (*status).into(),
            FlightError::ExternalError(inner) => match inner.downcast::<ClientError>() {
                Ok(own) => *own,
                Err(other) => ClientError::usage(other.to_string()).with_source(other),
            },
            other => ClientError::protocol(other.to_string()).with_source(other),
        }
    }
}

impl From<ArrowError> for ClientError {
    fn from(error: ArrowError) -> Self {
        ClientError::protocol(format!("the server's answer is not Arrow: {error}")).with_source(error)
    }
}

/// For configurations that cannot be wrong, in [`Client::connect`](crate::Client::connect).
impl From<std::convert::Infallible> for ClientError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl From<prost::DecodeError> for ClientError {
    fn from(error: prost::DecodeError) -> Self {
        ClientError::protocol(format!("the server's answer is not Flight SQL: {error}")).with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_last_bracket() {
        assert_eq!(sqlstate("table \"t\" does not exist [42P01]"), Some("42P01"));
        assert_eq!(sqlstate("array [1] is short [22003] "), Some("22003"));
        assert_eq!(sqlstate("value [12345] is odd"), None);
        assert_eq!(sqlstate("list is [1, 2]"), None);
        assert_eq!(sqlstate("[abcde]"), None);
        assert_eq!(sqlstate("é]"), None);
        assert_eq!(sqlstate(""), None);
    }

    #[test]
    fn the_sqlstate_refines_the_status() {
        let cases = [
            (Code::AlreadyExists, "duplicate key (1) [23505]", ErrorKind::Constraint),
            (Code::AlreadyExists, "table exists [42P07]", ErrorKind::AlreadyExists),
            (Code::Aborted, "somebody else changed row 1 [40001]", ErrorKind::Conflict),
            (Code::InvalidArgument, "no such column [42703]", ErrorKind::InvalidInput),
            (Code::Internal, "MERGE is not supported [0A000]", ErrorKind::Unsupported),
            (Code::Internal, "oops", ErrorKind::Internal),
            (Code::ResourceExhausted, "memory [53200]", ErrorKind::ResourceExhausted),
        ];
        for (code, text, kind) in cases {
            let error = ClientError::from(Status::new(code, text));
            assert_eq!(error.kind(), kind, "{text}");
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn an_empty_status_still_says_something() {
        assert!(!ClientError::from(Status::new(Code::Unavailable, "")).to_string().is_empty());
    }

    #[test]
    fn retryable_are_conflicts_and_absent_servers_only() {
        assert!(ClientError::from(Status::aborted("[40001]")).is_retryable());
        assert!(ClientError::from(Status::unavailable("later")).is_retryable());
        assert!(!ClientError::from(Status::invalid_argument("no [42601]")).is_retryable());
        assert!(!ClientError::from(Status::already_exists("dup [23505]")).is_retryable());
    }
}
