//! Which rows of a batch are visible.

use arrow_array::{BooleanArray, RecordBatch};
use arrow_buffer::BooleanBuffer;
use arrow_select::filter::filter_record_batch;
use roaring::RoaringBitmap;

use crate::error::Result;

/// The visible rows of one batch.
#[derive(Debug, Clone)]
pub(crate) enum Selection {
    /// Every row.
    All,
    /// No row.
    Nothing,
    /// Those whose bit is set: at least one, not all.
    Some(BooleanBuffer),
}

impl Selection {
    /// The rows whose bit is set.
    pub fn from_buffer(buffer: BooleanBuffer) -> Self {
        match buffer.count_set_bits() {
            0 => Selection::Nothing,
            set if set == buffer.len() => Selection::All,
            _ => Selection::Some(buffer),
        }
    }

    /// The rows `start..start + len` that are not in `mask`.
    pub fn outside(mask: &RoaringBitmap, start: u32, len: usize) -> Self {
        let end = start as u64 + len as u64;
        let masked = mask.range_cardinality(start..u32::try_from(end).unwrap_or(u32::MAX));
        match masked {
            0 => Selection::All,
            masked if masked >= len as u64 => Selection::Nothing,
            _ => {
                let mut bits = vec![u8::MAX; len.div_ceil(8)];
                for row in mask.range(start..u32::try_from(end).unwrap_or(u32::MAX)) {
                    let i = (row - start) as usize;
                    bits[i / 8] &= !(1 << (i % 8));
                }
                Selection::Some(BooleanBuffer::new(bits.into(), 0, len))
            }
        }
    }

    /// Rows in both.
    pub fn and(self, other: Selection) -> Selection {
        match (self, other) {
            (Selection::Nothing, _) | (_, Selection::Nothing) => Selection::Nothing,
            (Selection::All, other) | (other, Selection::All) => other,
            (Selection::Some(a), Selection::Some(b)) => Selection::from_buffer(&a & &b),
        }
    }

    /// How many rows of a batch of `len`.
    pub fn count(&self, len: usize) -> usize {
        match self {
            Selection::All => len,
            Selection::Nothing => 0,
            Selection::Some(bits) => bits.count_set_bits(),
        }
    }

    /// Positions of the rows of a batch of `len`.
    pub fn positions(&self, len: usize) -> Vec<u32> {
        match self {
            Selection::All => (0..len as u32).collect(),
            Selection::Nothing => Vec::new(),
            Selection::Some(bits) => bits.set_indices().map(|i| i as u32).collect(),
        }
    }

    /// The selected rows; `None` when there are none. No copy when all are.
    pub fn apply(&self, rows: RecordBatch) -> Result<Option<RecordBatch>> {
        match self {
            Selection::All => Ok((rows.num_rows() > 0).then_some(rows)),
            Selection::Nothing => Ok(None),
            Selection::Some(bits) => Ok(Some(filter_record_batch(&rows, &BooleanArray::new(bits.clone(), None))?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_a_mask() {
        let mask: RoaringBitmap = [3, 10, 11, 19, 20].into_iter().collect();
        assert_eq!(Selection::outside(&mask, 10, 10).positions(10), vec![2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(Selection::outside(&mask, 10, 2).positions(2), Vec::<u32>::new());
        assert!(matches!(Selection::outside(&mask, 21, 100), Selection::All));
        assert_eq!(
            Selection::outside(&mask, 0, 10)
                .and(Selection::outside(&[4].into_iter().collect(), 0, 10))
                .count(10),
            8
        );
    }
}
