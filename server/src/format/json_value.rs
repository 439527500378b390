//! Values as JSON, exactly.
//!
//! | Arrow | JSON |
//! |---|---|
//! | integers, decimals | a number with all its digits (a reader that uses doubles rounds it; the text is exact) |
//! | floats | the shortest number that reads back; NaN and infinities are `null`, as JSON has none |
//! | text | a string |
//! | binary | a string in base64 |
//! | date, time, timestamp, duration, interval | a string in ISO 8601 |
//! | list | an array |
//! | struct, map | an object (a map whose keys are not text: an array of `[key, value]`) |
//! | dictionary, run-end encoded, union | the value itself |

use arrow::array::types::{Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type};
use arrow::array::{Array, AsArray, downcast_run_array};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};
use arrow::datatypes::{Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

/// Appends the value of a row.
pub type Encoder<'a> = Box<dyn Fn(usize, &mut Vec<u8>) -> Result<(), ArrowError> + 'a>;

/// Types nest at most so deep.
const DEPTH_LIMIT: usize = 64;

static OPTIONS: FormatOptions<'static> = FormatOptions::new().with_display_error(false);

/// An encoder of a column's values.
pub fn encoder(array: &dyn Array) -> Result<Encoder<'_>, ArrowError> {
    nullable(array, DEPTH_LIMIT)
}

fn nullable(array: &dyn Array, depth: usize) -> Result<Encoder<'_>, ArrowError> {
    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| ArrowError::JsonError(format!("types nest deeper than {DEPTH_LIMIT}")))?;
    let value = present(array, depth)?;
    // Logical nulls: a dictionary's null value counts as null too.
    Ok(match array.logical_nulls() {
        None => value,
        Some(nulls) => Box::new(move |row, out| {
            if nulls.is_null(row) {
                out.extend_from_slice(b"null");
                return Ok(());
            }
            value(row, out)
        }),
    })
}

macro_rules! number {
    ($array:expr, $kind:ty) => {{
        let values = $array.as_primitive::<$kind>();
        Box::new(move |row, out| json(out, &values.value(row)))
    }};
}

macro_rules! decimal {
    ($array:expr, $kind:ty) => {{
        let values = $array.as_primitive::<$kind>();
        Box::new(move |row, out| {
            out.extend_from_slice(values.value_as_string(row).as_bytes());
            Ok(())
        })
    }};
}

macro_rules! serialized {
    ($values:expr) => {{
        let values = $values;
        Box::new(move |row, out| json(out, values.value(row)))
    }};
}

macro_rules! base64 {
    ($values:expr) => {{
        let values = $values;
        Box::new(move |row, out| {
            quote(out, &BASE64_STANDARD.encode(values.value(row)));
            Ok(())
        })
    }};
}

/// An encoder for rows that are not null.
fn present(array: &dyn Array, depth: usize) -> Result<Encoder<'_>, ArrowError> {
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, out| {
            out.extend_from_slice(b"null");
            Ok(())
        }),
        DataType::Boolean => {
            let values = array.as_boolean();
            Box::new(move |row, out| json(out, &values.value(row)))
        }
        DataType::Int8 => number!(array, Int8Type),
        DataType::Int16 => number!(array, Int16Type),
        DataType::Int32 => number!(array, Int32Type),
        DataType::Int64 => number!(array, Int64Type),
        DataType::UInt8 => number!(array, UInt8Type),
        DataType::UInt16 => number!(array, UInt16Type),
        DataType::UInt32 => number!(array, UInt32Type),
        DataType::UInt64 => number!(array, UInt64Type),
        DataType::Float16 => {
            let values = array.as_primitive::<Float16Type>();
            Box::new(move |row, out| json(out, &values.value(row).to_f32()))
        }
        DataType::Float32 => number!(array, Float32Type),
        DataType::Float64 => number!(array, Float64Type),
        DataType::Decimal32(..) => decimal!(array, Decimal32Type),
        DataType::Decimal64(..) => decimal!(array, Decimal64Type),
        DataType::Decimal128(..) => decimal!(array, Decimal128Type),
        DataType::Decimal256(..) => decimal!(array, Decimal256Type),
        DataType::Utf8 => serialized!(array.as_string::<i32>()),
        DataType::LargeUtf8 => serialized!(array.as_string::<i64>()),
        DataType::Utf8View => serialized!(array.as_string_view()),
        DataType::Binary => base64!(array.as_binary::<i32>()),
        DataType::LargeBinary => base64!(array.as_binary::<i64>()),
        DataType::BinaryView => base64!(array.as_binary_view()),
        DataType::FixedSizeBinary(_) => base64!(array.as_fixed_size_binary()),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            elements(list.values(), depth, move |row| {
                (list.value_offsets()[row] as usize, list.value_length(row) as usize)
            })?
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            elements(list.values(), depth, move |row| {
                (list.value_offsets()[row] as usize, list.value_length(row) as usize)
            })?
        }
        DataType::ListView(_) => {
            let list = array.as_list_view::<i32>();
            elements(list.values(), depth, move |row| {
                (list.value_offset(row) as usize, list.value_size(row) as usize)
            })?
        }
        DataType::LargeListView(_) => {
            let list = array.as_list_view::<i64>();
            elements(list.values(), depth, move |row| {
                (list.value_offset(row) as usize, list.value_size(row) as usize)
            })?
        }
        DataType::FixedSizeList(_, width) => {
            let (list, width) = (array.as_fixed_size_list(), *width as usize);
            elements(list.values(), depth, move |row| (list.value_offset(row) as usize, width))?
        }
        DataType::Struct(_) => object(array, depth)?,
        DataType::Map(..) => map(array, depth)?,
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let (keys, value) = (dictionary.normalized_keys(), nullable(dictionary.values().as_ref(), depth)?);
            Box::new(move |row, out| value(keys[row], out))
        }
        DataType::RunEndEncoded(..) => run_ends(array, depth)?,
        DataType::Union(..) => union(array, depth)?,
        _ => {
            let formatter = ArrayFormatter::try_new(array, &OPTIONS)?;
            Box::new(move |row, out| {
                quote(out, &formatter.value(row).try_to_string()?);
                Ok(())
            })
        }
    })
}

