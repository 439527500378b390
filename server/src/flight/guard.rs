//! Checks an IPC message before arrow-ipc decodes it: that decoder takes some lengths on trust, allocates what a compressed buffer claims
//! to become, and panics on types and buffers that no well-behaved writer sends.
//!
//! Types that make no sense as table columns (unions, run-end encoding, list views) are refused here too.

use std::collections::VecDeque;

use arrow::datatypes::{DataType, Schema};
use arrow::ipc::{self, CompressionType};
use tonic::Status;

use super::lz4_frame;
use super::status::invalid;

/// Deepest nesting of a type.
const MAX_DEPTH: usize = 32;
/// Rows of an array that takes no bytes a row (nulls, empty structs, batches without columns).
const MAX_UNBACKED_ROWS: i64 = 1 << 22;
/// Size of a message's header.
pub const MAX_HEADER_BYTES: usize = 16 << 20;

/// Checks a schema message.
pub fn check_schema(schema: ipc::Schema<'_>) -> Result<(), Status> {
    if schema.endianness() != ipc::Endianness::Little {
        return Err(invalid("big-endian data is not supported"));
    }
    let fields = schema.fields().ok_or_else(|| invalid("the schema has no list of fields"))?;
    fields.iter().try_for_each(|field| check_field(field, 0))
}

/// Checks what the conversion to an Arrow type would panic on.
fn check_field(field: ipc::Field<'_>, depth: usize) -> Result<(), Status> {
    let name = field.name().unwrap_or_default();
    let refuse = |what: &str| Err(invalid(format!("column {name:?}: {what}")));
    if depth > MAX_DEPTH {
        return refuse("nested too deeply");
    }
    if let Some(dictionary) = field.dictionary() {
        match dictionary.indexType() {
            Some(index) if matches!(index.bitWidth(), 8 | 16 | 32 | 64) => {}
            _ => return refuse("a dictionary without a proper index type"),
        }
    }
    let children = field.children();
    let count = children.as_ref().map_or(0, |children| children.len());
    let supported = match field.type_type() {
        ipc::Type::Null | ipc::Type::Bool | ipc::Type::Struct_ => true,
        ipc::Type::Binary | ipc::Type::LargeBinary | ipc::Type::BinaryView => true,
        ipc::Type::Utf8 | ipc::Type::LargeUtf8 | ipc::Type::Utf8View => true,
        ipc::Type::List | ipc::Type::LargeList => count == 1,
        ipc::Type::FixedSizeList => count == 1 && field.type_as_fixed_size_list().is_some_and(|t| t.listSize() > 0),
        ipc::Type::Map => count == 1 && children.as_ref().is_some_and(|entries| is_pair(entries.get(0))),
        _ => is_sound_scalar(field),
    };
    if !supported {
        return refuse(&format!("the type {:?} is malformed or not supported", field.type_type()));
    }
    children.into_iter().flatten().try_for_each(|child| check_field(child, depth + 1))
}

/// Whether a field is a struct of two: a map's entries.
fn is_pair(field: ipc::Field<'_>) -> bool {
    field.type_type() == ipc::Type::Struct_ && field.children().is_some_and(|children| children.len() == 2)
}

