//! What a segment's writer learns of a column, batch by batch: bounds, null counts, distinct values.
//!
//! A zone's bounds may be wider than the values: long strings are cut (the upper bound is then rounded up), and a float zero counts as both
//! zeros, since comparisons differ in whether they tell them apart. A batch with a NaN has unknown bounds, for the same reason.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, ByteArrayType, ByteViewType};
use arrow_array::{
    Array, ArrayRef, ArrowNativeTypeOp, BooleanArray, FixedSizeBinaryArray, GenericByteArray, GenericByteViewArray, PrimitiveArray,
    downcast_primitive_array, new_null_array,
};
use arrow_schema::DataType;

use super::bytes_bounds::{self, ByteBounds};
use super::distinct::DistinctSketch;
use crate::error::Result;

/// Widest fixed-size binary value that is kept as a bound. Bytes.
const MAX_FIXED_WIDTH: i32 = 64;

/// Collects the zones of one column. Columns without an order have none.
#[derive(Debug)]
pub struct ZoneBuilder {
    data_type: DataType,
    ordered: bool,
    min: Vec<ArrayRef>,
    max: Vec<ArrayRef>,
    null_counts: Vec<u64>,
    exact: bool,
    sketch: Option<DistinctSketch>,
}

/// The bounds of one batch, as arrays of one element.
struct Bounds {
    min: ArrayRef,
    max: ArrayRef,
    exact: bool,
}

/// The zones of a column over all batches.
#[derive(Debug)]
pub struct Zones {
    /// Smallest value a batch.
    pub min: ArrayRef,
    /// Largest value a batch.
    pub max: ArrayRef,
    /// Nulls a batch.
    pub null_counts: Vec<u64>,
}

/// Whether values of a type have an order that zone maps can use.
pub fn is_ordered(data_type: &DataType) -> bool {
    use DataType::*;
    match data_type {
        Boolean | Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView => true,
        FixedSizeBinary(width) => *width <= MAX_FIXED_WIDTH,
        // A month has no fixed number of days: engines differ in how they compare intervals.
        Interval(_) => false,
        other => other.is_primitive(),
    }
}

impl ZoneBuilder {
    /// A builder for a column of this type.
    pub fn new(data_type: &DataType) -> Self {
        ZoneBuilder {
            data_type: data_type.clone(),
            ordered: is_ordered(data_type),
            min: Vec::new(),
            max: Vec::new(),
            null_counts: Vec::new(),
            exact: true,
            sketch: (!data_type.is_nested() && !data_type.is_null()).then(DistinctSketch::default),
        }
    }

    /// Takes in the next batch's values.
    pub fn add(&mut self, array: &ArrayRef) {
        if let Some(sketch) = &mut self.sketch {
            hash_values(array, &mut |hash| sketch.insert_hash(hash));
        }
        if !self.ordered {
            return;
        }
        self.null_counts.push(array.null_count() as u64);
        let all_null = array.null_count() == array.len();
        let bounds = if all_null { None } else { bounds(array) };
        self.exact &= all_null || bounds.as_ref().is_some_and(|b| b.exact);
        let Bounds { min, max, .. } = bounds.unwrap_or_else(|| {
            let unknown = new_null_array(&self.data_type, 1);
            Bounds {
                min: unknown.clone(),
                max: unknown,
                exact: false,
            }
        });
        self.min.push(min);
        self.max.push(max);
    }

    /// The zones (`None` for a column without an order), whether they are exact, and the sketch.
    pub fn finish(self) -> Result<(Option<Zones>, bool, Option<DistinctSketch>)> {
        if !self.ordered {
            return Ok((None, false, self.sketch));
        }
        let join = |parts: &[ArrayRef]| match parts {
            [] => Ok(arrow_array::new_empty_array(&self.data_type)),
            parts => arrow_select::concat::concat(&parts.iter().map(|p| p.as_ref()).collect::<Vec<_>>()),
        };
        let zones = Zones {
            min: join(&self.min)?,
            max: join(&self.max)?,
            null_counts: self.null_counts,
        };
        Ok((Some(zones), self.exact, self.sketch))
    }
}