/// Arrays: `span` gives where a row's elements begin and how many they are.
fn elements<'a>(values: &'a dyn Array, depth: usize, span: impl Fn(usize) -> (usize, usize) + 'a) -> Result<Encoder<'a>, ArrowError> {
    let value = nullable(values, depth)?;
    Ok(Box::new(move |row, out| {
        let (start, length) = span(row);
        out.push(b'[');
        for index in start..start + length {
            if index > start {
                out.push(b',');
            }
            value(index, out)?;
        }
        out.push(b']');
        Ok(())
    }))
}

fn object(array: &dyn Array, depth: usize) -> Result<Encoder<'_>, ArrowError> {
    let fields = array.as_struct();
    let mut members = Vec::with_capacity(fields.num_columns());
    for (name, column) in fields.column_names().into_iter().zip(fields.columns()) {
        members.push((name_prefix(name)?, nullable(column.as_ref(), depth)?));
    }
    Ok(Box::new(move |row, out| write_object(&members, row, out)))
}

fn map(array: &dyn Array, depth: usize) -> Result<Encoder<'_>, ArrowError> {
    let map = array.as_map();
    let textual = matches!(map.keys().data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let (key, value) = (nullable(map.keys().as_ref(), depth)?, nullable(map.values().as_ref(), depth)?);
    let (open, close): (u8, u8) = if textual { (b'{', b'}') } else { (b'[', b']') };
    Ok(Box::new(move |row, out| {
        let start = map.value_offsets()[row] as usize;
        out.push(open);
        for index in start..start + map.value_length(row) as usize {
            if index > start {
                out.push(b',');
            }
            if textual {
                key(index, out)?;
                out.push(b':');
                value(index, out)?;
            } else {
                out.push(b'[');
                key(index, out)?;
                out.push(b',');
                value(index, out)?;
                out.push(b']');
            }
        }
        out.push(close);
        Ok(())
    }))
}

fn run_ends(array: &dyn Array, depth: usize) -> Result<Encoder<'_>, ArrowError> {
    downcast_run_array! {
        array => {
            let value = nullable(array.values().as_ref(), depth)?;
            Ok(Box::new(move |row, out: &mut Vec<u8>| value(array.get_physical_index(row), out)))
        },
        kind => Err(ArrowError::NotYetImplemented(format!("{kind} as JSON")))
    }
}

fn union(array: &dyn Array, depth: usize) -> Result<Encoder<'_>, ArrowError> {
    let union = array.as_union();
    let mut children: [Option<Encoder<'_>>; 128] = std::array::from_fn(|_| None);
    for (id, _) in union.fields().iter() {
        children[id as usize] = Some(nullable(union.child(id).as_ref(), depth)?);
    }
    Ok(Box::new(move |row, out| match &children[union.type_id(row) as usize] {
        Some(value) => value(union.value_offset(row), out),
        None => Err(ArrowError::JsonError("a union's type id that its type lacks".into())),
    }))
}

/// Appends `{"name":value,…}` of a row: each member is a [`name_prefix`] and the encoder of its values.
pub(super) fn write_object(members: &[(Vec<u8>, Encoder<'_>)], row: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    out.push(b'{');
    for (position, (name, value)) in members.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name);
        value(row, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// `"name":`, escaped once.
pub(super) fn name_prefix(name: &str) -> Result<Vec<u8>, ArrowError> {
    let mut prefix = Vec::with_capacity(name.len() + 3);
    json(&mut prefix, name)?;
    prefix.push(b':');
    Ok(prefix)
}

/// Appends what serde_json makes of `value`: floats shortest, NaN and infinities null, strings escaped.
fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), ArrowError> {
    serde_json::to_writer(out, value).map_err(|e| ArrowError::JsonError(e.to_string()))
}

/// Appends text that needs no escapes as a string.
fn quote(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

#[cfg(test)]
#[path = "json_value_tests.rs"]
mod tests;
