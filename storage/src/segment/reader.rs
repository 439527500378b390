//! Reading a segment: both files are mapped into memory, and arrays are views of the map.
//!
//! At open only the side-car and the ends of the segment file are read. A record batch is decoded (array headers only) when it is first asked
//! for, after its metadata's checksum; a column's bytes are checked when the column is first touched in that batch. What was checked is
//! remembered for the life of the segment.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array, new_null_array};
use arrow_ipc::reader::FileDecoder;
use arrow_ipc::{Block, MetadataVersion};
use arrow_row::Rows;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parking_lot::Mutex;

use super::body::layout;
use super::ipc_file::IpcFile;
use super::sidecar::Sidecar;
use super::unpacked::Unpacked;
use super::{DistinctSketch, SegmentInfo, TIMESTAMP_COLUMN, remove_segment, segment_path, sidecar_path};
use crate::error::{Result, StorageError};
use crate::ids::{SegmentId, Timestamp};
use crate::key::KeyEncoder;
use crate::schema::{RelationSchema, field_id};
use crate::zone_map::{ColumnZones, ZoneMaps};

/// Commit timestamps of the rows of a batch.
#[derive(Debug, Clone)]
pub enum Timestamps {
    /// All rows have the same.
    Uniform(Timestamp),
    /// One a row.
    Column(UInt64Array),
}

impl Timestamps {
    /// The timestamp of one row.
    pub fn at(&self, row: usize) -> Timestamp {
        match self {
            Timestamps::Uniform(ts) => *ts,
            Timestamps::Column(column) => Timestamp(column.value(row)),
        }
    }
}

/// An open segment. Batches and rows are counted from zero; positions beyond the last one are a bug of the caller.
#[derive(Debug)]
pub struct Segment {
    dir: PathBuf,
    path: PathBuf,
    info: SegmentInfo,
    uniform_ts: Option<Timestamp>,
    pub(super) sidecar: Sidecar,
    file: IpcFile,
    version: MetadataVersion,
    file_schema: SchemaRef,
    /// Column ids in file order, timestamps left out.
    field_ids: Vec<u32>,
    batches: Vec<OnceLock<DecodedBatch>>,
    /// How a schema's columns lie in the file, for the schema last asked for.
    mapping: Mutex<Option<Arc<Mapping>>>,
    zone_maps: Mutex<Option<(SchemaRef, Arc<ZoneMaps>)>>,
    remove_on_drop: AtomicBool,
}

/// A record batch whose metadata is checked; its columns are not until their bit is set.
#[derive(Debug)]
struct DecodedBatch {
    columns: Columns,
    column_ends: Vec<u64>,
    checked: Vec<AtomicU64>,
}

#[derive(Debug)]
enum Columns {
    /// Views of the map.
    Mapped(Vec<ArrayRef>),
    /// Unpacked when they are asked for.
    Packed(Vec<Arc<Unpacked>>),
}

/// Where the columns of a schema lie in the file.
#[derive(Debug)]
struct Mapping {
    schema: SchemaRef,
    columns: Vec<Option<usize>>,
}

