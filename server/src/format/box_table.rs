//! A table with borders. Widths need all printed rows, so that rows up to the budget are held as text; the others are counted.
//!
//! Without a budget, the table goes out in blocks of [`BLOCK_ROWS`], each with its own widths: memory stays bounded.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::markdown::RowBudget;
use super::text::{cells, is_right_aligned, one_line};
use super::{Look, RowWriter};

/// Rows held before a block is written.
const BLOCK_ROWS: usize = 10_000;
/// A cell shows so many columns of a terminal.
const CELL_WIDTH: usize = 200;
/// A cell shows so many lines.
const CELL_LINES: usize = 200;

/// A cell's lines; `None` is null.
type Cell = Option<Vec<String>>;

/// Writes a table with borders.
pub(super) struct BoxWriter {
    names: Vec<String>,
    right: Vec<bool>,
    color: bool,
    budget: RowBudget,
    rows: Vec<Vec<Cell>>,
    written: bool,
}

impl BoxWriter {
    pub(super) fn new(schema: &SchemaRef, look: Look) -> Self {
        BoxWriter {
            names: schema.fields().iter().map(|field| clip(&one_line(field.name()))).collect(),
            right: schema.fields().iter().map(|field| is_right_aligned(field.data_type())).collect(),
            color: look.color,
            budget: RowBudget::new(look.max_rows),
            rows: Vec::new(),
            written: false,
        }
    }

    fn write_block(&mut self, out: &mut Vec<u8>) {
        let rows = std::mem::take(&mut self.rows);
        let mut widths: Vec<usize> = self.names.iter().map(|name| name.width()).collect();
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(lines(cell).map(UnicodeWidthStr::width).max().unwrap_or(0));
            }
        }
        rule(["┌", "┬", "┐"], &widths, out);
        let header: Vec<Cell> = self.names.iter().map(|name| Some(vec![name.clone()])).collect();
        self.write_row(&header, &widths, out);
        rule(["├", "┼", "┤"], &widths, out);
        for row in &rows {
            self.write_row(row, &widths, out);
        }
        rule(["└", "┴", "┘"], &widths, out);
        self.written = true;
    }

    fn write_row(&self, row: &[Cell], widths: &[usize], out: &mut Vec<u8>) {
        let height = row.iter().map(|cell| lines(cell).count()).max().unwrap_or(0).max(1);
        for line in 0..height {
            for ((cell, width), right) in row.iter().zip(widths).zip(&self.right) {
                let text = lines(cell).nth(line).unwrap_or("");
                let padding = " ".repeat(width - text.width());
                let (dim, plain) = if cell.is_none() && self.color {
                    ("\u{1b}[2m", "\u{1b}[0m")
                } else {
                    ("", "")
                };
                let (before, behind) = if *right { (padding.as_str(), "") } else { ("", padding.as_str()) };
                out.extend_from_slice(format!("│ {before}{dim}{text}{plain}{behind} ").as_bytes());
            }
            out.extend_from_slice("│\n".as_bytes());
        }
    }
}

/// The lines that stand in a cell's place.
fn lines(cell: &Cell) -> impl Iterator<Item = &str> {
    let null = cell.is_none().then_some("NULL");
    null.into_iter().chain(cell.iter().flatten().map(String::as_str))
}

/// A value's lines, each fit for a cell.
fn layout(text: &str) -> Vec<String> {
    let mut shown: Vec<String> = text.split('\n').take(CELL_LINES).map(|line| clip(&one_line(line))).collect();
    // Plans and documents end in a line end; an empty last line would say nothing.
    if shown.len() > 1 && shown.last().is_some_and(String::is_empty) {
        shown.pop();
    }
    shown
}

impl RowWriter for BoxWriter {
    fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let columns = cells(batch)?;
        for row in 0..self.budget.take(batch.num_rows()) {
            let mut texts = Vec::with_capacity(columns.len());
            for cell in &columns {
                texts.push(cell(row)?.map(|text| layout(&text)));
            }
            self.rows.push(texts);
            if self.rows.len() >= BLOCK_ROWS {
                self.write_block(out);
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        if !self.names.is_empty() && (!self.rows.is_empty() || !self.written) {
            self.write_block(out);
        }
        self.budget.write_rest(out);
        Ok(())
    }
}

fn rule([left, middle, right]: [&str; 3], widths: &[usize], out: &mut Vec<u8>) {
    let lines: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
    out.extend_from_slice(format!("{left}{}{right}\n", lines.join(middle)).as_bytes());
}

/// The text, cut to [`CELL_WIDTH`] with `…` at its end.
fn clip(text: &str) -> String {
    if text.len() <= CELL_WIDTH || text.width() <= CELL_WIDTH {
        return text.to_owned();
    }
    let mut width = 0;
    let kept = text.chars().take_while(|c| {
        width += c.width().unwrap_or(0);
        width < CELL_WIDTH
    });
    kept.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_keep_their_lines() {
        assert_eq!(layout("Sort\n  Scan\n"), ["Sort", "  Scan"]);
        assert_eq!(layout(""), [""]);
        assert_eq!(layout("\u{1b}[31m"), ["\\u{1b}[31m"]);
        assert_eq!(layout(&"x\n".repeat(1000)).len(), CELL_LINES);
    }

    #[test]
    fn long_cells_are_cut() {
        assert_eq!(clip("short"), "short");
        let cut = clip(&"長".repeat(200));
        assert!(cut.ends_with('…') && cut.width() <= CELL_WIDTH);
    }
}
