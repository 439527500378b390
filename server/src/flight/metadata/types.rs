//! The answer to GetXdbcTypeInfo: the column types of SQL as ODBC and JDBC describe them.

use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode};

/// Longest text and binary value in bytes that a column may hold.
const MAX_LENGTH: i32 = i32::MAX;

/// All types.
pub fn build() -> Result<XdbcTypeInfoData, FlightError> {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    builder.append(plain("BOOLEAN", XdbcDataType::XdbcBit, 1));
    for (name, code, digits) in [
        ("TINYINT", XdbcDataType::XdbcTinyint, 3),
        ("SMALLINT", XdbcDataType::XdbcSmallint, 5),
        ("INTEGER", XdbcDataType::XdbcInteger, 10),
        ("BIGINT", XdbcDataType::XdbcBigint, 19),
    ] {
        builder.append(integer(name, code, digits, false));
        builder.append(integer(&format!("{name} UNSIGNED"), code, digits, true));
    }
    builder.append(float("REAL", XdbcDataType::XdbcReal, 24));
    builder.append(float("DOUBLE", XdbcDataType::XdbcDouble, 53));
    builder.append(decimal("DECIMAL", XdbcDataType::XdbcDecimal));
    builder.append(decimal("NUMERIC", XdbcDataType::XdbcNumeric));
    builder.append(text("VARCHAR", XdbcDataType::XdbcVarchar));
    builder.append(text("TEXT", XdbcDataType::XdbcLongvarchar));
    builder.append(text("CHAR", XdbcDataType::XdbcChar));
    builder.append(XdbcTypeInfo {
        literal_prefix: Some("X'".into()),
        literal_suffix: Some("'".into()),
        searchable: Searchable::Basic,
        ..plain("BYTEA", XdbcDataType::XdbcVarbinary, MAX_LENGTH)
    });
    builder.append(datetime(
        "DATE",
        XdbcDataType::XdbcDate,
        10,
        XdbcDatetimeSubcode::XdbcSubcodeYear,
        0,
    ));
    builder.append(datetime(
        "TIME",
        XdbcDataType::XdbcTime,
        18,
        XdbcDatetimeSubcode::XdbcSubcodeTime,
        9,
    ));
    builder.append(datetime(
        "TIMESTAMP",
        XdbcDataType::XdbcTimestamp,
        29,
        XdbcDatetimeSubcode::XdbcSubcodeTimestamp,
        9,
    ));
    let zoned = XdbcDatetimeSubcode::XdbcSubcodeTimestampWithTimezone;
    builder.append(datetime("TIMESTAMP WITH TIME ZONE", XdbcDataType::XdbcTimestamp, 35, zoned, 9));
    builder.append(XdbcTypeInfo {
        literal_prefix: Some("INTERVAL '".into()),
        literal_suffix: Some("'".into()),
        sql_data_type: XdbcDataType::XdbcInterval,
        ..plain("INTERVAL", XdbcDataType::XdbcInterval, 64)
    });
    builder.build()
}

/// A type without literals' signs, digits or scale.
fn plain(name: &str, code: XdbcDataType, size: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.into(),
        data_type: code,
        column_size: Some(size),
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        auto_increment: Some(false),
        local_type_name: Some(name.into()),
        sql_data_type: code,
        ..XdbcTypeInfo::default()
    }
}

fn integer(name: &str, code: XdbcDataType, digits: i32, unsigned: bool) -> XdbcTypeInfo {
    XdbcTypeInfo {
        unsigned_attribute: Some(unsigned),
        minimum_scale: Some(0),
        maximum_scale: Some(0),
        num_prec_radix: Some(10),
        ..plain(name, code, digits)
    }
}

fn float(name: &str, code: XdbcDataType, bits: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        unsigned_attribute: Some(false),
        num_prec_radix: Some(2),
        ..plain(name, code, bits)
    }
}

fn decimal(name: &str, code: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        create_params: Some(vec!["precision".into(), "scale".into()]),
        unsigned_attribute: Some(false),
        minimum_scale: Some(0),
        maximum_scale: Some(76),
        num_prec_radix: Some(10),
        ..plain(name, code, 76)
    }
}

fn text(name: &str, code: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        literal_prefix: Some("'".into()),
        literal_suffix: Some("'".into()),
        create_params: (name != "TEXT").then(|| vec!["length".into()]),
        case_sensitive: true,
        ..plain(name, code, MAX_LENGTH)
    }
}

fn datetime(name: &str, code: XdbcDataType, size: i32, subcode: XdbcDatetimeSubcode, scale: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        literal_prefix: Some(format!("{} '", name.split(' ').next().unwrap_or(name))),
        literal_suffix: Some("'".into()),
        minimum_scale: Some(0),
        maximum_scale: Some(scale),
        sql_data_type: XdbcDataType::XdbcDatetime,
        datetime_subcode: Some(subcode),
        ..plain(name, code, size)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn sorted_by_code_and_filtered_by_it() {
        let types = build().unwrap();
        let all = types.record_batch(None).unwrap();
        let codes = all.column(1).as_primitive::<Int32Type>().values().to_vec();
        assert!(codes.is_sorted() && codes.len() > 15);
        let one = types.record_batch(XdbcDataType::XdbcVarchar as i32).unwrap();
        assert_eq!(one.column(0).as_string::<i32>().value(0), "VARCHAR");
        assert_eq!(one.num_rows(), 1);
    }
}
