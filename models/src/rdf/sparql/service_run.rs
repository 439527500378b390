//! A SERVICE at work: the rows before it are read, its endpoints are asked one after the other, and answers are joined as they come.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array, UInt64Array};
use datafusion::arrow::compute::{concat_batches, take};
use datafusion::arrow::datatypes::{SchemaRef, UInt64Type};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, InputDistributionRequirements, Partitioning, PhysicalExpr, PlanProperties,
};
use futures::StreamExt;
use oxrdf::Term;
use tokio::sync::mpsc::Sender;

use super::context::QueryContext;
use super::probe::UNBOUND;
use super::service::{Endpoint, Request};
use super::service_rows::{Block, Columns, blocks};
use crate::error::{Error, Result};
use crate::rdf::blocking;
use crate::rdf::remote::{is_elsewhere, not_allowed};
use crate::rdf::term_column::TermColumn;
use crate::rdf::term_id::{Encoded, Scope, TermId};

/// Rows of one batch.
const BATCH: usize = 8192;
/// Bytes that a row takes beside its values while it waits for answers, about.
const ROW_BYTES: usize = 64;

/// What all of a SERVICE needs.
struct Work {
    request: Request,
    context: QueryContext,
    /// For each slot the column of the input.
    columns: Vec<Option<usize>>,
    /// The slots with one.
    shared: Vec<usize>,
    /// The column of the input with the endpoints.
    endpoint: Option<usize>,
    schema: SchemaRef,
}

/// The operator.
pub struct ServiceExec {
    input: Arc<dyn ExecutionPlan>,
    work: Arc<Work>,
    properties: Arc<PlanProperties>,
}

impl ServiceExec {
    /// Of a request for the rows of `input`; `schema` has the input's columns, then those of the request's outputs.
    pub fn new(input: Arc<dyn ExecutionPlan>, request: Request, context: QueryContext, schema: SchemaRef) -> DataFusionResult<ServiceExec> {
        let column = |name: &String| Ok::<usize, DataFusionError>(input.schema().index_of(name)?);
        let columns = request.slots.iter().map(|slot| slot.input.as_ref().map(column).transpose());
        let columns = columns.collect::<DataFusionResult<Vec<_>>>()?;
        let endpoint = match &request.endpoint {
            Endpoint::Iri(_) => None,
            Endpoint::Column(name) => Some(column(name)?),
        };
        let work = Work {
            shared: (0..columns.len()).filter(|slot| columns[*slot].is_some()).collect(),
            columns,
            endpoint,
            request,
            context,
            schema,
        };
        Ok(ServiceExec::with_work(input, Arc::new(work)))
    }

    fn with_work(input: Arc<dyn ExecutionPlan>, work: Arc<Work>) -> ServiceExec {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&work.schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        ServiceExec {
            input,
            work,
            properties: Arc::new(properties),
        }
    }
}

impl fmt::Debug for ServiceExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.work.request)
    }
}

impl DisplayAs for ServiceExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.work.request)
    }
}

impl ExecutionPlan for ServiceExec {
    fn name(&self) -> &'static str {
        "ServiceExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        self.input_distribution_requirements().into_per_child()
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        // So that each value is asked for once.
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.pop()) {
            (Some(input), None) => Ok(Arc::new(ServiceExec::with_work(input, Arc::clone(&self.work)))),
            _ => Err(DataFusionError::Internal("ServiceExec takes one input".to_owned())),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let memory = MemoryConsumer::new("rows of a SERVICE").register(context.memory_pool());
        let work = Arc::clone(&self.work);
        // Its task, and so its request, ends where the stream is dropped.
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&work.schema), 2);
        let output = builder.tx();
        builder.spawn(async move { work.run(input, &memory, &output).await });
        Ok(builder.build())
    }
}

/// The rows before a SERVICE.
struct Input {
    rows: RecordBatch,
    columns: Columns,
    /// Which of them agree with some solution.
    has_match: Vec<bool>,
}

/// Where the rows go.
type Output = Sender<DataFusionResult<RecordBatch>>;