/// Bounds of the values that are not null; `None` when unknown. `array` has at least one such value.
fn bounds(array: &ArrayRef) -> Option<Bounds> {
    downcast_primitive_array! {
        array => primitive_bounds(array),
        DataType::Boolean => boolean_bounds(array.as_boolean()),
        DataType::Utf8 => byte_array_bounds(array.as_string::<i32>()),
        DataType::LargeUtf8 => byte_array_bounds(array.as_string::<i64>()),
        DataType::Binary => byte_array_bounds(array.as_binary::<i32>()),
        DataType::LargeBinary => byte_array_bounds(array.as_binary::<i64>()),
        DataType::Utf8View => byte_view_bounds(array.as_string_view()),
        DataType::BinaryView => byte_view_bounds(array.as_binary_view()),
        DataType::FixedSizeBinary(width) => {
            let (min, max) = bytes_bounds::extremes(array.as_fixed_size_binary().iter().flatten())?;
            let one = |value: &[u8]| FixedSizeBinaryArray::try_from_iter(std::iter::once(value)).ok().filter(|a| a.value_length() == *width);
            Some(Bounds { min: Arc::new(one(min)?), max: Arc::new(one(max)?), exact: true })
        }
        _ => None,
    }
}

fn primitive_bounds<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>) -> Option<Bounds> {
    let floating = array.data_type().is_floating();
    let values = array.values().as_ref();
    let (mut min, mut max) = match array.nulls() {
        None => slice_bounds(values, floating)?,
        Some(nulls) => {
            let mut whole: Option<(T::Native, T::Native)> = None;
            for (start, end) in nulls.valid_slices() {
                let (low, high) = slice_bounds(&values[start..end], floating)?;
                whole = Some(whole.map_or((low, high), |(min, max)| {
                    (if low < min { low } else { min }, if high > max { high } else { max })
                }));
            }
            whole?
        }
    };
    let mut exact = true;
    let zero = T::Native::default();
    if floating && (min == zero || max == zero) {
        exact = false;
        min = if min == zero { zero.neg_wrapping() } else { min };
        max = if max == zero { zero } else { max };
    }
    let one = |value| Arc::new(PrimitiveArray::<T>::from_value(value, 1).with_data_type(array.data_type().clone())) as ArrayRef;
    Some(Bounds {
        min: one(min),
        max: one(max),
        exact,
    })
}

/// Smallest and largest of a non-empty slice; `None` when it holds a NaN. The loops have no branches, so that they become vector code.
fn slice_bounds<N: PartialOrd + Copy>(values: &[N], floating: bool) -> Option<(N, N)> {
    let mut min = *values.first()?;
    let mut max = min;
    for &value in values {
        min = if value < min { value } else { min };
        max = if value > max { value } else { max };
    }
    #[allow(clippy::eq_op, reason = "only a NaN differs from itself")]
    let has_nan = floating && values.iter().fold(false, |nan, value| nan | (value != value));
    (!has_nan).then_some((min, max))
}

fn boolean_bounds(array: &BooleanArray) -> Option<Bounds> {
    let one = |value| Arc::new(BooleanArray::from(vec![value])) as ArrayRef;
    let trues = array.true_count();
    let falses = array.len() - array.null_count() - trues;
    Some(Bounds {
        min: one(falses == 0),
        max: one(trues > 0),
        exact: true,
    })
}

fn byte_array_bounds<T: ByteArrayType>(array: &GenericByteArray<T>) -> Option<Bounds>
where
    GenericByteArray<T>: OneValue,
{
    let is_text = matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8);
    let bounds = bytes_bounds::bounds(array.iter().flatten().map(|v| v.as_ref()), is_text)?;
    one_value_bounds::<GenericByteArray<T>>(bounds)
}

fn byte_view_bounds<T: ByteViewType + ?Sized>(array: &GenericByteViewArray<T>) -> Option<Bounds>
where
    GenericByteViewArray<T>: OneValue,
{
    let is_text = matches!(array.data_type(), DataType::Utf8View);
    let bounds = bytes_bounds::bounds(array.iter().flatten().map(|v| v.as_ref()), is_text)?;
    one_value_bounds::<GenericByteViewArray<T>>(bounds)
}

