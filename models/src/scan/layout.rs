//! How the work of a scan is cut and dealt to partitions.
//!
//! A unit is a run of batches of one piece that survived static pruning. Where sorted pieces do not overlap, each partition gets the units
//! of a contiguous range of keys, in order, from one view. Otherwise all partitions take units from one queue as they go.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::take;
use datafusion::error::Result;
use pyralog_storage::KeyRange;

use super::external;
use super::pruning::Pruner;
use super::shape::TableShape;

/// Batches of a unit in the shared queue: small enough to balance, large enough to read ahead in.
const QUEUE_UNIT_BATCHES: u32 = 16;

/// A run of batches of one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    /// Position in [`TableShape::pieces`].
    pub piece: usize,
    /// First batch.
    pub start: u32,
    /// Behind the last batch.
    pub end: u32,
    /// Rows before masking.
    pub rows: u64,
}

/// One partition of a merge.
#[derive(Debug, Clone)]
pub(super) struct MergePart {
    /// Which view.
    pub view: usize,
    /// Which of its keys.
    pub range: KeyRange,
}

/// Who reads what.
#[derive(Debug, Clone)]
pub(super) enum Layout {
    /// Each partition has its own units, in key order.
    Ordered(Vec<Arc<[Unit]>>),
    /// Each partition has all units of some views, in no order.
    Views(Vec<Arc<[Unit]>>),
    /// This many partitions share the units.
    Queue(Arc<[Unit]>, usize),
    /// Each partition merges overlapping pieces into key order.
    Merge(Vec<MergePart>),
    /// One partition looks up these keys (one array a key column).
    Points(Arc<[ArrayRef]>),
}

impl Layout {
    pub fn partition_count(&self) -> usize {
        match self {
            Layout::Ordered(parts) | Layout::Views(parts) => parts.len(),
            Layout::Queue(_, partitions) => *partitions,
            Layout::Merge(parts) => parts.len(),
            Layout::Points(_) => 1,
        }
    }

    /// Whether every partition gives rows in key order.
    pub fn is_ordered(&self) -> bool {
        matches!(self, Layout::Ordered(_) | Layout::Merge(_))
    }

    /// Drops batches that a pruner does not keep; returns how many. Partitions stay as many as they are.
    pub fn retain(&mut self, shape: &TableShape, pruner: &Pruner) -> Result<usize> {
        let before = self.batches();
        match self {
            Layout::Ordered(parts) | Layout::Views(parts) => {
                for part in parts {
                    *part = kept(shape, pruner, part)?.into();
                }
            }
            Layout::Queue(units, _) => *units = kept(shape, pruner, units)?.into(),
            Layout::Merge(_) | Layout::Points(_) => {}
        }
        Ok(before - self.batches())
    }

    fn batches(&self) -> usize {
        let count = |units: &[Unit]| units.iter().map(|u| (u.end - u.start) as usize).sum::<usize>();
        match self {
            Layout::Ordered(parts) | Layout::Views(parts) => parts.iter().map(|units| count(units)).sum(),
            Layout::Queue(units, _) => count(units),
            Layout::Merge(_) | Layout::Points(_) => 0,
        }
    }

    /// For EXPLAIN.
    pub fn describe(&self, shape: &TableShape) -> String {
        let (kind, pieces) = match self {
            Layout::Ordered(_) => ("ordered", shape.pieces.len()),
            Layout::Views(_) => ("views", shape.pieces.len()),
            Layout::Queue(..) => ("queue", shape.pieces.len()),
            Layout::Merge(_) => ("merge", shape.pieces.len()),
            Layout::Points(keys) => return format!("access=keys, keys={}", keys.first().map_or(0, |k| k.len())),
        };
        match self {
            Layout::Merge(parts) => format!("access={kind}, partitions={}, pieces={pieces}", parts.len()),
            _ => format!(
                "access={kind}, partitions={}, pieces={pieces}, batches={}",
                self.partition_count(),
                self.batches()
            ),
        }
    }

    /// Rows (before masking and filtering) of one partition, or of all.
    pub fn rows(&self, shape: &TableShape, partition: Option<usize>) -> u64 {
        let total = |units: &[Unit]| units.iter().map(|u| u.rows).sum::<u64>();
        match (self, partition) {
            (Layout::Ordered(parts) | Layout::Views(parts), Some(p)) => parts.get(p).map_or(0, |units| total(units)),
            (Layout::Ordered(parts) | Layout::Views(parts), None) => parts.iter().map(|units| total(units)).sum(),
            (Layout::Queue(units, _), None) => total(units),
            (Layout::Queue(units, n), Some(_)) => total(units).div_ceil(*n as u64),
            (Layout::Merge(_), None) => shape.row_count(),
            (Layout::Merge(parts), Some(_)) => shape.row_count().div_ceil(parts.len() as u64),
            (Layout::Points(keys), _) => keys.first().map_or(0, |k| k.len() as u64),
        }
    }
}

