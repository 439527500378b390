//! The leaf of a physical plan: what one scan reads, and what the optimizer pushed into it.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock};

use datafusion::common::Statistics;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::config::ConfigOptions;
use datafusion::datasource::source::{DataSource, DataSourceExec, OpenArgs};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::projection::{ProjectionExprs, ProjectionMapping};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalSortExpr};
use datafusion::physical_expr_common::physical_expr::{PhysicalExpr, fmt_sql};
use datafusion::physical_plan::execution_plan::SchedulingType;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::projection::{all_alias_free_columns, new_projections_for_columns};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan, SortOrderPushdownResult};
use pyralog_storage::Timestamp;

use super::columns::Columns;
use super::keys::bound_keys;
use super::layout::{self, Layout, Survivors};
use super::merge::merge_stream;
use super::metrics::ScanMetrics;
use super::output::Output;
use super::partitions::{Part, PartitionScanSpec};
use super::point::point_stream;
use super::predicate::{Predicate, move_columns};
use super::pruning::Pruner;
use super::sample::estimate_rows;
use super::shape::TableShape;
use super::sort::by_zone_order;
use super::statistics;
use super::units::UnitStream;
use super::work::{SharedQueues, Work};

/// What a scan is asked for.
pub(super) struct ScanRequest {
    /// Table columns to give, in order.
    pub columns: Vec<usize>,
    /// Which rows.
    pub predicate: Predicate,
    /// At most this many rows a partition.
    pub limit: Option<usize>,
    /// Partitions wanted.
    pub target_partitions: usize,
    /// Rows of a batch.
    pub batch_size: usize,
    /// For whom.
    pub readers: Readers,
}

/// Views that there must be for each stream of a task, where several nodes read: some are read by others.
const LEAST_VIEWS_A_STREAM: usize = 2;

/// Who reads a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// This node.
    One,
    /// Tasks of several nodes: partitions declare no order, and are as many as are wanted.
    Tasks,
    /// One of those tasks; `by_view`: whose streams read whole partitions.
    Task { by_view: bool },
}

/// A scan of one relation, as DataFusion's [`DataSourceExec`] runs it.
#[derive(Clone)]
pub struct RelationSource {
    shape: Arc<TableShape>,
    columns: Arc<[usize]>,
    /// The columns first asked for: statistics are of these (and of the predicate's).
    described: Arc<[usize]>,
    predicate: Predicate,
    layout: Layout,
    pruned_batches: usize,
    pruned_rows: u64,
    /// Rows that the static predicate leaves, as a sample says.
    row_estimate: Option<usize>,
    limit: Option<usize>,
    batch_size: usize,
    readers: Readers,
    metrics: ExecutionPlanMetricsSet,
    derived: Arc<OnceLock<Derived>>,
}

/// What follows from layout and static predicate, over table columns.
struct Derived {
    equivalences: EquivalenceProperties,
    statistics: Statistics,
}

impl RelationSource {
    /// Prunes, samples and lays out a scan. Reads (key lookups not yet): call it from a blocking thread.
    pub(super) fn plan(shape: Arc<TableShape>, request: ScanRequest) -> Result<RelationSource> {
        let ScanRequest {
            columns,
            predicate,
            limit,
            target_partitions,
            batch_size,
            readers,
        } = request;
        let mut source = RelationSource {
            shape: Arc::clone(&shape),
            described: columns.clone().into(),
            columns: columns.into(),
            predicate,
            layout: Layout::Ordered(Vec::new()),
            pruned_batches: 0,
            pruned_rows: 0,
            row_estimate: None,
            limit,
            batch_size,
            readers,
            metrics: ExecutionPlanMetricsSet::new(),
            derived: Arc::default(),
        };
        let is_task = matches!(readers, Readers::Task { .. });
        if !is_task && let Some(keys) = bound_keys(&shape, &source.predicate)? {
            source.layout = Layout::Points(keys.into());
            return Ok(source);
        }
        let pruner = Pruner::new(&shape, source.predicate.static_conjunction());
        let Survivors {
            units,
            pruned_batches,
            pruned_rows,
        } = layout::survivors(&shape, &pruner)?;
        if !is_task {
            // A sample that fails says nothing; the scan itself will report what is wrong.
            source.row_estimate = estimate_rows(&shape, &units, &source.predicate).ok().flatten();
        }
        source.layout = match readers {
            Readers::One => layout::deal(&shape, units, target_partitions, batch_size),
            Readers::Task { by_view: true } => layout::by_view(&shape, units, target_partitions),
            Readers::Tasks | Readers::Task { .. } => layout::queue(&shape, units, target_partitions),
        };
        (source.pruned_batches, source.pruned_rows) = (pruned_batches, pruned_rows);
        Ok(source)
    }

