//! A value as text for eyes and for CSV.
//!
//! Timestamps are ISO 8601, nested values JSON, bytes are text where they are printable UTF-8 and `\x…` in hexadecimal otherwise.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::json_value;

/// Gives one column's values as text, by row; `None` is null.
pub type CellReader<'a> = Box<dyn Fn(usize) -> Result<Option<String>, ArrowError> + 'a>;

/// Readers of all columns of a batch.
pub fn cells(batch: &RecordBatch) -> Result<Vec<CellReader<'_>>, ArrowError> {
    batch.columns().iter().map(|column| cell_reader(column.as_ref())).collect()
}

fn cell_reader(array: &dyn Array) -> Result<CellReader<'_>, ArrowError> {
    let read: Box<dyn Fn(usize) -> Result<String, ArrowError>> = match array.data_type() {
        DataType::Null => return Ok(Box::new(|_| Ok(None))),
        DataType::Binary => Box::new(move |row| Ok(bytes(array.as_binary::<i32>().value(row)))),
        DataType::LargeBinary => Box::new(move |row| Ok(bytes(array.as_binary::<i64>().value(row)))),
        DataType::BinaryView => Box::new(move |row| Ok(bytes(array.as_binary_view().value(row)))),
        DataType::FixedSizeBinary(_) => Box::new(move |row| Ok(bytes(array.as_fixed_size_binary().value(row)))),
        kind if kind.is_nested() || matches!(kind, DataType::Dictionary(_, value) if !is_plain(value)) => {
            let encode = json_value::encoder(array)?;
            Box::new(move |row| {
                let mut out = Vec::new();
                encode(row, &mut out)?;
                Ok(String::from_utf8_lossy(&out).into_owned())
            })
        }
        _ => {
            let formatter = ArrayFormatter::try_new(array, &OPTIONS)?;
            Box::new(move |row| formatter.value(row).try_to_string())
        }
    };
    let nulls = array.logical_nulls();
    Ok(Box::new(move |row| match &nulls {
        Some(nulls) if nulls.is_null(row) => Ok(None),
        _ => read(row).map(Some),
    }))
}

static OPTIONS: FormatOptions<'static> = FormatOptions::new().with_display_error(false);

/// Whether dictionary values of this type print as themselves.
fn is_plain(kind: &DataType) -> bool {
    !kind.is_nested()
        && !matches!(
            kind,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
        )
}

/// Bytes as text if that is printable UTF-8 (and cannot be taken for the other form), else `\x` and hexadecimal.
pub fn bytes(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if !text.starts_with("\\x") && !text.chars().any(char::is_control) => text.to_owned(),
        _ => {
            let mut out = String::with_capacity(2 + value.len() * 2);
            out.push_str("\\x");
            for byte in value {
                for nibble in [byte >> 4, byte & 15] {
                    out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
                }
            }
            out
        }
    }
}

/// Text on one line: control characters (line ends, escapes that would steer a terminal) as escapes.
pub fn one_line(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len() + 8), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

/// Whether values of this type stand at the right of their column.
pub fn is_right_aligned(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, value) => is_right_aligned(value),
        kind => kind.is_numeric(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_print_unambiguously() {
        assert_eq!(bytes(b"user:1"), "user:1");
        assert_eq!(bytes(b"\x00a"), "\\x0061");
        assert_eq!(bytes(b"\\x61"), "\\x5c783631");
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(one_line("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
    }
}
