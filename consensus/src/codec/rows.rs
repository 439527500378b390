//! A few rows of plain types, as they go through the log by the million: no schema message and no padding, as Arrow's IPC format has them.
//!
//! ```text
//! rows      MARKER signature:bytes batches:n (rows:n column…)…      n: LEB128; bytes: n, then so many bytes
//! column    nulls:1 (bitmap of ⌈rows/8⌉ bytes if 1) values          values: fixed width one behind the other, booleans as a bitmap,
//!                                                                   strings and byte strings each as bytes
//! ```
//!
//! The signature names the columns' ids and types. Where it is that of the relation's present schema, that schema is used as it is.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BinaryViewBuilder, BooleanBufferBuilder, LargeBinaryBuilder, LargeStringBuilder, StringBuilder, StringViewBuilder,
};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, make_array};
use arrow_buffer::{Buffer, MutableBuffer, NullBuffer};
use arrow_data::ArrayData;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use pyralog_storage::{field_id, with_field_id};

use super::{CodecError, config};

/// What such bytes begin with; an IPC stream begins with 0xff.
pub const MARKER: u8 = 1;
/// Most rows; more are an IPC stream.
const MAX_ROWS: usize = 1024;

/// Encodes rows. `None`: they are too many, or not of plain types.
pub fn encode(schema: &SchemaRef, batches: &[RecordBatch]) -> Option<Vec<u8>> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if rows > MAX_ROWS || !schema.fields().iter().all(|field| is_plain(field.data_type())) {
        return None;
    }
    let signature = signature(schema)?;
    let mut out = Vec::with_capacity(64 + signature.len() + 64 * rows);
    out.push(MARKER);
    put_bytes(&mut out, &signature);
    put_number(&mut out, batches.len());
    for batch in batches {
        put_number(&mut out, batch.num_rows());
        for column in batch.columns() {
            put_column(&mut out, column.as_ref())?;
        }
    }
    Some(out)
}

/// Decodes rows. `known`: the schema that they probably have.
pub fn decode(bytes: &[u8], known: Option<&SchemaRef>) -> Result<Vec<RecordBatch>, CodecError> {
    let mut input = Input(bytes);
    if input.take(1)? != [MARKER] {
        return Err(CodecError::DamagedStream);
    }
    let given = input.bytes()?;
    let known = known.filter(|schema| signature(schema).is_some_and(|signature| signature == given));
    let schema = match known {
        Some(schema) => schema.clone(),
        None => schema_of(given)?,
    };
    let mut left = MAX_ROWS;
    let mut batches = Vec::new();
    for _ in 0..input.number()? {
        let rows = input.number()?;
        left = left.checked_sub(rows).ok_or(CodecError::DamagedStream)?;
        let types = schema.fields().iter().map(|field| field.data_type());
        let columns = types
            .map(|data_type| column(&mut input, data_type, rows))
            .collect::<Result<Vec<_>, _>>()?;
        batches.push(batch(&schema, given, columns, rows)?);
    }
    match input.0 {
        [] => Ok(batches),
        rest => Err(CodecError::Trailing(rest.len())),
    }
}

/// A batch. Its writer may have seen a schema that allowed nulls where the present one does not; that is for others to say.
fn batch(schema: &SchemaRef, signature: &[u8], columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, CodecError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    match RecordBatch::try_new_with_options(schema.clone(), columns.clone(), &options) {
        Ok(batch) => Ok(batch),
        Err(_) => Ok(RecordBatch::try_new_with_options(schema_of(signature)?, columns, &options)?),
    }
}

fn is_plain(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, Boolean, LargeBinary, LargeUtf8, Utf8, Utf8View};
    let has_bytes = matches!(data_type, Binary | LargeBinary | BinaryView | Utf8 | LargeUtf8 | Utf8View);
    has_bytes || *data_type == Boolean || width(data_type).is_some()
}

/// Bytes of a value of fixed width.
fn width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::FixedSizeBinary(width) => usize::try_from(*width).ok().filter(|width| *width > 0),
        other => other.primitive_width(),
    }
}

fn signature(schema: &Schema) -> Option<Vec<u8>> {
    let columns = schema.fields().iter().map(|field| Some((field_id(field)?, field.data_type())));
    bincode::serde::encode_to_vec(columns.collect::<Option<Vec<_>>>()?, config()).ok()
}

