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
use pyralog_models::rdf::{RdfLoad, RdfLoaded};

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
    /// Whether faults of RDF are passed over and told at the end.
    pub lenient: bool,
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
            lenient: config.flag("lenient")?,
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
        let total = if is_stdin {
            None
        } else {
            Some(std::fs::metadata(file).map_err(|error| format!("{name}: {error}"))?.len())
        };
        let progress = Progress::new(&name, total);
        let imported = match format {
            ImportFormat::Rdf(format) => import_rdf(connection.as_ref(), table, file, format, options, &progress).await,
            format => import_rows(connection.as_ref(), table, file, format, options, &progress).await,
        };
        progress.finish();
        let (count, faults) = imported.map_err(|problem| format!("{name}: {problem}"))?;
        eprintln!(
            "{name}: {count} rows in {:.2} s, {}",
            progress.elapsed().as_secs_f64(),
            rate(count, progress.elapsed())
        );
        tell(&name, &faults);
        all += count;
    }
    Ok(Imported { rows: all })
}

/// A file of rows into a table; how many came.
async fn import_rows(
    connection: &dyn Connection,
    table: &TableName,
    file: &Path,
    format: ImportFormat,
    options: &ReadOptions,
    progress: &Progress,
) -> Result<(u64, RdfLoaded), String> {
    let told = |error: StatementError| error.to_string();
    let target = columns(connection, table).await.map_err(told)?;
    let opening = (file.to_owned(), options.clone(), progress.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let (file, options, progress) = opening;
        open(&file, format, &options, target.as_ref(), progress)
    });
    // A decoder that panics on a damaged file is an error of this file, not the end of the process.
    let rows = opened.await.map_err(|error| format!("cannot be read: {error}"))??;
    let count = connection.ingest(table, rows.into_stream(progress.clone())).await.map_err(told)?;
    Ok((count, RdfLoaded::default()))
}

/// A file of RDF into a dataset, which is made if it is not there; how many quads came, and what was passed over.
async fn import_rdf(
    connection: &dyn Connection,
    table: &TableName,
    file: &Path,
    format: RdfFormat,
    options: &ReadOptions,
    progress: &Progress,
) -> Result<(u64, RdfLoaded), String> {
    let told = |error: StatementError| match error.position {
        Some(place) => format!("line {}, column {}: {error}", place.line, place.column),
        None => error.to_string(),
    };
    let opening = (file.to_owned(), progress.clone());
    let opened = tokio::task::spawn_blocking(move || open_text(&opening.0, opening.1));
    let input = opened.await.map_err(|error| format!("cannot be read: {error}"))??;
    let made = make_dataset(connection, table).await.map_err(told)?;
    let load = RdfLoad {
        dataset: (table.schema.clone(), table.table.clone()),
        format,
        base: (file.as_os_str() != "-").then(|| rdf::file_iri(file)).flatten(),
        graph: None,
        lenient: options.lenient,
    };
    let loaded = connection.load(load, rdf::pieces(input)).await;
    if made && loaded.is_err() {
        connection
            .execute(&format!("DROP COLLECTION {}", table.sql()))
            .await
            .map_err(told)?;
    }
    let loaded = loaded.map_err(told)?;
    Ok((loaded.quads, loaded))
}

/// Says on standard error what was passed over.
fn tell(name: &str, loaded: &RdfLoaded) {
    for fault in &loaded.told {
        let place = fault.place.map(|(line, column)| format!("line {line}, column {column}: "));
        eprintln!("{name}: skipped: {}{}", place.unwrap_or_default(), fault.message);
    }
    let untold = loaded.faults - loaded.told.len() as u64;
    if untold > 0 {
        eprintln!("{name}: skipped: {untold} more");
    }
    if loaded.faults > 0 {
        eprintln!("{name}: {} faults were passed over", loaded.faults);
    }
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
    let input = open_text(file, progress)?;
    match format {
        ImportFormat::Csv => csv::open(input, options, target),
        ImportFormat::Json => json::open(input, options, target),
        ImportFormat::Arrow | ImportFormat::Parquet => arrow_stream::open(input),
        ImportFormat::Rdf(_) => Err("RDF has no rows".into()),
    }
}

/// What is in a file, or comes from standard input, without its compression.
fn open_text(file: &Path, progress: Progress) -> Result<Box<dyn Read + Send>, String> {
    let input: Box<dyn Read + Send> = if file.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(file).map_err(|e| e.to_string())?)
    };
    let (compression, _) = Compression::of_path(file);
    compression
        .decode(CountingReader::new(input, progress))
        .map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
