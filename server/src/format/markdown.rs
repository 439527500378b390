//! Rows as a Markdown table; rows behind the budget are counted, not printed.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::text::{cells, is_right_aligned, one_line};
use super::{Look, RowWriter};

/// Writes a header, a rule and a line a row.
pub(super) struct MarkdownWriter {
    schema: SchemaRef,
    budget: RowBudget,
    begun: bool,
}

impl MarkdownWriter {
    pub(super) fn new(schema: &SchemaRef, look: Look) -> Self {
        MarkdownWriter {
            schema: schema.clone(),
            budget: RowBudget::new(look.max_rows),
            begun: false,
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) || self.schema.fields().is_empty() {
            return;
        }
        for field in self.schema.fields() {
            write_cell(field.name(), out);
        }
        out.extend_from_slice(b" |\n");
        for field in self.schema.fields() {
            out.extend_from_slice(if is_right_aligned(field.data_type()) { b"|---:" } else { b"|---" });
        }
        out.extend_from_slice(b"|\n");
    }
}

impl RowWriter for MarkdownWriter {
    fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.begin(out);
        let columns = cells(batch)?;
        for row in 0..self.budget.take(batch.num_rows()) {
            for cell in &columns {
                write_cell(cell(row)?.as_deref().unwrap_or("NULL"), out);
            }
            out.extend_from_slice(b" |\n");
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.begin(out);
        self.budget.write_rest(out);
        Ok(())
    }
}

fn write_cell(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(if out.last().is_none_or(|byte| *byte == b'\n') {
        b"| "
    } else {
        b" | "
    });
    out.extend_from_slice(one_line(text).replace('|', "\\|").as_bytes());
}

/// How many rows may still be printed, and how many were only counted.
pub(super) struct RowBudget {
    limit: usize,
    shown: usize,
    counted: usize,
}

impl RowBudget {
    /// A budget of rows; 0: without limit.
    pub(super) fn new(limit: usize) -> Self {
        RowBudget {
            limit: if limit == 0 { usize::MAX } else { limit },
            shown: 0,
            counted: 0,
        }
    }

    /// Of `rows` further rows, how many to print.
    pub(super) fn take(&mut self, rows: usize) -> usize {
        let taken = rows.min(self.limit - self.shown);
        self.shown += taken;
        self.counted += rows;
        taken
    }

    /// A line on what was not printed, if anything was not.
    pub(super) fn write_rest(&self, out: &mut Vec<u8>) {
        let rest = self.counted - self.shown;
        if rest > 0 {
            let noun = if rest == 1 { "row" } else { "rows" };
            let line = format!("… {rest} more {noun} ({} in all, {} shown)\n", self.counted, self.shown);
            out.extend_from_slice(line.as_bytes());
        }
    }
}