impl Segment {
    /// Opens a segment: checks the side-car whole and the ends of the segment file; reads no rows. `uniform_ts` is needed iff
    /// `!info.timestamps`.
    pub fn open(dir: &Path, info: SegmentInfo, uniform_ts: Option<Timestamp>) -> Result<Arc<Segment>> {
        let path = segment_path(dir, info.id);
        let damaged = |detail: String| StorageError::damaged(&path, "segment", detail);
        let sidecar = Sidecar::open(&sidecar_path(dir, info.id), Some(info.sidecar_bytes), info.sidecar_crc)?;
        let facts = sidecar.facts();
        if (facts.rows, facts.bytes, facts.timestamps) != (info.rows, info.bytes, info.timestamps) {
            return Err(damaged("its side-car and the manifest differ on it".to_owned()));
        }
        if uniform_ts.is_some() == info.timestamps {
            return Err(damaged("rows need either a timestamp column or one common timestamp".to_owned()));
        }
        let file = IpcFile::map(&path, Some(info.bytes))?;
        let tail = info
            .bytes
            .checked_sub(facts.tail_offset)
            .and_then(|length| file.slice(facts.tail_offset, length));
        let tail = tail.ok_or_else(|| damaged("its tail lies outside of it".to_owned()))?;
        check_crc(&tail, facts.tail_crc).map_err(|e| damaged(format!("tail: {e}")))?;
        let footer = file.footer(facts.tail_offset)?;
        footer.check_format()?;
        let mut field_ids = footer.schema.fields().iter().map(|f| field_id(f)).collect::<Vec<_>>();
        if info.timestamps
            && (field_ids.pop() != Some(None) || footer.schema.fields().last().is_none_or(|f| *f.data_type() != DataType::UInt64))
        {
            return Err(damaged("its last column is not the timestamps".to_owned()));
        }
        let field_ids = field_ids
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| damaged("a column has no id".to_owned()))?;
        Ok(Arc::new(Segment {
            dir: dir.to_owned(),
            batches: std::iter::repeat_with(OnceLock::new).take(sidecar.batch_count()).collect(),
            path,
            info,
            uniform_ts,
            sidecar,
            file,
            version: footer.version,
            file_schema: footer.schema,
            field_ids,
            mapping: Mutex::new(None),
            zone_maps: Mutex::new(None),
            remove_on_drop: AtomicBool::new(false),
        }))
    }

    /// The segment's id.
    pub fn id(&self) -> SegmentId {
        self.info.id
    }

    /// What the manifest knows.
    pub fn info(&self) -> &SegmentInfo {
        &self.info
    }

    /// The segment file.
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// The commit timestamp of all rows, if they share one.
    pub fn uniform_ts(&self) -> Option<Timestamp> {
        self.uniform_ts
    }

    /// The newest commit timestamp of a row.
    pub fn max_timestamp(&self) -> Timestamp {
        self.uniform_ts.unwrap_or(self.info.max_ts)
    }

    /// Record batches.
    pub fn batch_count(&self) -> usize {
        self.batches.len()
    }

    /// Rows of a batch.
    pub fn batch_rows(&self, batch: usize) -> usize {
        self.sidecar.row_counts()[batch] as usize
    }

    /// The first row of a batch, counted over the segment.
    pub fn batch_start(&self, batch: usize) -> u32 {
        self.sidecar.row_starts()[batch] as u32
    }

    /// The batch that holds a row (counted over the segment), and its position there.
    pub fn locate(&self, row: u32) -> (usize, usize) {
        let batch = self
            .sidecar
            .row_starts()
            .partition_point(|start| *start <= u64::from(row))
            .saturating_sub(1);
        (batch, (row - self.batch_start(batch)) as usize)
    }

    /// First key of a batch.
    pub fn first_key(&self, batch: usize) -> &[u8] {
        self.sidecar.first_keys().value(batch)
    }

    /// Last key of a batch.
    pub fn last_key(&self, batch: usize) -> &[u8] {
        self.sidecar.last_keys().value(batch)
    }

    /// All rows of a batch. `schema` is the current one: columns are mapped by field id, missing ones are null, and ones of another type are
    /// cast; `projection` are positions in it, [`RelationSchema::timestamp_column`] gives `_ts`.
    pub fn read(&self, batch: usize, schema: &RelationSchema, projection: &[usize]) -> Result<RecordBatch> {
        let mapping = self.mapping(schema);
        let mut fields = Vec::with_capacity(projection.len());
        let mut columns = Vec::with_capacity(projection.len());
        for &position in projection {
            if position == schema.timestamp_column() {
                fields.push(Arc::new(Field::new(TIMESTAMP_COLUMN, DataType::UInt64, false)));
                columns.push(self.timestamp_array(batch)?);
                continue;
            }
            let field = schema.schema.fields().get(position).ok_or_else(|| {
                let detail = format!("there is no column {position} to read");
                StorageError::SchemaMismatch {
                    relation: schema.id,
                    detail,
                }
            })?;
            columns.push(match mapping.columns[position] {
                Some(at) => cast(self.column(batch, at)?, field.data_type())?,
                None => new_null_array(field.data_type(), self.batch_rows(batch)),
            });
            fields.push(field.clone());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.batch_rows(batch)));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
    }

    /// Commit timestamps of a batch.
    pub fn timestamps(&self, batch: usize) -> Result<Timestamps> {
        match self.uniform_ts {
            Some(ts) => Ok(Timestamps::Uniform(ts)),
            None => Ok(Timestamps::Column(
                self.column(batch, self.field_ids.len())?.as_primitive::<UInt64Type>().clone(),
            )),
        }
    }

    fn timestamp_array(&self, batch: usize) -> Result<ArrayRef> {
        Ok(match self.timestamps(batch)? {
            Timestamps::Uniform(ts) => Arc::new(UInt64Array::from_value(ts.0, self.batch_rows(batch))),
            Timestamps::Column(column) => Arc::new(column),
        })
    }

    /// Newest commit timestamp within a batch (without reading it).
    pub fn batch_max_timestamp(&self, batch: usize) -> Timestamp {
        self.uniform_ts.unwrap_or(Timestamp(self.sidecar.max_ts(batch)))
    }

    /// Encoded keys of a batch.
    pub fn keys(&self, batch: usize, encoder: &KeyEncoder) -> Result<Rows> {
        encoder.encode(&self.key_columns(batch, encoder)?)
    }

    /// Key columns of a batch, in key order.
    pub(crate) fn key_columns(&self, batch: usize, encoder: &KeyEncoder) -> Result<Vec<ArrayRef>> {
        encoder
            .field_ids()
            .iter()
            .map(|id| self.column(batch, self.position_of(*id)?))
            .collect()
    }

    /// Rows (counted over the segment) that hold versions of `key`, newest first; empty if none. `key` comes from the encoder, `hash` is its
    /// [`crate::key::key_hash`].
    pub fn find(&self, key: &[u8], hash: u64, encoder: &KeyEncoder) -> Result<Range<u32>> {
        super::find::find(self, key, hash, encoder)
    }

    /// The first row (counted over the segment) whose key is not below `key` (any bytes); the number of rows if all are.
    pub fn lower_bound(&self, key: &[u8], encoder: &KeyEncoder) -> Result<u32> {
        super::find::lower_bound(self, key, encoder)
    }

    /// The first batch, counted from `from` on, whose last key is not below `key` (any bytes); the number of batches if there is none.
    pub(crate) fn first_batch(&self, key: &[u8], from: usize) -> usize {
        super::find::first_batch(self, key, from)
    }

    /// Zone maps in the positions of `schema`. Cached.
    pub fn zone_maps(&self, schema: &RelationSchema) -> Arc<ZoneMaps> {
        let mut cached = self.zone_maps.lock();
        if let Some((known, maps)) = cached.as_ref()
            && same_schema(known, &schema.schema)
        {
            return maps.clone();
        }
        let zones_of = |(position, field): (usize, &Arc<Field>)| {
            let (min, max, nulls) = self.sidecar.zones(schema.field_id(position))?;
            // A column whose type has changed since is cast on reading; its bounds are not.
            (min.data_type() == field.data_type()).then(|| ColumnZones {
                min: min.clone(),
                max: max.clone(),
                null_counts: nulls.clone(),
            })
        };
        let maps = Arc::new(ZoneMaps {
            row_counts: UInt64Array::from_iter_values(self.sidecar.row_counts().iter().map(|n| u64::from(*n))),
            columns: schema.schema.fields().iter().enumerate().map(zones_of).collect(),
        });
        *cached = Some((schema.schema.clone(), maps.clone()));
        maps
    }

    /// Whether the zone maps of a column give its exact bounds (no cut string, no NaN, no float zero).
    pub fn zones_exact(&self, field_id: u32) -> bool {
        self.sidecar.facts().exact.contains(&field_id)
    }

    /// Estimated distinct values of a column; `None` for nested and newer ones.
    pub fn distinct(&self, field_id: u32) -> Option<u64> {
        self.distinct_sketch(field_id).map(|sketch| sketch.estimate())
    }

    /// The sketch behind [`Self::distinct`], to merge over segments.
    pub fn distinct_sketch(&self, field_id: u32) -> Option<DistinctSketch> {
        DistinctSketch::from_text(self.sidecar.facts().distinct.get(&field_id)?)
    }

    /// Removes the files when the last user lets go.
    pub fn remove_on_drop(&self) {
        self.remove_on_drop.store(true, Ordering::Release);
    }

    /// Reads both files whole and checks every checksum.
    pub fn verify(&self) -> Result<()> {
        self.sidecar.verify(self.info.sidecar_crc)?;
        let facts = self.sidecar.facts();
        let damaged = |part: String, detail: String| StorageError::damaged(&self.path, "segment", format!("{part}: {detail}"));
        let stretch = |part: String, from: u64, to: u64, crc: u32| {
            self.file.about_to_read(to.saturating_sub(from));
            let bytes = to.checked_sub(from).and_then(|length| self.file.slice(from, length));
            let bytes = bytes.ok_or_else(|| damaged(part.clone(), "it lies outside of the file".to_owned()))?;
            check_crc(&bytes, crc).map_err(|e| damaged(part, e))
        };
        let head_end = if self.batch_count() == 0 { 0 } else { self.sidecar.place(0).offset };
        if head_end > 0 {
            stretch("head".to_owned(), 0, head_end, facts.head_crc)?;
        }
        stretch("tail".to_owned(), facts.tail_offset, self.info.bytes, facts.tail_crc)?;
        for batch in 0..self.batch_count() {
            let decoded = self.batch(batch)?;
            let block = self.sidecar.place(batch);
            let body = block.offset + u64::from(block.meta_len);
            stretch(format!("metadata of batch {batch}"), block.offset, body, block.meta_crc)?;
            for column in 0..decoded.column_ends.len() {
                let (start, end) = decoded.extent(column);
                let crc = self.sidecar.column_crc(batch, column).unwrap_or(0);
                let name = self.file_schema.field(column).name();
                stretch(format!("column '{name}' of batch {batch}"), body + start, body + end, crc)?;
            }
        }
        Ok(())
    }

    /// The position in the file of the column with that id.
    fn position_of(&self, field_id: u32) -> Result<usize> {
        let at = self.field_ids.iter().position(|id| *id == field_id);
        at.ok_or_else(|| StorageError::damaged(&self.path, "segment", format!("it lacks the key column with id {field_id}")))
    }

    fn mapping(&self, schema: &RelationSchema) -> Arc<Mapping> {
        let mut cached = self.mapping.lock();
        if let Some(known) = cached.as_ref()
            && same_schema(&known.schema, &schema.schema)
        {
            return known.clone();
        }
        let find = |position| self.field_ids.iter().position(|id| *id == schema.field_id(position));
        let columns = (0..schema.schema.fields().len()).map(find).collect();
        let mapping = Arc::new(Mapping {
            schema: schema.schema.clone(),
            columns,
        });
        *cached = Some(mapping.clone());
        mapping
    }

    /// A column of a batch, its bytes checked.
    pub(super) fn column(&self, batch: usize, column: usize) -> Result<ArrayRef> {
        let decoded = self.batch(batch)?;
        if column >= decoded.column_ends.len() {
            return Err(StorageError::damaged(&self.path, "segment", format!("there is no column {column}")));
        }
        if let Columns::Packed(columns) = &decoded.columns
            && let Some(array) = columns[column].get()
        {
            return Ok(array);
        }
        let (start, end) = decoded.extent(column);
        self.file.about_to_read(end - start);
        let (word, bit) = (&decoded.checked[column / 64], 1u64 << (column % 64));
        if word.load(Ordering::Acquire) & bit == 0 {
            self.check_column(batch, column, decoded)?;
            word.fetch_or(bit, Ordering::Release);
        }
        match &decoded.columns {
            Columns::Mapped(columns) => Ok(columns[column].clone()),
            Columns::Packed(columns) => {
                let array = self
                    .unpack(batch, column)
                    .map_err(|e| StorageError::damaged(&self.path, "segment", format!("batch {batch}: {e}")))?;
                columns[column].put(&array);
                Ok(array)
            }
        }
    }

    fn check_column(&self, batch: usize, column: usize, decoded: &DecodedBatch) -> Result<()> {
        let block = self.sidecar.place(batch);
        let (start, end) = decoded.extent(column);
        let check = || {
            let crc = self.sidecar.column_crc(batch, column).ok_or("it has no checksum")?;
            let bytes = self
                .file
                .slice(block.offset + u64::from(block.meta_len) + start, end - start)
                .ok_or("it lies outside of the file")?;
            check_crc(&bytes, crc)
        };
        let name = self.file_schema.field(column).name();
        check().map_err(|e| StorageError::damaged(&self.path, "segment", format!("column '{name}' of batch {batch}: {e}")))
    }

    fn batch(&self, batch: usize) -> Result<&DecodedBatch> {
        let slot = &self.batches[batch];
        if let Some(decoded) = slot.get() {
            return Ok(decoded);
        }
        let decoded = self
            .decode(batch)
            .map_err(|e| StorageError::damaged(&self.path, "segment", format!("batch {batch}: {e}")))?;
        Ok(slot.get_or_init(|| decoded))
    }

    /// Decodes a batch's array headers, once its metadata is checked.
    fn decode(&self, batch: usize) -> Result<DecodedBatch, String> {
        let block = self.sidecar.place(batch);
        let message = self
            .file
            .slice(block.offset, u64::from(block.meta_len))
            .ok_or("its metadata lies outside of the file")?;
        check_crc(&message, block.meta_crc).map_err(|e| format!("metadata: {e}"))?;
        let layout = layout(&message, &self.file_schema)?;
        if layout.ends.last().copied().unwrap_or(0) != block.body_len {
            return Err("its body is not as long as its metadata says".to_owned());
        }
        if layout.rows != self.batch_rows(batch) as u64 {
            return Err(format!("it has {} rows, its side-car says {}", layout.rows, self.batch_rows(batch)));
        }
        let count = layout.ends.len();
        let columns = match layout.is_compressed {
            true => Columns::Packed(std::iter::repeat_with(Arc::default).take(count).collect()),
            false => Columns::Mapped(self.arrays(batch, self.decoder().with_require_alignment(true))?),
        };
        Ok(DecodedBatch {
            columns,
            column_ends: layout.ends,
            checked: std::iter::repeat_with(AtomicU64::default).take(count.div_ceil(64)).collect(),
        })
    }

    fn decoder(&self) -> FileDecoder {
        let decoder = FileDecoder::new(self.file_schema.clone(), self.version);
        // SAFETY: validation is skipped for bytes that this software wrote from valid arrays, which the checksums in the side-car prove: the
        // metadata's (`meta_crc`) before decoding, which makes offsets and lengths sound, and each column's (`column_crcs`) before its array
        // leaves this module. Until then an array's values are not looked at, nor unpacked.
        unsafe { decoder.with_skip_validation(true) }
    }

    /// The arrays of a batch that a decoder gives.
    fn arrays(&self, batch: usize, decoder: FileDecoder) -> Result<Vec<ArrayRef>, String> {
        let block = self.sidecar.place(batch);
        let data = self
            .file
            .slice(block.offset, u64::from(block.meta_len) + block.body_len)
            .ok_or("its body lies outside of the file")?;
        let place = Block::new(block.offset as i64, block.meta_len as i32, block.body_len as i64);
        let rows = decoder
            .read_record_batch(&place, &data)
            .map_err(|e| e.to_string())?
            .ok_or("it is empty")?;
        Ok(rows.columns().to_vec())
    }

    /// Unpacks one column of a batch, whose bytes are checked. Buffers that would not shrink lie in the file as they are, at any address.
    fn unpack(&self, batch: usize, column: usize) -> Result<ArrayRef, String> {
        let arrays = self.arrays(batch, self.decoder().with_projection(vec![column]))?;
        let array = arrays.into_iter().next().ok_or("it lacks a column")?;
        match array.len() == self.batch_rows(batch) {
            true => Ok(array),
            false => Err(format!("column {column} has {} rows", array.len())),
        }
    }
}

impl DecodedBatch {
    /// A column's bytes, within the body.
    fn extent(&self, column: usize) -> (u64, u64) {
        let start = if column == 0 { 0 } else { self.column_ends[column - 1] };
        (start, self.column_ends[column])
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.remove_on_drop.load(Ordering::Acquire)
            && let Err(e) = remove_segment(&self.dir, self.info.id)
        {
            tracing::warn!("could not remove an obsolete segment: {e}");
        }
    }
}

fn check_crc(bytes: &[u8], expected: u32) -> Result<(), String> {
    let found = crc32c::crc32c(bytes);
    if found == expected {
        Ok(())
    } else {
        Err(format!("checksum is {found:08x}, expected {expected:08x}"))
    }
}

fn same_schema(one: &SchemaRef, other: &SchemaRef) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

/// A column as the current schema has it. Values that do not fit the new type are an error, not null.
fn cast(array: ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        return Ok(array);
    }
    let options = arrow_cast::CastOptions {
        safe: false,
        ..Default::default()
    };
    Ok(arrow_cast::cast_with_options(&array, data_type, &options)?)
}
