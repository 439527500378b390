//! Values for a statement's parameters, and how they go over the wire: as one row of Arrow columns.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array,
    NullArray, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use crate::error::{ClientError, Result};

/// One value. Made by `into()` from the Rust types that have a plain SQL counterpart; [`Value::Array`] takes any Arrow type.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Value {
    /// Null, of no type.
    Null,
    /// `BOOLEAN`.
    Boolean(bool),
    /// `INTEGER`.
    Int32(i32),
    /// `BIGINT`.
    Int64(i64),
    /// `BIGINT UNSIGNED`.
    UInt64(u64),
    /// `REAL`.
    Float32(f32),
    /// `DOUBLE PRECISION`.
    Float64(f64),
    /// `VARCHAR`.
    Text(String),
    /// `BYTEA`, `BINARY`.
    Binary(Vec<u8>),
    /// `DATE`: days since 1970-01-01.
    Date(i32),
    /// `TIMESTAMP`: microseconds since 1970-01-01T00:00:00 on no particular clock.
    Timestamp(i64),
    /// `TIMESTAMP WITH TIME ZONE`: microseconds since the Unix epoch (UTC).
    TimestampTz(i64),
    /// `DECIMAL(precision, scale)`: the digits without the point.
    Decimal {
        /// The digits, `12345` for 123.45.
        digits: i128,
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits behind the point.
        scale: i8,
    },
    /// An Arrow array of exactly one value, of any type.
    Array(ArrayRef),
}

impl Value {
    fn into_array(self) -> Result<ArrayRef> {
        Ok(match self {
            Value::Null => Arc::new(NullArray::new(1)),
            Value::Boolean(v) => Arc::new(BooleanArray::from(vec![v])),
            Value::Int32(v) => Arc::new(Int32Array::from(vec![v])),
            Value::Int64(v) => Arc::new(Int64Array::from(vec![v])),
            Value::UInt64(v) => Arc::new(UInt64Array::from(vec![v])),
            Value::Float32(v) => Arc::new(Float32Array::from(vec![v])),
            Value::Float64(v) => Arc::new(Float64Array::from(vec![v])),
            Value::Text(v) => Arc::new(StringArray::from(vec![v])),
            Value::Binary(v) => Arc::new(BinaryArray::from(vec![v.as_slice()])),
            Value::Date(v) => Arc::new(Date32Array::from(vec![v])),
            Value::Timestamp(v) => Arc::new(TimestampMicrosecondArray::from(vec![v])),
            Value::TimestampTz(v) => Arc::new(TimestampMicrosecondArray::from(vec![v]).with_timezone("UTC")),
            Value::Decimal { digits, precision, scale } => Arc::new(
                Decimal128Array::from(vec![digits])
                    .with_precision_and_scale(precision, scale)
                    .and_then(|array| array.validate_decimal_precision(precision).map(|()| array))
                    .map_err(|error| ClientError::usage(error.to_string()).with_source(error))?,
            ),
            Value::Array(array) if array.len() == 1 => array,
            Value::Array(array) => {
                return Err(ClientError::usage(format!(
                    "a parameter is one value, not an array of {}",
                    array.len()
                )));
            }
        })
    }
}

macro_rules! from_rust {
    ($($rust:ty => |$v:ident| $value:expr;)*) => {
        $(impl From<$rust> for Value {
            fn from($v: $rust) -> Value {
                $value
            }
        })*
    };
}

from_rust! {
    bool => |v| Value::Boolean(v);
    i8 => |v| Value::Int32(v.into());
    i16 => |v| Value::Int32(v.into());
    i32 => |v| Value::Int32(v);
    i64 => |v| Value::Int64(v);
    u8 => |v| Value::Int32(v.into());
    u16 => |v| Value::Int32(v.into());
    u32 => |v| Value::Int64(v.into());
    u64 => |v| Value::UInt64(v);
    f32 => |v| Value::Float32(v);
    f64 => |v| Value::Float64(v);
    &str => |v| Value::Text(v.to_owned());
    &String => |v| Value::Text(v.clone());
    String => |v| Value::Text(v);
    &[u8] => |v| Value::Binary(v.to_vec());
    Vec<u8> => |v| Value::Binary(v);
    ArrayRef => |v| Value::Array(v);
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(v: &[u8; N]) -> Value {
        Value::Binary(v.to_vec())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(v: Option<T>) -> Value {
        v.map_or(Value::Null, Into::into)
    }
}

/// The values of a statement's parameters: `$1`, `$2`, … (or `?`) by position, or `$name` by name. See [`params!`](crate::params).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Parameters {
    /// None.
    #[default]
    None,
    /// By position.
    Positional(Vec<Value>),
    /// By name, without the `$`.
    Named(Vec<(String, Value)>),
    /// Several rows, one column a parameter: a write runs once for each row.
    Batch(RecordBatch),
    /// Positions and names were mixed: an error as soon as it is used.
    #[doc(hidden)]
    Mixed,
}

