//! SQL names of Arrow types, as result columns show them.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};

/// The SQL name of a type, such as `BIGINT` or `DECIMAL(15,2)`.
pub fn name(kind: &DataType) -> String {
    match kind {
        DataType::Null => "NULL".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INTEGER".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::UInt8 => "TINYINT UNSIGNED".into(),
        DataType::UInt16 => "SMALLINT UNSIGNED".into(),
        DataType::UInt32 => "INTEGER UNSIGNED".into(),
        DataType::UInt64 => "BIGINT UNSIGNED".into(),
        DataType::Float16 => "HALF".into(),
        DataType::Float32 => "REAL".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("DECIMAL({precision},{scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "VARBINARY".into(),
        DataType::FixedSizeBinary(width) => format!("BINARY({width})"),
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Time32(unit) | DataType::Time64(unit) => format!("TIME({})", digits(unit)),
        DataType::Timestamp(unit, None) => format!("TIMESTAMP({})", digits(unit)),
        DataType::Timestamp(unit, Some(_)) => format!("TIMESTAMP({}) WITH TIME ZONE", digits(unit)),
        DataType::Duration(_) => "DURATION".into(),
        DataType::Interval(IntervalUnit::YearMonth) => "INTERVAL YEAR TO MONTH".into(),
        DataType::Interval(IntervalUnit::DayTime) => "INTERVAL DAY TO SECOND".into(),
        DataType::Interval(IntervalUnit::MonthDayNano) => "INTERVAL".into(),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            format!("{}[]", name(item.data_type()))
        }
        DataType::FixedSizeList(item, width) => format!("{}[{width}]", name(item.data_type())),
        DataType::Struct(fields) => {
            let members: Vec<String> = fields
                .iter()
                .map(|field| format!("{} {}", field.name(), name(field.data_type())))
                .collect();
            format!("STRUCT({})", members.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("MAP({}, {})", name(fields[0].data_type()), name(fields[1].data_type()))
            }
            _ => "MAP".into(),
        },
        DataType::Dictionary(_, value) => name(value),
        DataType::RunEndEncoded(_, values) => name(values.data_type()),
        DataType::Union(..) => "UNION".into(),
    }
}

/// Digits behind the second.
fn digits(unit: &TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(name(&DataType::Int64), "BIGINT");
        assert_eq!(name(&DataType::Decimal128(15, 2)), "DECIMAL(15,2)");
        assert_eq!(name(&DataType::Timestamp(TimeUnit::Microsecond, None)), "TIMESTAMP(6)");
        assert_eq!(name(&DataType::new_list(DataType::Utf8, true)), "VARCHAR[]");
    }
}
