//! Which rows of a batch pass a predicate.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{and, prep_null_mask_filter};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::{ScalarValue, internal_datafusion_err};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::DynamicFilterTracking;
use datafusion::physical_expr_common::physical_expr::PhysicalExpr;

use super::predicate::{Predicate, move_columns};

/// The rows of one batch that pass.
pub(super) enum Selection {
    /// No row.
    None,
    /// Every row.
    All,
    /// These rows (no nulls in the mask), and how many they are.
    Some(BooleanArray, usize),
}

impl Selection {
    fn new(mask: BooleanArray) -> Selection {
        match mask.true_count() {
            0 => Selection::None,
            n if n == mask.len() => Selection::All,
            n => Selection::Some(mask, n),
        }
    }
}

/// Evaluates a predicate on batches of its columns.
pub(super) struct RowFilter {
    statics: Option<Arc<dyn PhysicalExpr>>,
    offer: Option<Offer>,
}

impl RowFilter {
    /// A filter for batches with these table columns, which hold all the predicate's. `None` for an empty predicate.
    pub fn try_new(predicate: &Predicate, table_columns: &[usize]) -> Result<Option<RowFilter>> {
        if predicate.is_empty() {
            return Ok(None);
        }
        let over_batch = |expr: Option<Arc<dyn PhysicalExpr>>| -> Result<Option<Arc<dyn PhysicalExpr>>> {
            let Some(expr) = expr else { return Ok(None) };
            match move_columns(&expr, |c| table_columns.iter().position(|t| *t == c))? {
                Some(moved) => Ok(Some(moved)),
                None => Err(internal_datafusion_err!("the scan does not read every column of its filter {expr}")),
            }
        };
        let statics = over_batch(predicate.static_conjunction())?;
        let offer = over_batch(predicate.dynamic_conjunction())?.map(Offer::new);
        Ok(Some(RowFilter { statics, offer }))
    }

    /// The rows that pass.
    pub fn select(&mut self, batch: &RecordBatch) -> Result<Selection> {
        let chosen = match &self.statics {
            Some(expr) => selection(expr.evaluate(batch)?, batch.num_rows())?,
            None => Selection::All,
        };
        let Some(offer) = &mut self.offer else { return Ok(chosen) };
        if !matches!(chosen, Selection::None) && offer.is_worth_it() {
            return offer.select(batch, chosen);
        }
        Ok(chosen)
    }
}

/// A dynamic filter: evaluated a row only as long as that drops rows.
struct Offer {
    expr: Arc<dyn PhysicalExpr>,
    tracking: DynamicFilterTracking,
    rows: usize,
    passed: usize,
    resting: bool,
}

impl Offer {
    /// Rows after which the pass rate counts.
    const TRIAL_ROWS: usize = 32 * 1024;

    fn new(expr: Arc<dyn PhysicalExpr>) -> Offer {
        let tracking = DynamicFilterTracking::classify(&expr);
        Offer {
            expr,
            tracking,
            rows: 0,
            passed: 0,
            resting: false,
        }
    }

    /// False while the filter passed most rows of its trial and has not changed since.
    fn is_worth_it(&mut self) -> bool {
        if self.tracking.watcher().is_some_and(|watcher| watcher.changed()) {
            (self.rows, self.passed, self.resting) = (0, 0, false);
        }
        !self.resting
    }

    fn select(&mut self, batch: &RecordBatch, chosen: Selection) -> Result<Selection> {
        let rows = batch.num_rows();
        let (considered, selected) = match chosen {
            Selection::None => return Ok(Selection::None),
            Selection::All => (rows, selection(self.expr.evaluate(batch)?, rows)?),
            Selection::Some(mask, n) if n * 4 <= rows => {
                let value = self.expr.evaluate_selection(batch, &mask)?;
                (n, intersection(mask, n, selection(value, rows)?)?)
            }
            Selection::Some(mask, n) => {
                let value = self.expr.evaluate(batch)?;
                (n, intersection(mask, n, selection(value, rows)?)?)
            }
        };
        self.rows += considered;
        self.passed += match &selected {
            Selection::None => 0,
            Selection::All => considered,
            Selection::Some(_, n) => *n,
        };
        if self.rows >= Self::TRIAL_ROWS {
            self.resting = self.passed * 4 > self.rows * 3;
            (self.rows, self.passed) = (0, 0);
        }
        Ok(selected)
    }
}

fn intersection(mask: BooleanArray, count: usize, other: Selection) -> Result<Selection> {
    Ok(match other {
        Selection::None => Selection::None,
        Selection::All => Selection::Some(mask, count),
        Selection::Some(other, _) => Selection::new(and(&mask, &other)?),
    })
}

fn selection(value: ColumnarValue, rows: usize) -> Result<Selection> {
    match value {
        ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) => Ok(Selection::All),
        ColumnarValue::Scalar(ScalarValue::Boolean(_)) => Ok(Selection::None),
        value => {
            let array = value.into_array(rows)?;
            let mask = as_boolean_array(&array)?;
            Ok(Selection::new(if mask.null_count() > 0 {
                prep_null_mask_filter(mask)
            } else {
                mask.clone()
            }))
        }
    }
}