/// A schema with these columns: their ids and types are what the relation goes by.
fn schema_of(signature: &[u8]) -> Result<SchemaRef, CodecError> {
    let (columns, used): (Vec<(u32, DataType)>, usize) = bincode::serde::decode_from_slice(signature, config())?;
    if used < signature.len() || !columns.iter().all(|(_, data_type)| is_plain(data_type)) {
        return Err(CodecError::DamagedStream);
    }
    let field = |(id, data_type): (u32, DataType)| with_field_id(Field::new(format!("#{id}"), data_type, true), id);
    Ok(Arc::new(Schema::new(columns.into_iter().map(field).collect::<Vec<_>>())))
}

fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_bits(out: &mut Vec<u8>, bits: impl Iterator<Item = bool>) {
    for (at, bit) in bits.enumerate() {
        if at % 8 == 0 {
            out.push(0);
        }
        if let Some(last) = out.last_mut() {
            *last |= u8::from(bit) << (at % 8);
        }
    }
}

fn put_column(out: &mut Vec<u8>, column: &dyn Array) -> Option<()> {
    match column.nulls().filter(|nulls| nulls.null_count() > 0) {
        Some(nulls) => {
            out.push(1);
            put_bits(out, nulls.iter());
        }
        None => out.push(0),
    }
    // What stands in a null's place is of no account.
    let mut put_all = |values: &mut dyn Iterator<Item = Option<&[u8]>>| values.for_each(|value| put_bytes(out, value.unwrap_or_default()));
    match column.data_type() {
        DataType::Binary => put_all(&mut column.as_binary::<i32>().iter()),
        DataType::LargeBinary => put_all(&mut column.as_binary::<i64>().iter()),
        DataType::BinaryView => put_all(&mut column.as_binary_view().iter()),
        DataType::Utf8 => put_all(&mut column.as_string::<i32>().iter().map(|value| value.map(str::as_bytes))),
        DataType::LargeUtf8 => put_all(&mut column.as_string::<i64>().iter().map(|value| value.map(str::as_bytes))),
        DataType::Utf8View => put_all(&mut column.as_string_view().iter().map(|value| value.map(str::as_bytes))),
        DataType::Boolean => put_bits(out, column.as_boolean().values().iter()),
        other => {
            let (width, data) = (width(other)?, column.to_data());
            let from = data.offset() * width;
            out.extend_from_slice(data.buffers().first()?.as_slice().get(from..from + data.len() * width)?);
        }
    }
    Some(())
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CodecError::TruncatedStream)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<usize, CodecError> {
        let mut number = 0_usize;
        for shift in (0..usize::BITS).step_by(7) {
            let byte = self.take(1)?[0];
            number |= usize::from(byte & 0x7f).checked_shl(shift).ok_or(CodecError::DamagedStream)?;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(CodecError::DamagedStream)
    }

    fn bytes(&mut self) -> Result<&'a [u8], CodecError> {
        let count = self.number()?;
        self.take(count)
    }

    fn bits(&mut self, count: usize) -> Result<Buffer, CodecError> {
        Ok(Buffer::from(self.take(count.div_ceil(8))?))
    }
}

