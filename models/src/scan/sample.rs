//! How many rows a predicate leaves, by trying it on a few.
//!
//! Interval arithmetic knows nothing of LIKE, of functions or of columns that go together, and join orders hang on this number. So a
//! thousand rows from each of a few batches spread over the survivors are filtered when the plan is made: a fraction of a millisecond.

use arrow::array::RecordBatch;
use datafusion::error::Result;

use super::external;
use super::filter::{RowFilter, Selection};
use super::layout::Unit;
use super::predicate::Predicate;
use super::shape::TableShape;

/// Batches tried.
const BATCHES: u64 = 8;
/// Rows tried of each.
const ROWS: usize = 1024;

/// Estimated rows among `units` for which the static part of the predicate is true. `None` when there is nothing to try. Reads and may
/// block.
pub(super) fn estimate_rows(shape: &TableShape, units: &[Unit], predicate: &Predicate) -> Result<Option<usize>> {
    let statics = Predicate {
        statics: predicate.statics.clone(),
        dynamics: Vec::new(),
    };
    let columns = statics.columns();
    let Some(mut filter) = RowFilter::try_new(&statics, &columns)? else {
        return Ok(None);
    };
    let relation_columns = shape.relation_columns(&columns);
    let rows: u64 = units.iter().map(|u| u.rows).sum();
    let (mut tried, mut passed) = (0usize, 0usize);
    for (piece, batch) in spread(units) {
        let Some(batch) = shape.pieces[piece].scan.read(batch, &relation_columns).map_err(external)? else {
            continue;
        };
        let batch = middle(&batch);
        tried += batch.num_rows();
        passed += match filter.select(&batch)? {
            Selection::None => 0,
            Selection::All => batch.num_rows(),
            Selection::Some(_, n) => n,
        };
    }
    if tried == 0 {
        return Ok(None);
    }
    let whole = tried as u64 >= rows;
    // None of n found says less than one in n: half of that is taken.
    let passed = if passed == 0 && !whole { 0.5 } else { passed as f64 };
    Ok(Some((rows as f64 * passed / tried as f64).ceil() as usize))
}

/// Batches at even distances.
fn spread(units: &[Unit]) -> Vec<(usize, usize)> {
    let total: u64 = units.iter().map(|u| u64::from(u.end - u.start)).sum();
    let count = total.min(BATCHES);
    let mut picks = Vec::with_capacity(count as usize);
    let mut before = 0u64;
    for unit in units {
        let length = u64::from(unit.end - unit.start);
        while (picks.len() as u64) < count {
            let pick = (2 * picks.len() as u64 + 1) * total / (2 * count);
            if pick >= before + length {
                break;
            }
            picks.push((unit.piece, (u64::from(unit.start) + pick - before) as usize));
        }
        before += length;
    }
    picks
}

fn middle(batch: &RecordBatch) -> RecordBatch {
    let rows = batch.num_rows();
    if rows <= ROWS {
        batch.clone()
    } else {
        batch.slice((rows - ROWS) / 2, ROWS)
    }
}
