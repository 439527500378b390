//! Decoded rows of a file, and their way from a blocking reader to an asynchronous ingest.

use ::arrow::array::RecordBatch;
use ::arrow::datatypes::SchemaRef;
use ::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use pyralog_models::{Error, ErrorKind};

use crate::progress::Progress;

/// Batches that wait between reader and ingest.
const BATCHES_IN_FLIGHT: usize = 2;

/// A file's rows as they are decoded.
pub struct Rows {
    /// Their columns.
    pub schema: SchemaRef,
    /// Batches; each call may block on the file.
    pub batches: Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>,
}

impl Rows {
    /// A stream whose reader runs on a blocking thread and waits while the ingest is behind. Dropping the stream ends the reader.
    pub fn into_stream(self, progress: Progress) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema, BATCHES_IN_FLIGHT);
        let sender = builder.tx();
        let batches = self.batches;
        builder.spawn_blocking(move || {
            for batch in batches {
                let batch = batch.map_err(unreadable);
                let (rows, failed) = batch.as_ref().map_or((0, true), |batch| (batch.num_rows() as u64, false));
                if sender.blocking_send(batch).is_err() || failed {
                    break;
                }
                progress.add_rows(rows);
            }
            Ok(())
        });
        builder.build()
    }
}

/// A file's fault, told as the statement's.
fn unreadable(error: ArrowError) -> DataFusionError {
    let message = match &error {
        ArrowError::CsvError(text) | ArrowError::JsonError(text) | ArrowError::IpcError(text) | ArrowError::ParseError(text) => {
            text.clone()
        }
        other => other.to_string(),
    };
    let error = Error::new(ErrorKind::InvalidInput, "22000", message);
    DataFusionError::External(Box::new(
        error.with_hint("if a type was inferred from too few rows, raise --sample-rows, or make the table first"),
    ))
}
