//! CSV after RFC 4180. Null is an empty field, empty text is `""`; nested values are JSON; bytes as [`super::text::bytes`].

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::RowWriter;
use super::text::cells;

/// Writes a header line and a line a row.
pub(super) struct CsvWriter {
    schema: SchemaRef,
    begun: bool,
}

impl CsvWriter {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        CsvWriter {
            schema: schema.clone(),
            begun: false,
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            for (position, field) in self.schema.fields().iter().enumerate() {
                separate(position, out);
                write_field(field.name(), out);
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

impl RowWriter for CsvWriter {
    fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.begin(out);
        let columns = cells(batch)?;
        for row in 0..batch.num_rows() {
            for (position, cell) in columns.iter().enumerate() {
                separate(position, out);
                if let Some(text) = cell(row)? {
                    write_field(&text, out);
                }
            }
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.begin(out);
        Ok(())
    }
}

fn separate(position: usize, out: &mut Vec<u8>) {
    if position > 0 {
        out.push(b',');
    }
}

/// Quotes what must be: separators, quotes, line ends, outer blanks (which readers trim) and empty text (which would read as null).
fn write_field(text: &str, out: &mut Vec<u8>) {
    let outer = |byte: Option<&u8>| matches!(byte, None | Some(b' ' | b'\t'));
    let bytes = text.as_bytes();
    if outer(bytes.first()) || outer(bytes.last()) || bytes.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) {
        out.push(b'"');
        for byte in bytes {
            if *byte == b'"' {
                out.push(b'"');
            }
            out.push(*byte);
        }
        out.push(b'"');
    } else {
        out.extend_from_slice(bytes);
    }
}