    /// The same scan, which counts there what it does.
    pub(super) fn counted_in(self, metrics: ExecutionPlanMetricsSet) -> RelationSource {
        RelationSource { metrics, ..self }
    }

    /// Whether tasks can share it: not a look-up of keys.
    pub(crate) fn is_shared(&self) -> bool {
        self.readers == Readers::Tasks && matches!(self.layout, Layout::Queue(..) | Layout::Views(_))
    }

    /// Rows in the batches that are read, at most.
    pub(crate) fn rows_to_read(&self) -> u64 {
        let rows = self.layout.rows(&self.shape, None);
        match self.limit {
            // A stream ends with its limit, and is a batch ahead of it at most.
            Some(limit) if self.predicate.is_empty() => {
                let a_stream = limit.saturating_add(self.batch_size).saturating_mul(self.layout.partition_count());
                rows.min(a_stream as u64)
            }
            _ => rows,
        }
    }

    /// The output columns that say in which partition a row is, in their order; `None` where one is not read, or where equal values may be in several.
    pub(crate) fn partition_key(&self) -> Option<Vec<usize>> {
        let (shape, relation) = (&self.shape, &self.shape.relation);
        let key = relation.key.iter().take(relation.placed_by()).map(|key| {
            // Numbers that are equal and have other bytes, as zeros with a sign, may be in other partitions.
            let data_type = relation.schema.fields().get(*key)?.data_type();
            let has_one_form = !data_type.is_floating() && !data_type.is_nested();
            let is_key = |column: &usize| shape.positions.get(*column) == Some(key);
            self.columns.iter().position(is_key).filter(|_| has_one_form)
        });
        key.collect()
    }

    /// The same scan, each of whose streams reads whole partitions; `None` where rows that agree in these output columns may be in several, or
    /// where streams would have rather different numbers of rows.
    pub(super) fn by_partition(&self, columns: &[usize]) -> Result<Option<RelationSource>> {
        let shape = &self.shape;
        let is_grouped = self
            .partition_key()
            .is_some_and(|key| key.iter().all(|column| columns.contains(column)));
        if shape.views.len() < 2 || self.limit.is_some() || !is_grouped {
            return Ok(None);
        }
        let layout = match &self.layout {
            Layout::Queue(units, streams) => layout::by_view(shape, units.to_vec(), (*streams).min(shape.views.len())),
            Layout::Ordered(parts) if layout::has_whole_views(shape, parts) => self.layout.clone(),
            _ => return Ok(None),
        };
        // A task has some of the views, of each of which there must be enough for its streams.
        let is_task = self.readers == Readers::Tasks;
        let streams = match is_task {
            true => self.layout.partition_count() * LEAST_VIEWS_A_STREAM,
            false => self.layout.partition_count(),
        };
        if shape.views.len() < streams {
            return Ok(None);
        }
        let streams = layout.partition_count();
        let rows = layout.rows(shape, None);
        let most = (0..streams).map(|stream| layout.rows(shape, Some(stream))).max().unwrap_or(0);
        // Nobody waits much for the one that has most.
        let is_even = most * streams as u64 <= rows + rows / 2;
        Ok(is_even.then(|| self.changed(|source| source.layout = layout)))
    }

    /// The same scan of these partitions only, for whoever reads them.
    pub(crate) fn of_partitions(&self, timestamp: Timestamp, parts: Vec<Part>) -> PartitionScanSpec {
        PartitionScanSpec {
            name: self.shape.name.clone(),
            relation: Arc::clone(&self.shape.relation),
            positions: self.shape.positions.clone(),
            columns: self.columns.to_vec(),
            predicate: self.predicate.clone(),
            limit: self.limit,
            batch_size: self.batch_size,
            streams: self.layout.partition_count(),
            by_view: matches!(self.layout, Layout::Views(_)),
            timestamp,
            parts,
        }
    }