/// Work that survived static pruning, and what did not.
pub(super) struct Survivors {
    /// In the order of pieces.
    pub units: Vec<Unit>,
    /// Batches dropped.
    pub pruned_batches: usize,
    /// Rows in them.
    pub pruned_rows: u64,
}

/// The units that a pruner keeps.
pub(super) fn survivors(shape: &TableShape, pruner: &Pruner) -> Result<Survivors> {
    let mut found = Survivors {
        units: Vec::new(),
        pruned_batches: 0,
        pruned_rows: 0,
    };
    for (index, piece) in shape.pieces.iter().enumerate() {
        let keep = pruner.keep(shape, index)?;
        let mut open: Option<Unit> = None;
        for batch in 0..piece.scan.batch_count() {
            let rows = piece.scan.batch_rows(batch) as u64;
            if keep.as_ref().is_some_and(|k| k.get(batch) == Some(&false)) {
                found.pruned_batches += 1;
                found.pruned_rows += rows;
                found.units.extend(open.take());
                continue;
            }
            let unit = open.get_or_insert(Unit {
                piece: index,
                start: batch as u32,
                end: batch as u32,
                rows: 0,
            });
            unit.end += 1;
            unit.rows += rows;
        }
        found.units.extend(open);
    }
    Ok(found)
}

/// The part of units that a pruner keeps, in their order.
fn kept(shape: &TableShape, pruner: &Pruner, units: &[Unit]) -> Result<Vec<Unit>> {
    let mut flags: HashMap<usize, Option<Vec<bool>>> = HashMap::new();
    let mut kept = Vec::with_capacity(units.len());
    for unit in units {
        let keep = match flags.entry(unit.piece) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(pruner.keep(shape, unit.piece)?),
        };
        let Some(keep) = keep else {
            kept.push(*unit);
            continue;
        };
        let mut start = unit.start;
        for batch in unit.start..=unit.end {
            if batch == unit.end || keep.get(batch as usize) == Some(&false) {
                if batch > start {
                    kept.push(Unit {
                        piece: unit.piece,
                        start,
                        end: batch,
                        rows: unit_rows(shape, unit.piece, start, batch),
                    });
                }
                start = batch + 1;
            }
        }
    }
    Ok(kept)
}

/// Deals units to about `target` partitions (fewer where there is little to read), in key order where that can be had.
pub(super) fn deal(shape: &TableShape, units: Vec<Unit>, target: usize, batch_size: usize) -> Layout {
    let rows: u64 = units.iter().map(|u| u.rows).sum();
    let batches: usize = units.iter().map(|u| (u.end - u.start) as usize).sum();
    let target = if rows <= batch_size as u64 {
        1
    } else {
        target.clamp(1, batches.max(1))
    };
    match in_key_order(shape, &units) {
        Some(runs) if runs.len() <= 1 || (target > 1 && runs.len() <= target * 2) => Layout::Ordered(split_runs(shape, runs, target, rows)),
        _ => queue(shape, units, target),
    }
}

/// A queue over the units, cut small.
pub(super) fn queue(shape: &TableShape, units: Vec<Unit>, target: usize) -> Layout {
    let cut = units.into_iter().flat_map(|unit| {
        (unit.start..unit.end).step_by(QUEUE_UNIT_BATCHES as usize).map(move |start| {
            let end = unit.end.min(start + QUEUE_UNIT_BATCHES);
            Unit {
                piece: unit.piece,
                start,
                end,
                rows: unit_rows(shape, unit.piece, start, end),
            }
        })
    });
    Layout::Queue(cut.collect(), target)
}

/// Whether no view is in several parts.
pub(super) fn has_whole_views(shape: &TableShape, parts: &[Arc<[Unit]>]) -> bool {
    let mut home: HashMap<usize, usize> = HashMap::new();
    let units = parts
        .iter()
        .enumerate()
        .flat_map(|(part, units)| units.iter().map(move |unit| (part, unit)));
    units
        .into_iter()
        .all(|(part, unit)| *home.entry(shape.pieces[unit.piece].view).or_insert(part) == part)
}

/// The units of each view in one of so many parts.
pub(super) fn by_view(shape: &TableShape, units: Vec<Unit>, parts: usize) -> Layout {
    let mut dealt: Vec<Vec<Unit>> = vec![Vec::new(); parts.max(1)];
    for unit in units {
        let part = shape.pieces[unit.piece].view % dealt.len();
        dealt[part].push(unit);
    }
    Layout::Views(dealt.into_iter().map(Arc::from).collect())
}

fn unit_rows(shape: &TableShape, piece: usize, start: u32, end: u32) -> u64 {
    (start..end)
        .map(|batch| shape.pieces[piece].scan.batch_rows(batch as usize) as u64)
        .sum()
}

