//! The JSON form of a result: `{"columns": […], "rows": [[…]], "affected": n}`, written row by row.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use serde_json::{Value, json};

use crate::format::json_value::encoder;
use crate::format::{RowWriter, sql_type};

/// Writes the object of `POST /sql`.
pub struct ResultWriter {
    schema: SchemaRef,
    affected: Option<u64>,
    begun: bool,
    rows: u64,
}

impl ResultWriter {
    /// A writer for rows of `schema`; `affected` for DML.
    pub fn new(schema: &SchemaRef, affected: Option<u64>) -> Self {
        ResultWriter {
            schema: schema.clone(),
            affected,
            begun: false,
            rows: 0,
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            let fields = self.schema.fields().iter();
            let columns: Vec<Value> = fields
                .map(|field| json!({"name": field.name(), "type": sql_type::name(field.data_type())}))
                .collect();
            out.extend_from_slice(format!("{{\"columns\":{},\"rows\":[", Value::Array(columns)).as_bytes());
        }
    }
}

impl RowWriter for ResultWriter {
    fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.begin(out);
        let columns = batch
            .columns()
            .iter()
            .map(|column| encoder(column.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            out.extend_from_slice(if self.rows == 0 { b"\n[" } else { b",\n[" });
            self.rows += 1;
            for (position, value) in columns.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                value(row, out)?;
            }
            out.push(b']');
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.begin(out);
        let affected = self.affected.map_or_else(|| "null".to_owned(), |rows| rows.to_string());
        out.extend_from_slice(format!("],\"affected\":{affected}}}\n").as_bytes());
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::Schema;

    #[test]
    fn rows_are_arrays() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let batch = RecordBatch::try_from_iter([("a\"", column)]).unwrap();
        let mut writer = ResultWriter::new(&batch.schema(), None);
        let mut out = Vec::new();
        writer.batch(&batch, &mut out).unwrap();
        writer.batch(&batch, &mut out).unwrap();
        writer.finish(&mut out).unwrap();
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            value,
            json!({"columns": [{"name": "a\"", "type": "BIGINT"}], "rows": [[1], [null], [1], [null]], "affected": null})
        );
    }

    #[test]
    fn no_rows_still_give_an_object() {
        let mut out = Vec::new();
        ResultWriter::new(&Arc::new(Schema::empty()), Some(3)).finish(&mut out).unwrap();
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value, json!({"columns": [], "rows": [], "affected": 3}));
    }
}
