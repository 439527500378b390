//! Descriptions of columns in their field metadata, as Flight SQL defines them: drivers show type names, precision and scale from these.

use std::sync::Arc;

use arrow::array::Array;
use arrow::array::{RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, Schema};
use tonic::Status;

use crate::flight::status;

/// The schema with every column described.
pub fn described(schema: &Schema) -> Schema {
    Schema::new_with_metadata(
        schema.fields().iter().map(described_field).collect::<Vec<FieldRef>>(),
        schema.metadata().clone(),
    )
}

fn described_field(field: &FieldRef) -> FieldRef {
    let mut metadata = field.metadata().clone();
    let mut put = |key: &str, value: String| metadata.insert(format!("ARROW:FLIGHT:SQL:{key}"), value);
    put("TYPE_NAME", type_name(field.data_type()).to_string());
    if let Some((precision, scale)) = precision(field.data_type()) {
        put("PRECISION", precision.to_string());
        put("SCALE", scale.to_string());
    }
    put("IS_AUTO_INCREMENT", "0".into());
    put("IS_CASE_SENSITIVE", if is_text(field.data_type()) { "1" } else { "0" }.into());
    put("IS_SEARCHABLE", "1".into());
    Arc::new(Field::new(field.name(), field.data_type().clone(), field.is_nullable()).with_metadata(metadata))
}

/// Name of a type in SQL, as GetXdbcTypeInfo lists it.
fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INTEGER",
        DataType::Int64 => "BIGINT",
        DataType::UInt8 => "TINYINT UNSIGNED",
        DataType::UInt16 => "SMALLINT UNSIGNED",
        DataType::UInt32 => "INTEGER UNSIGNED",
        DataType::UInt64 => "BIGINT UNSIGNED",
        DataType::Float16 | DataType::Float32 => "REAL",
        DataType::Float64 => "DOUBLE",
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => "DECIMAL",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "BYTEA",
        DataType::Date32 | DataType::Date64 => "DATE",
        DataType::Time32(_) | DataType::Time64(_) => "TIME",
        DataType::Timestamp(_, None) => "TIMESTAMP",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE",
        DataType::Interval(IntervalUnit::YearMonth) => "INTERVAL YEAR TO MONTH",
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL",
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => "ARRAY",
        DataType::ListView(_) | DataType::LargeListView(_) => "ARRAY",
        DataType::Struct(_) => "STRUCT",
        DataType::Map(..) => "MAP",
        DataType::Union(..) => "UNION",
        DataType::Dictionary(_, value) => type_name(value),
        DataType::RunEndEncoded(_, values) => type_name(values.data_type()),
        DataType::Null => "NULL",
    }
}

/// Decimal digits of a numeric type, and how many of them follow the point.
fn precision(data_type: &DataType) -> Option<(u8, i8)> {
    Some(match data_type {
        DataType::Int8 | DataType::UInt8 => (3, 0),
        DataType::Int16 | DataType::UInt16 => (5, 0),
        DataType::Int32 | DataType::UInt32 => (10, 0),
        DataType::Int64 => (19, 0),
        DataType::UInt64 => (20, 0),
        DataType::Float16 => (3, 0),
        DataType::Float32 => (7, 0),
        DataType::Float64 => (15, 0),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => (*precision, *scale),
        _ => return None,
    })
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// A column of a result as plain text.
pub fn text(batch: &RecordBatch, column: usize) -> Result<StringArray, Status> {
    let column = cast(batch.column(column), &DataType::Utf8).map_err(status::from_arrow)?;
    Ok(StringArray::from(column.to_data()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_keeps_type_and_other_metadata() {
        let tagged = Field::new("balance", DataType::Decimal128(18, 2), true).with_metadata([("unit".into(), "EUR".into())].into());
        let schema = described(&Schema::new(vec![tagged]));
        let field = schema.field(0);
        assert_eq!(field.data_type(), &DataType::Decimal128(18, 2));
        let get = |key: &str| field.metadata().get(&format!("ARROW:FLIGHT:SQL:{key}")).map(String::as_str);
        assert_eq!(
            (get("TYPE_NAME"), get("PRECISION"), get("SCALE")),
            (Some("DECIMAL"), Some("18"), Some("2"))
        );
        assert_eq!(field.metadata().get("unit").map(String::as_str), Some("EUR"));
    }
}