    /// The same scan with something changed, so that what was derived no longer holds.
    fn changed(&self, change: impl FnOnce(&mut RelationSource)) -> RelationSource {
        let mut source = RelationSource {
            derived: Arc::default(),
            ..self.clone()
        };
        change(&mut source);
        source
    }

    /// Equivalences over table columns for this layout without its predicate.
    fn bare_equivalences(&self) -> EquivalenceProperties {
        let ordering = self.layout.is_ordered().then(|| self.shape.key_ordering()).flatten();
        EquivalenceProperties::new_with_orderings(Arc::clone(&self.shape.schema), ordering).with_constraints(self.shape.constraints.clone())
    }

    fn derived(&self) -> &Derived {
        self.derived.get_or_init(|| {
            self.derive().unwrap_or_else(|error| {
                tracing::debug!(table = self.shape.name, %error, "no filter statistics");
                Derived {
                    equivalences: self.bare_equivalences(),
                    statistics: self.table_statistics().to_inexact(),
                }
            })
        })
    }

    /// Statistics of the unfiltered table, as far as this scan has a use for them.
    fn table_statistics(&self) -> Statistics {
        let predicate = self.predicate.columns();
        let wanted = |column: usize| match &self.layout {
            // A handful of rows, whatever is in them: not worth a look at every zone.
            Layout::Points(_) => false,
            _ => self.described.contains(&column) || predicate.contains(&column),
        };
        statistics::table_statistics(&self.shape, wanted)
    }

    /// Lets a [`FilterExec`] over the unfiltered scan say what the predicate does to equivalences, value bounds and row counts, and puts
    /// what zone maps, keys and the sample know of the row count in place of its guess.
    fn derive(&self) -> Result<Derived> {
        let predicate = match (&self.layout, self.predicate.static_conjunction()) {
            (Layout::Points(_), _) => {
                let rows = self.layout.rows(&self.shape, None).min(self.shape.row_count());
                let statistics = statistics::with_row_estimate(self.table_statistics(), rows as usize);
                return Ok(Derived {
                    equivalences: self.bare_equivalences(),
                    statistics,
                });
            }
            (_, None) => {
                let statistics = self.table_statistics();
                let statistics = if self.predicate.dynamics.is_empty() {
                    statistics
                } else {
                    statistics.to_inexact()
                };
                return Ok(Derived {
                    equivalences: self.bare_equivalences(),
                    statistics,
                });
            }
            (_, Some(predicate)) => predicate,
        };
        let bare = self.changed(|source| {
            source.described = self.described.iter().copied().chain(self.predicate.columns()).collect();
            source.columns = (0..source.shape.positions.len()).collect();
            source.predicate = Predicate::default();
            source.limit = None;
        });
        let filter = FilterExec::try_new(predicate, Arc::new(DataSourceExec::new(Arc::new(bare))))?;
        let filtered = StatisticsContext::new().compute(&filter, &StatisticsArgs::new())?;
        let guess = filtered.num_rows.get_value().copied().unwrap_or(usize::MAX);
        let possible = self.layout.rows(&self.shape, None) as usize;
        let rows = self.row_estimate.unwrap_or(guess).min(possible);
        Ok(Derived {
            equivalences: filter.properties().eq_properties.clone(),
            statistics: statistics::with_row_estimate(filtered.as_ref().clone(), rows),
        })
    }

    /// Statistics of the output columns, over all partitions or one.
    fn output_statistics(&self, partition: Option<usize>) -> Result<Statistics> {
        let all = &self.derived().statistics;
        let partitions = self.layout.partition_count();
        let whole = match partition {
            Some(p) if partitions > 1 => {
                let read = self.layout.rows(&self.shape, None).max(1);
                let part = self.layout.rows(&self.shape, Some(p));
                let rows = all.num_rows.get_value().copied().unwrap_or(0);
                // Units count rows before masking: exact where nothing is masked, and where each partition has its own units.
                let exact = all.num_rows.is_exact() == Some(true)
                    && read == rows as u64
                    && matches!(self.layout, Layout::Ordered(_) | Layout::Views(_));
                statistics::share(all.clone(), (rows as u128 * u128::from(part) / u128::from(read)) as usize, exact)
            }
            _ => all.clone(),
        };
        let projected = statistics::project(&whole, &self.columns);
        match self.limit {
            Some(_) => projected.with_fetch(self.limit, 0, if partition.is_some() { 1 } else { partitions }),
            None => Ok(projected),
        }
    }

