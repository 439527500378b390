//! Finding one key in a segment: sparse index (first and last key of each batch) → bloom filter → binary search within a batch.
//!
//! Within a batch keys lie as typed columns. A key is decoded once and compared with the columns directly; only types whose comparison is not
//! known to agree with the encoded order are compared by encoding the row at hand.

use std::cmp::Ordering;
use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef};
use arrow_ord::ord::{DynComparator, make_comparator};
use arrow_schema::{DataType, SortOptions};

use super::reader::Segment;
use crate::bloom;
use crate::error::Result;
use crate::key::KeyEncoder;

/// See [`Segment::find`].
pub fn find(segment: &Segment, key: &[u8], hash: u64, encoder: &KeyEncoder) -> Result<Range<u32>> {
    let first = first_batch(segment, key, 0);
    let mut found = 0..0;
    // Versions of one key can run over several batches.
    for batch in first..segment.batch_count() {
        if segment.first_key(batch) > key {
            break;
        }
        if !bloom::may_contain(segment.sidecar.bloom(batch), hash) {
            continue;
        }
        let rows = segment.batch_rows(batch);
        let search = BatchSearch::new(segment, batch, key, encoder)?;
        let low = search.partition_point(0, rows, Ordering::Less)?;
        if low == rows || search.compare(low)? != Ordering::Equal {
            continue;
        }
        // Nearly always a key has one version here.
        let mut high = low + 1;
        if high < rows && search.compare(high)? == Ordering::Equal {
            high = search.partition_point(high + 1, rows, Ordering::Equal)?;
        }
        let start = segment.batch_start(batch);
        let end = start + high as u32;
        found = if found.is_empty() {
            start + low as u32..end
        } else {
            found.start..end
        };
    }
    Ok(found)
}

/// See [`Segment::lower_bound`]. `key` may be any bytes, such as a prefix of keys: it is only compared.
pub fn lower_bound(segment: &Segment, key: &[u8], encoder: &KeyEncoder) -> Result<u32> {
    let batch = first_batch(segment, key, 0);
    if batch == segment.batch_count() {
        return Ok(segment.info().rows as u32);
    }
    if segment.first_key(batch) >= key {
        return Ok(segment.batch_start(batch));
    }
    let search = BatchSearch::for_bytes(segment, batch, key, encoder)?;
    let at = search.partition_point(0, segment.batch_rows(batch), Ordering::Less)?;
    Ok(segment.batch_start(batch) + at as u32)
}

/// See [`Segment::first_batch`].
pub fn first_batch(segment: &Segment, key: &[u8], from: usize) -> usize {
    let (mut low, mut high) = (from, segment.batch_count());
    while low < high {
        let middle = low + (high - low) / 2;
        if segment.last_key(middle) < key {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Compares the rows of one batch with one key.
enum BatchSearch<'a> {
    /// The key is one 64-bit integer.
    Signed(ArrayRef, i64),
    /// The same, unsigned.
    Unsigned(ArrayRef, u64),
    /// One comparison a key column.
    Typed(Vec<DynComparator>),
    /// Rows are encoded.
    Encoded {
        columns: Vec<ArrayRef>,
        key: &'a [u8],
        encoder: &'a KeyEncoder,
    },
}

impl<'a> BatchSearch<'a> {
    /// Compares with a key that the encoder made.
    fn new(segment: &Segment, batch: usize, key: &'a [u8], encoder: &'a KeyEncoder) -> Result<Self> {
        let (columns, decoded) = match Self::for_bytes(segment, batch, key, encoder)? {
            BatchSearch::Encoded { columns, .. } if columns.iter().all(|c| has_typed_order(c.data_type())) => {
                (columns, encoder.decode([key])?)
            }
            other => return Ok(other),
        };
        let pairs = columns.iter().zip(&decoded);
        let typed = pairs
            .map(|(column, value)| make_comparator(column, value, SortOptions::default()))
            .collect::<Result<_, _>>()?;
        Ok(BatchSearch::Typed(typed))
    }

    /// Compares with any bytes.
    fn for_bytes(segment: &Segment, batch: usize, key: &'a [u8], encoder: &'a KeyEncoder) -> Result<Self> {
        let columns = segment.key_columns(batch, encoder)?;
        if let [column] = columns.as_slice() {
            match (column.data_type(), integer_key(key)) {
                (DataType::Int64, Some(value)) => return Ok(BatchSearch::Signed(column.clone(), (value ^ 1 << 63) as i64)),
                (DataType::UInt64, Some(value)) => return Ok(BatchSearch::Unsigned(column.clone(), value)),
                _ => {}
            }
        }
        Ok(BatchSearch::Encoded { columns, key, encoder })
    }

    /// How the key of a row compares with the key.
    fn compare(&self, row: usize) -> Result<Ordering> {
        Ok(match self {
            BatchSearch::Signed(column, value) => column.as_primitive::<Int64Type>().value(row).cmp(value),
            BatchSearch::Unsigned(column, value) => column.as_primitive::<UInt64Type>().value(row).cmp(value),
            BatchSearch::Typed(columns) => columns
                .iter()
                .map(|compare| compare(row, 0))
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal),
            BatchSearch::Encoded { columns, key, encoder } => {
                let row: Vec<ArrayRef> = columns.iter().map(|column| column.slice(row, 1)).collect();
                encoder.encode(&row)?.row(0).data().cmp(key)
            }
        })
    }

    /// The first row within `low..high` that does not compare as `order` or below.
    fn partition_point(&self, mut low: usize, mut high: usize, order: Ordering) -> Result<usize> {
        while low < high {
            let middle = low + (high - low) / 2;
            if self.compare(middle)? <= order {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

/// The value of an encoded 64-bit integer key: a byte 1 and the number, big-endian (with the sign bit flipped where it has one).
fn integer_key(key: &[u8]) -> Option<u64> {
    let (mark, value) = key.split_first()?;
    (*mark == 1).then_some(())?;
    Some(u64::from_be_bytes(value.try_into().ok()?))
}

/// Types whose comparison kernel agrees with the order of encoded keys.
fn has_typed_order(data_type: &DataType) -> bool {
    !data_type.is_nested() && !matches!(data_type, DataType::Interval(_) | DataType::Null | DataType::Dictionary(..))
}