/// A string or binary array type that can be made of one value (or one null).
trait OneValue {
    fn one_value(value: Option<&[u8]>) -> Option<ArrayRef>;
}

macro_rules! one_value {
    ($($array:ty, $convert:expr;)*) => {$(
        impl OneValue for $array {
            fn one_value(value: Option<&[u8]>) -> Option<ArrayRef> {
                let value = match value {
                    Some(value) => Some($convert(value).ok()?),
                    None => None,
                };
                Some(Arc::new(<$array>::from_iter([value])))
            }
        }
    )*};
}

one_value! {
    arrow_array::StringArray, std::str::from_utf8;
    arrow_array::LargeStringArray, std::str::from_utf8;
    arrow_array::StringViewArray, std::str::from_utf8;
    arrow_array::BinaryArray, Ok::<&[u8], std::convert::Infallible>;
    arrow_array::LargeBinaryArray, Ok::<&[u8], std::convert::Infallible>;
    arrow_array::BinaryViewArray, Ok::<&[u8], std::convert::Infallible>;
}

fn one_value_bounds<A: OneValue>(bounds: ByteBounds) -> Option<Bounds> {
    Some(Bounds {
        min: A::one_value(Some(&bounds.min))?,
        max: A::one_value(bounds.max.as_deref())?,
        exact: bounds.exact,
    })
}

/// Calls `add` with a hash of each value that is not null.
fn hash_values(array: &ArrayRef, add: &mut impl FnMut(u64)) {
    downcast_primitive_array! {
        array => {
            let width = array.data_type().primitive_width().unwrap_or(1);
            let bytes = array.values().inner().as_slice();
            match array.nulls() {
                None => hash_fixed(bytes, width, add),
                Some(nulls) => nulls.valid_slices().for_each(|(start, end)| hash_fixed(&bytes[start * width..end * width], width, add)),
            }
        },
        DataType::Boolean => {
            let (array, values) = (array.as_boolean(), array.len() - array.null_count());
            let trues = array.true_count();
            [(trues, 1), (values - trues, 0)].into_iter().filter(|(count, _)| *count > 0).for_each(|(_, value)| add(mix(value)));
        }
        DataType::Utf8 => array.as_string::<i32>().iter().flatten().for_each(|v| add(hash_bytes(v.as_bytes()))),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().flatten().for_each(|v| add(hash_bytes(v.as_bytes()))),
        DataType::Utf8View => array.as_string_view().iter().flatten().for_each(|v| add(hash_bytes(v.as_bytes()))),
        DataType::Binary => array.as_binary::<i32>().iter().flatten().for_each(|v| add(hash_bytes(v))),
        DataType::LargeBinary => array.as_binary::<i64>().iter().flatten().for_each(|v| add(hash_bytes(v))),
        DataType::BinaryView => array.as_binary_view().iter().flatten().for_each(|v| add(hash_bytes(v))),
        DataType::FixedSizeBinary(_) => array.as_fixed_size_binary().iter().flatten().for_each(|v| add(hash_bytes(v))),
        _ => {}
    }
}

/// Hashes values of `width` bytes each.
fn hash_fixed(bytes: &[u8], width: usize, add: &mut impl FnMut(u64)) {
    match width {
        1 => bytes.iter().for_each(|b| add(mix(u64::from(*b)))),
        2 => bytes
            .as_chunks::<2>()
            .0
            .iter()
            .for_each(|b| add(mix(u64::from(u16::from_le_bytes(*b))))),
        4 => bytes
            .as_chunks::<4>()
            .0
            .iter()
            .for_each(|b| add(mix(u64::from(u32::from_le_bytes(*b))))),
        8 => bytes.as_chunks::<8>().0.iter().for_each(|b| add(mix(u64::from_le_bytes(*b)))),
        16 => bytes.as_chunks::<16>().0.iter().for_each(|b| {
            let value = u128::from_le_bytes(*b);
            add(mix(mix((value >> 64) as u64) ^ value as u64));
        }),
        _ => bytes.chunks_exact(width.max(1)).for_each(|b| add(hash_bytes(b))),
    }
}

fn hash_bytes(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a permutation that spreads every bit.
#[inline]
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[path = "zones_tests.rs"]
mod tests;