fn column(input: &mut Input<'_>, data_type: &DataType, rows: usize) -> Result<ArrayRef, CodecError> {
    let nulls = match input.take(1)? {
        [0] => None,
        [1] => Some(NullBuffer::new(arrow_buffer::BooleanBuffer::new(input.bits(rows)?, 0, rows))),
        _ => return Err(CodecError::DamagedStream),
    };
    let is_valid = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
    macro_rules! values {
        ($builder:expr, $value:expr) => {{
            let mut builder = $builder;
            for row in 0..rows {
                let bytes = input.bytes()?;
                match is_valid(row) {
                    true => builder.append_value($value(bytes)?),
                    false => builder.append_null(),
                }
            }
            Ok(Arc::new(builder.finish()) as ArrayRef)
        }};
    }
    fn text(bytes: &[u8]) -> Result<&str, CodecError> {
        std::str::from_utf8(bytes).map_err(|_| CodecError::DamagedStream)
    }
    match data_type {
        DataType::Binary => values!(BinaryBuilder::new(), Ok::<_, CodecError>),
        DataType::LargeBinary => values!(LargeBinaryBuilder::new(), Ok::<_, CodecError>),
        DataType::BinaryView => values!(BinaryViewBuilder::new(), Ok::<_, CodecError>),
        DataType::Utf8 => values!(StringBuilder::new(), text),
        DataType::LargeUtf8 => values!(LargeStringBuilder::new(), text),
        DataType::Utf8View => values!(StringViewBuilder::new(), text),
        DataType::Boolean => {
            let mut bits = BooleanBufferBuilder::new(rows);
            bits.append_packed_range(0..rows, &input.bits(rows)?);
            Ok(Arc::new(BooleanArray::new(bits.finish(), nulls)))
        }
        other => {
            let bytes = input.take(rows * width(other).ok_or(CodecError::DamagedStream)?)?;
            // Aligned as its type needs it.
            let mut values = MutableBuffer::new(bytes.len());
            values.extend_from_slice(bytes);
            let data = ArrayData::builder(other.clone()).len(rows).add_buffer(values.into()).nulls(nulls);
            Ok(make_array(data.build()?))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow_array::types::Int64Type;
    use arrow_array::{
        BinaryArray, BinaryViewArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int64Array, LargeBinaryArray,
        LargeStringArray, PrimitiveArray, StringArray, StringViewArray, TimestampMillisecondArray,
    };
    use pyralog_storage::{RelationId, RelationSchema};

    use super::*;

    fn columns() -> Vec<ArrayRef> {
        let long = "a string that is longer than a view holds by itself";
        vec![
            Arc::new(Int64Array::from_iter_values([1, -2, i64::MAX])),
            Arc::new(PrimitiveArray::<Int64Type>::from_iter([None, Some(5), None])),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            Arc::new(Float64Array::from(vec![0.5, f64::NAN, -0.0])),
            Arc::new(StringArray::from(vec![Some("x"), None, Some(long)])),
            Arc::new(LargeStringArray::from(vec!["", "é", long])),
            Arc::new(StringViewArray::from_iter([Some("short"), None, Some(long)])),
            Arc::new(BinaryArray::from(vec![&b"\x00"[..], b"", b"\xff\xfe"])),
            Arc::new(LargeBinaryArray::from(vec![&b"a"[..], b"b", b"c"])),
            Arc::new(BinaryViewArray::from_iter([Some(&b"k"[..]), Some(long.as_bytes()), None])),
            Arc::new(TimestampMillisecondArray::from(vec![Some(7), None, Some(9)]).with_timezone("UTC")),
            Arc::new(Decimal128Array::from(vec![1, 2, 3]).with_precision_and_scale(20, 2).unwrap()),
            Arc::new(Date32Array::from(vec![1, 2, 3])),
            Arc::new(FixedSizeBinaryArray::try_from_iter([[1_u8; 16], [2; 16], [3; 16]].into_iter()).unwrap()),
        ]
    }

    fn sample() -> RecordBatch {
        let columns = columns();
        let fields = columns
            .iter()
            .enumerate()
            .map(|(i, column)| Field::new(format!("c{i}"), column.data_type().clone(), true));
        let schema = RelationSchema::new(RelationId(1), fields, vec![0]).schema;
        RecordBatch::try_new(schema, columns).unwrap()
    }

    #[test]
    fn rows_come_back_whole_and_in_part() {
        let batch = sample();
        let batches = [batch.clone(), batch.slice(1, 2), batch.slice(2, 0)];
        let bytes = encode(&batch.schema(), &batches).unwrap();
        let back = decode(&bytes, Some(&batch.schema())).unwrap();
        assert_eq!(back, batches);
        assert!(Arc::ptr_eq(&back[0].schema(), &batch.schema()));
        // Another schema than the present one: the same values under the same ids.
        let other = decode(&bytes, None).unwrap();
        assert_eq!(other[0].columns(), batch.columns());
        let ids = |schema: SchemaRef| schema.fields().iter().map(|field| field_id(field)).collect::<Vec<_>>();
        assert_eq!(ids(other[0].schema()), ids(batch.schema()));
    }

    #[test]
    fn damage_is_an_error() {
        let batch = sample();
        let bytes = encode(&batch.schema(), std::slice::from_ref(&batch)).unwrap();
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], Some(&batch.schema())).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                // An error or other values; no panic, no huge allocation.
                let _ = decode(&flipped, Some(&batch.schema()));
                let _ = decode(&flipped, None);
            }
        }
    }

    #[test]
    fn many_rows_and_nested_types_are_left_to_arrow() {
        let many: ArrayRef = Arc::new(Int64Array::from_iter_values(0..2_000));
        let schema = RelationSchema::new(RelationId(1), [Field::new("id", DataType::Int64, false)], vec![0]).schema;
        let batch = RecordBatch::try_new(schema.clone(), vec![many]).unwrap();
        assert!(encode(&schema, std::slice::from_ref(&batch)).is_none());
        assert!(encode(&schema, &[batch.slice(0, 1_000)]).is_some());
        let list = DataType::new_list(DataType::Int64, true);
        let schema = RelationSchema::new(RelationId(1), [Field::new("l", list, true)], vec![0]).schema;
        assert!(encode(&schema, &[RecordBatch::new_empty(schema.clone())]).is_none());
    }
}
