//! Rows as JSON objects: one array, or an object a line.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::RowWriter;
use super::json_value::{encoder, name_prefix, write_object};

/// Writes `[{…},{…}]` or lines of `{…}`.
pub(super) struct ObjectWriter {
    schema: SchemaRef,
    array: bool,
    rows: u64,
}

impl ObjectWriter {
    /// One array.
    pub(super) fn array(schema: &SchemaRef) -> Self {
        ObjectWriter {
            schema: schema.clone(),
            array: true,
            rows: 0,
        }
    }

    /// An object a line.
    pub(super) fn lines(schema: &SchemaRef) -> Self {
        ObjectWriter {
            schema: schema.clone(),
            array: false,
            rows: 0,
        }
    }
}

impl RowWriter for ObjectWriter {
    fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let mut members = Vec::with_capacity(batch.num_columns());
        for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
            members.push((name_prefix(field.name())?, encoder(column.as_ref())?));
        }
        for row in 0..batch.num_rows() {
            if self.array {
                out.extend_from_slice(if self.rows == 0 { b"[\n" } else { b",\n" });
            }
            self.rows += 1;
            write_object(&members, row, out)?;
            if !self.array {
                out.push(b'\n');
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        if self.array {
            out.extend_from_slice(if self.rows == 0 { b"[]\n" } else { b"\n]\n" });
        }
        Ok(())
    }
}
