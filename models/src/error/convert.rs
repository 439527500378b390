//! Errors of the layers below, as callers see them.

use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use pyralog_consensus::ConsensusError;
use pyralog_storage::StorageError;

use super::{Error, ErrorKind, nearest, travelled};

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Arrow(error) => error.into(),
            error => Error::from(&error),
        }
    }
}

impl From<&StorageError> for Error {
    fn from(error: &StorageError) -> Self {
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
            // Answers between a coordinator and its groups, which it deals with.
            StorageError::UnknownTransaction(_) | StorageError::DecidedTooEarly { .. } => Error::internal(message),
            StorageError::InUse { .. } => Error::new(ErrorKind::Unavailable, "55006", message),
            StorageError::Arrow(error) => Error::from(error),
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
            ConsensusError::Void => Error::new(ErrorKind::Cancelled, "57014", message),
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
            error => Error::from(&error),
        }
    }
}

impl From<&ArrowError> for Error {
    fn from(error: &ArrowError) -> Self {
        let text = |message: &String| message.clone();
        match error {
            ArrowError::ExternalError(inner) => from_borrowed(inner.as_ref()),
            ArrowError::DivideByZero => Error::invalid("22012", "division by zero"),
            ArrowError::ArithmeticOverflow(message) => Error::invalid("22003", format!("number out of range: {message}")),
            ArrowError::CastError(message) | ArrowError::ParseError(message) => Error::invalid(cast_code(message), text(message)),
            ArrowError::ComputeError(message) if message.contains("overflow") => Error::invalid("22003", text(message)),
            ArrowError::ComputeError(message) => Error::invalid("22000", text(message)),
            ArrowError::InvalidArgumentError(message)
                if message.contains("too large to store") || message.contains("too small to store") =>
            {
                Error::invalid("22003", text(message))
            }
            ArrowError::InvalidArgumentError(message) => Error::invalid("22023", text(message)),
            ArrowError::NotYetImplemented(message) => Error::unsupported(text(message)),
            ArrowError::MemoryError(message) => Error::new(ErrorKind::ResourceExhausted, "53200", text(message)),
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
            DataFusionError::NotImplemented(message) if message.contains("Unsupported SQL type") => Error::invalid("42704", message),
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
            DataFusionError::Context(_, inner) => (*inner).into(),
            DataFusionError::Diagnostic(diagnostic, inner) => {
                let error = Error::from(*inner);
                match (diagnostic.span, error.position) {
                    (Some(span), None) => error.at(span.start.line, span.start.column),
                    _ => error,
                }
            }
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
        Err(error) => from_elsewhere(&error.to_string()),
    }
}

/// An error that several consumers share (a hash join's build side, say) cannot be taken apart by value.
fn from_shared(error: Arc<DataFusionError>) -> Error {
    match Arc::try_unwrap(error) {
        Ok(error) => error.into(),
        Err(shared) => from_datafusion_ref(&shared),
    }
}

impl From<&DataFusionError> for Error {
    fn from(error: &DataFusionError) -> Self {
        from_datafusion_ref(error)
    }
}

fn from_datafusion_ref(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => from_borrowed(inner.as_ref()),
        DataFusionError::ResourcesExhausted(message) => Error::new(ErrorKind::ResourceExhausted, "53200", message.clone()),
        DataFusionError::ArrowError(error, _) => Error::from(error.as_ref()),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => from_datafusion_ref(inner),
        DataFusionError::Shared(inner) => from_datafusion_ref(inner),
        DataFusionError::Execution(message) => from_execution(message.clone()),
        DataFusionError::Plan(message) => from_plan(message.clone()),
        DataFusionError::NotImplemented(message) => Error::unsupported(message.clone()),
        other => Error::internal(other.strip_backtrace()),
    }
}

fn from_borrowed(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Error {
    if let Some(ours) = error.downcast_ref::<Error>() {
        return ours.clone();
    }
    if let Some(storage) = error.downcast_ref::<StorageError>() {
        return Error::from(storage);
    }
    if let Some(datafusion) = error.downcast_ref::<DataFusionError>() {
        return from_datafusion_ref(datafusion);
    }
    match error.downcast_ref::<ArrowError>() {
        Some(arrow) => Error::from(arrow),
        None => from_elsewhere(&error.to_string()),
    }
}

/// Another node's errors arrive as their texts.
fn from_elsewhere(text: &str) -> Error {
    travelled::from_text(text).unwrap_or_else(|| Error::internal(text))
}

/// Why a cast failed: a number that is out of range, a date or time that is none, or text that is no such value.
fn cast_code(message: &str) -> &'static str {
    let number = |text: &str| text.trim_matches('\'').parse::<f64>().is_ok();
    let value = message
        .split("string ")
        .nth(1)
        .or_else(|| message.split("value ").nth(1))
        .and_then(|rest| rest.split(" to ").next());
    let temporal = ["Date32", "Date64", "Time", "timestamp", "Timestamp", "Interval"]
        .iter()
        .any(|word| message.contains(word));
    match value {
        Some(value) if number(value) && !temporal => "22003",
        _ if message.contains("too large to store") || message.contains("overflow") => "22003",
        _ if temporal => "22007",
        _ => "22P02",
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
        SchemaError::DuplicateQualifiedField { qualifier, .. } => {
            Error::invalid("42712", format!("table name {qualifier} stands twice in FROM")).with_hint("give each its own alias")
        }
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
    if lower.contains("must be in group by") || lower.contains("must appear in the group by") || lower.contains("aggregate function") {
        return Error::invalid("42803", message);
    }
    if lower.contains("order by column out of bounds") {
        return Error::invalid("42P10", message);
    }
    if lower.contains("not found in struct") {
        return Error::invalid("42703", message);
    }
    if lower.contains("non-boolean predicate") {
        return Error::invalid("42804", message);
    }
    if lower.contains("different number of columns")
        || lower.contains("column count doesn't match")
        || lower.contains("inconsistent data length")
    {
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
    // A worker that has started anew, or was asked for a task long after it was told of it.
    if lower.contains("while waiting for the plan to be set") {
        return Error::new(ErrorKind::Unavailable, "08006", message).with_hint("retry");
    }
    if lower.contains("subquery returned more than one row") {
        return Error::invalid("21000", message);
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
