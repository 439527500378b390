//! Errors of the layers below, as callers see them.

use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use pyralog_consensus::ConsensusError;
use pyralog_storage::StorageError;

use super::{Error, ErrorKind, nearest};

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        let message = error.to_string();
        match error {
            StorageError::Damaged { .. } => Error::new(ErrorKind::Corruption, "XX001", message)
                .with_hint("run `pyralog check` and restore the named file from a backup"),
            StorageError::NewerFormat { .. } => Error::new(ErrorKind::Unsupported, "0A000", message),
            StorageError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Error::new(ErrorKind::ResourceExhausted, "53100", message).with_hint("free disk space; nothing acknowledged is lost")
            }
            StorageError::Io { .. } => Error::new(ErrorKind::Internal, "58030", message),
            StorageError::Poisoned { .. } => Error::new(ErrorKind::Unavailable, "58030", message),
            StorageError::UnknownRelation(_) => {
                Error::new(ErrorKind::Conflict, "40001", message).with_hint("the collection was dropped or replaced meanwhile; retry")
            }
            StorageError::SnapshotTooOld { .. } => Error::new(ErrorKind::InvalidInput, "72000", message),
            StorageError::SchemaMismatch { .. } => {
                Error::new(ErrorKind::Conflict, "40001", message).with_hint("the collection was altered meanwhile; retry")
            }
            StorageError::DuplicateKey { .. } => Error::new(ErrorKind::Constraint, "23505", message),
            StorageError::UnknownSavepoint(_) => Error::new(ErrorKind::InvalidInput, "3B001", message),
            StorageError::TransactionTooLarge { .. } => Error::new(ErrorKind::ResourceExhausted, "53200", message),
            StorageError::InUse { .. } => Error::new(ErrorKind::Unavailable, "55006", message),
            StorageError::Arrow(error) => error.into(),
        }
    }
}

impl From<ConsensusError> for Error {
    fn from(error: ConsensusError) -> Self {
        let message = error.to_string();
        match error {
            ConsensusError::Storage(error) => error.into(),
            ConsensusError::Conflict(_) | ConsensusError::MetaConflict { .. } => {
                Error::new(ErrorKind::Conflict, "40001", message).with_hint("somebody else changed the same data; retry the transaction")
            }
            ConsensusError::Overloaded { .. } => Error::new(ErrorKind::ResourceExhausted, "53300", message),
            ConsensusError::Unknown(_) => {
                Error::new(ErrorKind::Unavailable, "40003", message).with_hint("read before writing again: the write may be there")
            }
            ConsensusError::Unavailable(_) => Error::new(ErrorKind::Unavailable, "57P03", message),
            ConsensusError::DamagedLog { .. } => Error::new(ErrorKind::Corruption, "XX001", message),
            ConsensusError::Unsupported(_) => Error::new(ErrorKind::Unsupported, "0A000", message),
        }
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        match error {
            ArrowError::ExternalError(inner) => from_boxed(inner),
            ArrowError::DivideByZero => Error::invalid("22012", "division by zero"),
            ArrowError::ArithmeticOverflow(message) => Error::invalid("22003", format!("number out of range: {message}")),
            ArrowError::CastError(message) | ArrowError::ParseError(message) => Error::invalid("22P02", message),
            ArrowError::ComputeError(message) => Error::invalid("22000", message),
            ArrowError::InvalidArgumentError(message) => Error::invalid("22023", message),
            ArrowError::NotYetImplemented(message) => Error::unsupported(message),
            ArrowError::MemoryError(message) => Error::new(ErrorKind::ResourceExhausted, "53200", message),
            other => Error::internal(other.to_string()),
        }
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::ArrowError(error, _) => (*error).into(),
            DataFusionError::SQL(error, _) => from_parser(&error),
            DataFusionError::SchemaError(error, _) => from_schema(&error),
            DataFusionError::Plan(message) => from_plan(message),
            DataFusionError::NotImplemented(message) => Error::unsupported(message),
            DataFusionError::Configuration(message) => Error::invalid("22023", message),
            DataFusionError::Execution(message) => from_execution(message),
            DataFusionError::ResourcesExhausted(message) => {
                Error::new(ErrorKind::ResourceExhausted, "53200", message).with_hint("raise --memory-limit, or make the statement smaller")
            }
            DataFusionError::IoError(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                Error::new(ErrorKind::ResourceExhausted, "53100", error.to_string())
            }
            DataFusionError::IoError(error) => Error::new(ErrorKind::InvalidInput, "58030", error.to_string()),
            DataFusionError::ObjectStore(error) => Error::invalid("58P01", error.to_string()),
            DataFusionError::ParquetError(error) => Error::invalid("22000", format!("Parquet: {error}")),
            DataFusionError::External(inner) => from_boxed(inner),
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => (*inner).into(),
            DataFusionError::Collection(mut errors) if !errors.is_empty() => errors.swap_remove(0).into(),
            DataFusionError::Shared(inner) => from_shared(inner),
            other => Error::internal(other.strip_backtrace()),
        }
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

/// Errors that crossed a `Box<dyn Error>`: ours, storage's, or one of the libraries'.
fn from_boxed(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    let error = match error.downcast::<Error>() {
        Ok(ours) => return *ours,
        Err(error) => error,
    };
    let error = match error.downcast::<StorageError>() {
        Ok(storage) => return (*storage).into(),
        Err(error) => error,
    };
    let error = match error.downcast::<DataFusionError>() {
        Ok(datafusion) => return (*datafusion).into(),
        Err(error) => error,
    };
    match error.downcast::<ArrowError>() {
        Ok(arrow) => (*arrow).into(),
        Err(error) => Error::internal(error.to_string()),
    }
}

/// An error that several consumers share (a hash join's build side, say) cannot be taken apart by value.
fn from_shared(error: Arc<DataFusionError>) -> Error {
    match Arc::try_unwrap(error) {
        Ok(error) => error.into(),
        Err(shared) => match shared.as_ref() {
            DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
                Some(ours) => ours.clone(),
                None => Error::internal(shared.strip_backtrace()),
            },
            DataFusionError::ResourcesExhausted(message) => Error::new(ErrorKind::ResourceExhausted, "53200", message.clone()),
            DataFusionError::ArrowError(error, _) => match error.as_ref() {
                ArrowError::DivideByZero => Error::invalid("22012", "division by zero"),
                ArrowError::ArithmeticOverflow(message) => Error::invalid("22003", format!("number out of range: {message}")),
                ArrowError::CastError(message) | ArrowError::ParseError(message) => Error::invalid("22P02", message.clone()),
                other => Error::invalid("22000", other.to_string()),
            },
            other => Error::invalid("22000", other.strip_backtrace()),
        },
    }
}

