//! The bind join (an index nested loop join): each row of the input with what the patterns find for it.
//!
//! It is for patterns of which few quads are asked: a hash join would read all quads that a pattern alone may match. A row without a value for
//! a variable of a pattern is given one by the pattern, as SPARQL's compatible solutions want it.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DFSchemaRef, Statistics};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{EquivalenceProperties, create_physical_expr};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::{StreamExt, stream};

use super::plan::SMALL;
use super::probe::{BUDGET, Condition, Machine, Place, Probe, Progress, Rows, Step, UNBOUND};
use crate::error::Result;
use crate::rdf::quad_index::QuadIndex;
use crate::rdf::{FEW, blocking};

/// A variable on its way through the patterns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SlotPlan {
    /// The column of the input with its values.
    pub input: Option<String>,
    /// The new column with its values, where the patterns may give it some; and whether a row may be without one at the end.
    pub output: Option<(String, bool)>,
}

impl SlotPlan {
    /// The column by which conditions know it.
    pub fn column(&self) -> Option<&str> {
        let output = self.output.as_ref().map(|(name, _)| name.as_str());
        output.or(self.input.as_deref())
    }
}

/// What a bind join does with its rows, as planned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bind {
    /// Looks a pattern up; the text is the pattern's, for people.
    Match(Probe, String),
    /// Keeps the rows for which a condition is true, which is over the columns of slots.
    Keep(Expr),
    /// What these make of a row, or the row itself.
    Optional(Vec<Bind>),
    /// What each of these makes of a row.
    Each(Vec<Vec<Bind>>),
}

/// A bind join: what it does, with which variables, and about how many rows it makes.
#[derive(Debug, Clone)]
pub struct BindJoin {
    /// The steps.
    pub steps: Vec<Bind>,
    /// The variables that the steps speak of.
    pub slots: Vec<SlotPlan>,
    /// Rows that come out, estimated.
    pub rows: f64,
    /// Rows that there are at most between two steps that were planned one after the other, estimated.
    pub most: f64,
}

impl BindJoin {
    /// This and then another one, as one; `None` where that is not possible.
    fn and_then(&self, next: &BindJoin) -> Option<BindJoin> {
        let mut slots = self.slots.clone();
        let mut places = Vec::with_capacity(next.slots.len());
        for slot in &next.slots {
            let known = slot
                .input
                .as_deref()
                .and_then(|column| slots.iter().position(|slot| slot.column() == Some(column)));
            places.push(match (known, &slot.output) {
                // Conditions before it know the column by its old name.
                (Some(_), Some(_)) => return None,
                (Some(place), None) => place,
                (None, _) => {
                    slots.push(slot.clone());
                    slots.len() - 1
                }
            });
        }
        let mut steps = self.steps.clone();
        steps.extend(next.steps.iter().map(|step| step.moved(&places)));
        Some(BindJoin {
            steps,
            slots,
            rows: next.rows,
            most: self.most.max(next.most),
        })
    }
}

impl Bind {
    /// The same with its slots at other places.
    fn moved(&self, places: &[usize]) -> Bind {
        let all = |steps: &[Bind]| steps.iter().map(|step| step.moved(places)).collect();
        match self {
            Bind::Match(probe, text) => {
                let mut probe = probe.clone();
                for place in &mut probe.places {
                    if let Place::Slot(slot) = place {
                        *slot = places[*slot];
                    }
                }
                Bind::Match(probe, text.clone())
            }
            Bind::Keep(condition) => Bind::Keep(condition.clone()),
            Bind::Optional(steps) => Bind::Optional(all(steps)),
            Bind::Each(parts) => Bind::Each(parts.iter().map(|part| all(part)).collect()),
        }
    }
}

/// The rows of `input` with what the steps find for each. With few rows, a bind join of a bind join is one.
pub fn bind(input: LogicalPlan, index: Arc<QuadIndex>, join: BindJoin) -> Result<LogicalPlan> {
    let mut node = None;
    if let LogicalPlan::Extension(extension) = &input
        && let Some(before) = extension.node.as_any().downcast_ref::<Node>()
        && Arc::ptr_eq(&before.index, &index)
        && before.join.most.max(join.most) <= SMALL
        && let Some(both) = before.join.and_then(&join)
    {
        node = Some(Node::new(before.input.clone(), Arc::clone(&index), both)?);
    }
    let node = match node {
        Some(node) => node,
        None => Node::new(input, index, join)?,
    };
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// About how many rows a node makes, if it is a bind join.
pub fn bind_rows(node: &dyn UserDefinedLogicalNode) -> Option<f64> {
    node.as_any().downcast_ref::<Node>().map(|node| node.join.most)
}

#[derive(Clone)]
struct Node {
    input: LogicalPlan,
    index: Arc<QuadIndex>,
    join: Arc<BindJoin>,
    schema: DFSchemaRef,
}

impl Node {
    fn new(input: LogicalPlan, index: Arc<QuadIndex>, join: impl Into<Arc<BindJoin>>) -> DataFusionResult<Node> {
        let join = join.into();
        let outputs = join.slots.iter().filter_map(|slot| slot.output.as_ref());
        let fields: Vec<Field> = outputs
            .map(|(name, optional)| Field::new(name, DataType::UInt64, *optional))
            .collect();
        let new = DFSchema::from_unqualified_fields(fields.into(), HashMap::new())?;
        let schema = Arc::new(input.schema().join(&new)?);
        Ok(Node {
            input,
            index,
            join,
            schema,
        })
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt_steps(&self.join.steps, f)
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        Arc::ptr_eq(&self.index, &other.index)
            && self.join.steps == other.join.steps
            && self.join.slots == other.join.slots
            && self.input == other.input
    }
}

impl Eq for Node {}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.join.steps.hash(state);
        self.join.slots.hash(state);
        self.input.hash(state);
    }
}

impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

fn fmt_steps(steps: &[Bind], f: &mut fmt::Formatter) -> fmt::Result {
    for (i, step) in steps.iter().enumerate() {
        if i > 0 {
            write!(f, " · ")?;
        }
        match step {
            Bind::Match(_, text) => write!(f, "{text}")?,
            Bind::Keep(condition) => write!(f, "FILTER {condition}")?,
            Bind::Optional(steps) => {
                write!(f, "OPTIONAL {{ ")?;
                fmt_steps(steps, f)?;
                write!(f, " }}")?;
            }
            Bind::Each(parts) => {
                for (i, steps) in parts.iter().enumerate() {
                    write!(f, "{}{{ ", if i > 0 { " UNION " } else { "" })?;
                    fmt_steps(steps, f)?;
                    write!(f, " }}")?;
                }
            }
        }
    }
    Ok(())
}

// Conditions on it stay above it, as is the default; its own are over slots, which no input has.
impl UserDefinedLogicalNodeCore for Node {
    fn name(&self) -> &'static str {
        "BindJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "BindJoin: ")?;
        fmt_steps(&self.join.steps, f)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        match (inputs.pop(), inputs.pop()) {
            (Some(input), None) => Node::new(input, Arc::clone(&self.index), Arc::clone(&self.join)),
            _ => Err(DataFusionError::Internal("BindJoin takes one input".to_owned())),
        }
    }
}

/// Plans bind joins.
#[derive(Debug)]
pub struct BindPlanner;

#[async_trait]
impl ExtensionPlanner for BindPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
        match physical_inputs {
            [input] => bind_operator(node, input, session),
            _ => Ok(None),
        }
    }
}

/// The operator of a node over an input, if it is a bind join.
pub fn bind_operator(
    node: &dyn UserDefinedLogicalNode,
    input: &Arc<dyn ExecutionPlan>,
    session: &dyn Session,
) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
    let Some(node) = node.as_any().downcast_ref::<Node>() else {
        return Ok(None);
    };
    let columns = node.join.slots.iter().map(|slot| match &slot.input {
        Some(name) => Ok(Some(input.schema().index_of(name)?)),
        None => Ok(None),
    });
    let columns = columns.collect::<DataFusionResult<Vec<_>>>()?;
    let outputs = node.join.slots.iter().enumerate().filter(|(_, slot)| slot.output.is_some());
    let work = Work {
        index: Arc::clone(&node.index),
        steps: steps(&node.join.steps, &node.join.slots, session)?,
        columns,
        outputs: outputs.map(|(i, _)| i).collect(),
        schema: Arc::clone(node.schema.inner()),
        planned: Arc::clone(&node.join),
    };
    Ok(Some(Arc::new(BindExec::new(Arc::clone(input), Arc::new(work)))))
}

fn steps(planned: &[Bind], slots: &[SlotPlan], session: &dyn Session) -> DataFusionResult<Arc<[Step]>> {
    let steps = planned.iter().map(|step| {
        Ok(match step {
            Bind::Match(probe, _) => Step::Match(probe.clone()),
            Bind::Optional(inner) => Step::Optional(steps(inner, slots, session)?),
            Bind::Each(parts) => {
                let parts = parts.iter().map(|part| steps(part, slots, session));
                Step::Each(parts.collect::<DataFusionResult<_>>()?)
            }
            Bind::Keep(condition) => {
                let mut fields = Vec::new();
                let mut seen = Vec::new();
                for column in condition.column_refs() {
                    let slot = slots.iter().position(|slot| slot.column() == Some(column.name()));
                    let slot = slot.ok_or_else(|| DataFusionError::Internal(format!("a condition on {column}, which is no slot")))?;
                    fields.push(Field::new(column.name(), DataType::UInt64, true));
                    seen.push(slot);
                }
                let schema = Arc::new(Schema::new(fields));
                // What translations compare has one type already.
                let columns = DFSchema::try_from(Arc::clone(&schema))?;
                let expression = create_physical_expr(condition, &columns, session.execution_props(), &PhysicalPlanningContext::default())?;
                Step::Keep(Condition {
                    expression,
                    schema,
                    slots: seen,
                })
            }
        })
    });
    steps.collect()
}

