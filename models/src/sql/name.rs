//! SQL names: folded to lower case unless quoted, and resolved against the session's schema.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::TableReference;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName as SqlName};

use crate::catalog::{DATABASE, ObjectName};
use crate::error::{Error, ErrorKind, Result};

/// An identifier as it is stored.
pub fn fold(ident: &Ident) -> String {
    if ident.quote_style.is_some() {
        ident.value.clone()
    } else {
        ident.value.to_lowercase()
    }
}

/// The last part of a (perhaps qualified) name, folded.
pub fn last_part(name: &SqlName) -> Result<String> {
    name.0
        .last()
        .and_then(|part| part.as_ident())
        .map(fold)
        .ok_or_else(|| Error::invalid("42601", format!("{name} is not a plain name")))
}

/// `name`, `schema.name` or `pyralog.schema.name`.
pub fn resolve(name: &SqlName, default_schema: &str) -> Result<ObjectName> {
    let parts = name
        .0
        .iter()
        .map(|part| {
            part.as_ident()
                .map(fold)
                .ok_or_else(|| Error::invalid("42601", format!("{name} is not a plain name")))
        })
        .collect::<Result<Vec<_>>>()?;
    from_parts(parts, default_schema)
}

/// The same for DataFusion's references.
pub fn resolve_reference(reference: &TableReference, default_schema: &str) -> Result<ObjectName> {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(reference.catalog().map(str::to_owned));
    parts.extend(reference.schema().map(str::to_owned));
    parts.push(reference.table().to_owned());
    from_parts(parts, default_schema)
}

fn from_parts(mut parts: Vec<String>, default_schema: &str) -> Result<ObjectName> {
    let name = parts.pop().ok_or_else(|| Error::invalid("42601", "a name is missing"))?;
    let schema = parts.pop().unwrap_or_else(|| default_schema.to_owned());
    match parts.pop() {
        None => {}
        Some(database) if database == DATABASE => {}
        Some(database) => {
            return Err(Error::new(
                ErrorKind::NotFound,
                "3D000",
                format!("database {database} does not exist"),
            ));
        }
    }
    if !parts.is_empty() {
        return Err(Error::invalid("42601", "a name has at most three parts: database.schema.name"));
    }
    Ok(ObjectName { schema, name })
}

/// A name that may be given to a new schema, collection or column.
pub fn check_new(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > 255 {
        return Err(Error::invalid("42602", "a name has between 1 and 255 bytes"));
    }
    check_new_column(name)?;
    if name.contains('/') || name.contains('\0') || name.starts_with("__") {
        return Err(Error::invalid(
            "42602",
            format!("the name {name:?} holds a slash or a zero byte, or begins with two underscores"),
        ));
    }
    Ok(())
}

/// A name that may be given to a column.
pub fn check_new_column(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > 4096 || name.contains('\0') || name.starts_with("__") {
        return Err(Error::invalid(
            "42602",
            format!("the name {name:?} is empty, too long, holds a zero byte, or begins with two underscores"),
        ));
    }
    Ok(())
}

/// An identifier quoted for SQL text.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The SQL name of an Arrow type, as `information_schema` shows it.
pub fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INTEGER".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::UInt8 => "TINYINT UNSIGNED".to_owned(),
        DataType::UInt16 => "SMALLINT UNSIGNED".to_owned(),
        DataType::UInt32 => "INTEGER UNSIGNED".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Float16 | DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => {
            format!("DECIMAL({p},{s})")
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "BYTEA".to_owned(),
        DataType::Date32 | DataType::Date64 => "DATE".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".to_owned(),
        DataType::Timestamp(_, None) => "TIMESTAMP".to_owned(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE".to_owned(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".to_owned(),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) => format!("{}[]", sql_type(item.data_type())),
        DataType::FixedSizeList(item, n) => format!("{}[{n}]", sql_type(item.data_type())),
        DataType::Struct(fields) => {
            let inner: Vec<String> = fields.iter().map(|f| format!("{} {}", f.name(), sql_type(f.data_type()))).collect();
            format!("STRUCT({})", inner.join(", "))
        }
        other => other.to_string().to_uppercase(),
    }
}
