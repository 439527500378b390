//! `pyralog export`: a table into a file, streamed. The file appears under its name when it is whole.

mod rdf;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt;
use oxrdfio::RdfFormat;

use crate::compression::Compression;
use crate::format::{Format, Look};
use crate::progress::{Progress, rate};
use crate::rdf_format;
use crate::shell::connection::{Connection, Outcome, TableName};

/// Formats that keep the contents; the others are for eyes.
const FORMATS: [Format; 5] = [Format::Parquet, Format::Csv, Format::Json, Format::Ndjson, Format::Arrow];

/// A format of exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// Of a table.
    Table(Format),
    /// Of a dataset.
    Rdf(RdfFormat),
}

impl ExportFormat {
    /// Whether the bytes are not for a terminal.
    pub fn is_binary(self) -> bool {
        matches!(self, ExportFormat::Table(format) if format.is_binary())
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            ExportFormat::Table(format) => format.name(),
            ExportFormat::Rdf(format) => format.name(),
        }
    }
}

/// The format of an export: as asked for, or by the output's name.
pub fn format_of(name: Option<&str>, output: Option<&Path>) -> Result<ExportFormat, String> {
    let format = match (name, output) {
        (Some(name), _) => match rdf_format::parse(name) {
            Some(format) => ExportFormat::Rdf(format),
            None => ExportFormat::Table(name.parse()?),
        },
        (None, Some(path)) => {
            let (_, inner) = Compression::of_path(path);
            let rdf = rdf_format::of_path(inner).map(ExportFormat::Rdf);
            rdf.or_else(|| Format::of_path(inner).map(ExportFormat::Table))
                .ok_or_else(|| format!("{}: give --format, as the name does not say it", path.display()))?
        }
        (None, None) => return Err("give --format for standard output".into()),
    };
    match format {
        ExportFormat::Table(format) if !FORMATS.contains(&format) => Err(format!(
            "`{}` is for eyes; export writes parquet, csv, json, ndjson or arrow, and of datasets nt, nq, ttl, trig, n3, rdf/xml or jsonld",
            format.name()
        )),
        format => Ok(format),
    }
}

/// Writes all rows of a table to `output`, or to standard output. How many they were.
pub async fn export(
    connection: &Arc<dyn Connection>,
    table: &TableName,
    format: ExportFormat,
    output: Option<&Path>,
) -> Result<u64, String> {
    let sql = match format {
        ExportFormat::Table(_) => format!("SELECT * FROM {}", table.sql()),
        ExportFormat::Rdf(_) => format!("SELECT * FROM {}.quads", table.sql()),
    };
    let outcome = connection.execute(&sql).await.map_err(|error| error.to_string())?;
    let progress = Progress::new(&table.table, None);
    let rows = match output {
        None => write(outcome, format, &mut io::stdout().lock(), &progress).await,
        Some(path) => to_file(outcome, format, path, &progress).await,
    };
    progress.finish();
    let rows = rows?;
    eprintln!(
        "{rows} rows in {:.2} s, {}",
        progress.elapsed().as_secs_f64(),
        rate(rows, progress.elapsed())
    );
    Ok(rows)
}

/// Writes next to the target and renames at the end; what was there stays until then. A failed export leaves nothing.
async fn to_file(outcome: Outcome, format: ExportFormat, path: &Path, progress: &Progress) -> Result<u64, String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let partial = Partial::new(path)?;
    let file = BufWriter::with_capacity(1 << 20, File::create_new(&partial.path).map_err(failed)?);
    let (compression, _) = Compression::of_path(path);
    let mut file = compression.encode(file).map_err(failed)?;
    let rows = write(outcome, format, &mut file, progress).await?;
    let file = file.finish().map_err(failed)?;
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    partial.publish(path).map_err(failed)?;
    Ok(rows)
}

async fn write(outcome: Outcome, format: ExportFormat, target: &mut impl Write, progress: &Progress) -> Result<u64, String> {
    match format {
        ExportFormat::Table(format) => write_table(outcome, format, target, progress).await,
        ExportFormat::Rdf(format) => rdf::write(outcome, format, target, progress).await,
    }
}

async fn write_table(mut outcome: Outcome, format: Format, target: &mut impl Write, progress: &Progress) -> Result<u64, String> {
    let unwritable = |error: ::arrow::error::ArrowError| format!("cannot be written as {}: {error}", format.name());
    let mut writer = format.writer(&outcome.schema, Look::default()).map_err(unwritable)?;
    let mut rows = 0;
    let mut out = Vec::new();
    while let Some(batch) = outcome.rows.next().await {
        let batch = batch.map_err(|error| error.to_string())?;
        writer.batch(&batch, &mut out).map_err(unwritable)?;
        target.write_all(&out).map_err(|error| error.to_string())?;
        out.clear();
        rows += batch.num_rows() as u64;
        progress.add_rows(batch.num_rows() as u64);
    }
    writer.finish(&mut out).map_err(unwritable)?;
    target
        .write_all(&out)
        .and_then(|()| target.flush())
        .map_err(|error| error.to_string())?;
    Ok(rows)
}

/// A half-written file; removed when dropped, unless it was published.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn new(target: &Path) -> Result<Self, String> {
        let name = target
            .file_name()
            .ok_or_else(|| format!("{} is not a file's name", target.display()))?;
        let mut partial = std::ffi::OsString::from(".");
        partial.push(name);
        partial.push(format!(".{}.partial", std::process::id()));
        Ok(Partial {
            path: target.with_file_name(partial),
        })
    }

    fn publish(self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a publish it is no longer there.
        let _gone = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ::arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use futures::stream;

    use crate::shell::connection::StatementError;

    fn outcome(end: Option<StatementError>) -> Outcome {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let schema = batch.schema();
        let rows = [Ok(batch)].into_iter().chain(end.map(Err));
        Outcome {
            schema,
            tag: "SELECT".into(),
            affected: None,
            rows: stream::iter(rows.collect::<Vec<_>>()).boxed(),
        }
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("pyralog-export-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[tokio::test]
    async fn a_whole_file_takes_the_name() {
        let dir = scratch("whole");
        let path = dir.join("t.csv");
        fs::write(&path, "old").unwrap();
        let progress = Progress::new("t", None);
        assert_eq!(
            to_file(outcome(None), ExportFormat::Table(Format::Csv), &path, &progress).await,
            Ok(2)
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "n\r\n1\r\n2\r\n");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_failed_export_leaves_what_was_there() {
        let dir = scratch("failed");
        let path = dir.join("t.csv");
        fs::write(&path, "old").unwrap();
        let progress = Progress::new("t", None);
        assert!(
            to_file(
                outcome(Some(StatementError::connection("gone"))),
                ExportFormat::Table(Format::Csv),
                &path,
                &progress
            )
            .await
            .is_err()
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn formats() {
        let table = |format| Ok(ExportFormat::Table(format));
        assert_eq!(format_of(None, Some(Path::new("a.parquet"))), table(Format::Parquet));
        assert_eq!(format_of(Some("csv"), None), table(Format::Csv));
        assert_eq!(format_of(None, Some(Path::new("a.csv.gz"))), table(Format::Csv));
        assert_eq!(
            format_of(None, Some(Path::new("a.ttl.zst"))),
            Ok(ExportFormat::Rdf(RdfFormat::Turtle))
        );
        assert!(format_of(Some("box"), None).is_err());
        assert!(format_of(None, None).is_err());
    }
}