impl Work {
    async fn run(&self, mut input: SendableRecordBatchStream, memory: &MemoryReservation, output: &Output) -> DataFusionResult<()> {
        let (schema, mut batches) = (input.schema(), Vec::new());
        while let Some(batch) = input.next().await {
            let batch = batch?;
            // Once as it is, once with the others, once as values and their places.
            let values = batch.num_rows() * (ROW_BYTES + 3 * size_of::<u64>() * self.columns.len());
            memory.try_grow(2 * batch.get_array_memory_size() + values)?;
            batches.push(batch);
        }
        drop(input);
        let rows = concat_batches(&schema, &batches)?;
        drop(batches);
        let columns = self.columns.iter().map(|column| match column {
            Some(column) => ids(rows.column(*column)),
            None => Vec::new(),
        });
        let mut input = Input {
            columns: Columns {
                values: columns.collect(),
                rows: rows.num_rows(),
            },
            has_match: vec![false; rows.num_rows()],
            rows,
        };
        let endpoints = self.endpoint.map(|column| {
            let ids = ids(input.rows.column(column)).into_iter();
            ids.map(TermId).collect::<Vec<_>>()
        });
        for block in blocks(&input.columns, &self.shared, endpoints.as_deref()) {
            if !self.ask(&block, &mut input, memory, output).await? {
                return Ok(());
            }
        }
        if self.request.keeps_all {
            let left: Vec<u32> = (0..input.has_match.len() as u32)
                .filter(|row| !input.has_match[*row as usize])
                .collect();
            self.send_alone(&left, &input, output).await?;
        }
        Ok(())
    }

