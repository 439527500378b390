//! The operator behind `*` and `+` of property paths: from each row's start along edges, as far as they go.
//!
//! From each start a breadth-first search visits each node once. A join in a loop would read the edges once a step, and would have to take what
//! it has found apart again.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array, UInt64Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, InputDistributionRequirements, Partitioning,
    PhysicalExpr, PlanProperties, ReplaceChildrenOptions,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::{StreamExt, stream};

use super::reach::{Edges, Indexed, Source, reached};
use crate::error::Result;

/// Where a search begins and what it gives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub struct Search {
    /// Where it begins.
    pub start: Start,
    /// The column of the input with the graph to stay in.
    pub graph: Option<String>,
    /// The name of the new column: what is reached.
    pub end: String,
    /// Whether the start itself is reached by no step at all.
    pub reflexive: bool,
}

/// Where searches begin.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub enum Start {
    /// In this column of the input.
    Column(String),
    /// Wherever an edge begins, which is a new column of this name. The input is one row without columns.
    Everywhere(String),
}

impl Start {
    fn name(&self) -> &str {
        match self {
            Start::Column(name) | Start::Everywhere(name) => name,
        }
    }
}

/// Edges of a search.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EdgePlan {
    /// Rows with the columns from, to, and the graph where the search has one.
    Rows(LogicalPlan),
    /// Quads.
    Index(Indexed),
}

/// Rows that are expected of a search, if a node is one whose edges are few enough to be counted so.
pub fn expand_rows(node: &dyn UserDefinedLogicalNode) -> Option<f64> {
    match &node.as_any().downcast_ref::<Expand>()?.edges {
        EdgePlan::Index(indexed) => Some(indexed.count().map_or(f64::MAX, |count| count as f64)),
        // Its scans tell.
        EdgePlan::Rows(_) => None,
    }
}

/// Each row of `input` once for each node that can be reached from it.
pub fn expand(input: LogicalPlan, edges: EdgePlan, search: Search) -> Result<LogicalPlan> {
    Ok(LogicalPlan::Extension(Extension {
        node: Arc::new(Expand::new(input, edges, search)?),
    }))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Expand {
    input: LogicalPlan,
    edges: EdgePlan,
    search: Search,
    schema: DFSchemaRef,
}

impl Expand {
    fn new(input: LogicalPlan, edges: EdgePlan, search: Search) -> DataFusionResult<Expand> {
        let mut new = Vec::new();
        if let Start::Everywhere(name) = &search.start {
            new.push(Field::new(name, DataType::UInt64, false));
        }
        new.push(Field::new(&search.end, DataType::UInt64, false));
        let new = DFSchema::from_unqualified_fields(new.into(), HashMap::new())?;
        let schema = Arc::new(input.schema().join(&new)?);
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
        match &self.edges {
            EdgePlan::Rows(edges) => vec![&self.input, edges],
            EdgePlan::Index(_) => vec![&self.input],
        }
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
        let edges = match &self.edges {
            EdgePlan::Rows(_) => inputs.pop().map(EdgePlan::Rows),
            index @ EdgePlan::Index(_) => Some(index.clone()),
        };
        match (edges, inputs.pop(), inputs.pop()) {
            (Some(edges), Some(input), None) => Expand::new(input, edges, self.search.clone()),
            _ => Err(DataFusionError::Internal("Expand has other inputs than before".to_owned())),
        }
    }
}

impl Search {
    fn fmt_line(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let least = if self.reflexive { 0 } else { 1 };
        write!(f, "Expand: {} -> {}, {least} or more steps", self.start.name(), self.end)
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
        session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
        expand_operator(node, physical_inputs, session.config().target_partitions())
    }
}

/// The operator of an [`Expand`] over its inputs, by so many streams where it begins everywhere; `None` for another node.
pub fn expand_operator(
    node: &dyn UserDefinedLogicalNode,
    inputs: &[Arc<dyn ExecutionPlan>],
    partitions: usize,
) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
    let Some(expand) = node.as_any().downcast_ref::<Expand>() else {
        return Ok(None);
    };
    let (input, source) = match (inputs, &expand.edges) {
        ([input, edges], EdgePlan::Rows(_)) => (input, Source::Plan(Arc::clone(edges))),
        ([input], EdgePlan::Index(indexed)) => (input, Source::Index(indexed.clone())),
        _ => return Err(DataFusionError::Internal("Expand has other inputs than before".to_owned())),
    };
    let schema: SchemaRef = Arc::clone(expand.schema.inner());
    let column = |name: &str| Ok::<usize, DataFusionError>(input.schema().index_of(name)?);
    let (start, partitions) = match &expand.search.start {
        Start::Column(name) => (Some(column(name)?), input.properties().partitioning.partition_count()),
        Start::Everywhere(_) => (None, partitions),
    };
    let columns = Columns {
        start,
        graph: expand.search.graph.as_deref().map(column).transpose()?,
    };
    Ok(Some(Arc::new(ExpandExec::new(
        Arc::clone(input),
        source,
        expand.search.clone(),
        columns,
        schema,
        partitions,
    ))))
}

