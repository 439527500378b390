//! From a result stream's error back to the database's own error.
//!
//! Streams carry `DataFusionError`; the models wrap their error in it. Every wire wants the kind, the code and the hint back.

use std::error::Error as StdError;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use pyralog_models::{Error, ErrorKind};

/// The database's error inside `error`, or the nearest one for an error that the engine itself raised.
pub fn from_stream(error: &DataFusionError) -> Error {
    let mut cause: &(dyn StdError + 'static) = error;
    loop {
        if let Some(found) = cause.downcast_ref::<Error>() {
            return found.clone();
        }
        match cause.source() {
            Some(next) => cause = next,
            None => break,
        }
    }
    let root = error.find_root();
    let (kind, code) = classify(root);
    Error::new(kind, code, root.strip_backtrace())
}

/// The kind and SQLSTATE of an engine error that no model has wrapped.
fn classify(error: &DataFusionError) -> (ErrorKind, &'static str) {
    match error {
        DataFusionError::ResourcesExhausted(_) => (ErrorKind::ResourceExhausted, "53200"),
        DataFusionError::NotImplemented(_) => (ErrorKind::Unsupported, "0A000"),
        DataFusionError::SQL(..) => (ErrorKind::InvalidInput, "42601"),
        DataFusionError::Plan(_) | DataFusionError::SchemaError(..) => (ErrorKind::InvalidInput, "42000"),
        DataFusionError::ArrowError(arrow, _) => classify_arrow(arrow),
        DataFusionError::Execution(_) => (ErrorKind::InvalidInput, "22000"),
        _ => (ErrorKind::Internal, "XX000"),
    }
}

/// The kind and SQLSTATE of an Arrow kernel's error: what the values of a statement provoke is the statement's fault.
fn classify_arrow(error: &ArrowError) -> (ErrorKind, &'static str) {
    match error {
        ArrowError::DivideByZero => (ErrorKind::InvalidInput, "22012"),
        ArrowError::ArithmeticOverflow(_) => (ErrorKind::InvalidInput, "22003"),
        ArrowError::CastError(_) | ArrowError::ParseError(_) => (ErrorKind::InvalidInput, "22018"),
        ArrowError::InvalidArgumentError(_) | ArrowError::ComputeError(_) => (ErrorKind::InvalidInput, "22000"),
        ArrowError::NotYetImplemented(_) => (ErrorKind::Unsupported, "0A000"),
        _ => (ErrorKind::Internal, "XX000"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_error_keeps_its_code() {
        let inner = Error::new(ErrorKind::Constraint, "23505", "duplicate key");
        let outer = DataFusionError::External(Box::new(inner)).context("while inserting");
        let found = from_stream(&outer);
        assert_eq!(
            (found.kind, found.code, found.message.as_str()),
            (ErrorKind::Constraint, "23505", "duplicate key")
        );
    }

    #[test]
    fn an_engine_error_gets_the_nearest_kind() {
        let error = from_stream(&DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None));
        assert_eq!((error.kind, error.code), (ErrorKind::InvalidInput, "22012"));
        let error = from_stream(&DataFusionError::ResourcesExhausted("pool".into()));
        assert_eq!(error.kind, ErrorKind::ResourceExhausted);
    }
}