fn from_parser(error: &ParserError) -> Error {
    match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
            let (text, place) = split_place(message);
            let error = Error::invalid("42601", format!("syntax error: {text}"));
            match place {
                Some((line, column)) => error.at(line, column),
                None => error,
            }
        }
        ParserError::RecursionLimitExceeded => {
            Error::invalid("54001", "the statement is nested too deeply").with_hint("flatten parentheses and subqueries")
        }
    }
}

/// sqlparser ends its messages with ` at Line: 1, Column: 8`.
fn split_place(message: &str) -> (&str, Option<(u64, u64)>) {
    let Some(at) = message.rfind(" at Line: ") else {
        return (message, None);
    };
    let rest = &message[at + " at Line: ".len()..];
    let mut numbers = rest.split(", Column: ").map(|part| part.trim().parse::<u64>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(line)), Some(Ok(column))) => (&message[..at], Some((line, column))),
        _ => (message, None),
    }
}

fn from_schema(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let mut names: Vec<&str> = valid_fields.iter().map(|c| c.name()).filter(|n| !n.starts_with("__")).collect();
            names.dedup();
            let error = Error::invalid("42703", format!("column {} does not exist", field.flat_name()));
            match nearest(field.name(), names.iter().copied()) {
                Some(name) => error.with_hint(format!("did you mean {name}?")),
                None if names.is_empty() => error,
                None => error.with_hint(format!(
                    "columns here: {}",
                    names.iter().take(30).copied().collect::<Vec<_>>().join(", ")
                )),
            }
        }
        SchemaError::AmbiguousReference { field } => Error::invalid("42702", format!("column {} is ambiguous", field.flat_name()))
            .with_hint("put the table's name or alias before it"),
        other => Error::invalid("42701", other.to_string()),
    }
}

fn from_plan(message: String) -> Error {
    let lower = message.to_lowercase();
    if lower.contains("invalid function") || lower.contains("no function matches") {
        return Error::invalid("42883", message);
    }
    if lower.contains("table") && lower.contains("not found") {
        return Error::new(ErrorKind::NotFound, "42P01", message);
    }
    if lower.contains("column count doesn't match") || lower.contains("inconsistent data length") {
        return Error::invalid("42601", message);
    }
    if lower.contains("cannot coerce") || lower.contains("cannot infer common") || lower.contains("incompatible") || lower.contains("type")
    {
        return Error::invalid("42804", message);
    }
    Error::invalid("42000", message)
}

fn from_execution(message: String) -> Error {
    let lower = message.to_lowercase();
    if lower.contains("divide by zero") || lower.contains("division by zero") {
        return Error::invalid("22012", "division by zero");
    }
    if lower.contains("overflow") {
        return Error::invalid("22003", message);
    }
    Error::invalid("22000", message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_parser_error_has_its_place() {
        let error = from_parser(&ParserError::ParserError(
            "Expected: an expression, found: FROM at Line: 2, Column: 8".into(),
        ));
        assert_eq!(error.code, "42601");
        let place = error.position.unwrap();
        assert_eq!((place.line, place.column), (2, 8));
        assert!(!error.message.contains("Line:"));
    }
}
