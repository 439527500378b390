//! The operator behind `*` and `+` of property paths: from each row's start along edges, as far as they go.
//!
//! Edges are read once into a sorted list, which every partition of the input shares; from each start a breadth-first search visits each node
//! once. A join in a loop would read the edges once a step, and would have to take what it has found apart again.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array, UInt64Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef, UInt64Type};
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, InputDistributionRequirements, Partitioning, PhysicalExpr, PlanProperties,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt, stream};
use parking_lot::Mutex;

use crate::error::Result;

/// An edge: the graph it is in (0 where there is but one), from, to.
type Edge = [u64; 3];

/// Where a search begins and what it gives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub struct Search {
    /// The column of the input where it begins.
    pub start: String,
    /// The column of the input with the graph to stay in.
    pub graph: Option<String>,
    /// The name of the new column: what is reached.
    pub end: String,
    /// Whether the start itself is reached by no step at all.
    pub reflexive: bool,
}

/// Each row of `input` once for each node that can be reached from it. `edges` has the columns from, to, and the graph where the search has one.
pub fn expand(input: LogicalPlan, edges: LogicalPlan, search: Search) -> Result<LogicalPlan> {
    Ok(LogicalPlan::Extension(Extension {
        node: Arc::new(Expand::new(input, edges, search)?),
    }))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Expand {
    input: LogicalPlan,
    edges: LogicalPlan,
    search: Search,
    schema: DFSchemaRef,
}

impl Expand {
    fn new(input: LogicalPlan, edges: LogicalPlan, search: Search) -> DataFusionResult<Expand> {
        let end = Field::new(&search.end, DataType::UInt64, false);
        let end = DFSchema::from_unqualified_fields(vec![end].into(), HashMap::new())?;
        let schema = Arc::new(input.schema().join(&end)?);
        Ok(Expand {
            input,
            edges,
            search,
            schema,
        })
    }
}

impl PartialOrd for Expand {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.search.partial_cmp(&other.search)
    }
}

// Conditions on it stay above it, as is the default: the optimizer would push them into both inputs.
impl UserDefinedLogicalNodeCore for Expand {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input, &self.edges]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.search.fmt_line(f)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        match (inputs.pop(), inputs.pop(), inputs.pop()) {
            (Some(edges), Some(input), None) => Expand::new(input, edges, self.search.clone()),
            _ => Err(DataFusionError::Internal("Expand takes two inputs".to_owned())),
        }
    }
}

impl Search {
    fn fmt_line(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let least = if self.reflexive { 0 } else { 1 };
        write!(f, "Expand: {} -> {}, {least} or more steps", self.start, self.end)
    }
}

/// Plans [`Expand`].
#[derive(Debug)]
pub struct ExpandPlanner;

#[async_trait]
impl ExtensionPlanner for ExpandPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(expand), [input, edges]) = (node.as_any().downcast_ref::<Expand>(), physical_inputs) else {
            return Ok(None);
        };
        let schema: SchemaRef = Arc::clone(expand.schema.inner());
        let column = |name: &str| Ok::<usize, DataFusionError>(input.schema().index_of(name)?);
        let columns = Columns {
            start: column(&expand.search.start)?,
            graph: expand.search.graph.as_deref().map(column).transpose()?,
        };
        Ok(Some(Arc::new(ExpandExec::new(
            [Arc::clone(input), Arc::clone(edges)],
            expand.search.clone(),
            columns,
            schema,
        ))))
    }
}

/// Places in the input's schema.
#[derive(Debug, Clone, Copy)]
struct Columns {
    start: usize,
    graph: Option<usize>,
}

/// The reading of the edges. Who waits for it works on it, so that it goes on where one of those who began it is dropped: a plan cannot be read
/// from its beginning again.
type SharedEdges = Shared<BoxFuture<'static, std::result::Result<Arc<Edges>, Arc<DataFusionError>>>>;

#[derive(Debug)]
struct ExpandExec {
    /// The input, the edges.
    children: [Arc<dyn ExecutionPlan>; 2],
    search: Search,
    columns: Columns,
    properties: Arc<PlanProperties>,
    edges: Arc<Mutex<Option<SharedEdges>>>,
}

impl ExpandExec {
    fn new(children: [Arc<dyn ExecutionPlan>; 2], search: Search, columns: Columns, schema: SchemaRef) -> ExpandExec {
        let partitions = children[0].properties().partitioning.partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        ExpandExec {
            children,
            search,
            columns,
            properties: Arc::new(properties),
            edges: Arc::default(),
        }
    }
}

impl DisplayAs for ExpandExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.search.fmt_line(f)
    }
}

