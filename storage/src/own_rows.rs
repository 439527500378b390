//! Batches without the bytes of others.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::ByteViewType;
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, GenericByteViewArray, GenericListArray, MapArray, OffsetSizeTrait, RecordBatch,
    RecordBatchOptions, StructArray,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType};

type Result<T> = std::result::Result<T, ArrowError>;

/// The same rows, with view arrays (at any depth) that refer to hardly any bytes but their own: Arrow's IPC format writes a view array with
/// all its buffers, also those of other rows of the batch that it was cut from.
pub fn own_rows(rows: &RecordBatch) -> Result<RecordBatch> {
    let columns = rows.columns().iter().map(own_bytes).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(rows.schema(), columns, &options)
}

fn own_view<T: ByteViewType>(array: &GenericByteViewArray<T>) -> ArrayRef {
    let bytes: usize = array.data_buffers().iter().map(|buffer| buffer.len()).sum();
    let used = array.total_buffer_bytes_used();
    if bytes <= used + used / 8 {
        return Arc::new(array.clone());
    }
    Arc::new(array.gc())
}

fn own_bytes(array: &ArrayRef) -> Result<ArrayRef> {
    if !has_views(array.data_type()) {
        return Ok(array.clone());
    }
    Ok(match array.data_type() {
        DataType::Utf8View => own_view(array.as_string_view()),
        DataType::BinaryView => own_view(array.as_binary_view()),
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
