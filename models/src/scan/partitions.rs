//! The leaf of a task of a distributed query: some partitions of a relation, at a moment that another node has chosen.
//!
//! Segments differ between the replicas of a partition, so pieces of work cannot travel; what all replicas agree on is which rows a partition
//! has at a timestamp, once they have applied the log up to a position. A task is told both. At the node that runs it the timestamp is pinned
//! when the plan arrives, and the rest (waiting, pruning, laying out) is done when the first of its streams is asked for.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, internal_datafusion_err, internal_err};
use datafusion::datasource::source::DataSource;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning};
use datafusion::physical_expr_common::physical_expr::{PhysicalExpr, fmt_sql};
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::execution_plan::SchedulingType;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::try_join_all;
use futures::{TryStreamExt, stream};
use pyralog_consensus::{Node, PinnedPartition};
use pyralog_storage::{RelationSchema, Timestamp};

use super::predicate::Predicate;
use super::shape::{TableShape, table_schema};
use super::source::{Readers, RelationSource, ScanRequest};
use super::work::SharedQueues;
use crate::error::{Error, ErrorKind};

/// A partition, and the position of its log behind which all rows of the moment are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Number of the partition.
    pub partition: usize,
    /// What a replica must have applied.
    pub applied: u64,
}

/// What is read, as it travels.
#[derive(Clone)]
pub(crate) struct PartitionScanSpec {
    /// The table, for EXPLAIN.
    pub name: String,
    /// The relation as the coordinator knows it.
    pub relation: Arc<RelationSchema>,
    /// Relation column of each table column.
    pub positions: Vec<usize>,
    /// Table columns to give, in order.
    pub columns: Vec<usize>,
    /// Conjuncts over table columns.
    pub predicate: Predicate,
    /// At most this many rows a stream.
    pub limit: Option<usize>,
    /// Rows of a batch.
    pub batch_size: usize,
    /// Plan partitions: as many for each task.
    pub streams: usize,
    /// Whether each stream reads whole partitions.
    pub by_view: bool,
    /// The state that is read.
    pub timestamp: Timestamp,
    /// Which partitions: none where there are more tasks than partitions.
    pub parts: Vec<Part>,
}

impl PartitionScanSpec {
    /// Table columns as they are typed.
    ///
    /// # Errors
    /// When the relation has no column at a position.
    pub(crate) fn table_schema(&self) -> Result<SchemaRef> {
        table_schema(&self.name, &self.relation, &self.positions)
    }
}

/// A scan of some partitions of a relation.
pub(crate) struct PartitionScan {
    spec: Arc<PartitionScanSpec>,
    schema: SchemaRef,
    /// What it is read from, at the node that runs it. The coordinator only sends it.
    replica: Option<Arc<Replica>>,
    metrics: ExecutionPlanMetricsSet,
}

struct Replica {
    node: Arc<Node>,
    spec: Arc<PartitionScanSpec>,
    metrics: ExecutionPlanMetricsSet,
    state: tokio::sync::Mutex<State>,
}

enum State {
    /// Nothing was read.
    Waiting(Vec<(PinnedPartition, u64)>),
    /// Opened, with as many streams still to come.
    Open(Arc<Opened>, usize),
    /// All streams were taken, or opening failed.
    Over,
}

struct Opened {
    source: RelationSource,
    queues: SharedQueues,
}