/// The units of each view with work, in key order; `None` when a piece is unsorted or two overlap.
fn in_key_order(shape: &TableShape, units: &[Unit]) -> Option<Vec<Vec<Unit>>> {
    if shape.key_prefix.is_empty() {
        return None;
    }
    let mut runs: Vec<Vec<Unit>> = vec![Vec::new(); shape.views.len()];
    for unit in units {
        runs[shape.pieces[unit.piece].view].push(*unit);
    }
    for run in &mut runs {
        let mut pieces: Vec<usize> = run.iter().map(|u| u.piece).collect();
        pieces.dedup();
        let mut ranges = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let scan = &shape.pieces[piece].scan;
            let (first, last) = scan.key_range().filter(|_| scan.is_sorted())?;
            ranges.push((first, last, piece));
        }
        ranges.sort_unstable();
        if ranges.windows(2).any(|pair| pair[0].1 > pair[1].0) {
            return None;
        }
        let mut rank = vec![0; shape.pieces.len()];
        for (position, (_, _, piece)) in ranges.iter().enumerate() {
            rank[*piece] = position;
        }
        run.sort_by_key(|unit| (rank[unit.piece], unit.start));
    }
    runs.retain(|run| !run.is_empty());
    Some(runs)
}

/// Cuts each run into contiguous parts of about equal rows; a part never spans runs.
fn split_runs(shape: &TableShape, runs: Vec<Vec<Unit>>, target: usize, rows: u64) -> Vec<Arc<[Unit]>> {
    if runs.is_empty() {
        return vec![Arc::from([])];
    }
    let mut parts = Vec::new();
    for run in runs {
        let run_rows: u64 = run.iter().map(|u| u.rows).sum();
        let share = ((run_rows as f64 / rows.max(1) as f64) * target as f64).round() as usize;
        split_run(shape, run, run_rows, share.max(1), &mut parts);
    }
    parts
}

fn split_run(shape: &TableShape, run: Vec<Unit>, rows: u64, count: usize, parts: &mut Vec<Arc<[Unit]>>) {
    let mut part: Vec<Unit> = Vec::new();
    let mut dealt = 0u64;
    let mut next = 1u64;
    for unit in run {
        let mut open = Unit {
            end: unit.start,
            rows: 0,
            ..unit
        };
        for batch in unit.start..unit.end {
            let batch_rows = shape.pieces[unit.piece].scan.batch_rows(batch as usize) as u64;
            open.end += 1;
            open.rows += batch_rows;
            dealt += batch_rows;
            if dealt * count as u64 >= next * rows && next < count as u64 {
                part.push(open);
                parts.push(std::mem::take(&mut part).into());
                open = Unit {
                    start: open.end,
                    rows: 0,
                    ..open
                };
                next = dealt * count as u64 / rows.max(1) + 1;
            }
        }
        if open.end > open.start {
            part.push(open);
        }
    }
    if !part.is_empty() {
        parts.push(part.into());
    }
}

/// A merge of every view in about `target` parts: one when `target` is one, which needs one view. `None` when that cannot be.
pub(super) fn merge(shape: &TableShape, target: usize) -> Result<Option<Layout>> {
    let views: Vec<usize> = (0..shape.views.len()).filter(|&v| shape.views[v].row_count() > 0).collect();
    if views.is_empty() || views.len() > (target * 2).max(1) || (target == 1 && views.len() > 1) {
        return Ok(None);
    }
    let mut parts = Vec::new();
    for (i, &view) in views.iter().enumerate() {
        let share = target / views.len() + usize::from(i < target % views.len());
        let mut start = None;
        for split in split_keys(shape, view, share.max(1))? {
            parts.push(MergePart {
                view,
                range: KeyRange {
                    start: start.take(),
                    end: Some(split.clone()),
                },
            });
            start = Some(split);
        }
        parts.push(MergePart {
            view,
            range: KeyRange { start, end: None },
        });
    }
    Ok(Some(Layout::Merge(parts)))
}

/// Up to `count - 1` ascending keys that cut a view into parts of about equal size, from the zone maps of its largest piece. Any bytes
/// that compare as keys do: the smallest values of a batch's key columns together need not be a key that exists.
fn split_keys(shape: &TableShape, view: usize, count: usize) -> Result<Vec<Vec<u8>>> {
    let largest = shape.pieces.iter().filter(|p| p.view == view).max_by_key(|p| p.scan.visible_rows());
    let Some(zones) = largest.and_then(|p| p.scan.zone_maps()) else {
        return Ok(Vec::new());
    };
    let batches = zones.row_counts.len();
    if count < 2 || batches < count {
        return Ok(Vec::new());
    }
    let picks = arrow::array::UInt64Array::from_iter_values((1..count).map(|i| (i * batches / count) as u64));
    let mut columns = Vec::with_capacity(shape.relation.key.len());
    for &position in &shape.relation.key {
        let Some(column) = zones.columns.get(position).and_then(Option::as_ref) else {
            return Ok(Vec::new());
        };
        let minima = take(&column.min, &picks, None)?;
        if minima.null_count() > 0 {
            return Ok(Vec::new());
        }
        columns.push(minima);
    }
    let mut keys: Vec<Vec<u8>> = shape.views[view]
        .encode_keys(&columns)
        .map_err(external)?
        .into_iter()
        .map(|key| key.into_vec())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}
