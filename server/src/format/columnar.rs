//! Arrow IPC streams and Parquet files. Both libraries write into a vector that is emptied behind each batch.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::RowWriter;

/// Bytes a Parquet row group may hold in memory before it is closed.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// Writes an Arrow IPC stream.
pub(super) struct ArrowStream {
    writer: StreamWriter<Vec<u8>>,
}

impl ArrowStream {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        Ok(ArrowStream {
            writer: StreamWriter::try_new(Vec::new(), schema)?,
        })
    }
}

impl RowWriter for ArrowStream {
    fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.writer.write(batch)?;
        out.append(self.writer.get_mut());
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.writer.finish()?;
        out.append(self.writer.get_mut());
        Ok(())
    }
}

/// Writes a Parquet file, compressed with zstd.
pub(super) struct ParquetFile {
    writer: Option<ArrowWriter<Vec<u8>>>,
}

impl ParquetFile {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .build();
        Ok(ParquetFile {
            writer: Some(ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties))?),
        })
    }
}

impl RowWriter for ParquetFile {
    fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let writer = self.writer.as_mut().ok_or_else(finished)?;
        writer.write(batch)?;
        if writer.in_progress_size() >= ROW_GROUP_BYTES {
            writer.flush()?;
        }
        out.append(writer.inner_mut());
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let writer = self.writer.take().ok_or_else(finished)?;
        out.append(&mut writer.into_inner()?);
        Ok(())
    }
}

fn finished() -> ArrowError {
    ArrowError::ParquetError("the Parquet file is finished already".into())
}
