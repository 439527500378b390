//! From a result stream's error back to the database's own error.
//!
//! Streams carry `DataFusionError`; the models wrap their error in it. Every wire wants the kind, the code and the hint back.

use std::error::Error as StdError;

use datafusion::error::DataFusionError;
use pyralog_models::Error;

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
    Error::from(error)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::error::ArrowError;
    use pyralog_models::ErrorKind;

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