impl ExecutionPlan for ExpandExec {
    fn name(&self) -> &'static str {
        "ExpandExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        self.input_distribution_requirements().into_per_child()
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::UnspecifiedDistribution, Distribution::SinglePartition])
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true, false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.children.iter().collect()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let children = <[Arc<dyn ExecutionPlan>; 2]>::try_from(children)
            .map_err(|_| DataFusionError::Internal("ExpandExec takes two inputs".to_owned()))?;
        // Edges that were read for other children are not these ones'.
        Ok(Arc::new(ExpandExec::new(
            children,
            self.search.clone(),
            self.columns,
            self.schema(),
        )))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let input = self.children[0].execute(partition, Arc::clone(&context))?;
        let edges = Arc::clone(&self.children[1]);
        let cell = Arc::clone(&self.edges);
        let (columns, reflexive, schema) = (self.columns, self.search.reflexive, self.schema());
        let rows = context.session_config().batch_size();
        let output = Arc::clone(&schema);
        let batches = stream::once(async move {
            let reading = cell
                .lock()
                .get_or_insert_with(|| read(edges, context).map_err(Arc::new).boxed().shared())
                .clone();
            let edges = reading.await.map_err(DataFusionError::Shared)?;
            let searches = input.map(move |batch| Ok::<_, DataFusionError>(Rows::new(batch?, columns, reflexive, Arc::clone(&edges))));
            Ok::<_, DataFusionError>(
                searches
                    .map_ok(move |found| stream::iter(found.batches(rows, Arc::clone(&output))))
                    .try_flatten(),
            )
        })
        .try_flatten();
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(schema, batches))))
    }
}

/// All edges, and where those of a node are.
#[derive(Debug)]
struct Edges {
    sorted: Vec<Edge>,
    of: HashMap<(u64, u64), Range<usize>>,
    _memory: MemoryReservation,
}

async fn read(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> DataFusionResult<Arc<Edges>> {
    let memory = MemoryConsumer::new("edges of a path").register(context.memory_pool());
    let mut edges: Vec<Edge> = Vec::new();
    let mut batches = plan.execute(0, context)?;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        // Each edge stands in the list and, at worst, by itself in the table of nodes.
        memory.try_grow(batch.num_rows() * (size_of::<Edge>() + 2 * size_of::<((u64, u64), Range<usize>)>()))?;
        let column = |i: usize| batch.column(i).as_primitive::<UInt64Type>();
        let (from, to) = (column(0), column(1));
        let graphs = (batch.num_columns() > 2).then(|| column(2));
        edges.extend((0..batch.num_rows()).map(|row| [graphs.map_or(0, |graphs| graphs.value(row)), from.value(row), to.value(row)]));
    }
    edges.sort_unstable();
    edges.dedup();
    let mut of = HashMap::new();
    let mut begin = 0;
    for group in edges.chunk_by(|left, right| left[..2] == right[..2]) {
        of.insert((group[0][0], group[0][1]), begin..begin + group.len());
        begin += group.len();
    }
    Ok(Arc::new(Edges {
        sorted: edges,
        of,
        _memory: memory,
    }))
}

impl Edges {
    /// What can be reached from a node, each once.
    fn reach(&self, graph: u64, start: u64, reflexive: bool) -> Vec<u64> {
        let mut reached = Vec::new();
        let mut seen = HashSet::new();
        if reflexive {
            seen.insert(start);
            reached.push(start);
        }
        let mut visit = |node: u64, reached: &mut Vec<u64>| {
            if let Some(edges) = self.of.get(&(graph, node)) {
                reached.extend(self.sorted[edges.clone()].iter().map(|edge| edge[2]).filter(|to| seen.insert(*to)));
            }
        };
        if !reflexive {
            visit(start, &mut reached);
        }
        let mut next = 0;
        while let Some(&node) = reached.get(next) {
            next += 1;
            visit(node, &mut reached);
        }
        reached
    }
}

/// The rows of one batch of the input.
struct Rows {
    batch: RecordBatch,
    starts: UInt64Array,
    graphs: Option<UInt64Array>,
    reflexive: bool,
    edges: Arc<Edges>,
}

impl Rows {
    fn new(batch: RecordBatch, columns: Columns, reflexive: bool, edges: Arc<Edges>) -> Rows {
        let column = |i: usize| batch.column(i).as_primitive::<UInt64Type>().clone();
        Rows {
            starts: column(columns.start),
            graphs: columns.graph.map(column),
            batch,
            reflexive,
            edges,
        }
    }

