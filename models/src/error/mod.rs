//! The one error that callers see: a coarse kind for each wire's own status, a stable SQLSTATE code, a place, a hint.

mod convert;
mod suggestion;
mod travelled;

use std::fmt;

pub use suggestion::nearest;

/// The result of a call to the database.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Coarse kinds; each wire maps them to its own status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The statement or its parameters are wrong (syntax, names, types, values out of range).
    InvalidInput,
    /// A collection, key or other object is not there.
    NotFound,
    /// An object of that name exists.
    AlreadyExists,
    /// A constraint refused the rows.
    Constraint,
    /// Somebody else changed the same rows: retry the transaction.
    Conflict,
    /// A precondition (compare-and-set) did not hold.
    PreconditionFailed,
    /// Memory, disk or a queue is full.
    ResourceExhausted,
    /// The node or group cannot serve now.
    Unavailable,
    /// The caller cancelled.
    Cancelled,
    /// The time limit passed.
    DeadlineExceeded,
    /// Not supported by this version.
    Unsupported,
    /// A file is damaged.
    Corruption,
    /// A defect of the database.
    Internal,
}

/// A place in the statement's text, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
}

/// An error of the database.
#[derive(Debug, Clone)]
pub struct Error {
    /// Coarse kind.
    pub kind: ErrorKind,
    /// Stable code: an SQLSTATE, such as `42P01`.
    pub code: &'static str,
    /// What was wrong.
    pub message: String,
    /// Where in the statement.
    pub position: Option<Position>,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(p) = self.position {
            write!(f, " (line {}, column {})", p.line, p.column)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, ". Hint: {hint}")?;
        }
        write!(f, " [{}]", self.code)
    }
}

impl std::error::Error for Error {}

impl Error {
    /// An error without place or hint.
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        Error {
            kind,
            code,
            message: message.into(),
            position: None,
            hint: None,
        }
    }

    /// With its position said in words: it is one in a text within the statement, not in the statement.
    pub(crate) fn of_inner_text(self, text: &str) -> Self {
        match self.position {
            Some(place) => Error {
                message: format!("line {}, column {} of the {text}: {}", place.line, place.column, self.message),
                position: None,
                ..self
            },
            None => self,
        }
    }

    /// The same error at a place.
    pub fn at(mut self, line: u64, column: u64) -> Self {
        self.position = Some(Position { line, column });
        self
    }

    /// A statement that this version cannot run.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Unsupported, "0A000", message)
    }

    /// A wrong statement, with its SQLSTATE.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidInput, code, message)
    }

    /// A defect: something that should not happen did.
    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Internal, "XX000", message)
    }

    /// The same error with a hint.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