/// Places in the input's schema.
#[derive(Debug, Clone, Copy)]
struct Columns {
    /// `None`: everywhere.
    start: Option<usize>,
    graph: Option<usize>,
}

/// The operator.
#[derive(Debug)]
pub struct ExpandExec {
    input: Arc<dyn ExecutionPlan>,
    source: Source,
    search: Search,
    columns: Columns,
    properties: Arc<PlanProperties>,
    edges: Arc<Edges>,
}

impl ExpandExec {
    fn new(
        input: Arc<dyn ExecutionPlan>,
        source: Source,
        search: Search,
        columns: Columns,
        schema: SchemaRef,
        partitions: usize,
    ) -> ExpandExec {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        ExpandExec {
            input,
            edges: Arc::new(Edges::new(source.clone())),
            source,
            search,
            columns,
            properties: Arc::new(properties),
        }
    }

    fn partitions(&self) -> usize {
        self.properties.partitioning.partition_count()
    }

    /// The same over other inputs, and with nothing of the index opened: what was read of it would stay in memory.
    pub fn anew(&self, inputs: Vec<Arc<dyn ExecutionPlan>>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let source = match &self.source {
            Source::Index(indexed) => Source::Index(indexed.anew()),
            rows @ Source::Plan(_) => rows.clone(),
        };
        let (search, columns) = (self.search.clone(), self.columns);
        let fresh = ExpandExec::new(Arc::clone(&self.input), source, search, columns, self.schema(), self.partitions());
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        Arc::new(fresh).replace_children(inputs, options)
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
        let of_edges = match &self.source {
            Source::Plan(_) => Some(Distribution::SinglePartition),
            Source::Index(_) => None,
        };
        InputDistributionRequirements::new([Distribution::UnspecifiedDistribution].into_iter().chain(of_edges).collect())
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        match &self.source {
            Source::Plan(_) => vec![true, false],
            Source::Index(_) => vec![true],
        }
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        match &self.source {
            Source::Plan(edges) => vec![&self.input, edges],
            Source::Index(_) => vec![&self.input],
        }
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let mut children = children.into_iter();
        let (input, edges) = (children.next(), children.next());
        let source = match (&self.source, edges) {
            (Source::Plan(_), Some(edges)) => Some(Source::Plan(edges)),
            (Source::Index(indexed), None) => Some(Source::Index(indexed.clone())),
            _ => None,
        };
        let (Some(input), Some(source), None) = (input, source, children.next()) else {
            return Err(DataFusionError::Internal("ExpandExec has other inputs than before".to_owned()));
        };
        let partitions = match self.columns.start {
            Some(_) => input.properties().partitioning.partition_count(),
            None => self.partitions(),
        };
        // Edges that were read for other children are not these ones'.
        let exec = ExpandExec::new(input, source, self.search.clone(), self.columns, self.schema(), partitions);
        Ok(Arc::new(exec))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let schema = self.schema();
        let input = match self.columns.start {
            Some(_) => self.input.execute(partition, Arc::clone(&context))?,
            None => self.everywhere(partition, Arc::clone(&context)),
        };
        let found = Found {
            input,
            rows: None,
            size: context.session_config().batch_size(),
            columns: self.columns,
            reflexive: self.search.reflexive,
            edges: Arc::clone(&self.edges),
            schema: Arc::clone(&schema),
            memory: reached(&context),
            context,
        };
        let batches = stream::try_unfold(
            found,
            |mut found| async move { Ok(found.next().await?.map(|batch| (batch, found))) },
        );
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(schema, batches))))
    }
}

