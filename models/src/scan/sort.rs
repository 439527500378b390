//! Reading batches in the order of their zone maps, for a sort that stays above: a TopK then finds its rows early and prunes the rest.

use arrow::array::{ArrayRef, UInt64Array};
use arrow::compute::{SortOptions, concat, sort_to_indices, take};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::Column;

use super::layout::Unit;
use super::shape::TableShape;

/// Above this many batches the scan keeps its order: the plan should not grow with the table.
const MAX_BATCHES: u64 = 100_000;

/// The units cut to single batches and ordered by the first sort column's smallest (ascending) or largest (descending) values; pieces in
/// memory come first. `None` where zone maps know nothing of the column, or the order is the one there is.
pub(super) fn by_zone_order(
    shape: &TableShape,
    columns: &[usize],
    units: Vec<Unit>,
    order: &[PhysicalSortExpr],
) -> Result<Option<Vec<Unit>>> {
    let Some((table_column, options)) = leading_column(columns, order) else {
        return Ok(None);
    };
    let position = shape.positions[table_column];
    let batches: u64 = units.iter().map(|u| u64::from(u.end - u.start)).sum();
    if !(2..=MAX_BATCHES).contains(&batches) {
        return Ok(None);
    }
    let mut first = Vec::new();
    let mut zoned = Vec::new();
    let mut bounds: Vec<ArrayRef> = Vec::new();
    for unit in units {
        let scan = &shape.pieces[unit.piece].scan;
        let singles = (unit.start..unit.end).map(|batch| {
            let rows = scan.batch_rows(batch as usize) as u64;
            Unit {
                piece: unit.piece,
                start: batch,
                end: batch + 1,
                rows,
            }
        });
        let Some(zones) = scan.zone_maps() else {
            first.extend(singles);
            continue;
        };
        let Some(column) = zones.columns.get(position).and_then(Option::as_ref) else {
            return Ok(None);
        };
        let bound = if options.descending { &column.max } else { &column.min };
        bounds.push(take(
            bound,
            &UInt64Array::from_iter_values(u64::from(unit.start)..u64::from(unit.end)),
            None,
        )?);
        zoned.extend(singles);
    }
    if bounds.is_empty() {
        return Ok(None);
    }
    let bounds = concat(&bounds.iter().map(|b| b.as_ref()).collect::<Vec<_>>())?;
    let indices = sort_to_indices(&bounds, Some(options), None)?;
    if indices.values().windows(2).all(|pair| pair[0] < pair[1]) {
        return Ok(None);
    }
    first.extend(indices.values().iter().map(|&i| zoned[i as usize]));
    Ok(Some(first))
}

fn leading_column(columns: &[usize], order: &[PhysicalSortExpr]) -> Option<(usize, SortOptions)> {
    let leading = order.first()?;
    let column = leading.expr.downcast_ref::<Column>()?;
    Some((*columns.get(column.index())?, leading.options))
}
