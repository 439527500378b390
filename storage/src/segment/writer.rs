//! Writing a segment: rows come sorted, are cut into record batches, and go through a checksumming sink into the file.
//!
//! Of what is written only the side-car's facts stay in memory: bounds, blooms, keys and checksums of each batch.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, RecordBatch, UInt64Array};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_row::Rows;
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::chunk::{Chunk, Chunker};
use super::sidecar::{self, BatchEntry, COMPRESSED, FORMAT_KEY, PLAIN, SegmentFacts, write_error};
use super::sink::ChecksumSink;
use super::zones::ZoneBuilder;
use super::{SegmentInfo, TIMESTAMP_COLUMN, remove_segment, segment_path, sidecar_path};
use crate::bloom;
use crate::error::{Result, StorageError};
use crate::file::{create_dir, sync_dir};
use crate::ids::{SegmentId, Timestamp};
use crate::schema::RelationSchema;

/// The fastest level but the negative ones. Higher ones make dictionaries of RDF an eighth smaller, and take twice the time and more.
const ZSTD_LEVEL: i32 = 1;

/// How a segment is written.
#[derive(Debug, Clone, Copy)]
pub struct SegmentWriteOptions {
    /// Rows of a record batch, unless the relation's schema gives another number.
    pub batch_rows: usize,
    /// Whether rows carry commit timestamps of their own.
    pub timestamps: bool,
}

/// Writes one segment. Dropping it before [`Self::finish`] removes its files.
pub struct SegmentWriter {
    dir: PathBuf,
    id: SegmentId,
    relation: RelationSchema,
    options: SegmentWriteOptions,
    file_schema: SchemaRef,
    /// `None` once the segment is finished or given up.
    file: Option<FileWriter<ChecksumSink>>,
    chunker: Chunker,
    zones: Vec<ZoneBuilder>,
    entries: Vec<BatchEntry>,
    head_crc: u32,
    written_bytes: u64,
    written_rows: u64,
    last: Option<LastRow>,
    finished: bool,
}

/// The row before the next one, to check the order.
struct LastRow {
    key: Vec<u8>,
    ts: u64,
}

impl SegmentWriter {
    /// Starts `<id>.arrow` in `dir` (made if it is missing). A file of that name, left by a crash, is overwritten.
    pub fn create(dir: &Path, id: SegmentId, schema: &RelationSchema, options: SegmentWriteOptions) -> Result<Self> {
        schema.validate()?;
        create_dir(dir)?;
        let mut fields: Vec<_> = schema.schema.fields().iter().cloned().collect();
        if options.timestamps {
            fields.push(Arc::new(Field::new(TIMESTAMP_COLUMN, DataType::UInt64, false)));
        }
        let file_schema = Arc::new(Schema::new_with_metadata(fields, schema.schema.metadata().clone()));
        let path = segment_path(dir, id);
        let file = File::create(&path).map_err(StorageError::io(&path, "create"))?;
        let mut writer = SegmentWriter {
            dir: dir.to_owned(),
            id,
            relation: schema.clone(),
            options,
            file: None,
            chunker: Chunker::new(file_schema.clone(), schema.batch_rows().unwrap_or(options.batch_rows)),
            zones: schema.schema.fields().iter().map(|f| ZoneBuilder::new(f.data_type())).collect(),
            file_schema,
            entries: Vec::new(),
            head_crc: 0,
            written_bytes: 0,
            written_rows: 0,
            last: None,
            finished: false,
        };
        // From here on the writer's drop removes the file.
        let sink = ChecksumSink::new(file, writer.file_schema.clone());
        let (options, format) = match schema.is_compressed() {
            true => (compressed(), COMPRESSED),
            false => (Ok(IpcWriteOptions::default()), PLAIN),
        };
        let file = options.and_then(|options| FileWriter::try_new_with_options(sink, &writer.file_schema, options));
        let mut file = file.map_err(|e| write_error(&path, e))?;
        file.write_metadata(FORMAT_KEY, format.to_string());
        (_, writer.head_crc) = file.get_ref().plain_checksum().map_err(StorageError::io(&path, "write"))?;
        writer.written_bytes = file.get_ref().position();
        writer.file = Some(file);
        Ok(writer)
    }

