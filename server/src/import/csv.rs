//! CSV: names from the first line, types from a sample. An empty field is null.

use std::io::{Cursor, Read};

use ::arrow::csv::ReaderBuilder;
use ::arrow::csv::reader::Format;
use ::arrow::datatypes::{DataType, SchemaRef};

use super::ReadOptions;
use super::rows::Rows;
use super::sample::{Sampled, with_target};

/// Opens CSV text.
pub fn open(input: impl Read + Send + 'static, options: &ReadOptions, target: Option<&SchemaRef>) -> Result<Rows, String> {
    let sampled = Sampled::new(input).map_err(|error| error.to_string())?;
    let format = Format::default().with_header(options.header).with_delimiter(options.delimiter);
    // A sample may end within a record: that record's missing fields do not count here, but do when the data is read.
    let sampling = format.clone().with_truncated_rows(!sampled.whole);
    let (inferred, _) = sampling
        .infer_schema(Cursor::new(sampled.lines()), Some(options.sample_rows))
        .map_err(|error| error.to_string())?;
    if inferred.fields().is_empty() {
        return Err("there are no columns".into());
    }
    let schema = with_target(inferred.fields().iter().cloned().collect(), target, is_readable);
    let reader = ReaderBuilder::new(schema.clone())
        .with_format(format)
        .with_batch_size(options.batch_rows)
        .build(sampled.into_reader());
    Ok(Rows {
        schema,
        batches: Box::new(reader.map_err(|error| error.to_string())?),
    })
}

/// Types that the CSV reader makes from text; the others come in as text and are cast by the ingest.
fn is_readable(kind: &DataType) -> bool {
    use DataType::{Boolean, Date32, Date64, Decimal128, Decimal256, Time32, Time64, Timestamp, Utf8};
    let timed = matches!(kind, Date32 | Date64 | Time32(_) | Time64(_) | Timestamp(..));
    timed
        || kind.is_integer()
        || matches!(
            kind,
            DataType::Float32 | DataType::Float64 | Boolean | Decimal128(..) | Decimal256(..) | Utf8
        )
}