    /// Asks for a block and joins what comes; whether somebody still listens.
    async fn ask(&self, block: &Block, input: &mut Input, memory: &MemoryReservation, output: &Output) -> DataFusionResult<bool> {
        let mut answers = match self.begin(block).await {
            Ok(answers) => answers,
            Err(error) => return self.failed(error, block, input, output).await,
        };
        let scope = Scope::random();
        let mut kept = Vec::new();
        while let Some(batch) = answers.next().await {
            let terms = batch.map_err(Error::from).and_then(|batch| self.terms(&batch));
            let terms = match terms {
                Ok(terms) => terms,
                Err(error) => return self.failed(error, block, input, output).await,
            };
            let found = blocking(terms.rows, || terms.columns(&self.context, &scope))?;
            if self.request.silent {
                // Nothing may have been given before it fails.
                memory.try_grow(found.rows * found.values.len() * size_of::<u64>())?;
                kept.push(found);
            } else if !self.send_joined(block, input, &found, output).await? {
                return Ok(false);
            }
        }
        for found in kept {
            if !self.send_joined(block, input, &found, output).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What failed is an error, or counts as a solution that binds nothing, with which all agree.
    async fn failed(&self, error: Error, block: &Block, input: &mut Input, output: &Output) -> DataFusionResult<bool> {
        if !self.request.silent || !is_elsewhere(&error) {
            return Err(error.into());
        }
        tracing::debug!(%error, "SERVICE SILENT");
        for row in &block.rows {
            input.has_match[*row as usize] = true;
        }
        self.send_alone(&block.rows, input, output).await
    }

    /// Sends the request of a block.
    async fn begin(&self, block: &Block) -> Result<SendableRecordBatchStream> {
        let endpoint = match (&self.request.endpoint, block.endpoint) {
            (Endpoint::Iri(iri), _) => iri.clone(),
            (Endpoint::Column(_), Some(id)) if id.0 != UNBOUND => match self.context.terms(&[id])?.pop().flatten() {
                Some(Term::NamedNode(iri)) => iri.into_string(),
                other => {
                    let term = other.map_or_else(|| "nothing".to_owned(), |term| term.to_string());
                    let message = format!("SERVICE {0}: {0} is {term}, which is no endpoint's IRI", self.request.name);
                    return Err(Error::invalid("22000", message));
                }
            },
            (Endpoint::Column(_), _) => {
                let message = format!("SERVICE {0}: a solution before it leaves {0} unbound", self.request.name);
                return Err(Error::invalid("22004", message).with_hint("filter such solutions by BOUND"));
            }
        };
        let remote = self.context.remote().ok_or_else(|| not_allowed(&endpoint))?;
        let names: Vec<String> = self.request.slots.iter().map(|slot| slot.name.clone()).collect();
        remote.solutions(&endpoint, &self.text(block)?, &names).await
    }

    /// The query for a block.
    fn text(&self, block: &Block) -> Result<String> {
        let slots = &self.request.slots;
        let mut text = self
            .request
            .base
            .as_ref()
            .map_or_else(String::new, |base| format!("BASE <{base}>\n"));
        text += "SELECT";
        match slots.is_empty() {
            true => text += " *",
            false => slots.iter().for_each(|slot| text += &format!(" ?{}", slot.name)),
        }
        text += " WHERE { ";
        if block.sends {
            let names: Vec<String> = block.keys.iter().map(|slot| format!("?{}", slots[*slot].name)).collect();
            text += &format!("VALUES ({}) {{", names.join(" "));
            let ids: Vec<TermId> = block.by_values.keys().flatten().copied().map(TermId).collect();
            let terms = blocking(ids.len(), || self.context.terms(&ids))?;
            for row in terms.chunks(block.keys.len()) {
                let row: Vec<String> = row.iter().flatten().map(Term::to_string).collect();
                text += &format!(" ({})", row.join(" "));
            }
            text += " } ";
        }
        text += &self.request.body;
        text += " }";
        Ok(text)
    }

    /// The terms of a batch of answers.
    fn terms(&self, batch: &RecordBatch) -> Result<Terms> {
        let mut columns = Vec::with_capacity(self.request.slots.len());
        for (slot, column) in self.request.slots.iter().zip(batch.columns()) {
            let column = TermColumn::new(column)?;
            let terms = (0..batch.num_rows()).map(|row| Ok(column.get(row)?.map(|term| term.into_owned())));
            let terms = terms.collect::<Result<Vec<Option<Term>>>>()?;
            if slot.certain && terms.iter().any(Option::is_none) {
                let message = format!(
                    "SERVICE {}: an answer leaves ?{} unbound, which the pattern binds",
                    self.request.name, slot.name
                );
                return Err(Error::invalid("HV000", message));
            }
            columns.push(terms);
        }
        Ok(Terms {
            columns,
            rows: batch.num_rows(),
        })
    }

    /// Sends the rows that agree with solutions; whether somebody still listens.
    async fn send_joined(&self, block: &Block, input: &mut Input, found: &Columns, output: &Output) -> DataFusionResult<bool> {
        let mut pairs = (0..found.rows).flat_map(|answer| {
            let rows = block.agreeing(&input.columns, &self.shared, found, answer);
            rows.map(move |row| (row, answer as u32))
        });
        loop {
            let (rows, answers): (Vec<u32>, Vec<u32>) = pairs.by_ref().take(BATCH).unzip();
            if rows.is_empty() {
                return Ok(true);
            }
            for row in &rows {
                input.has_match[*row as usize] = true;
            }
            let batch = self.batch(&rows, &input.rows, |slot, at| match self.given(&input.columns, slot, rows[at]) {
                UNBOUND => found.values[slot][answers[at] as usize],
                given => given,
            })?;
            if output.send(Ok(batch)).await.is_err() {
                return Ok(false);
            }
        }
    }

    /// Sends rows as they are; whether somebody still listens.
    async fn send_alone(&self, rows: &[u32], input: &Input, output: &Output) -> DataFusionResult<bool> {
        for rows in rows.chunks(BATCH) {
            let batch = self.batch(rows, &input.rows, |slot, at| self.given(&input.columns, slot, rows[at]))?;
            if output.send(Ok(batch)).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The value that a row had before.
    fn given(&self, input: &Columns, slot: usize, row: u32) -> u64 {
        input.values[slot].get(row as usize).copied().unwrap_or(UNBOUND)
    }

    /// Rows of the input with the values of the new columns.
    fn batch(&self, rows: &[u32], input: &RecordBatch, value: impl Fn(usize, usize) -> u64) -> DataFusionResult<RecordBatch> {
        let places = UInt32Array::from(rows.to_vec());
        let given = input.columns().iter().map(|column| take(column, &places, None));
        let mut columns = given.collect::<std::result::Result<Vec<ArrayRef>, _>>()?;
        for (slot, planned) in self.request.slots.iter().enumerate() {
            if planned.output.is_some() {
                let values = (0..rows.len()).map(|at| Some(value(slot, at)).filter(|value| *value != UNBOUND));
                columns.push(Arc::new(UInt64Array::from_iter(values)));
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// Answers as terms, a column a slot.
struct Terms {
    columns: Vec<Vec<Option<Term>>>,
    rows: usize,
}

impl Terms {
    /// Their ids.
    fn columns(&self, context: &QueryContext, scope: &Scope) -> Result<Columns> {
        let id = |term: &Option<Term>| match term {
            Some(term) => Ok(context.id(Encoded::of(term.as_ref(), scope))?.0),
            None => Ok(UNBOUND),
        };
        let columns = self.columns.iter().map(|column| column.iter().map(id).collect());
        Ok(Columns {
            values: columns.collect::<Result<_>>()?,
            rows: self.rows,
        })
    }
}

/// The ids of a column, [`UNBOUND`] for null.
fn ids(column: &ArrayRef) -> Vec<u64> {
    let ids = column.as_primitive::<UInt64Type>().iter();
    ids.map(|id| id.unwrap_or(UNBOUND)).collect()
}
