//! Dropping batches by zone maps: DataFusion's [`PruningPredicate`] straight over storage's arrays.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result;
use datafusion::physical_expr::DynamicFilterTracking;
use datafusion::physical_expr_common::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use pyralog_storage::ZoneMaps;
use pyralog_storage::zone_map::ColumnZones;

use super::shape::TableShape;

/// The zone maps of one piece under table column names. One container is one batch.
struct PieceZones<'a> {
    shape: &'a TableShape,
    zones: &'a ZoneMaps,
}

impl PieceZones<'_> {
    fn column(&self, column: &Column) -> Option<&ColumnZones> {
        let table_column = self.shape.schema.index_of(&column.name).ok()?;
        self.zones.columns.get(self.shape.positions[table_column])?.as_ref()
    }
}

impl PruningStatistics for PieceZones<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        Some(Arc::clone(&self.column(column)?.min))
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        Some(Arc::clone(&self.column(column)?.max))
    }

    fn num_containers(&self) -> usize {
        self.zones.row_counts.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        Some(Arc::new(self.column(column)?.null_counts.clone()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.zones.row_counts.clone()))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// Which batches of pieces may hold a row for which a predicate, as it stands now, is true.
pub(super) struct Pruner {
    predicate: Option<PruningPredicate>,
}

impl Pruner {
    /// `None` in it keeps everything: no predicate, or none that zone maps can say anything about.
    pub fn new(shape: &TableShape, predicate: Option<Arc<dyn PhysicalExpr>>) -> Pruner {
        let build = |expr| {
            PruningPredicateBuilder::new()
                .with_file_schema(Arc::clone(&shape.schema))
                .try_build(expr)
        };
        let predicate = predicate.and_then(|expr| match build(expr) {
            Ok(pruning) => Some(pruning).filter(|p| !p.always_true()),
            Err(error) => {
                tracing::debug!(table = shape.name, %error, "no pruning");
                None
            }
        });
        Pruner { predicate }
    }

    /// Whether [`Self::keep`] can say anything at all.
    pub fn is_useful(&self) -> bool {
        self.predicate.is_some()
    }

    /// One flag a batch: whether it must be read. `None`: all of them.
    pub fn keep(&self, shape: &TableShape, piece: usize) -> Result<Option<Vec<bool>>> {
        let Some(predicate) = &self.predicate else { return Ok(None) };
        let Some(zones) = shape.pieces[piece].scan.zone_maps() else {
            return Ok(None);
        };
        let keep = predicate.prune(&PieceZones { shape, zones: &zones })?;
        Ok(Some(keep))
    }
}

/// Prunes again while the scan runs, as dynamic filters move. When that drops nothing, it asks less and less often.
pub(super) struct DynamicPruner {
    predicate: Arc<dyn PhysicalExpr>,
    tracking: DynamicFilterTracking,
    pruner: Option<Pruner>,
    kept: HashMap<usize, Option<Vec<bool>>>,
    /// Batches until the next look at the filters.
    wait: u32,
    /// What `wait` starts from; doubles while nothing is dropped.
    patience: u32,
}

impl DynamicPruner {
    const MAX_PATIENCE: u32 = 64;

    /// A pruner for a predicate with dynamic parts.
    pub fn new(predicate: Arc<dyn PhysicalExpr>) -> DynamicPruner {
        let tracking = DynamicFilterTracking::classify(&predicate);
        DynamicPruner {
            predicate,
            tracking,
            pruner: None,
            kept: HashMap::new(),
            wait: 0,
            patience: 1,
        }
    }

    /// Whether a batch may be skipped now.
    pub fn skips(&mut self, shape: &TableShape, piece: usize, batch: usize) -> Result<bool> {
        if self.wait > 0 {
            self.wait -= 1;
        } else {
            let moved = self.tracking.watcher().is_some_and(|watcher| watcher.changed());
            if moved || self.pruner.is_none() {
                self.pruner = Some(Pruner::new(shape, Some(Arc::clone(&self.predicate))));
                self.kept.clear();
                self.wait = self.patience - 1;
                self.patience = (self.patience * 2).min(Self::MAX_PATIENCE);
            }
        }
        let Some(pruner) = self.pruner.as_ref().filter(|p| p.is_useful()) else {
            return Ok(false);
        };
        let kept = match self.kept.entry(piece) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(pruner.keep(shape, piece)?),
        };
        let skip = kept.as_ref().is_some_and(|flags| flags.get(batch) == Some(&false));
        if skip {
            self.patience = 1;
            self.wait = 0;
        }
        Ok(skip)
    }
}
