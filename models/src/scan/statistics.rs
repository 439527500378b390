//! Statistics for the optimizer: of the whole table from storage's summaries, and of what a predicate leaves.

use arrow::array::ArrayRef;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use pyralog_storage::ColumnSummary;

use super::shape::TableShape;

/// Statistics of all visible rows over table columns: the row count is exact, and of columns only those `wanted` are known.
pub(super) fn table_statistics(shape: &TableShape, wanted: impl Fn(usize) -> bool) -> Statistics {
    let rows = shape.row_count() as usize;
    let bytes: u64 = shape.views.iter().map(|v| v.byte_size()).sum();
    let widths = shape.schema.fields().iter().map(|f| f.data_type().primitive_width());
    let fixed: u64 = widths.clone().flatten().map(|w| w as u64 * rows as u64).sum();
    let variable_columns = widths.clone().filter(Option::is_none).count() as u64;
    let variable_bytes = bytes.saturating_sub(fixed) / variable_columns.max(1);
    let column_statistics: Vec<ColumnStatistics> = widths
        .enumerate()
        .map(|(column, width)| {
            let byte_size = match width {
                Some(width) => Precision::Exact(width * rows),
                None => Precision::Inexact(variable_bytes as usize),
            };
            let known = if wanted(column) {
                shape.column_statistics(column).clone()
            } else {
                ColumnStatistics::new_unknown()
            };
            known.with_byte_size(byte_size)
        })
        .collect();
    let total_byte_size = Precision::Inexact((fixed + variable_bytes * variable_columns) as usize);
    Statistics {
        num_rows: Precision::Exact(rows),
        total_byte_size,
        column_statistics,
    }
}

/// Statistics of one table column over all visible rows, from storage's summaries. Its cost grows with the segments' batches.
pub(super) fn column_statistics(shape: &TableShape, column: usize) -> ColumnStatistics {
    let position = shape.positions[column];
    if position == shape.relation.timestamp_column() {
        return ColumnStatistics::new_unknown().with_null_count(Precision::Exact(0));
    }
    let is_key = shape.relation.key.contains(&position);
    let is_whole_key = shape.relation.key == [position];
    let rows = shape.row_count() as usize;
    let summaries: Vec<(ColumnSummary, u64)> = shape
        .views
        .iter()
        .map(|v| (v.column_summary(position), v.row_count()))
        .filter(|(_, rows)| *rows > 0)
        .collect();
    let exact = summaries.iter().all(|(s, _)| s.exact);
    let precision = |known: Option<usize>| match known {
        Some(value) if exact => Precision::Exact(value),
        Some(value) => Precision::Inexact(value),
        None => Precision::Absent,
    };
    let null_count = match is_key {
        true => Precision::Exact(0),
        false => precision(sum(summaries.iter().map(|(s, _)| s.null_count))),
    };
    let distinct = match is_whole_key {
        true => Precision::Exact(rows),
        false => combined_distinct(&summaries).map_or(Precision::Absent, |d| Precision::Inexact((d as usize).min(rows))),
    };
    ColumnStatistics::new_unknown()
        .with_null_count(null_count)
        .with_distinct_count(distinct)
        .with_min_value(extreme(&summaries, |s| s.min.as_ref(), std::cmp::Ordering::Less, exact))
        .with_max_value(extreme(&summaries, |s| s.max.as_ref(), std::cmp::Ordering::Greater, exact))
}

fn sum(mut values: impl Iterator<Item = Option<u64>>) -> Option<usize> {
    values
        .try_fold(0u64, |total, value| Some(total + value?))
        .map(|total| total as usize)
}

/// Partitions are hash ranges of the key: a column with few values has all of them in each partition, one that is nearly unique has
/// different ones.
fn combined_distinct(summaries: &[(ColumnSummary, u64)]) -> Option<u64> {
    let mut total = 0;
    let mut largest = 0;
    let mut nearly_unique = true;
    for (summary, rows) in summaries {
        let distinct = summary.distinct?;
        total += distinct;
        largest = largest.max(distinct);
        nearly_unique &= distinct.saturating_mul(2) > *rows;
    }
    (!summaries.is_empty()).then_some(if nearly_unique { total } else { largest })
}

/// The smallest of the minima, or the largest of the maxima; absent when any partition with rows does not know.
fn extreme(
    summaries: &[(ColumnSummary, u64)],
    get: impl Fn(&ColumnSummary) -> Option<&ArrayRef>,
    keep: std::cmp::Ordering,
    exact: bool,
) -> Precision<ScalarValue> {
    let mut best: Option<ScalarValue> = None;
    for (summary, _) in summaries {
        let Some(value) = get(summary)
            .and_then(|array| ScalarValue::try_from_array(array, 0).ok())
            .filter(|v| !v.is_null())
        else {
            return Precision::Absent;
        };
        match &best {
            Some(current) if value.partial_cmp(current) != Some(keep) => {}
            _ => best = Some(value),
        }
    }
    match best {
        Some(value) if exact => Precision::Exact(value),
        Some(value) => Precision::Inexact(value),
        None => Precision::Absent,
    }
}

/// Replaces the row count by a better estimate and scales the rest to it. Value bounds stay.
pub(super) fn with_row_estimate(mut statistics: Statistics, rows: usize) -> Statistics {
    let before = statistics.num_rows.get_value().copied().unwrap_or(0);
    let ratio = if before == 0 { 1.0 } else { rows as f64 / before as f64 };
    let scale = |value: Precision<usize>| value.to_inexact().map(|v| (v as f64 * ratio).ceil() as usize);
    for column in &mut statistics.column_statistics {
        column.byte_size = scale(column.byte_size);
        column.null_count = column.null_count.to_inexact().map(|v| v.min(rows));
        column.distinct_count = column.distinct_count.to_inexact().map(|v| v.min(rows));
        column.sum_value = Precision::Absent;
    }
    statistics.total_byte_size = scale(statistics.total_byte_size);
    statistics.num_rows = Precision::Inexact(rows);
    statistics
}

/// A share of whole-scan statistics for one of several partitions that hold about the same.
pub(super) fn share(statistics: Statistics, rows: usize, exact: bool) -> Statistics {
    let mut part = with_row_estimate(statistics, rows).to_inexact();
    if exact {
        part.num_rows = Precision::Exact(rows);
    }
    part
}

/// Statistics of chosen columns; the total size is that of those columns.
pub(super) fn project(statistics: &Statistics, columns: &[usize]) -> Statistics {
    let column_statistics: Vec<ColumnStatistics> = columns.iter().map(|&c| statistics.column_statistics[c].clone()).collect();
    let bytes = column_statistics
        .iter()
        .map(|c| c.byte_size)
        .fold(Precision::Exact(0), |total, b| total.add(&b));
    Statistics {
        num_rows: statistics.num_rows,
        total_byte_size: bytes,
        column_statistics,
    }
}