impl Parameters {
    /// Whether there is nothing to bind.
    pub fn is_empty(&self) -> bool {
        match self {
            Parameters::None => true,
            Parameters::Positional(values) => values.is_empty(),
            Parameters::Named(values) => values.is_empty(),
            Parameters::Batch(_) | Parameters::Mixed => false,
        }
    }

    pub(crate) fn push(self, value: Value) -> Self {
        match self {
            Parameters::None => Parameters::Positional(vec![value]),
            Parameters::Positional(mut values) => {
                values.push(value);
                Parameters::Positional(values)
            }
            _ => Parameters::Mixed,
        }
    }

    pub(crate) fn push_named(self, name: String, value: Value) -> Self {
        match self {
            Parameters::None => Parameters::Named(vec![(name, value)]),
            Parameters::Named(mut values) => {
                values.push((name, value));
                Parameters::Named(values)
            }
            _ => Parameters::Mixed,
        }
    }

    /// The row that goes over the wire; `None` where there is nothing to bind.
    pub(crate) fn to_batch(&self) -> Result<Option<RecordBatch>> {
        let named: Vec<(String, Value)> = match self {
            Parameters::None => return Ok(None),
            Parameters::Batch(batch) => return Ok(Some(batch.clone())),
            Parameters::Mixed => return Err(ClientError::usage("parameters are bound either by position or by name, not both")),
            Parameters::Positional(values) => values
                .iter()
                .enumerate()
                .map(|(i, value)| ((i + 1).to_string(), value.clone()))
                .collect(),
            Parameters::Named(values) => values.clone(),
        };
        if named.is_empty() {
            return Ok(None);
        }
        let mut fields = Vec::with_capacity(named.len());
        let mut columns = Vec::with_capacity(named.len());
        for (name, value) in named {
            let column = value.into_array()?;
            let name = name.strip_prefix('$').map(str::to_owned).unwrap_or(name);
            fields.push(Field::new(name, column.data_type().clone(), true));
            columns.push(column);
        }
        let one_row = RecordBatchOptions::new().with_row_count(Some(1));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &one_row)
            .map(Some)
            .map_err(|error| ClientError::usage(error.to_string()).with_source(error))
    }
}

impl From<()> for Parameters {
    fn from((): ()) -> Self {
        Parameters::None
    }
}

impl From<Vec<Value>> for Parameters {
    fn from(values: Vec<Value>) -> Self {
        Parameters::Positional(values)
    }
}

impl<const N: usize> From<[Value; N]> for Parameters {
    fn from(values: [Value; N]) -> Self {
        Parameters::Positional(values.into())
    }
}

impl From<RecordBatch> for Parameters {
    fn from(rows: RecordBatch) -> Self {
        Parameters::Batch(rows)
    }
}

/// Parameters by position, `params![42, "a"]`, or by name, `params! { "id" => 42 }`.
///
/// ```
/// use pyralog_client::{Parameters, params};
/// assert!(matches!(params![42, "a", None::<i64>], Parameters::Positional(v) if v.len() == 3));
/// assert!(matches!(params! { "id" => 42, "name" => "a" }, Parameters::Named(v) if v.len() == 2));
/// assert!(params![].is_empty());
/// ```
#[macro_export]
macro_rules! params {
    () => { $crate::Parameters::None };
    ($($name:expr => $value:expr),+ $(,)?) => {
        $crate::Parameters::Named(::std::vec![$((::std::string::String::from($name), $crate::Value::from($value))),+])
    };
    ($($value:expr),+ $(,)?) => { $crate::Parameters::Positional(::std::vec![$($crate::Value::from($value)),+]) };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::datatypes::DataType;

    use super::*;

    fn names(batch: &RecordBatch) -> Vec<String> {
        batch.schema().fields().iter().map(|field| field.name().clone()).collect()
    }

    #[test]
    fn positions_become_names() {
        let batch = params![1, 2_i64, "a", b"x", None::<i32>, 2.5].to_batch().unwrap().unwrap();
        assert_eq!(names(&batch), ["1", "2", "3", "4", "5", "6"]);
        assert_eq!(batch.num_rows(), 1);
        assert_eq!(batch.column(3).data_type(), &DataType::Binary);
        assert_eq!(batch.column(4).data_type(), &DataType::Null);
    }

    #[test]
    fn names_lose_their_dollar() {
        let batch = params! { "$id" => 1, "name" => "x" }.to_batch().unwrap().unwrap();
        assert_eq!(names(&batch), ["id", "name"]);
    }

    #[test]
    fn wrong_parameters_are_refused() {
        let two: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let mixed = Parameters::None.push(1.into()).push_named("a".into(), 2.into());
        let decimal = Value::Decimal {
            digits: 1234,
            precision: 3,
            scale: 1,
        };
        for wrong in [Parameters::from([Value::Array(two)]), mixed, Parameters::from([decimal])] {
            assert_eq!(wrong.to_batch().unwrap_err().kind(), crate::ErrorKind::Usage, "{wrong:?}");
        }
        assert!(Parameters::default().to_batch().unwrap().is_none());
        assert!(Parameters::from(vec![]).to_batch().unwrap().is_none());
    }
}