/// Whether the parameters of a scalar type are ones that Arrow has.
fn is_sound_scalar(field: ipc::Field<'_>) -> bool {
    use ipc::{DateUnit, IntervalUnit, Precision, TimeUnit};
    let is_unit = |unit: TimeUnit| (TimeUnit::SECOND.0..=TimeUnit::NANOSECOND.0).contains(&unit.0);
    match field.type_type() {
        ipc::Type::Int => field.type_as_int().is_some_and(|t| matches!(t.bitWidth(), 8 | 16 | 32 | 64)),
        ipc::Type::FloatingPoint => field
            .type_as_floating_point()
            .is_some_and(|t| matches!(t.precision(), Precision::HALF | Precision::SINGLE | Precision::DOUBLE)),
        ipc::Type::FixedSizeBinary => field.type_as_fixed_size_binary().is_some_and(|t| t.byteWidth() > 0),
        ipc::Type::Date => field
            .type_as_date()
            .is_some_and(|t| matches!(t.unit(), DateUnit::DAY | DateUnit::MILLISECOND)),
        ipc::Type::Time => field.type_as_time().is_some_and(|t| match t.bitWidth() {
            32 => matches!(t.unit(), TimeUnit::SECOND | TimeUnit::MILLISECOND),
            64 => matches!(t.unit(), TimeUnit::MICROSECOND | TimeUnit::NANOSECOND),
            _ => false,
        }),
        ipc::Type::Timestamp => field.type_as_timestamp().is_some_and(|t| is_unit(t.unit())),
        ipc::Type::Duration => field.type_as_duration().is_some_and(|t| is_unit(t.unit())),
        ipc::Type::Interval => field.type_as_interval().is_some_and(|t| {
            matches!(
                t.unit(),
                IntervalUnit::YEAR_MONTH | IntervalUnit::DAY_TIME | IntervalUnit::MONTH_DAY_NANO
            )
        }),
        ipc::Type::Decimal => field.type_as_decimal().is_some_and(|t| {
            let digits = match t.bitWidth() {
                32 => 9,
                64 => 18,
                128 => 38,
                256 => 76,
                _ => 0,
            };
            (1..=digits).contains(&t.precision()) && (-digits..=digits).contains(&t.scale())
        }),
        _ => false,
    }
}

/// Checks a batch against its schema and body: every buffer is inside the body, every validity bitmap long enough, and decompressed it
/// takes at most `limit` bytes.
pub fn check_batch(batch: ipc::RecordBatch<'_>, schema: &Schema, body: &[u8], limit: usize) -> Result<(), Status> {
    let nodes = batch.nodes().ok_or_else(|| invalid("the batch has no field nodes"))?;
    let buffers = batch.buffers().ok_or_else(|| invalid("the batch has no buffers"))?;
    let codec = batch.compression().map(|compression| compression.codec());
    if codec.is_some_and(|codec| !matches!(codec, CompressionType::LZ4_FRAME | CompressionType::ZSTD)) {
        return Err(invalid("unknown compression"));
    }
    if batch.length() < 0 || (schema.fields().is_empty() && batch.length() > MAX_UNBACKED_ROWS) {
        return Err(invalid(format!("a batch of {} rows", batch.length())));
    }
    let variadic = batch.variadicBufferCounts().into_iter().flatten().collect();
    let mut walk = Walk {
        nodes: nodes.iter(),
        buffers: buffers.iter(),
        variadic,
        body,
        codec,
        budget: limit as u64,
        limit: limit as u64,
    };
    for field in schema.fields() {
        walk.array(field.data_type())?;
    }
    if !walk.variadic.is_empty() {
        return Err(invalid("the batch counts buffers of view columns that it does not have"));
    }
    Ok(())
}

/// A walk over a batch's nodes and buffers in the order of the decoder.
struct Walk<'a, N, B> {
    nodes: N,
    buffers: B,
    variadic: VecDeque<i64>,
    body: &'a [u8],
    codec: Option<CompressionType>,
    /// Decompressed bytes that may still come.
    budget: u64,
    limit: u64,
}

impl<'a, N: Iterator<Item = &'a ipc::FieldNode>, B: Iterator<Item = &'a ipc::Buffer>> Walk<'a, N, B> {
    /// Checks one array. The schema has been through [`check_schema`], so its depth is bounded.
    fn array(&mut self, data_type: &DataType) -> Result<(), Status> {
        let node = self.nodes.next().ok_or_else(|| invalid("the batch has too few field nodes"))?;
        let (rows, nulls) = (node.length(), node.null_count());
        if rows < 0 || nulls < 0 || nulls > rows {
            return Err(invalid(format!("an array of {rows} rows with {nulls} nulls")));
        }
        match data_type {
            DataType::Null => return unbacked(rows),
            DataType::Struct(fields) => {
                self.validity(rows, nulls)?;
                if fields.is_empty() {
                    return unbacked(rows);
                }
                return fields.iter().try_for_each(|field| self.array(field.data_type()));
            }
            DataType::FixedSizeList(item, _) => {
                self.validity(rows, nulls)?;
                return self.array(item.data_type());
            }
            _ => self.validity(rows, nulls)?,
        }
        match data_type {
            DataType::Utf8 | DataType::Binary => {
                self.whole(4)?;
                self.buffer().map(drop)
            }
            DataType::LargeUtf8 | DataType::LargeBinary => {
                self.whole(8)?;
                self.buffer().map(drop)
            }
            DataType::Utf8View | DataType::BinaryView => {
                self.whole(16)?;
                let count = self
                    .variadic
                    .pop_front()
                    .ok_or_else(|| invalid("a view column without its count of buffers"))?;
                if count < 0 {
                    return Err(invalid("a negative count of buffers"));
                }
                // A count beyond the buffers that exist ends at the first that is missing.
                (0..count).try_for_each(|_| self.buffer().map(drop))
            }
            DataType::List(item) | DataType::Map(item, _) => {
                self.whole(4)?;
                self.array(item.data_type())
            }
            DataType::LargeList(item) => {
                self.whole(8)?;
                self.array(item.data_type())
            }
            DataType::Dictionary(index, _) => self.whole(index.primitive_width().unwrap_or(1) as u64),
            _ => self.buffer().map(drop),
        }
    }

