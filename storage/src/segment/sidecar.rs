//! The side-car of a segment: an Arrow IPC file with one row a record batch.
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `row_start`, `row_count` | UInt64, UInt32 | rows of the batch |
//! | `first_key`, `last_key` | LargeBinary | encoded keys (arrow-row) |
//! | `bloom` | LargeBinary | bloom filter over its keys |
//! | `block_offset`, `meta_len`, `body_len` | UInt64, UInt32, UInt64 | its message in the segment file |
//! | `meta_crc`, `column_crcs` | UInt32, List of UInt32 | checksums of the message's metadata and of each column's part of its body |
//! | `min_ts`, `max_ts` | UInt64 | oldest and newest commit timestamp; zero without a timestamp column |
//! | `min_<id>`, `max_<id>`, `nulls_<id>` | the column's type, the same, UInt64 | zone map of the column with that id |
//!
//! Its metadata holds `pyralog.format` and, as JSON in `pyralog.segment`, what concerns the whole segment: [`SegmentFacts`]. The checksum of
//! the whole side-car is in the manifest, and is checked before anything in it is believed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, LargeBinaryArray, ListArray, RecordBatch, UInt32Array, UInt64Array};
use arrow_buffer::OffsetBuffer;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, Schema};
use serde::{Deserialize, Serialize};

use super::ipc_file::IpcFile;
use super::sink::{BatchChecksums, BatchPlace};
use super::zones::Zones;
use crate::error::{Result, StorageError};

/// Newest format of segments and side-cars.
pub const FORMAT: u32 = COMPRESSED;
/// Format of side-cars, and of segments whose buffers lie as they are.
pub const PLAIN: u32 = 1;
/// Format of segments with compressed buffers.
pub const COMPRESSED: u32 = 2;
/// Metadata key of the format version, in both files.
pub const FORMAT_KEY: &str = "pyralog.format";
const FACTS_KEY: &str = "pyralog.segment";
const WHAT: &str = "side-car";

/// What concerns a whole segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentFacts {
    /// Version of the relation's schema.
    pub schema_version: u32,
    /// Rows.
    pub rows: u64,
    /// Bytes of the segment file.
    pub bytes: u64,
    /// Checksum of what lies before the first record batch.
    pub head_crc: u32,
    /// Where the last record batch ends.
    pub tail_offset: u64,
    /// Checksum from there to the end.
    pub tail_crc: u32,
    /// Whether the last column holds commit timestamps.
    pub timestamps: bool,
    /// Ids of the columns whose zone maps are exact bounds.
    pub exact: Vec<u32>,
    /// Sketches of distinct values by column id.
    pub distinct: BTreeMap<u32, String>,
}

/// What the side-car says of one record batch.
#[derive(Debug)]
pub struct BatchEntry {
    /// Its first row, counted over the segment.
    pub row_start: u64,
    /// Its rows.
    pub row_count: u32,
    /// First key.
    pub first_key: Vec<u8>,
    /// Last key.
    pub last_key: Vec<u8>,
    /// Bloom filter over its keys.
    pub bloom: Vec<u8>,
    /// Where it lies, and its checksums.
    pub block: BatchChecksums,
    /// Oldest commit timestamp.
    pub min_ts: u64,
    /// Newest commit timestamp.
    pub max_ts: u64,
}

