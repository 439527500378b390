//! Which keys a predicate can be true for, when it says so by equality: the point path of a scan.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::utils::{Guarantee, LiteralGuarantee, split_conjunction};
use pyralog_storage::KeySpan;
use pyralog_storage::reads::after_prefix;

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

/// A range of keys outside of which the predicate's static part is never true: equal first key columns, and bounds of the next one.
pub(super) fn key_span(shape: &TableShape, predicate: &Predicate) -> Result<KeySpan> {
    let Some(expr) = predicate.static_conjunction() else {
        return Ok(KeySpan::all());
    };
    let bounds: Vec<(usize, Operator, ScalarValue)> = split_conjunction(&expr).into_iter().filter_map(bound).collect();
    let mut equal: Vec<ScalarValue> = Vec::new();
    for &column in &shape.key_prefix {
        let data_type = shape.schema.field(column).data_type();
        let mut of_column = bounds.iter().filter(|(bounded, ..)| *bounded == column);
        let converted =
            |literal: &ScalarValue| key_values(std::slice::from_ref(literal), data_type).and_then(|values| values.into_iter().next());
        if let Some(value) = of_column
            .clone()
            .find_map(|(_, operator, literal)| (*operator == Operator::Eq).then(|| converted(literal))?)
        {
            equal.push(value);
            continue;
        }
        let prefix = encoded(&equal)?;
        let mut span = KeySpan::with_prefix(&prefix);
        of_column.try_for_each(|(_, operator, literal)| -> Result<()> {
            let Some(value) = converted(literal) else { return Ok(()) };
            let end = encoded(&[equal.as_slice(), &[value]].concat())?;
            match operator {
                Operator::Gt | Operator::GtEq if *end > *span.from => span.from = end.into(),
                Operator::Lt => span.to = least(span.to.take(), Some(end.into())),
                Operator::LtEq => span.to = least(span.to.take(), after_prefix(&end)),
                _ => {}
            }
            Ok(())
        })?;
        return Ok(span);
    }
    Ok(KeySpan::with_prefix(&encoded(&equal)?))
}

/// The smaller of two ends, where `None` is none.
fn least(a: Option<Box<[u8]>>, b: Option<Box<[u8]>>) -> Option<Box<[u8]>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The first columns of a key as a key's bytes begin.
fn encoded(values: &[ScalarValue]) -> Result<Vec<u8>> {
    if values.is_empty() {
        return Ok(Vec::new());
    }
    let columns = values.iter().map(|value| value.to_array()).collect::<Result<Vec<_>>>()?;
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(&columns)?;
    Ok(rows.row(0).data().to_vec())
}

/// What a conjunct says of one column: how it compares with which literal.
fn bound(conjunct: &Arc<dyn PhysicalExpr>) -> Option<(usize, Operator, ScalarValue)> {
    let binary = conjunct.downcast_ref::<BinaryExpr>()?;
    let (column, literal) = (binary.left().downcast_ref::<Column>(), binary.right().downcast_ref::<Literal>());
    if let (Some(column), Some(literal)) = (column, literal) {
        return Some((column.index(), *binary.op(), literal.value().clone()));
    }
    let (literal, column) = (binary.left().downcast_ref::<Literal>()?, binary.right().downcast_ref::<Column>()?);
    Some((column.index(), binary.op().swap()?, literal.value().clone()))
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