    /// Checks the validity bitmap: the decoder asserts that it is long enough.
    fn validity(&mut self, rows: i64, nulls: i64) -> Result<(), Status> {
        let bytes = self.buffer()?;
        if nulls > 0 && bytes < rows.unsigned_abs().div_ceil(8) {
            return Err(invalid(format!("a validity bitmap of {bytes} bytes for {rows} rows")));
        }
        Ok(())
    }

    /// Checks a buffer of offsets, views or indices: the decoder asserts that it has no part of one at its end.
    fn whole(&mut self, width: u64) -> Result<(), Status> {
        match self.buffer()? {
            bytes if bytes.is_multiple_of(width) => Ok(()),
            bytes => Err(invalid(format!("a buffer of {bytes} bytes for values of {width} bytes"))),
        }
    }

    /// Checks the next buffer; its size in bytes once decompressed.
    fn buffer(&mut self) -> Result<u64, Status> {
        let buffer = self.buffers.next().ok_or_else(|| invalid("the batch has too few buffers"))?;
        let range = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
        let bytes = range.and_then(|(offset, length)| self.body.get(offset..offset.checked_add(length)?));
        let bytes = bytes.ok_or_else(|| {
            let (offset, length, body) = (buffer.offset(), buffer.length(), self.body.len());
            invalid(format!("a buffer of {length} bytes at {offset} in a body of {body} bytes"))
        })?;
        let Some(codec) = self.codec.filter(|_| !bytes.is_empty()) else {
            return Ok(bytes.len() as u64);
        };
        let (prefix, data) = bytes
            .split_first_chunk::<8>()
            .ok_or_else(|| invalid("a compressed buffer without its length"))?;
        match i64::from_le_bytes(*prefix) {
            -1 => Ok(data.len() as u64),
            claimed @ 0.. => self.charge(claimed.unsigned_abs(), data, codec),
            claimed => Err(invalid(format!("a compressed buffer that claims {claimed} bytes"))),
        }
    }

    /// Takes a compressed buffer's size from the budget.
    fn charge(&mut self, claimed: u64, data: &[u8], codec: CompressionType) -> Result<u64, Status> {
        let too_large = || {
            let limit = self.limit;
            Status::resource_exhausted(format!(
                "a compressed buffer claims {claimed} bytes: a message may decompress to {limit} bytes at most"
            ))
        };
        self.budget = self.budget.checked_sub(claimed).ok_or_else(too_large)?;
        if codec == CompressionType::LZ4_FRAME && claimed > 0 {
            let bound = lz4_frame::decompressed_bound(data).ok_or_else(|| invalid("a malformed LZ4 frame"))?;
            if bound > self.limit {
                return Err(Status::resource_exhausted(format!(
                    "an LZ4 frame of up to {bound} bytes: at most {}",
                    self.limit
                )));
            }
        }
        Ok(claimed)
    }
}

/// Checks the length of an array that takes no bytes.
fn unbacked(rows: i64) -> Result<(), Status> {
    match rows {
        0..=MAX_UNBACKED_ROWS => Ok(()),
        _ => Err(invalid(format!(
            "{rows} rows without values in one batch: at most {MAX_UNBACKED_ROWS}"
        ))),
    }
}