/// What all partitions of a bind join share.
struct Work {
    index: Arc<QuadIndex>,
    steps: Arc<[Step]>,
    /// For each slot the column of the input.
    columns: Vec<Option<usize>>,
    /// The slots that become columns.
    outputs: Vec<usize>,
    schema: SchemaRef,
    /// What was planned.
    planned: Arc<BindJoin>,
}

/// The operator.
pub struct BindExec {
    input: Arc<dyn ExecutionPlan>,
    work: Arc<Work>,
    properties: Arc<PlanProperties>,
}

impl BindExec {
    fn new(input: Arc<dyn ExecutionPlan>, work: Arc<Work>) -> BindExec {
        let partitions = input.properties().partitioning.partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&work.schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        BindExec {
            input,
            work,
            properties: Arc::new(properties),
        }
    }

    /// The same with another input, and with nothing of the index opened: what was read of it would stay in memory.
    pub fn anew(&self, input: Arc<dyn ExecutionPlan>) -> BindExec {
        let work = Work {
            index: self.work.index.anew(),
            steps: Arc::clone(&self.work.steps),
            columns: self.work.columns.clone(),
            outputs: self.work.outputs.clone(),
            schema: Arc::clone(&self.work.schema),
            planned: Arc::clone(&self.work.planned),
        };
        BindExec {
            input,
            work: Arc::new(work),
            properties: Arc::clone(&self.properties),
        }
    }
}

impl fmt::Debug for BindExec {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt_steps(&self.work.planned.steps, f)
    }
}

impl DisplayAs for BindExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "BindJoinExec: ")?;
        fmt_steps(&self.work.planned.steps, f)
    }
}

impl ExecutionPlan for BindExec {
    fn name(&self) -> &'static str {
        "BindJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        // It is chosen where the input is small.
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        // Those of conditions are over slots.
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.pop()) {
            (Some(input), None) => Ok(Arc::new(BindExec::new(input, Arc::clone(&self.work)))),
            _ => Err(DataFusionError::Internal("BindJoinExec takes one input".to_owned())),
        }
    }

    fn statistics_from_inputs(&self, _inputs: &[Arc<Statistics>], args: &StatisticsArgs) -> DataFusionResult<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.work.schema);
        let partitions = self.properties.partitioning.partition_count().max(1);
        let share = args.partition().map_or(1, |_| partitions);
        statistics.num_rows = Precision::Inexact((self.work.planned.rows / share as f64).ceil() as usize);
        Ok(Arc::new(statistics))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let run = Run {
            input: self.input.execute(partition, context)?,
            work: Arc::clone(&self.work),
            current: None,
            first: FEW,
        };
        let batches = stream::unfold(run, |mut run| async move {
            let next = run.next().await.transpose()?;
            Some((next, run))
        });
        let stream = RecordBatchStreamAdapter::new(Arc::clone(&self.work.schema), batches.fuse());
        Ok(make_cooperative(Box::pin(stream)))
    }
}

/// One partition at work.
struct Run {
    input: SendableRecordBatchStream,
    work: Arc<Work>,
    current: Option<(RecordBatch, Machine)>,
    /// Lookups, or rows, that are still done without making room for other tasks: most queries end within them, and it takes longer than they do.
    first: usize,
}

impl Run {
    async fn next(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        loop {
            let Some((batch, machine)) = &mut self.current else {
                let Some(batch) = self.input.next().await else { return Ok(None) };
                let batch = batch?;
                let machine = self.work.machine(&batch);
                self.current = Some((batch, machine));
                continue;
            };
            let progress = match self.first {
                0 => blocking(BUDGET, || machine.work(&mut BUDGET.clone()))?,
                _ => machine.work(&mut self.first)?,
            };
            match progress {
                Progress::Rows(rows) => {
                    self.first = self.first.saturating_sub(rows.len());
                    return self.work.output(batch, &rows).map(Some);
                }
                Progress::Worked => tokio::task::yield_now().await,
                Progress::Done => self.current = None,
            }
        }
    }
}

impl Work {
    fn machine(&self, batch: &RecordBatch) -> Machine {
        let columns = self
            .columns
            .iter()
            .map(|column| column.map(|column| batch.column(column).as_primitive::<UInt64Type>()));
        let columns: Vec<_> = columns.collect();
        let mut rows = Rows::new(columns.len());
        let mut row = vec![UNBOUND; columns.len()];
        for i in 0..batch.num_rows() {
            for (value, column) in row.iter_mut().zip(&columns) {
                *value = column.filter(|column| column.is_valid(i)).map_or(UNBOUND, |column| column.value(i));
            }
            rows.push(&row, i as u32);
        }
        Machine::new(Arc::clone(&self.index), Arc::clone(&self.steps), rows)
    }

    fn output(&self, batch: &RecordBatch, rows: &Rows) -> DataFusionResult<RecordBatch> {
        let origins = UInt32Array::from(rows.origins.clone());
        let given = batch.columns().iter().map(|column| take(column, &origins, None));
        let mut columns = given.collect::<std::result::Result<Vec<ArrayRef>, _>>()?;
        columns.extend(self.outputs.iter().map(|slot| rows.column(*slot)));
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}
