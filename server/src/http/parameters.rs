//! JSON values as statement parameters: bound, never pasted into the text.
//!
//! | JSON | parameter |
//! |---|---|
//! | `null`, `true` | null, boolean |
//! | a whole number | `BIGINT` (above its range `BIGINT UNSIGNED`) |
//! | another number | `DOUBLE`; pass exact decimals as strings |
//! | a string | text; the statement casts it to the type it needs |
//! | an array | a list of one type |
//! | `{"$base64": "…"}` | bytes |

use actix_web::http::StatusCode;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use datafusion::arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;
use pyralog_models::Parameters;
use serde_json::{Map, Value};

use super::error::Problem;

/// Parameters from the `params` member: an array binds by position, an object by name.
pub fn from_json(params: &Value) -> Result<Parameters, Problem> {
    match params {
        Value::Null => Ok(Parameters::None),
        Value::Array(values) => {
            let bind = |(index, value)| scalar(value).map_err(|problem| bad(format!("parameter ${}: {problem}", index + 1)));
            values
                .iter()
                .enumerate()
                .map(bind)
                .collect::<Result<_, _>>()
                .map(Parameters::Positional)
        }
        Value::Object(members) => {
            let bind = |(name, value): (&String, &Value)| {
                let bound = scalar(value).map_err(|problem| bad(format!("parameter ${name}: {problem}")))?;
                Ok((name.trim_start_matches('$').to_owned(), bound))
            };
            members.iter().map(bind).collect::<Result<_, _>>().map(Parameters::Named)
        }
        _ => Err(bad("params must be an array (by position) or an object (by name)")),
    }
}

/// One value. Depth is bounded by the JSON reader's own limit.
fn scalar(value: &Value) -> Result<ScalarValue, String> {
    match value {
        Value::Null => Ok(ScalarValue::Null),
        Value::Bool(flag) => Ok(ScalarValue::Boolean(Some(*flag))),
        Value::Number(number) => {
            if let Some(number) = number.as_i64() {
                Ok(ScalarValue::Int64(Some(number)))
            } else if let Some(number) = number.as_u64() {
                Ok(ScalarValue::UInt64(Some(number)))
            } else {
                number
                    .as_f64()
                    .map(|number| ScalarValue::Float64(Some(number)))
                    .ok_or_else(|| format!("{number} does not fit a DOUBLE"))
            }
        }
        Value::String(text) => Ok(ScalarValue::Utf8(Some(text.clone()))),
        Value::Array(items) => list(items),
        Value::Object(members) => bytes(members),
    }
}

fn list(items: &[Value]) -> Result<ScalarValue, String> {
    let mut scalars = items.iter().map(scalar).collect::<Result<Vec<_>, _>>()?;
    let mut kind = DataType::Null;
    for scalar in &scalars {
        kind = match (kind, scalar.data_type()) {
            (DataType::Null, other) | (other, DataType::Null) => other,
            (a, b) if a == b => a,
            (a, b) if a.is_numeric() && b.is_numeric() => DataType::Float64,
            (a, b) => return Err(format!("an array holds {a} and {b}; its values must be of one type")),
        };
    }
    for scalar in &mut scalars {
        *scalar = scalar.cast_to(&kind).map_err(|error| error.strip_backtrace())?;
    }
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&scalars, &kind)))
}

fn bytes(members: &Map<String, Value>) -> Result<ScalarValue, String> {
    match members.get("$base64") {
        Some(Value::String(text)) if members.len() == 1 => match BASE64_STANDARD.decode(text) {
            Ok(bytes) => Ok(ScalarValue::Binary(Some(bytes))),
            Err(error) => Err(format!("not base64: {error}")),
        },
        _ => Err("an object is not a value; pass a document as text, bytes as {\"$base64\": \"…\"}".into()),
    }
}

fn bad(message: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "22023", message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use serde_json::json;

    fn positional(params: Value) -> Vec<ScalarValue> {
        match from_json(&params).unwrap() {
            Parameters::Positional(values) => values,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_by_position() {
        let values = positional(json!([1, 18446744073709551615u64, 1.5, "'; DROP TABLE t", null, true, {"$base64": "AP8="}]));
        assert_eq!(values[0], ScalarValue::Int64(Some(1)));
        assert_eq!(values[1], ScalarValue::UInt64(Some(u64::MAX)));
        assert_eq!(values[2], ScalarValue::Float64(Some(1.5)));
        assert_eq!(values[3], ScalarValue::Utf8(Some("'; DROP TABLE t".into())));
        assert_eq!(values[4], ScalarValue::Null);
        assert_eq!(values[5], ScalarValue::Boolean(Some(true)));
        assert_eq!(values[6], ScalarValue::Binary(Some(vec![0, 255])));
    }

    #[test]
    fn values_by_name() {
        let Parameters::Named(values) = from_json(&json!({"$id": 1, "name": "x"})).unwrap() else {
            panic!("by name")
        };
        assert_eq!(values[0], ("id".into(), ScalarValue::Int64(Some(1))));
        assert_eq!(values[1].0, "name");
    }

    #[test]
    fn lists_have_one_type() {
        let values = positional(json!([[1, 2.5, null]]));
        assert_eq!(values[0].data_type(), DataType::new_list(DataType::Float64, true));
        assert!(from_json(&json!([[1, "a"]])).is_err());
        assert!(from_json(&json!([{"a": 1}])).unwrap_err().message.contains("parameter $1"));
        assert!(from_json(&json!("x")).is_err());
    }
}
