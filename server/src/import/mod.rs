//! `pyralog import`: files into a table, streamed, so that memory does not depend on a file's size.
//!
//! A reader thread decodes batches into a short channel; the connection ingests from it. Each file is one atomic change.

mod arrow_stream;
mod csv;
mod json;
mod json_array;
mod parquet;
pub mod rdf;
pub mod rows;
mod sample;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::arrow::datatypes::SchemaRef;
use oxrdfio::RdfFormat;

use crate::compression::Compression;
use crate::config::Config;
use crate::progress::{CountingReader, Progress, rate};
use crate::rdf_format;
use crate::shell::connection::{Connection, StatementError, TableName};
use rows::Rows;

pub use csv::open as read_csv;

/// A format of import files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportFormat {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values.
    Csv,
    /// JSON: an array of objects, or objects one behind the other (so also NDJSON).
    Json,
    /// An Arrow IPC stream or file.
    Arrow,
    /// A syntax of RDF.
    Rdf(RdfFormat),
}

impl ImportFormat {
    /// A format by name.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name.to_ascii_lowercase().as_str() {
            "parquet" => Ok(ImportFormat::Parquet),
            "csv" => Ok(ImportFormat::Csv),
            "json" | "ndjson" | "jsonl" => Ok(ImportFormat::Json),
            "arrow" => Ok(ImportFormat::Arrow),
            "safetensors" | "npy" | "zarr" => Err(format!("import of {name} is not supported by this version")),
            other => rdf_format::parse(other).map(ImportFormat::Rdf).ok_or_else(|| format!(
                "`{name}` is not an import format; there are parquet, csv, json, ndjson, arrow, nt, nq, ttl, trig, n3, rdf/xml and jsonld"
            )),
        }
    }

    /// The format that a file's name says.
    pub fn of_path(path: &Path) -> Result<Self, String> {
        let (_, inner) = Compression::of_path(path);
        let extension = inner
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or("")
            .to_ascii_lowercase();
        let name = match extension.as_str() {
            "pq" => "parquet",
            "tsv" | "txt" => "csv",
            "arrows" | "ipc" | "feather" => "arrow",
            other => other,
        };
        Self::parse(name).map_err(|problem| {
            if extension.is_empty() {
                format!("{}: give --format, as the name does not say it", path.display())
            } else {
                problem
            }
        })
    }
}

/// How files are read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// Rows a batch.
    pub batch_rows: usize,
    /// Rows that types are inferred from.
    pub sample_rows: usize,
    /// Whether the first CSV line holds names.
    pub header: bool,
    /// What stands between CSV fields.
    pub delimiter: u8,
}

impl ReadOptions {
    /// Options from the configuration.
    pub fn of(config: &Config) -> Result<Self, String> {
        let delimiter = match config.text("delimiter") {
            Some("\\t" | "tab") => b'\t',
            Some(text) if text.len() == 1 => text.as_bytes()[0],
            _ => return Err("delimiter must be one ASCII character, or tab".into()),
        };
        let batch_rows = config.number("batch-rows")?;
        let sample_rows = config.number("sample-rows")?;
        if batch_rows == 0 || batch_rows > 1 << 20 || sample_rows == 0 {
            return Err("batch-rows must be between 1 and 1048576, sample-rows at least 1".into());
        }
        Ok(ReadOptions {
            batch_rows,
            sample_rows,
            header: config.flag("header")?,
            delimiter,
        })
    }
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Rows that came in.
    pub rows: u64,
}

/// Imports files into a table; `-` is standard input. Says each file's rows and rate on standard error.
pub async fn import(
    connection: &Arc<dyn Connection>,
    table: &TableName,
    files: &[PathBuf],
    format: Option<ImportFormat>,
    options: &ReadOptions,
) -> Result<Imported, String> {
    let mut all = 0;
    for file in files {
        let name = file.display().to_string();
        let is_stdin = name == "-";
        let format = match format {
            Some(format) => format,
            None if is_stdin => return Err("standard input needs --format".into()),
            None => ImportFormat::of_path(file)?,
        };
        let told = |error: StatementError| format!("{name}: {error}");
        let (target, made) = match format {
            // It says the types of its terms itself.
            ImportFormat::Rdf(_) => (None, make_dataset(connection.as_ref(), table).await.map_err(told)?),
            _ => (columns(connection.as_ref(), table).await.map_err(told)?, false),
        };
        let total = if is_stdin {
            None
        } else {
            Some(std::fs::metadata(file).map_err(|error| format!("{name}: {error}"))?.len())
        };
        let progress = Progress::new(&name, total);
        let opening = (file.clone(), options.clone(), progress.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let (file, options, progress) = opening;
            open(&file, format, &options, target.as_ref(), progress)
        });
        // A decoder that panics on a damaged file is an error of this file, not the end of the process.
        let rows = opened
            .await
            .map_err(|error| format!("{name}: cannot be read: {error}"))
            .and_then(|rows| rows.map_err(|problem| format!("{name}: {problem}")));
        let ingested = match rows {
            Ok(rows) => connection.ingest(table, rows.into_stream(progress.clone())).await.map_err(told),
            Err(problem) => Err(problem),
        };
        progress.finish();
        if made && ingested.is_err() {
            connection
                .execute(&format!("DROP COLLECTION {}", table.sql()))
                .await
                .map_err(told)?;
        }
        let count = ingested?;
        eprintln!(
            "{name}: {count} rows in {:.2} s, {}",
            progress.elapsed().as_secs_f64(),
            rate(count, progress.elapsed())
        );
        all += count;
    }
    Ok(Imported { rows: all })
}

/// Makes a dataset if it is not there; whether it was made.
async fn make_dataset(connection: &dyn Connection, dataset: &TableName) -> Result<bool, StatementError> {
    match connection.execute(&format!("SELECT 1 FROM {}.quads LIMIT 0", dataset.sql())).await {
        Ok(_) => Ok(false),
        Err(error) if error.is_missing_table() => {
            connection.execute(&format!("CREATE COLLECTION {} AS RDF", dataset.sql())).await?;
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// The table's columns, if it is there: their types win over inferred ones, so that `00123` stays text in a text column.
async fn columns(connection: &dyn Connection, table: &TableName) -> Result<Option<SchemaRef>, StatementError> {
    match connection.execute(&format!("SELECT * FROM {} LIMIT 0", table.sql())).await {
        Ok(outcome) => Ok(Some(outcome.schema)),
        Err(error) if error.is_missing_table() => Ok(None),
        Err(error) => Err(error),
    }
}

fn open(file: &Path, format: ImportFormat, options: &ReadOptions, target: Option<&SchemaRef>, progress: Progress) -> Result<Rows, String> {
    let is_stdin = file.as_os_str() == "-";
    if format == ImportFormat::Parquet {
        return if is_stdin {
            Err("Parquet needs a file: its index stands at the end".into())
        } else {
            parquet::open(file, options, progress)
        };
    }
    let input: Box<dyn Read + Send> = if is_stdin {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(file).map_err(|e| e.to_string())?)
    };
    let (compression, _) = Compression::of_path(file);
    let input = compression
        .decode(CountingReader::new(input, progress))
        .map_err(|error| error.to_string())?;
    match format {
        ImportFormat::Rdf(format) => rdf::open(input, format, Some(file).filter(|_| !is_stdin), options),
        ImportFormat::Csv => csv::open(input, options, target),
        ImportFormat::Json => json::open(input, options, target),
        ImportFormat::Arrow | ImportFormat::Parquet => arrow_stream::open(input),
    }
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