    /// What is reached from the rows, in batches of about so many rows.
    fn batches(self, size: usize, schema: SchemaRef) -> impl Iterator<Item = DataFusionResult<RecordBatch>> {
        let mut row = 0;
        let mut left: Option<(u32, std::vec::IntoIter<u64>)> = None;
        std::iter::from_fn(move || {
            let (mut rows, mut ends): (Vec<u32>, Vec<u64>) = (Vec::with_capacity(size), Vec::with_capacity(size));
            while ends.len() < size {
                match &mut left {
                    Some((at, reached)) => {
                        let before = ends.len();
                        ends.extend(reached.take(size - before));
                        rows.resize(ends.len(), *at);
                        if ends.len() < size {
                            left = None;
                        }
                    }
                    None if row < self.starts.len() => {
                        let graph = self.graphs.as_ref().map_or(0, |graphs| graphs.value(row));
                        let reached = self.edges.reach(graph, self.starts.value(row), self.reflexive);
                        left = Some((row as u32, reached.into_iter()));
                        row += 1;
                    }
                    None => break,
                }
            }
            (!ends.is_empty()).then(|| self.batch_of(rows, ends, &schema))
        })
    }

    fn batch_of(&self, rows: Vec<u32>, ends: Vec<u64>, schema: &SchemaRef) -> DataFusionResult<RecordBatch> {
        let rows = UInt32Array::from(rows);
        let mut columns = self
            .batch
            .columns()
            .iter()
            .map(|column| take(column, &rows, None))
            .collect::<std::result::Result<Vec<ArrayRef>, _>>()?;
        columns.push(Arc::new(UInt64Array::from(ends)));
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::arrow::datatypes::Schema;
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};
    use datafusion::physical_plan::repartition::RepartitionExec;

    use super::*;

    fn edges(list: &[(u64, u64, u64)]) -> Edges {
        let mut sorted: Vec<Edge> = list.iter().map(|(graph, from, to)| [*graph, *from, *to]).collect();
        sorted.sort_unstable();
        let mut of: HashMap<(u64, u64), Range<usize>> = HashMap::new();
        for (i, edge) in sorted.iter().enumerate() {
            of.entry((edge[0], edge[1]))
                .and_modify(|range| range.end = i + 1)
                .or_insert(i..i + 1);
        }
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        Edges {
            sorted,
            of,
            _memory: MemoryConsumer::new("test").register(&pool),
        }
    }

    /// Two columns of numbers in so many partitions, whose rows cannot be read twice.
    fn read_once(partitions: usize) -> Arc<dyn ExecutionPlan> {
        let schema = Arc::new(Schema::new(
            ["from", "to"].map(|name| Field::new(name, DataType::UInt64, false)).to_vec(),
        ));
        let columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(vec![1, 2])), Arc::new(UInt64Array::from(vec![2, 3]))];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        let rows = MemorySourceConfig::try_new_exec(&[vec![batch.clone()], vec![batch]], schema, None).unwrap();
        Arc::new(RepartitionExec::try_new(rows, Partitioning::RoundRobinBatch(partitions)).unwrap())
    }

    #[tokio::test]
    async fn edges_are_read_once_also_where_who_began_is_gone() {
        let search = Search {
            start: "from".to_owned(),
            graph: None,
            end: "end".to_owned(),
            reflexive: false,
        };
        let input = read_once(2);
        let mut fields = input.schema().fields().to_vec();
        fields.push(Arc::new(Field::new("end", DataType::UInt64, false)));
        let schema = Arc::new(Schema::new(fields));
        let columns = Columns { start: 0, graph: None };
        let expand = ExpandExec::new([input, read_once(1)], search, columns, schema);
        let context = Arc::new(TaskContext::default());
        let mut first = expand.execute(0, Arc::clone(&context)).unwrap();
        assert!(futures::poll!(first.next()).is_pending());
        drop(first);
        let found: Vec<RecordBatch> = expand.execute(1, context).unwrap().try_collect().await.unwrap();
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    }

    #[test]
    fn a_search_visits_each_node_once() {
        let graph = edges(&[(0, 1, 2), (0, 2, 3), (0, 3, 1), (0, 2, 4), (1, 1, 9), (0, 5, 5)]);
        assert_eq!(graph.reach(0, 1, false), [2, 3, 4, 1]);
        assert_eq!(graph.reach(0, 1, true), [1, 2, 3, 4]);
        assert_eq!(graph.reach(0, 4, true), [4]);
        assert!(graph.reach(0, 4, false).is_empty());
        assert_eq!(graph.reach(0, 5, false), [5]);
        assert_eq!(graph.reach(1, 1, false), [9]);
    }
}
