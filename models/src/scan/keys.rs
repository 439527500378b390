//! Which keys a predicate can be true for, when it says so by equality: the point path of a scan.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::physical_expr::utils::{Guarantee, LiteralGuarantee};

use super::predicate::Predicate;
use super::shape::TableShape;

/// More keys than this are scanned for.
const MAX_KEYS: usize = 512;

/// The keys outside of which the predicate's static part is never true: one array a key column, in key order, all of one length.
/// `None` when the predicate does not bind every key column to a short list of literals.
pub(super) fn bound_keys(shape: &TableShape, predicate: &Predicate) -> Result<Option<Vec<ArrayRef>>> {
    if !shape.key_is_visible() {
        return Ok(None);
    }
    let Some(expr) = predicate.static_conjunction() else {
        return Ok(None);
    };
    let mut literals: HashMap<String, Vec<ScalarValue>> = HashMap::new();
    for guarantee in LiteralGuarantee::analyze(&expr)
        .into_iter()
        .filter(|g| g.guarantee == Guarantee::In)
    {
        literals.insert(guarantee.column.name, guarantee.literals.into_iter().collect());
    }
    let mut columns: Vec<Vec<ScalarValue>> = Vec::new();
    for &column in &shape.key_prefix {
        let field = shape.schema.field(column);
        let Some(values) = literals.get(field.name()) else {
            return Ok(None);
        };
        let Some(values) = key_values(values, field.data_type()) else {
            return Ok(None);
        };
        columns.push(values);
    }
    let count = columns.iter().try_fold(1usize, |n, c| n.checked_mul(c.len())).unwrap_or(usize::MAX);
    if count > MAX_KEYS {
        return Ok(None);
    }
    if count == 0 {
        return Ok(Some(
            shape
                .key_prefix
                .iter()
                .map(|&c| arrow::array::new_empty_array(shape.schema.field(c).data_type()))
                .collect(),
        ));
    }
    cross_product(&columns, count).map(Some)
}

/// The literals in the key column's type, sorted and without nulls; `None` when equality in the type is not equality of key bytes, or a
/// literal does not convert.
fn key_values(literals: &[ScalarValue], data_type: &DataType) -> Option<Vec<ScalarValue>> {
    if data_type.is_floating() || data_type.is_nested() {
        return None;
    }
    let mut values = Vec::with_capacity(literals.len());
    for literal in literals.iter().filter(|l| !l.is_null()) {
        let value = literal.cast_to(data_type).ok()?;
        if value.cast_to(&literal.data_type()).ok()? != *literal {
            return None;
        }
        values.push(value);
    }
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.dedup();
    Some(values)
}

/// All combinations, the last column varying fastest: ascending keys.
fn cross_product(columns: &[Vec<ScalarValue>], count: usize) -> Result<Vec<ArrayRef>> {
    let mut repeat = count;
    let mut arrays = Vec::with_capacity(columns.len());
    for values in columns {
        repeat /= values.len();
        arrays.push(ScalarValue::iter_to_array(
            (0..count).map(|i| values[i / repeat % values.len()].clone()),
        )?);
    }
    Ok(arrays)
}
