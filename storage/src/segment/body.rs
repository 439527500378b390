//! The layout of a record batch within an Arrow IPC file: which bytes of a message's body belong to which column.
//!
//! Buffers lie in the body in the order of a depth-first walk over the schema, so that each top-level column is one contiguous range; padding
//! belongs to the column before it. One checksum a column covers exactly that range.

use arrow_ipc::{MessageHeader, root_as_message};
use arrow_schema::{DataType, Schema, UnionMode};

/// Bytes before a message's metadata: continuation marker and metadata length.
pub const MESSAGE_PREFIX: usize = 8;

/// What a record batch message says of its body.
#[derive(Debug)]
pub struct BodyLayout {
    /// Where each column ends; the last end is the body's length.
    pub ends: Vec<u64>,
    /// Rows.
    pub rows: u64,
    /// Whether buffers are compressed.
    pub is_compressed: bool,
}

/// Reads the metadata of a record batch message. `message` starts with the prefix.
pub fn layout(message: &[u8], schema: &Schema) -> Result<BodyLayout, String> {
    let metadata = message.get(MESSAGE_PREFIX..).ok_or("a message is cut short")?;
    let message = root_as_message(metadata).map_err(|e| format!("message metadata: {e}"))?;
    if message.header_type() != MessageHeader::RecordBatch {
        return Err("a message is no record batch".to_owned());
    }
    let batch = message.header_as_record_batch().ok_or("a message is no record batch")?;
    let body_len = u64::try_from(message.bodyLength()).map_err(|_| "a message body has a negative length")?;
    let buffers = batch.buffers().ok_or("a record batch has no buffers")?;
    let mut variadic = batch.variadicBufferCounts().into_iter().flatten();
    let mut next_buffer = 0usize;
    let mut ends = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        next_buffer += buffer_count(field.data_type(), &mut variadic).ok_or("a record batch does not fit its schema")?;
        let end = if next_buffer < buffers.len() {
            buffers.get(next_buffer).offset() as u64
        } else {
            body_len
        };
        if end > body_len || ends.last().is_some_and(|last| *last > end) {
            return Err("buffers of a record batch lie outside its body".to_owned());
        }
        ends.push(end);
    }
    if next_buffer != buffers.len() {
        return Err("a record batch has more buffers than its schema".to_owned());
    }
    // Bytes that no column owns would be covered by no checksum.
    match ends.last_mut() {
        Some(last) => *last = body_len,
        None if body_len > 0 => return Err("a record batch without columns has a body".to_owned()),
        None => {}
    }
    Ok(BodyLayout {
        ends,
        rows: u64::try_from(batch.length()).map_err(|_| "a record batch has a negative length")?,
        is_compressed: batch.compression().is_some(),
    })
}

/// Buffers of a column in metadata version 5; `None` for types that segments do not hold. The depth is that of the file's schema, which
/// the flatbuffers verifier limits.
fn buffer_count(data_type: &DataType, variadic: &mut impl Iterator<Item = i64>) -> Option<usize> {
    use DataType::*;
    Some(match data_type {
        Null => 0,
        Utf8 | Binary | LargeUtf8 | LargeBinary => 3,
        Utf8View | BinaryView => usize::try_from(variadic.next()?).ok()?.checked_add(2)?,
        List(f) | LargeList(f) | Map(f, _) => buffer_count(f.data_type(), variadic)?.checked_add(2)?,
        ListView(f) | LargeListView(f) => buffer_count(f.data_type(), variadic)?.checked_add(3)?,
        FixedSizeList(f, _) => buffer_count(f.data_type(), variadic)?.checked_add(1)?,
        Struct(fields) => sum(fields.iter().map(|f| f.data_type()), 1, variadic)?,
        Union(fields, mode) => sum(
            fields.iter().map(|(_, f)| f.data_type()),
            if *mode == UnionMode::Dense { 2 } else { 1 },
            variadic,
        )?,
        RunEndEncoded(ends, values) => sum([ends.data_type(), values.data_type()].into_iter(), 0, variadic)?,
        Dictionary(..) => return None,
        _ => 2,
    })
}

fn sum<'a>(children: impl Iterator<Item = &'a DataType>, own: usize, variadic: &mut impl Iterator<Item = i64>) -> Option<usize> {
    let mut total = own;
    for child in children {
        total = total.checked_add(buffer_count(child, variadic)?)?;
    }
    Some(total)
}
