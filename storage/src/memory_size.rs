//! How many bytes a batch's rows take, counting slices as slices.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;

/// Bytes of the rows of a batch, estimated; a slice of a larger batch counts only itself.
pub(crate) fn batch_bytes(rows: &RecordBatch) -> u64 {
    rows.columns().iter().map(array_bytes).sum()
}

/// The same of one column.
pub(crate) fn array_bytes(array: &ArrayRef) -> u64 {
    let len = array.len() as u64;
    let nulls = if array.nulls().is_some() { len.div_ceil(8) } else { 0 };
    nulls
        + match array.data_type() {
            DataType::Utf8View => len * 16 + array.as_string_view().total_buffer_bytes_used() as u64,
            DataType::BinaryView => len * 16 + array.as_binary_view().total_buffer_bytes_used() as u64,
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let (start, end) = (list.value_offsets()[0] as usize, list.value_offsets()[list.len()] as usize);
                len * 4 + array_bytes(&list.values().slice(start, end - start))
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                let (start, end) = (list.value_offsets()[0] as usize, list.value_offsets()[list.len()] as usize);
                len * 8 + array_bytes(&list.values().slice(start, end - start))
            }
            DataType::Struct(_) => array.as_struct().columns().iter().map(array_bytes).sum(),
            _ => array
                .to_data()
                .get_slice_memory_size()
                .unwrap_or_else(|_| array.get_array_memory_size()) as u64,
        }
}
