//! Result formats: Arrow batches in, bytes out, one batch at a time.
//!
//! The HTTP wire, the shell and `pyralog export` share these writers. A writer never holds more than the batch it was given, except
//! [`Format::Box`] and its like (up to a row budget) and Parquet (one row group).

mod box_table;
mod columnar;
mod csv;
mod json;
pub mod json_value;
mod line;
mod markdown;
pub mod sql_type;
pub mod text;
mod triples;

use std::path::Path;
use std::str::FromStr;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

pub use triples::Triples;

/// A result format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A table with borders, for eyes.
    Box,
    /// RFC 4180 with a header line.
    Csv,
    /// One array of objects.
    Json,
    /// An object a line.
    Ndjson,
    /// A Markdown table.
    Markdown,
    /// A line a value, a paragraph a row.
    Line,
    /// An Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
}

/// All formats by name.
pub const FORMATS: &[(&str, Format)] = &[
    ("box", Format::Box),
    ("csv", Format::Csv),
    ("json", Format::Json),
    ("ndjson", Format::Ndjson),
    ("markdown", Format::Markdown),
    ("line", Format::Line),
    ("arrow", Format::Arrow),
    ("parquet", Format::Parquet),
];

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = text.to_ascii_lowercase();
        FORMATS
            .iter()
            .find(|(name, _)| *name == wanted)
            .map(|(_, format)| *format)
            .ok_or_else(|| {
                let names: Vec<&str> = FORMATS.iter().map(|(name, _)| *name).collect();
                format!("`{text}` is not a format; there are {}", names.join(", "))
            })
    }
}

impl Format {
    /// The format's name.
    pub fn name(self) -> &'static str {
        FORMATS.iter().find(|(_, format)| *format == self).map_or("box", |(name, _)| name)
    }

    /// Whether the bytes are not for a terminal.
    pub fn is_binary(self) -> bool {
        matches!(self, Format::Arrow | Format::Parquet)
    }

    /// The format that a file's name says.
    pub fn of_path(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Format::Csv),
            "json" => Some(Format::Json),
            "ndjson" | "jsonl" => Some(Format::Ndjson),
            "md" => Some(Format::Markdown),
            "arrow" | "arrows" | "ipc" | "feather" => Some(Format::Arrow),
            "parquet" | "pq" => Some(Format::Parquet),
            _ => None,
        }
    }

    /// A writer for rows of `schema`.
    pub fn writer(self, schema: &SchemaRef, look: Look) -> Result<Box<dyn RowWriter>, ArrowError> {
        Ok(match self {
            Format::Box => Box::new(box_table::BoxWriter::new(schema, look)),
            Format::Csv => Box::new(csv::CsvWriter::new(schema)),
            Format::Json => Box::new(json::ObjectWriter::array(schema)),
            Format::Ndjson => Box::new(json::ObjectWriter::lines(schema)),
            Format::Markdown => Box::new(markdown::MarkdownWriter::new(schema, look)),
            Format::Line => Box::new(line::LineWriter::new(schema, look)),
            Format::Arrow => Box::new(columnar::ArrowStream::new(schema)?),
            Format::Parquet => Box::new(columnar::ParquetFile::new(schema)?),
        })
    }
}

/// How results for eyes look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// Rows printed before the rest is only counted; 0: all.
    pub max_rows: usize,
    /// Whether ANSI colours may be used.
    pub color: bool,
}

/// Writes rows in one format. Calls come in order: `batch` any number of times, then `finish` once.
pub trait RowWriter: Send {
    /// Appends the bytes of a batch (and before the first, whatever the format begins with).
    fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError>;

    /// Appends what the format ends with.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ArrowError>;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, Int64Array, StringArray};

    fn sample() -> RecordBatch {
        let id: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let name: ArrayRef = Arc::new(StringArray::from(vec![Some("a,\"b\""), Some("")]));
        let key: ArrayRef = Arc::new(BinaryArray::from_opt_vec(vec![Some(b"k"), Some(b"\x00\xff")]));
        RecordBatch::try_from_iter([("id", id), ("name", name), ("key", key)]).unwrap()
    }

    fn print(format: Format, batches: &[RecordBatch], look: Look) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = format.writer(&sample().schema(), look).unwrap();
        for batch in batches {
            writer.batch(batch, &mut out).unwrap();
        }
        writer.finish(&mut out).unwrap();
        out
    }

    fn text(format: Format) -> String {
        String::from_utf8(print(format, &[sample()], Look::default())).unwrap()
    }

    #[test]
    fn every_name_reads_back() {
        for (name, format) in FORMATS {
            assert_eq!(name.parse::<Format>().unwrap(), *format);
            assert_eq!(format.name(), *name);
        }
        assert!("xml".parse::<Format>().unwrap_err().contains("markdown"));
    }

    #[test]
    fn csv_tells_null_from_empty() {
        assert_eq!(text(Format::Csv), "id,name,key\r\n1,\"a,\"\"b\"\"\",k\r\n,\"\",\\x00ff\r\n");
    }

    #[test]
    fn json_and_ndjson() {
        assert_eq!(
            text(Format::Json),
            "[\n{\"id\":1,\"name\":\"a,\\\"b\\\"\",\"key\":\"aw==\"},\n{\"id\":null,\"name\":\"\",\"key\":\"AP8=\"}\n]\n"
        );
        assert_eq!(text(Format::Ndjson).lines().count(), 2);
        let empty = String::from_utf8(print(Format::Json, &[], Look::default())).unwrap();
        assert_eq!(empty, "[]\n");
    }

    #[test]
    fn markdown_escapes_bars() {
        assert_eq!(
            text(Format::Markdown),
            "| id | name | key |\n|---:|---|---|\n| 1 | a,\"b\" | k |\n| NULL |  | \\x00ff |\n"
        );
    }

    #[test]
    fn line_has_a_paragraph_a_row() {
        assert_eq!(
            text(Format::Line),
            "  id = 1\nname = a,\"b\"\n key = k\n\n  id = NULL\nname = \n key = \\x00ff\n\n"
        );
    }

    #[test]
    fn box_elides_behind_the_budget() {
        let out = String::from_utf8(print(Format::Box, &[sample(), sample()], Look { max_rows: 3, color: false })).unwrap();
        let expected = "┌──────┬───────┬────────┐\n│   id │ name  │ key    │\n├──────┼───────┼────────┤\n│    1 │ a,\"b\" │ k      │\n\
                        │ NULL │       │ \\x00ff │\n│    1 │ a,\"b\" │ k      │\n└──────┴───────┴────────┘\n… 1 more row (4 in all, 3 shown)\n";
        assert_eq!(out, expected);
    }

    #[test]
    fn binary_formats_read_back() {
        let out = print(Format::Arrow, &[sample(), sample()], Look::default());
        let read: Vec<RecordBatch> = arrow::ipc::reader::StreamReader::try_new(out.as_slice(), None)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(read, vec![sample(), sample()]);
        let out = print(Format::Parquet, &[sample(), sample()], Look::default());
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes::Bytes::from(out), 10).unwrap();
        assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 4);
    }
}
