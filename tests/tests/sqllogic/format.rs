//! How values are written in the files.

use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use sqllogictest::DefaultColumnType;

/// The letter of each column: `I` for whole numbers, `R` for other numbers, `T` for text, `?` for all else.
pub fn types(schema: &Schema) -> Vec<DefaultColumnType> {
    let letter = |data_type: &DataType| match data_type {
        integer if integer.is_integer() => DefaultColumnType::Integer,
        DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            DefaultColumnType::FloatingPoint
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DefaultColumnType::Text,
        _ => DefaultColumnType::Any,
    };
    schema.fields().iter().map(|field| letter(field.data_type())).collect()
}

/// As many columns as expected, of the expected letters; `?` in a file stands for any.
#[allow(clippy::ptr_arg, reason = "the runner's signature")]
pub fn types_match(actual: &Vec<DefaultColumnType>, expected: &Vec<DefaultColumnType>) -> bool {
    let fits = |(actual, expected): (&DefaultColumnType, &DefaultColumnType)| *expected == DefaultColumnType::Any || actual == expected;
    actual.len() == expected.len() && actual.iter().zip(expected).all(fits)
}

/// The rows of a batch as texts.
pub fn rows(batch: &RecordBatch) -> Vec<Vec<String>> {
    let columns: Vec<Vec<String>> = batch.columns().iter().map(values).collect();
    (0..batch.num_rows())
        .map(|row| columns.iter().map(|column| column[row].clone()).collect())
        .collect()
}

fn values(column: &ArrayRef) -> Vec<String> {
    let options = FormatOptions::new()
        .with_null("NULL")
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"));
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options).expect("a type that can be shown");
    let text = |row: usize| match column.data_type() {
        DataType::Float32 => float(column.as_primitive::<arrow::datatypes::Float32Type>().value(row)),
        DataType::Float64 => float(column.as_primitive::<arrow::datatypes::Float64Type>().value(row)),
        _ => formatter.value(row).to_string(),
    };
    let shown = |row: usize| match column.is_null(row) {
        true => "NULL".to_owned(),
        false => Some(text(row))
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| "(empty)".to_owned()),
    };
    (0..column.len()).map(shown).collect()
}

/// A floating point number with at least one digit behind the point, so that 1.0 is not taken for a whole number; very large and very
/// small ones with an exponent.
fn float<T: Copy + Into<f64> + fmt::Display + fmt::LowerExp>(value: T) -> String {
    let size: f64 = value.into().abs();
    let shortest = value.to_string();
    if size.is_finite() && size != 0.0 && !(1e-5..1e15).contains(&size) {
        format!("{value:e}")
    } else if shortest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        shortest + ".0"
    } else {
        shortest
    }
}

#[test]
fn values_are_written_as_documented() {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, Float64Array, StringArray, TimestampMicrosecondArray};

    let shown = |array: ArrayRef| values(&array);
    assert_eq!(
        shown(Arc::new(StringArray::from(vec![Some("a b"), Some(""), None]))),
        ["a b", "(empty)", "NULL"]
    );
    assert_eq!(
        shown(Arc::new(Float64Array::from(vec![1.0, -2.5, 1e300 * 1e10, 1e300]))),
        ["1.0", "-2.5", "inf", "1e300"]
    );
    assert_eq!(shown(Arc::new(BinaryArray::from(vec![b"\x00k".as_slice()]))), ["006b"]);
    let at = TimestampMicrosecondArray::from(vec![1_767_225_600_500_000]);
    assert_eq!(shown(Arc::new(at.clone())), ["2026-01-01 00:00:00.500"]);
    assert_eq!(shown(Arc::new(at.with_timezone("UTC"))), ["2026-01-01 00:00:00.500+00:00"]);
}
