//! Errors of the database as gRPC statuses: the code says what a client may do, the message is the error's own text.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use pyralog_models::{Error, ErrorKind};
use tonic::{Code, Status};

/// Clients cap a status' headers, often at 8 KiB; percent-encoding can triple the text.
const MAX_MESSAGE_BYTES: usize = 2048;

/// The status of an error of the database. The SQLSTATE is also in the trailer `x-pyralog-sqlstate`.
pub fn from_error(error: &Error) -> Status {
    let mut status = Status::new(code(error), shortened(error.to_string()));
    if let Ok(value) = error.code.parse() {
        status.metadata_mut().insert("x-pyralog-sqlstate", value);
    }
    status
}

/// The gRPC code of an error.
fn code(error: &Error) -> Code {
    match error.kind {
        ErrorKind::InvalidInput => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::Constraint => match error.code {
            "23505" => Code::AlreadyExists,
            "23503" => Code::FailedPrecondition,
            _ => Code::InvalidArgument,
        },
        ErrorKind::Conflict => Code::Aborted,
        ErrorKind::PreconditionFailed => Code::FailedPrecondition,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::Corruption => Code::DataLoss,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The status of an error inside a result stream.
pub fn from_stream(error: &DataFusionError) -> Status {
    from_error(&crate::error::from_stream(error))
}

/// The status of an Arrow error while a response is built: not the caller's fault.
pub fn from_arrow(error: ArrowError) -> Status {
    Status::internal(shortened(format!("cannot encode the result: {error}")))
}

/// A caller's mistake.
pub fn invalid(message: impl Into<String>) -> Status {
    Status::invalid_argument(shortened(message.into()))
}

/// `text`, cut at a character's edge if it is too long for a header.
fn shortened(mut text: String) -> String {
    if text.len() > MAX_MESSAGE_BYTES {
        let mut end = MAX_MESSAGE_BYTES;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_their_codes() {
        let cases = [
            (ErrorKind::InvalidInput, "42601", Code::InvalidArgument),
            (ErrorKind::Constraint, "23505", Code::AlreadyExists),
            (ErrorKind::Constraint, "23502", Code::InvalidArgument),
            (ErrorKind::Constraint, "23503", Code::FailedPrecondition),
            (ErrorKind::Conflict, "40001", Code::Aborted),
            (ErrorKind::Unsupported, "0A000", Code::Unimplemented),
            (ErrorKind::Corruption, "XX001", Code::DataLoss),
        ];
        for (kind, sqlstate, want) in cases {
            let status = from_error(&Error::new(kind, sqlstate, "m").with_hint("h"));
            assert_eq!(status.code(), want);
            assert_eq!(status.message(), format!("m. Hint: h [{sqlstate}]"));
            assert_eq!(
                status.metadata().get("x-pyralog-sqlstate").map(|v| v.as_bytes()),
                Some(sqlstate.as_bytes())
            );
        }
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let text = shortened("é".repeat(5000));
        assert!(text.len() <= MAX_MESSAGE_BYTES + '…'.len_utf8());
        assert!(text.ends_with('…'));
        assert_eq!(shortened("short".into()), "short");
    }
}