    /// Adds rows in file order (key ascending, timestamp descending), continuing earlier calls. `keys`: one a row; `ts`: one a row iff
    /// `options.timestamps`. Rows are cut anew into batches of `batch_rows`. After an error the segment cannot be finished.
    pub fn append(&mut self, rows: &RecordBatch, keys: &Rows, ts: Option<&UInt64Array>) -> Result<()> {
        let result = self.check(rows, keys, ts).and_then(|()| self.append_checked(rows, keys, ts));
        if result.is_err() {
            self.file = None;
        }
        result
    }

    fn append_checked(&mut self, rows: &RecordBatch, keys: &Rows, ts: Option<&UInt64Array>) -> Result<()> {
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        columns.extend(ts.map(|ts| Arc::new(ts.clone()) as ArrayRef));
        let rows = RecordBatch::try_new(self.file_schema.clone(), columns).map_err(|e| self.mismatch(e.to_string()))?;
        let mut start = 0;
        while start < rows.num_rows() {
            let (taken, chunk) = self.chunker.take(&rows, keys, start)?;
            start += taken;
            if let Some(chunk) = chunk {
                self.write_chunk(chunk)?;
            }
        }
        Ok(())
    }

    /// Refuses what would break the reader's assumptions: order, one timestamp a row, positions that fit in 32 bits.
    fn check(&mut self, rows: &RecordBatch, keys: &Rows, ts: Option<&UInt64Array>) -> Result<()> {
        let count = rows.num_rows();
        if keys.num_rows() != count || ts.is_some() != self.options.timestamps || ts.is_some_and(|ts| ts.len() != count) {
            let ts = ts.map(|ts| ts.len());
            return Err(self.mismatch(format!("{count} rows come with {} keys and {ts:?} timestamps", keys.num_rows())));
        }
        if self.rows() + count as u64 > u64::from(u32::MAX) {
            return Err(self.mismatch(format!("a segment holds at most {} rows", u32::MAX)));
        }
        let ts_at = |row: usize| ts.map_or(0, |ts| ts.value(row));
        let in_order = |key: &[u8], ts: u64, next: usize| match key.cmp(keys.row(next).data()) {
            Ordering::Less => true,
            Ordering::Equal => ts > ts_at(next),
            Ordering::Greater => false,
        };
        let continues = count == 0 || self.last.as_ref().is_none_or(|last| in_order(&last.key, last.ts, 0));
        if !continues || !(1..count).all(|next| in_order(keys.row(next - 1).data(), ts_at(next - 1), next)) {
            return Err(self.mismatch("rows of a segment are not in key order".to_owned()));
        }
        if count > 0 {
            self.last = Some(LastRow {
                key: keys.row(count - 1).data().to_vec(),
                ts: ts_at(count - 1),
            });
        }
        Ok(())
    }

    fn write_chunk(&mut self, chunk: Chunk) -> Result<()> {
        let path = segment_path(&self.dir, self.id);
        for (zone, column) in self.zones.iter_mut().zip(chunk.rows.columns()) {
            zone.add(column);
        }
        let (min_ts, max_ts) = if self.options.timestamps {
            let ts = chunk
                .rows
                .column(chunk.rows.num_columns() - 1)
                .as_primitive::<UInt64Type>()
                .values();
            (ts.iter().copied().min().unwrap_or(0), ts.iter().copied().max().unwrap_or(0))
        } else {
            (0, 0)
        };
        let file = self.file.as_mut().ok_or_else(|| gone(&path))?;
        file.get_mut().begin_batch();
        file.write(&chunk.rows).map_err(|e| write_error(&path, e))?;
        let block = file.get_mut().end_batch().map_err(StorageError::io(&path, "write"))?;
        self.written_bytes = file.get_ref().position();
        let row_count = chunk.rows.num_rows() as u32;
        let bloom = bloom::build(&chunk.hashes);
        let Chunk { first_key, last_key, .. } = chunk;
        self.entries.push(BatchEntry {
            row_start: self.written_rows,
            row_count,
            first_key,
            last_key,
            bloom,
            block,
            min_ts,
            max_ts,
        });
        self.written_rows += u64::from(row_count);
        Ok(())
    }