impl ExpandExec {
    /// This partition's part of the nodes where edges begin.
    fn everywhere(&self, partition: usize, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let fields = self.schema().fields()[..1].to_vec();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let (edges, partitions, of_starts) = (Arc::clone(&self.edges), self.partitions(), Arc::clone(&schema));
        let batches = stream::once(async move {
            let starts = edges.all(&context).await?.starts();
            let starts: UInt64Array = starts.into_iter().skip(partition).step_by(partitions).map(Some).collect();
            Ok(RecordBatch::try_new(of_starts, vec![Arc::new(starts)])?)
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }
}

/// What is reached from the rows of the input, as it is asked for.
struct Found {
    input: SendableRecordBatchStream,
    /// Those that are being searched from.
    rows: Option<Rows>,
    /// Rows of a batch.
    size: usize,
    columns: Columns,
    reflexive: bool,
    edges: Arc<Edges>,
    schema: SchemaRef,
    /// For what the last search reached.
    memory: MemoryReservation,
    context: Arc<TaskContext>,
}

/// The rows of one batch of the input.
struct Rows {
    batch: RecordBatch,
    starts: UInt64Array,
    graphs: Option<UInt64Array>,
    /// The next one.
    row: usize,
    /// What is left of those that one reaches.
    left: (u32, VecDeque<u64>),
}

impl Rows {
    fn new(batch: RecordBatch, columns: Columns) -> Rows {
        let column = |i: usize| batch.column(i).as_primitive::<UInt64Type>().clone();
        Rows {
            starts: column(columns.start.unwrap_or(0)),
            graphs: columns.graph.map(column),
            batch,
            row: 0,
            left: (0, VecDeque::new()),
        }
    }
}

impl Found {
    /// The next batch of about so many rows.
    async fn next(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        loop {
            let rows = match &mut self.rows {
                Some(rows) => rows,
                None => match self.input.next().await.transpose()? {
                    Some(batch) => self.rows.insert(Rows::new(batch, self.columns)),
                    None => return Ok(None),
                },
            };
            let (mut places, mut ends): (Vec<u32>, Vec<u64>) = (Vec::new(), Vec::new());
            while ends.len() < self.size {
                let (at, reached) = &mut rows.left;
                let count = reached.len().min(self.size - ends.len());
                ends.extend(reached.drain(..count));
                places.resize(ends.len(), *at);
                if ends.len() == self.size || rows.row == rows.starts.len() {
                    break;
                }
                let graph = rows.graphs.as_ref().map_or(0, |graphs| graphs.value(rows.row));
                let start = rows.starts.value(rows.row);
                let reach = self.edges.reach(graph, start, self.reflexive, &self.context, &self.memory);
                let reached = reach.await?;
                rows.left = (rows.row as u32, reached.into());
                rows.row += 1;
            }
            if ends.is_empty() {
                self.rows = None;
                continue;
            }
            let places = UInt32Array::from(places);
            let given = rows.batch.columns().iter().map(|column| take(column, &places, None));
            let mut columns = given.collect::<std::result::Result<Vec<ArrayRef>, _>>()?;
            columns.push(Arc::new(UInt64Array::from(ends)));
            return Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), columns)?));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::physical_plan::repartition::RepartitionExec;
    use futures::TryStreamExt;

    use super::*;

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
            start: Start::Column("from".to_owned()),
            graph: None,
            end: "end".to_owned(),
            reflexive: false,
        };
        let input = read_once(2);
        let mut fields = input.schema().fields().to_vec();
        fields.push(Arc::new(Field::new("end", DataType::UInt64, false)));
        let schema = Arc::new(Schema::new(fields));
        let columns = Columns {
            start: Some(0),
            graph: None,
        };
        let expand = ExpandExec::new(input, Source::Plan(read_once(1)), search, columns, schema, 2);
        let context = Arc::new(TaskContext::default());
        let mut first = expand.execute(0, Arc::clone(&context)).unwrap();
        assert!(futures::poll!(first.next()).is_pending());
        drop(first);
        let found: Vec<RecordBatch> = expand.execute(1, context).unwrap().try_collect().await.unwrap();
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    }
}
