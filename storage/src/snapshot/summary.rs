//! What zone maps and sketches tell of a whole column.

use std::cmp::Ordering;

use arrow_array::{Array, ArrayRef, UInt64Array};
use arrow_ord::ord::make_comparator;
use arrow_schema::SortOptions;

use super::RelationView;
use crate::segment::DistinctSketch;
use crate::zone_map::ColumnSummary;

impl RelationView {
    /// What is known of a column without reading rows.
    pub fn column_summary(&self, column: usize) -> ColumnSummary {
        let mut summary = ColumnSummary {
            exact: true,
            null_count: Some(0),
            ..ColumnSummary::default()
        };
        if column >= self.schema().schema.fields().len() {
            return ColumnSummary::default();
        }
        let field = self.schema().field_id(column);
        let mut bounded = true;
        let mut sketch: Option<DistinctSketch> = None;
        for piece in self.pieces() {
            let Some(segment) = piece.segment() else {
                // Memtable rows have no zones: nothing is known of bounds once some are visible.
                if piece.visible_rows() > 0 {
                    (bounded, summary.exact, summary.null_count) = (false, false, None);
                }
                continue;
            };
            summary.exact &= !piece.is_masked() && segment.zones_exact(field);
            if let Some(found) = segment.distinct_sketch(field) {
                match &mut sketch {
                    Some(sketch) => sketch.merge(&found),
                    None => sketch = Some(found),
                }
            }
            let zones = segment.zone_maps(self.schema());
            let Some(Some(found)) = zones.columns.get(column) else {
                (bounded, summary.exact, summary.null_count) = (false, false, None);
                continue;
            };
            let nulls: u64 = found.null_counts.iter().flatten().sum();
            summary.null_count = summary.null_count.map(|count| count + nulls);
            bounded &= widen(&mut summary.min, &found.min, Ordering::Less, &found.null_counts, &zones.row_counts)
                && widen(
                    &mut summary.max,
                    &found.max,
                    Ordering::Greater,
                    &found.null_counts,
                    &zones.row_counts,
                );
        }
        if !bounded {
            (summary.min, summary.max, summary.exact) = (None, None, false);
        }
        if !summary.exact {
            // With masked rows the count is only an upper bound.
            summary.null_count = summary.null_count.filter(|count| *count == 0);
        }
        summary.distinct = sketch.map(|sketch| sketch.estimate().min(self.row_count()));
        summary
    }
}

/// Widens `bound` by one zone a batch; `false` if a zone with values has no known bound.
fn widen(bound: &mut Option<ArrayRef>, zones: &ArrayRef, wanted: Ordering, nulls: &UInt64Array, rows: &UInt64Array) -> bool {
    let Ok(compare) = make_comparator(zones, zones, SortOptions::default()) else {
        return false;
    };
    let mut best: Option<usize> = None;
    for i in 0..zones.len() {
        if zones.is_null(i) {
            if nulls.is_null(i) || nulls.value(i) < rows.value(i) {
                return false;
            }
            continue;
        }
        if best.is_none_or(|best| compare(i, best) == wanted) {
            best = Some(i);
        }
    }
    let Some(best) = best else { return true };
    let candidate = zones.slice(best, 1);
    let better = match bound {
        Some(bound) => make_comparator(&candidate, bound, SortOptions::default()).is_ok_and(|compare| compare(0, 0) == wanted),
        None => true,
    };
    if better {
        *bound = Some(candidate);
    }
    true
}