    /// The stream of one partition. `queues` are those of this execution, if its partitions share any.
    pub(super) fn stream(&self, partition: usize, queues: Option<&SharedQueues>) -> Result<SendableRecordBatchStream> {
        let (shape, predicate) = (Arc::clone(&self.shape), self.predicate.clone());
        let columns = Columns::new(&shape, &self.columns, &predicate);
        let output = Output::new(Arc::clone(columns.schema()), self.batch_size, self.limit);
        let metrics = ScanMetrics::new(&self.metrics, partition);
        if partition == 0 {
            metrics.batches_pruned.add(self.pruned_batches);
            metrics.rows_pruned.add(self.pruned_rows as usize);
        }
        let work = match &self.layout {
            Layout::Points(keys) => return Ok(point_stream(shape, columns, predicate, Arc::clone(keys), output, metrics)),
            Layout::Merge(parts) => {
                let part = parts.get(partition).ok_or_else(|| no_partition(partition))?.clone();
                return Ok(merge_stream(shape, columns, predicate, part, output, self.batch_size, metrics));
            }
            Layout::Ordered(parts) | Layout::Views(parts) => Work::Own(
                parts
                    .get(partition)
                    .ok_or_else(|| no_partition(partition))?
                    .iter()
                    .copied()
                    .collect::<VecDeque<_>>(),
            ),
            Layout::Queue(units, partitions) => match queues {
                Some(queues) => Work::Shared(Arc::clone(units), queues.join(partition)),
                None => Work::Own(units.iter().skip(partition).step_by(*partitions).copied().collect()),
            },
        };
        Ok(Box::pin(UnitStream::try_new(shape, columns, &predicate, work, output, metrics)?))
    }

    /// Equivalences over the output columns.
    fn project(&self, equivalences: &EquivalenceProperties) -> EquivalenceProperties {
        let schema = self.shape.project(&self.columns);
        match ProjectionMapping::from_indices(&self.columns, &self.shape.schema) {
            Ok(mapping) => equivalences.project(&mapping, schema),
            Err(_) => EquivalenceProperties::new(schema),
        }
    }
}

fn no_partition(partition: usize) -> datafusion::error::DataFusionError {
    datafusion::common::internal_datafusion_err!("the scan has no partition {partition}")
}

impl DataSource for RelationSource {
    fn open(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.stream(partition, None)
    }

    fn create_sibling_state(&self, config: &ConfigOptions) -> Option<Arc<dyn Any + Send + Sync>> {
        match &self.layout {
            Layout::Queue(_, partitions) if config.execution.enable_file_stream_work_stealing => {
                Some(Arc::new(SharedQueues::new(*partitions)))
            }
            _ => None,
        }
    }

