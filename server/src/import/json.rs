//! JSON and NDJSON: objects one behind the other, or in one array. Nested values become structs and lists.

use std::fmt;
use std::io::{BufReader, Cursor, Read};

use ::arrow::datatypes::{DataType, FieldRef, SchemaRef};
use ::arrow::error::ArrowError;
use ::arrow::json::ReaderBuilder;
use ::arrow::json::reader::infer_json_schema_from_iterator;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::ReadOptions;
use super::json_array::ArrayUnwrap;
use super::rows::Rows;
use super::sample::{Sampled, with_target};

/// Opens JSON text.
pub fn open(input: impl Read + Send + 'static, options: &ReadOptions, target: Option<&SchemaRef>) -> Result<Rows, String> {
    let sampled = Sampled::new(ArrayUnwrap::new(BufReader::with_capacity(256 << 10, input))).map_err(|error| error.to_string())?;
    let inferred = infer(&sampled.head, sampled.whole, options.sample_rows)?;
    if inferred.is_empty() {
        return Err("there are no objects with members".into());
    }
    let schema = with_target(inferred, target, |_| true);
    // Strict: a member that the sample lacked is an error, not silently lost. Coerced: a number in a text column is its text.
    let reader = ReaderBuilder::new(schema.clone())
        .with_batch_size(options.batch_rows)
        .with_strict_mode(true)
        .with_coerce_primitive(true);
    let reader = reader
        .build(BufReader::new(sampled.into_reader()))
        .map_err(|error| error.to_string())?;
    Ok(Rows {
        schema,
        batches: Box::new(reader),
    })
}

/// Columns in the order in which they first appear.
fn infer(head: &[u8], whole: bool, rows: usize) -> Result<Vec<FieldRef>, String> {
    let values = serde_json::Deserializer::from_reader(Cursor::new(head))
        .into_iter::<Value>()
        .take(rows);
    // Where the head is not all, its last value is cut off.
    let whole_values = values.take_while(|value| whole || !value.as_ref().is_err_and(serde_json::Error::is_eof));
    let schema = infer_json_schema_from_iterator(whole_values.map(|value| value.map_err(|error| ArrowError::JsonError(error.to_string()))))
        .map_err(|error| error.to_string())?;
    let mut order: Vec<String> = Vec::new();
    for keys in serde_json::Deserializer::from_reader(Cursor::new(head))
        .into_iter::<Keys>()
        .take(rows)
        .map_while(Result::ok)
    {
        for key in keys.0 {
            if !order.contains(&key) {
                order.push(key);
            }
        }
    }
    let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
    fields.sort_by_key(|field| order.iter().position(|name| name == field.name()));
    Ok(fields.into_iter().map(without_nulls).collect())
}

/// The field with text where the sample had only nulls, also within lists and structs.
fn without_nulls(field: FieldRef) -> FieldRef {
    let kind = match field.data_type() {
        DataType::Null => DataType::Utf8,
        DataType::List(item) => DataType::List(without_nulls(item.clone())),
        DataType::Struct(members) => DataType::Struct(members.iter().cloned().map(without_nulls).collect()),
        _ => return field,
    };
    std::sync::Arc::new(field.as_ref().clone().with_data_type(kind))
}

/// An object's member names in order.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
        let mut keys = Vec::new();
        while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
            keys.push(key);
        }
        Ok(Keys(keys))
    }
}
