//! Cutting rows of any batch sizes into batches of one size, with what a side-car needs to know of each batch's keys.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait, RecordBatch, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_row::Rows;
use arrow_schema::{DataType, SchemaRef};
use arrow_select::concat::concat_batches;

use crate::error::Result;
use crate::key::key_hash;

/// A batch of the size asked for, and its keys.
#[derive(Debug)]
pub struct Chunk {
    /// The rows; their buffers hold nothing else.
    pub rows: RecordBatch,
    /// Hash of each row's key.
    pub hashes: Vec<u64>,
    /// First key.
    pub first_key: Vec<u8>,
    /// Last key.
    pub last_key: Vec<u8>,
}

/// Rows that wait until a batch is full.
#[derive(Debug)]
pub struct Chunker {
    schema: SchemaRef,
    batch_rows: usize,
    slices: Vec<RecordBatch>,
    waiting: usize,
    hashes: Vec<u64>,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
}

impl Chunker {
    /// Cuts into batches of `batch_rows`.
    pub fn new(schema: SchemaRef, batch_rows: usize) -> Self {
        let batch_rows = batch_rows.max(1);
        Chunker {
            schema,
            batch_rows,
            slices: Vec::new(),
            waiting: 0,
            hashes: Vec::new(),
            first_key: Vec::new(),
            last_key: Vec::new(),
        }
    }

    /// Takes rows from position `start` on; returns how many it took, and a chunk when that filled one.
    pub fn take(&mut self, rows: &RecordBatch, keys: &Rows, start: usize) -> Result<(usize, Option<Chunk>)> {
        let count = (self.batch_rows - self.waiting).min(rows.num_rows() - start);
        if count == 0 {
            return Ok((0, None));
        }
        if self.waiting == 0 {
            self.first_key = keys.row(start).data().to_vec();
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(keys.row(start + count - 1).data());
        self.hashes.extend((start..start + count).map(|i| key_hash(keys.row(i).data())));
        self.slices.push(rows.slice(start, count));
        self.waiting += count;
        let full = if self.waiting == self.batch_rows { self.finish()? } else { None };
        Ok((count, full))
    }

    /// What waits; `None` when nothing does.
    pub fn finish(&mut self) -> Result<Option<Chunk>> {
        let rows = match self.slices.as_slice() {
            [] => return Ok(None),
            [only] => only.clone(),
            several => concat_batches(&self.schema, several)?,
        };
        self.slices.clear();
        self.waiting = 0;
        let columns = rows.columns().iter().map(own_bytes).collect::<Result<Vec<_>>>()?;
        Ok(Some(Chunk {
            rows: RecordBatch::try_new(self.schema.clone(), columns)?,
            hashes: std::mem::take(&mut self.hashes),
            first_key: std::mem::take(&mut self.first_key),
            last_key: std::mem::take(&mut self.last_key),
        }))
    }

    /// Rows that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }
}

/// The same values, with view arrays (at any depth) that refer to no bytes but their own: a view array is written with all its buffers.
fn own_bytes(array: &ArrayRef) -> Result<ArrayRef> {
    if !has_views(array.data_type()) {
        return Ok(array.clone());
    }
    Ok(match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
        DataType::Struct(fields) => {
            let array = array.as_struct();
            let columns = array.columns().iter().map(own_bytes).collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new(fields.clone(), columns, array.nulls().cloned())?)
        }
        DataType::List(_) => own_list(array.as_list::<i32>())?,
        DataType::LargeList(_) => own_list(array.as_list::<i64>())?,
        DataType::FixedSizeList(field, size) => {
            let list = array.as_fixed_size_list();
            let values = own_bytes(list.values())?;
            Arc::new(FixedSizeListArray::try_new_with_length(
                field.clone(),
                *size,
                values,
                list.nulls().cloned(),
                list.len(),
            )?)
        }
        DataType::Map(field, sorted) => {
            let map = array.as_map();
            let (offsets, start, len) = own_offsets(map.offsets());
            let entries = own_bytes(&(Arc::new(map.entries().slice(start, len)) as ArrayRef))?;
            Arc::new(MapArray::try_new(
                field.clone(),
                offsets,
                entries.as_struct().clone(),
                map.nulls().cloned(),
                *sorted,
            )?)
        }
        // Other nested types are written with what their views refer to: larger, but the same values.
        _ => array.clone(),
    })
}

fn own_list<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> Result<ArrayRef> {
    let (DataType::List(field) | DataType::LargeList(field)) = list.data_type() else {
        return Ok(Arc::new(list.clone()));
    };
    let (offsets, start, len) = own_offsets(list.offsets());
    let values = own_bytes(&list.values().slice(start, len))?;
    Ok(Arc::new(GenericListArray::<O>::try_new(
        field.clone(),
        offsets,
        values,
        list.nulls().cloned(),
    )?))
}

/// Offsets that start at zero, and the range of values that they cover.
fn own_offsets<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> (OffsetBuffer<O>, usize, usize) {
    let first = offsets.first().copied().unwrap_or_default();
    let last = offsets.last().copied().unwrap_or_default();
    let own = OffsetBuffer::new(offsets.iter().map(|offset| *offset - first).collect());
    (own, first.as_usize(), last.as_usize() - first.as_usize())
}

fn has_views(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View | DataType::BinaryView => true,
        DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) | DataType::Map(f, _) => has_views(f.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| has_views(f.data_type())),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow_array::builder::{ListBuilder, StringViewBuilder};
    use arrow_array::{ListArray, StringViewArray};
    use arrow_schema::{Field, Fields};

    use super::*;

    fn long_strings() -> ArrayRef {
        Arc::new(StringViewArray::from_iter_values(
            (0..1000).map(|n| format!("a string of more than twelve bytes, number {n}")),
        ))
    }

    #[test]
    fn views_keep_only_their_own_bytes() {
        let strings = long_strings();
        let own = own_bytes(&strings.slice(10, 2)).unwrap();
        assert_eq!(&own, &strings.slice(10, 2));
        assert!(own.as_string_view().data_buffers().iter().map(|b| b.len()).sum::<usize>() < 200);
    }

    #[test]
    fn nested_views_too() {
        let mut builder = ListBuilder::new(StringViewBuilder::new());
        (0..100).for_each(|n| builder.append_value((0..n % 4).map(|k| Some(format!("another rather long string {n}.{k}")))));
        let list: ArrayRef = Arc::new(builder.finish());
        let fields = Fields::from(vec![Field::new("l", list.data_type().clone(), true)]);
        let nested: ArrayRef = Arc::new(StructArray::try_new(fields, vec![list], None).unwrap());
        let slice = nested.slice(50, 3);
        let own = own_bytes(&slice).unwrap();
        assert_eq!(&own, &slice);
        let list: &ListArray = own.as_struct().column(0).as_list();
        assert!(list.values().as_string_view().data_buffers().iter().map(|b| b.len()).sum::<usize>() < 300);
        assert_eq!(list.offsets()[0], 0);
    }
}