    fn open_with_args(&self, args: OpenArgs) -> Result<SendableRecordBatchStream> {
        let queues = args.sibling_state.as_ref().and_then(|state| state.downcast_ref::<SharedQueues>());
        self.stream(args.partition, queues)
    }

    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if format == DisplayFormatType::TreeRender { "\n" } else { ", " };
        write!(f, "relation={}{separator}{}", self.shape.name, self.layout.describe(&self.shape))?;
        if self.pruned_batches > 0 {
            write!(f, "{separator}pruned_batches={}", self.pruned_batches)?;
        }
        if format != DisplayFormatType::TreeRender {
            let names: Vec<&str> = self.columns.iter().map(|&c| self.shape.schema.field(c).name().as_str()).collect();
            write!(f, "{separator}projection=[{}]", names.join(", "))?;
        }
        if let Some(predicate) = self.predicate.conjunction() {
            write!(f, "{separator}predicate={}", fmt_sql(predicate.as_ref()))?;
        }
        if let Some(limit) = self.limit {
            write!(f, "{separator}fetch={limit}")?;
        }
        if let Some(ordering) = self.eq_properties().output_ordering() {
            write!(f, "{separator}output_ordering=[{ordering}]")?;
        }
        Ok(())
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(self.layout.partition_count())
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        self.project(&self.derived().equivalences)
    }

    fn scheduling_type(&self) -> SchedulingType {
        SchedulingType::Cooperative
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        self.output_statistics(partition).map(Arc::new)
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn DataSource>> {
        Some(Arc::new(RelationSource { limit, ..self.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn metrics(&self) -> ExecutionPlanMetricsSet {
        self.metrics.clone()
    }

    fn try_swapping_with_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn DataSource>>> {
        let expressions: Vec<_> = projection.iter().cloned().collect();
        if !all_alias_free_columns(&expressions) {
            return Ok(None);
        }
        let columns = new_projections_for_columns(&expressions, &self.columns);
        Ok(Some(Arc::new(RelationSource {
            columns: columns.into(),
            ..self.clone()
        })))
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn DataSource>>> {
        let mut answers = vec![PushedDown::No; filters.len()];
        // A filter above a limit must not choose which rows the limit counts.
        if self.limit.is_some() {
            return Ok(FilterPushdownPropagation::with_parent_pushdown_result(answers));
        }
        let mut predicate = self.predicate.clone();
        for (filter, answer) in filters.iter().zip(&mut answers) {
            if let Some(over_table) = move_columns(filter, |i| self.columns.get(i).copied())?
                && predicate.add(&over_table)
            {
                *answer = PushedDown::Yes;
            }
        }
        let added_statics = predicate.statics.len() > self.predicate.statics.len();
        if !added_statics && predicate.dynamics.len() == self.predicate.dynamics.len() {
            return Ok(FilterPushdownPropagation::with_parent_pushdown_result(answers));
        }
        let mut source = self.changed(|source| source.predicate = predicate);
        if added_statics {
            source.prune_again()?;
        }
        Ok(FilterPushdownPropagation::with_parent_pushdown_result(answers).with_updated_node(Arc::new(source) as Arc<dyn DataSource>))
    }

    fn try_pushdown_sort(&self, order: &[PhysicalSortExpr]) -> Result<SortOrderPushdownResult<Arc<dyn DataSource>>> {
        if self.eq_properties().ordering_satisfy(order.iter().cloned())? {
            return Ok(SortOrderPushdownResult::Exact {
                inner: Arc::new(self.clone()),
            });
        }
        let units = match &self.layout {
            _ if self.limit.is_some() => return Ok(SortOrderPushdownResult::Unsupported),
            Layout::Points(_) | Layout::Merge(_) | Layout::Views(_) => return Ok(SortOrderPushdownResult::Unsupported),
            Layout::Queue(units, _) => units.to_vec(),
            Layout::Ordered(parts) => parts.iter().flat_map(|part| part.iter().copied()).collect(),
        };
        let partitions = self.layout.partition_count();
        if self.readers == Readers::One
            && matches!(self.layout, Layout::Queue(..))
            && let Some(merged) = layout::merge(&self.shape, partitions)?
        {
            let source = self.changed(|source| source.layout = merged);
            if source.eq_properties().ordering_satisfy(order.iter().cloned())? {
                return Ok(SortOrderPushdownResult::Exact { inner: Arc::new(source) });
            }
        }
        match by_zone_order(&self.shape, &self.columns, units, order)? {
            Some(units) => {
                let source = self.changed(|source| source.layout = Layout::Queue(units.into(), partitions));
                Ok(SortOrderPushdownResult::Inexact { inner: Arc::new(source) })
            }
            None => Ok(SortOrderPushdownResult::Unsupported),
        }
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        for expr in self.predicate.iter() {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }
}

impl RelationSource {
    /// Prunes the laid-out units by a predicate that grew. The number of partitions stays: nodes above may rely on it.
    fn prune_again(&mut self) -> Result<()> {
        self.row_estimate = None;
        let pruner = Pruner::new(&self.shape, self.predicate.static_conjunction());
        if !pruner.is_useful() {
            return Ok(());
        }
        let before = self.layout.rows(&self.shape, None);
        self.pruned_batches += self.layout.retain(&self.shape, &pruner)?;
        self.pruned_rows += before - self.layout.rows(&self.shape, None);
        Ok(())
    }
}

impl fmt::Debug for RelationSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "RelationSource({}, columns {:?}, {:?})",
            self.shape.name, self.columns, self.predicate
        )
    }
}
