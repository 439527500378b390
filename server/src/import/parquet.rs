//! Parquet files, row group by row group.

use std::fs::File;
use std::path::Path;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::ReadOptions;
use super::rows::Rows;
use crate::progress::Progress;

/// Opens a Parquet file.
pub fn open(path: &Path, options: &ReadOptions, progress: Progress) -> Result<Rows, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let bytes = file.metadata().map_err(|error| error.to_string())?.len();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| error.to_string())?;
    let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0).max(1);
    let reader = builder
        .with_batch_size(options.batch_rows)
        .build()
        .map_err(|error| error.to_string())?;
    let schema = ::arrow::array::RecordBatchReader::schema(&reader);
    let batches = reader.inspect(move |batch| {
        // Bytes are read in an order of their own; the share of rows stands for them.
        let read = batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
        progress.add_bytes((u128::from(bytes) * u128::from(read) / u128::from(rows)) as u64);
    });
    Ok(Rows {
        schema,
        batches: Box::new(batches),
    })
}