impl PartitionScan {
    /// A scan that is to be sent.
    ///
    /// # Errors
    /// When a position or column is out of range.
    pub(crate) fn to_send(spec: PartitionScanSpec) -> Result<PartitionScan> {
        let table = spec.table_schema()?;
        let fields = spec.columns.iter().map(|&column| table.fields().get(column).cloned());
        let fields: Option<Vec<_>> = fields.collect();
        let fields = fields.ok_or_else(|| internal_datafusion_err!("a scan of {} has no such columns", spec.name))?;
        Ok(PartitionScan {
            spec: Arc::new(spec),
            schema: Arc::new(Schema::new(fields)),
            replica: None,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// A scan that has arrived. Pins its timestamp.
    ///
    /// # Errors
    /// When the spec does not fit this node's partitions, or what it wants to read is gone already.
    pub(crate) fn received(spec: PartitionScanSpec, node: &Arc<Node>) -> Result<PartitionScan> {
        let pinned = spec.parts.iter().map(|part| {
            let pinned = node.pin(part.partition, spec.timestamp).map_err(Error::from)?;
            Ok((pinned, part.applied))
        });
        let pinned: Result<Vec<_>> = pinned.collect();
        let state = tokio::sync::Mutex::new(State::Waiting(pinned?));
        let mut scan = Self::to_send(spec)?;
        scan.replica = Some(Arc::new(Replica {
            node: Arc::clone(node),
            spec: Arc::clone(&scan.spec),
            metrics: scan.metrics.clone(),
            state,
        }));
        Ok(scan)
    }

    /// What is read.
    pub(crate) fn spec(&self) -> &PartitionScanSpec {
        &self.spec
    }
}

impl Replica {
    /// What the next stream reads from.
    async fn take(&self) -> Result<Arc<Opened>> {
        let mut state = self.state.lock().await;
        let (opened, left) = match std::mem::replace(&mut *state, State::Over) {
            State::Waiting(pinned) => (self.open(pinned).await?, self.spec.streams),
            State::Open(opened, left) => (opened, left),
            State::Over => return internal_err!("a scan of {} was given up, or is read a second time", self.spec.name),
        };
        if left > 1 {
            *state = State::Open(Arc::clone(&opened), left - 1);
        }
        Ok(opened)
    }

    async fn open(&self, pinned: Vec<(PinnedPartition, u64)>) -> Result<Arc<Opened>> {
        let views = pinned.into_iter().map(|(pinned, applied)| async move {
            let snapshot = self.node.snapshot_when_applied(pinned, applied).await?;
            let view = snapshot.relation(self.spec.relation.id)?;
            match view.schema().version == self.spec.relation.version {
                true => Ok(view),
                false => Err(altered(&self.spec.name)),
            }
        });
        let views = try_join_all(views).await?;
        let (spec, metrics) = (Arc::clone(&self.spec), self.metrics.clone());
        let opened = SpawnedTask::spawn_blocking(move || {
            let shape = TableShape::try_new(spec.name.clone(), views, spec.positions.clone())?;
            let request = ScanRequest {
                columns: spec.columns.clone(),
                predicate: spec.predicate.clone(),
                limit: spec.limit,
                target_partitions: spec.streams,
                batch_size: spec.batch_size,
                readers: Readers::Task { by_view: spec.by_view },
            };
            Ok::<_, DataFusionError>(Opened {
                source: RelationSource::plan(Arc::new(shape), request)?.counted_in(metrics),
                queues: SharedQueues::new(spec.streams),
            })
        });
        let opened = opened.await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?;
        Ok(Arc::new(opened?))
    }
}

/// The error of a scan whose relation has another shape at the node that runs it.
pub(crate) fn altered(name: &str) -> Error {
    Error::new(ErrorKind::Conflict, "40001", format!("{name} was altered meanwhile")).with_hint("retry")
}

impl DataSource for PartitionScan {
    fn open(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(replica) = self.replica.clone() else {
            return internal_err!("a scan of {} was run where it was only to be sent", self.spec.name);
        };
        let schema = Arc::clone(&self.schema);
        if self.spec.parts.is_empty() {
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::empty())));
        }
        let rows = stream::once(async move {
            let opened = replica.take().await?;
            opened.source.stream(partition, Some(&opened.queues))
        });
        // Storage's errors have no code of their own, and only what is in an error's text travels.
        let rows = rows.try_flatten().map_err(|error| DataFusionError::from(Error::from(error)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if format == DisplayFormatType::TreeRender { "\n" } else { ", " };
        let spec = &self.spec;
        let parts: Vec<String> = spec.parts.iter().map(|part| part.partition.to_string()).collect();
        write!(f, "relation={}{separator}access=partitions [{}]", spec.name, parts.join(", "))?;
        if format != DisplayFormatType::TreeRender {
            let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
            write!(f, "{separator}projection=[{}]", names.join(", "))?;
        }
        if let Some(predicate) = spec.predicate.conjunction() {
            write!(f, "{separator}predicate={}", fmt_sql(predicate.as_ref()))?;
        }
        if let Some(limit) = spec.limit {
            write!(f, "{separator}fetch={limit}")?;
        }
        Ok(())
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(self.spec.streams)
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        EquivalenceProperties::new(Arc::clone(&self.schema))
    }

    fn scheduling_type(&self) -> SchedulingType {
        SchedulingType::Cooperative
    }

    fn partition_statistics(&self, _partition: Option<usize>) -> Result<Arc<Statistics>> {
        Ok(Arc::new(Statistics::new_unknown(&self.schema)))
    }

    // The plan is made: nothing more is pushed into it.
    fn with_fetch(&self, _limit: Option<usize>) -> Option<Arc<dyn DataSource>> {
        None
    }

    fn fetch(&self) -> Option<usize> {
        self.spec.limit
    }

    fn metrics(&self) -> ExecutionPlanMetricsSet {
        self.metrics.clone()
    }

    fn try_swapping_with_projection(&self, _projection: &ProjectionExprs) -> Result<Option<Arc<dyn DataSource>>> {
        Ok(None)
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        for expr in self.spec.predicate.iter() {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }
}

impl fmt::Debug for PartitionScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartitionScan({}, {:?})", self.spec.name, self.spec.parts)
    }
}