/// Writes and syncs a side-car; its bytes and checksum.
pub fn write(path: &Path, entries: &[BatchEntry], zones: Vec<(u32, Zones)>, facts: &SegmentFacts) -> Result<(u64, u32)> {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    let mut add = |name: String, column: ArrayRef| {
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    };
    add(
        "row_start".into(),
        Arc::new(UInt64Array::from_iter_values(entries.iter().map(|e| e.row_start))),
    );
    add(
        "row_count".into(),
        Arc::new(UInt32Array::from_iter_values(entries.iter().map(|e| e.row_count))),
    );
    add(
        "first_key".into(),
        Arc::new(LargeBinaryArray::from_iter_values(entries.iter().map(|e| &e.first_key))),
    );
    add(
        "last_key".into(),
        Arc::new(LargeBinaryArray::from_iter_values(entries.iter().map(|e| &e.last_key))),
    );
    add(
        "bloom".into(),
        Arc::new(LargeBinaryArray::from_iter_values(entries.iter().map(|e| &e.bloom))),
    );
    add(
        "block_offset".into(),
        Arc::new(UInt64Array::from_iter_values(entries.iter().map(|e| e.block.place.offset))),
    );
    add(
        "meta_len".into(),
        Arc::new(UInt32Array::from_iter_values(entries.iter().map(|e| e.block.place.meta_len))),
    );
    add(
        "body_len".into(),
        Arc::new(UInt64Array::from_iter_values(entries.iter().map(|e| e.block.place.body_len))),
    );
    add(
        "meta_crc".into(),
        Arc::new(UInt32Array::from_iter_values(entries.iter().map(|e| e.block.place.meta_crc))),
    );
    add("column_crcs".into(), Arc::new(column_crcs(entries)?));
    add(
        "min_ts".into(),
        Arc::new(UInt64Array::from_iter_values(entries.iter().map(|e| e.min_ts))),
    );
    add(
        "max_ts".into(),
        Arc::new(UInt64Array::from_iter_values(entries.iter().map(|e| e.max_ts))),
    );
    for (id, zones) in zones {
        add(format!("min_{id}"), zones.min);
        add(format!("max_{id}"), zones.max);
        add(format!("nulls_{id}"), Arc::new(UInt64Array::from(zones.null_counts)));
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let facts = serde_json::to_string(facts).map_err(|e| StorageError::damaged(path, WHAT, e.to_string()))?;

    let file = File::create(path).map_err(StorageError::io(path, "create"))?;
    let in_file = |e| write_error(path, e);
    let mut writer = FileWriter::try_new(CountingFile { file, bytes: 0, crc: 0 }, &batch.schema()).map_err(in_file)?;
    writer.write_metadata(FORMAT_KEY, PLAIN.to_string());
    writer.write_metadata(FACTS_KEY, facts);
    writer.write(&batch).map_err(in_file)?;
    writer.finish().map_err(in_file)?;
    let written = writer.into_inner().map_err(in_file)?;
    written.file.sync_data().map_err(StorageError::io(path, "sync"))?;
    Ok((written.bytes, written.crc))
}

/// An Arrow writer's error over a file: what the operating system refused stays that.
pub fn write_error(path: &Path, error: arrow_schema::ArrowError) -> StorageError {
    match error {
        arrow_schema::ArrowError::IoError(_, source) => StorageError::io(path, "write")(source),
        other => other.into(),
    }
}

fn column_crcs(entries: &[BatchEntry]) -> Result<ListArray> {
    let offsets = OffsetBuffer::from_lengths(entries.iter().map(|e| e.block.column_crcs.len()));
    let values: UInt32Array = entries
        .iter()
        .flat_map(|e| e.block.column_crcs.iter().copied())
        .collect::<Vec<_>>()
        .into();
    Ok(ListArray::try_new(
        Arc::new(Field::new_list_field(DataType::UInt32, false)),
        offsets,
        Arc::new(values),
        None,
    )?)
}

/// A file whose bytes are counted and checked as they are written.
struct CountingFile {
    file: File,
    bytes: u64,
    crc: u32,
}

impl Write for CountingFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        self.crc = crc32c::crc32c_append(self.crc, &bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// An open side-car. Its arrays are views of the memory map.
#[derive(Debug)]
pub struct Sidecar {
    path: PathBuf,
    file: IpcFile,
    facts: SegmentFacts,
    batch: RecordBatch,
    row_start: UInt64Array,
    row_count: UInt32Array,
    first_key: LargeBinaryArray,
    last_key: LargeBinaryArray,
    bloom: LargeBinaryArray,
    block_offset: UInt64Array,
    meta_len: UInt32Array,
    body_len: UInt64Array,
    meta_crc: UInt32Array,
    column_crcs: ListArray,
    max_ts: UInt64Array,
}

impl Sidecar {
    /// Opens the side-car of that checksum (and size, where it is known), checking all of it.
    pub fn open(path: &Path, bytes: Option<u64>, crc: u32) -> Result<Sidecar> {
        let damaged = |detail: String| StorageError::damaged(path, WHAT, detail);
        let file = IpcFile::map(path, bytes)?;
        let found = crc32c::crc32c(file.bytes());
        if found != crc {
            return Err(damaged(format!("checksum is {found:08x}, expected {crc:08x}")));
        }
        let footer = file.footer(0)?;
        footer.check_format()?;
        let facts = footer
            .metadata
            .get(FACTS_KEY)
            .ok_or_else(|| damaged(format!("it lacks '{FACTS_KEY}'")))?;
        let facts: SegmentFacts = serde_json::from_str(facts).map_err(|e| damaged(e.to_string()))?;
        let batch = footer.only_batch(&file)?;
        let sidecar = Sidecar {
            row_start: numbers::<UInt64Type>(path, &batch, "row_start")?,
            row_count: numbers::<UInt32Type>(path, &batch, "row_count")?,
            first_key: binary(path, &batch, "first_key")?,
            last_key: binary(path, &batch, "last_key")?,
            bloom: binary(path, &batch, "bloom")?,
            block_offset: numbers::<UInt64Type>(path, &batch, "block_offset")?,
            meta_len: numbers::<UInt32Type>(path, &batch, "meta_len")?,
            body_len: numbers::<UInt64Type>(path, &batch, "body_len")?,
            meta_crc: numbers::<UInt32Type>(path, &batch, "meta_crc")?,
            column_crcs: column(path, &batch, "column_crcs")?
                .as_list_opt()
                .ok_or_else(|| damaged("column_crcs: wrong type".into()))?
                .clone(),
            max_ts: numbers::<UInt64Type>(path, &batch, "max_ts")?,
            path: path.to_owned(),
            file,
            facts,
            batch,
        };
        sidecar.check_batches().map_err(damaged)?;
        Ok(sidecar)
    }

    /// Rows follow on each other and blocks lie one behind the other before the tail, so that later code may compute with them.
    fn check_batches(&self) -> Result<(), String> {
        let (mut row, mut offset) = (0u64, None::<u64>);
        for i in 0..self.batch_count() {
            let (start, body) = (self.block_offset.value(i), self.body_len.value(i));
            let end = start
                .checked_add(u64::from(self.meta_len.value(i)))
                .and_then(|n| n.checked_add(body));
            let follows = self.row_start.value(i) == row && offset.is_none_or(|offset| offset == start);
            // Arrow buffers start at multiples of 64 within the body, and are used where they lie.
            let aligned = (start + u64::from(self.meta_len.value(i))) % 64 == 0;
            if !follows || !aligned || end.is_none_or(|end| end > self.facts.tail_offset) {
                return Err(format!("batch {i} is not where it should be"));
            }
            row += u64::from(self.row_count.value(i));
            offset = end;
        }
        if row != self.facts.rows || row > u64::from(u32::MAX) || offset.is_some_and(|end| end != self.facts.tail_offset) {
            return Err(format!("its batches hold {row} rows of {}", self.facts.rows));
        }
        Ok(())
    }

    /// Checks the whole file again.
    pub fn verify(&self, crc: u32) -> Result<()> {
        let found = crc32c::crc32c(self.file.bytes());
        if found == crc {
            return Ok(());
        }
        Err(StorageError::damaged(
            &self.path,
            WHAT,
            format!("checksum is {found:08x}, expected {crc:08x}"),
        ))
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.file.bytes().len() as u64
    }

    /// What concerns the whole segment.
    pub fn facts(&self) -> &SegmentFacts {
        &self.facts
    }

    /// Record batches.
    pub fn batch_count(&self) -> usize {
        self.batch.num_rows()
    }

    /// First row of each batch.
    pub fn row_starts(&self) -> &[u64] {
        self.row_start.values()
    }

    /// Rows of each batch.
    pub fn row_counts(&self) -> &[u32] {
        self.row_count.values()
    }

    /// First key of each batch.
    pub fn first_keys(&self) -> &LargeBinaryArray {
        &self.first_key
    }

    /// Last key of each batch.
    pub fn last_keys(&self) -> &LargeBinaryArray {
        &self.last_key
    }

    /// Bloom filter of a batch.
    pub fn bloom(&self, batch: usize) -> &[u8] {
        self.bloom.value(batch)
    }

    /// Newest commit timestamp of a batch.
    pub fn max_ts(&self, batch: usize) -> u64 {
        self.max_ts.value(batch)
    }

    /// Oldest and newest commit timestamp over all batches.
    pub fn timestamp_range(&self) -> (u64, u64) {
        let min = self
            .batch
            .column_by_name("min_ts")
            .and_then(|c| c.as_primitive_opt::<UInt64Type>())
            .and_then(|c| c.values().iter().min());
        (min.copied().unwrap_or(0), self.max_ts.values().iter().max().copied().unwrap_or(0))
    }

    /// Place of a batch, and the checksum of its metadata.
    pub fn place(&self, batch: usize) -> BatchPlace {
        BatchPlace {
            offset: self.block_offset.value(batch),
            meta_len: self.meta_len.value(batch),
            body_len: self.body_len.value(batch),
            meta_crc: self.meta_crc.value(batch),
        }
    }

    /// The checksum of one column in one batch.
    pub fn column_crc(&self, batch: usize, column: usize) -> Option<u32> {
        let offsets = self.column_crcs.value_offsets();
        let at = usize::try_from(offsets[batch]).ok()? + column;
        let end = usize::try_from(offsets[batch + 1]).ok()?;
        let crcs = self.column_crcs.values().as_primitive_opt::<UInt32Type>()?;
        (at < end).then(|| crcs.value(at))
    }

    /// Smallest values, largest values and null counts of the column with that id.
    pub fn zones(&self, field_id: u32) -> Option<(&ArrayRef, &ArrayRef, &UInt64Array)> {
        let min = self.batch.column_by_name(&format!("min_{field_id}"))?;
        let max = self.batch.column_by_name(&format!("max_{field_id}"))?;
        let nulls = self
            .batch
            .column_by_name(&format!("nulls_{field_id}"))?
            .as_primitive_opt::<UInt64Type>()?;
        Some((min, max, nulls))
    }
}

fn column<'a>(path: &Path, batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch
        .column_by_name(name)
        .ok_or_else(|| StorageError::damaged(path, WHAT, format!("column '{name}' is missing")))
}

fn numbers<T: ArrowPrimitiveType>(path: &Path, batch: &RecordBatch, name: &str) -> Result<arrow_array::PrimitiveArray<T>> {
    let column = column(path, batch, name)?;
    let wrong = || StorageError::damaged(path, WHAT, format!("column '{name}' has type {}", column.data_type()));
    column.as_primitive_opt::<T>().cloned().ok_or_else(wrong)
}

fn binary(path: &Path, batch: &RecordBatch, name: &str) -> Result<LargeBinaryArray> {
    let column = column(path, batch, name)?;
    let wrong = || StorageError::damaged(path, WHAT, format!("column '{name}' has type {}", column.data_type()));
    column.as_binary_opt::<i64>().cloned().ok_or_else(wrong)
}
