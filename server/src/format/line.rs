//! A line a value: for rows too wide for a table.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use unicode_width::UnicodeWidthStr;

use super::markdown::RowBudget;
use super::text::{cells, one_line};
use super::{Look, RowWriter};

/// Writes `name = value` lines, a blank line behind each row.
pub(super) struct LineWriter {
    names: Vec<String>,
    budget: RowBudget,
}

impl LineWriter {
    pub(super) fn new(schema: &SchemaRef, look: Look) -> Self {
        let names: Vec<String> = schema.fields().iter().map(|field| one_line(field.name())).collect();
        let width = names.iter().map(|name| name.width()).max().unwrap_or(0);
        let names = names
            .into_iter()
            .map(|name| format!("{}{name} = ", " ".repeat(width - name.width())))
            .collect();
        LineWriter {
            names,
            budget: RowBudget::new(look.max_rows),
        }
    }
}

impl RowWriter for LineWriter {
    fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let columns = cells(batch)?;
        for row in 0..self.budget.take(batch.num_rows()) {
            for (name, cell) in self.names.iter().zip(&columns) {
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(cell(row)?.map_or_else(|| "NULL".to_owned(), |text| one_line(&text)).as_bytes());
                out.push(b'\n');
            }
            out.push(b'\n');
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.budget.write_rest(out);
        Ok(())
    }
}