    /// Bytes so far, roughly: rows that wait for their batch to fill are counted at the average size.
    pub fn bytes(&self) -> u64 {
        let waiting = self.chunker.waiting() as u64;
        self.written_bytes + (waiting * self.written_bytes).checked_div(self.written_rows).unwrap_or(waiting * 8)
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.written_rows + self.chunker.waiting() as u64
    }

    /// Writes what is left and the side-car, and syncs both files and the directory.
    pub fn finish(mut self) -> Result<SegmentInfo> {
        if let Some(chunk) = self.chunker.finish()? {
            self.write_chunk(chunk)?;
        }
        let path = segment_path(&self.dir, self.id);
        let tail_offset = self.written_bytes;
        let mut file = self.file.take().ok_or_else(|| gone(&path))?;
        let (tail_crc, bytes) = finish_file(&path, &mut file)?;
        let sink = file.into_inner().map_err(|e| write_error(&path, e))?;
        let file = sink.into_file().map_err(StorageError::io(&path, "write"))?;
        file.sync_data().map_err(StorageError::io(&path, "sync"))?;
        let info = self.finish_sidecar(tail_offset, tail_crc, bytes)?;
        self.finished = true;
        Ok(info)
    }

    fn finish_sidecar(&mut self, tail_offset: u64, tail_crc: u32, bytes: u64) -> Result<SegmentInfo> {
        let ids: Vec<u32> = (0..self.zones.len()).map(|at| self.relation.field_id(at)).collect();
        let (mut zones, mut exact, mut distinct) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (id, builder) in ids.into_iter().zip(self.zones.drain(..)) {
            let (found, is_exact, sketch) = builder.finish()?;
            zones.extend(found.map(|found| (id, found)));
            exact.extend(is_exact.then_some(id));
            distinct.extend(sketch.map(|sketch| (id, sketch.to_text())));
        }
        let facts = SegmentFacts {
            schema_version: self.relation.version,
            rows: self.written_rows,
            bytes,
            head_crc: self.head_crc,
            tail_offset: if self.entries.is_empty() { 0 } else { tail_offset },
            tail_crc,
            timestamps: self.options.timestamps,
            exact,
            distinct,
        };
        let sidecar = sidecar_path(&self.dir, self.id);
        let (sidecar_bytes, sidecar_crc) = sidecar::write(&sidecar, &self.entries, zones, &facts)?;
        sync_dir(&self.dir)?;
        Ok(SegmentInfo {
            id: self.id,
            schema_version: facts.schema_version,
            rows: facts.rows,
            bytes,
            sidecar_bytes,
            sidecar_crc,
            first_key: self.entries.first().map(|e| e.first_key.clone()).unwrap_or_default(),
            last_key: self.entries.last().map(|e| e.last_key.clone()).unwrap_or_default(),
            min_ts: Timestamp(self.entries.iter().map(|e| e.min_ts).min().unwrap_or(0)),
            max_ts: Timestamp(self.entries.iter().map(|e| e.max_ts).max().unwrap_or(0)),
            timestamps: self.options.timestamps,
        })
    }

    fn mismatch(&self, detail: String) -> StorageError {
        StorageError::SchemaMismatch {
            relation: self.relation.id,
            detail,
        }
    }
}

impl Drop for SegmentWriter {
    fn drop(&mut self) {
        if !self.finished
            && let Err(e) = remove_segment(&self.dir, self.id)
        {
            tracing::warn!("could not remove an unfinished segment: {e}");
        }
    }
}

fn compressed() -> std::result::Result<IpcWriteOptions, arrow_schema::ArrowError> {
    IpcWriteOptions::default()
        .try_with_compression(Some(CompressionType::ZSTD))?
        .try_with_compression_level(Some(ZSTD_LEVEL))
}

/// Writes the end marker and the footer; the checksum of the tail, and the file's size.
fn finish_file(path: &Path, file: &mut FileWriter<ChecksumSink>) -> Result<(u32, u64)> {
    file.finish().map_err(|e| write_error(path, e))?;
    // Without record batches the tail is the whole file: head and tail are then one stretch.
    let (_, crc) = file.get_ref().plain_checksum().map_err(StorageError::io(path, "write"))?;
    Ok((crc, file.get_ref().position()))
}

fn gone(path: &Path) -> StorageError {
    StorageError::io(path, "write")(std::io::Error::other("writing this segment failed before"))
}
