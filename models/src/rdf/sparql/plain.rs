//! The operators of plain plans: those that look up, compute, filter, sort and cut in one order, by one thread.
//!
//! DataFusion's planner plans any plan, many parts of it at a time, and goes through what it has made again and again. A plain plan is a chain of
//! operators of which each is what its node says, and planning it counts: most such plans run for less time.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Aggregate, Distinct, Expr, FetchType, Limit, LogicalPlan, Projection, SkipType, Sort};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, create_physical_expr, create_physical_sort_exprs};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties};
use futures::StreamExt;

use super::bind::bind_operator;
use super::expand::expand_operator;

type Operator = Arc<dyn ExecutionPlan>;

/// The operators of a plan; `None` where it has a node that is not known here.
pub fn operators(plan: &LogicalPlan, state: &SessionState) -> DataFusionResult<Option<Operator>> {
    Plain {
        state,
        context: PhysicalPlanningContext::default(),
    }
    .operator(plan, None)
}

struct Plain<'a> {
    state: &'a SessionState,
    context: PhysicalPlanningContext,
}

impl Plain<'_> {
    /// The operator of a node, of which no more rows than `most` are taken.
    fn operator(&self, plan: &LogicalPlan, most: Option<usize>) -> DataFusionResult<Option<Operator>> {
        let below = match plan {
            LogicalPlan::EmptyRelation(empty) => {
                let schema = Arc::clone(empty.schema.inner());
                return Ok(Some(match empty.produce_one_row {
                    true => Arc::new(PlaceholderRowExec::new(schema)),
                    false => Arc::new(EmptyExec::new(schema)),
                }));
            }
            LogicalPlan::Limit(limit) => return self.limit(limit, most),
            LogicalPlan::Sort(sort) => return self.sort(sort, most),
            LogicalPlan::Projection(_) => most,
            _ => None,
        };
        let [input] = plan.inputs()[..] else { return Ok(None) };
        let Some(child) = self.operator(input, below)? else {
            return Ok(None);
        };
        Ok(Some(match plan {
            LogicalPlan::Projection(projection) => self.projection(projection, child)?,
            LogicalPlan::Filter(filter) => {
                let truth = self.expression(&filter.predicate, input.schema())?;
                let filter = FilterExecBuilder::new(truth, child).with_batch_size(self.state.config().batch_size());
                Arc::new(filter.with_fetch(most).build()?)
            }
            LogicalPlan::Distinct(Distinct::All(_)) => self.distinct(child)?,
            LogicalPlan::Aggregate(aggregate) => return self.aggregate(aggregate, child),
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_ref();
                return match bind_operator(node, &child, self.state)? {
                    Some(bind) => Ok(Some(bind)),
                    None => expand_operator(node, &[child], 1),
                };
            }
            _ => return Ok(None),
        }))
    }

    fn expression(&self, expr: &Expr, schema: &DFSchema) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
        create_physical_expr(expr, schema, self.state.execution_props(), &self.context)
    }

    fn limit(&self, limit: &Limit, most: Option<usize>) -> DataFusionResult<Option<Operator>> {
        let (SkipType::Literal(skip), FetchType::Literal(fetch)) = (limit.get_skip_type()?, limit.get_fetch_type()?) else {
            return Ok(None);
        };
        let fetch = fetch.into_iter().chain(most).min();
        if fetch == Some(0) {
            // A sort of the first none is a panic.
            return Ok(Some(Arc::new(EmptyExec::new(Arc::clone(limit.input.schema().inner())))));
        }
        self.cut(&limit.input, skip, fetch)
    }

    /// Some of a node's rows. Its columns are computed of no others.
    fn cut(&self, plan: &LogicalPlan, skip: usize, fetch: Option<usize>) -> DataFusionResult<Option<Operator>> {
        if let LogicalPlan::Projection(projection) = plan {
            let child = self.cut(&projection.input, skip, fetch)?;
            return child.map(|child| self.projection(projection, child)).transpose();
        }
        let child = self.operator(plan, fetch.and_then(|fetch| fetch.checked_add(skip)))?;
        Ok(child.map(|child| Arc::new(GlobalLimitExec::new(child, skip, fetch)) as Operator))
    }

    fn sort(&self, sort: &Sort, most: Option<usize>) -> DataFusionResult<Option<Operator>> {
        let Some(child) = self.operator(&sort.input, None)? else {
            return Ok(None);
        };
        let by = create_physical_sort_exprs(&sort.expr, sort.input.schema(), self.state.execution_props(), &self.context)?;
        let fetch = sort.fetch.into_iter().chain(most).min();
        Ok(LexOrdering::new(by).map(|by| Arc::new(SortExec::new(by, child).with_fetch(fetch)) as Operator))
    }

    fn projection(&self, projection: &Projection, child: Operator) -> DataFusionResult<Operator> {
        let columns = projection.expr.iter().map(|expr| self.expression(expr, projection.input.schema()));
        let columns = columns.collect::<DataFusionResult<Vec<_>>>()?;
        Ok(Arc::new(ColumnsExec::new(child, columns, Arc::clone(projection.schema.inner()))))
    }

    /// Each row once.
    fn distinct(&self, child: Operator) -> DataFusionResult<Operator> {
        let schema = child.schema();
        let columns = schema.fields().iter().enumerate();
        let groups = columns.map(|(i, field)| (Arc::new(Column::new(field.name(), i)) as _, field.name().clone()));
        let groups = PhysicalGroupBy::new_single(groups.collect());
        let distinct = AggregateExec::try_new(AggregateMode::Single, groups, Vec::new(), Vec::new(), child, schema)?;
        Ok(Arc::new(distinct))
    }

    /// Groups, and what is aggregated of each: in one go, since there is one thread.
    fn aggregate(&self, aggregate: &Aggregate, child: Operator) -> DataFusionResult<Option<Operator>> {
        if matches!(aggregate.group_expr[..], [Expr::GroupingSet(_)]) {
            return Ok(None);
        }
        let input = aggregate.input.schema();
        let named = aggregate.group_expr.iter().zip(aggregate.schema.fields());
        let groups = named.map(|(expr, field)| Ok((self.expression(expr, input)?, field.name().clone())));
        let groups = PhysicalGroupBy::new_single(groups.collect::<DataFusionResult<_>>()?);
        let schema = child.schema();
        let mut functions = Vec::with_capacity(aggregate.aggr_expr.len());
        let mut filters = Vec::with_capacity(aggregate.aggr_expr.len());
        for expr in &aggregate.aggr_expr {
            let function = LoweredAggregateBuilder::new(expr, input, &schema, self.state.execution_props(), &self.context).build()?;
            functions.push(function.aggregate);
            filters.push(function.filter);
        }
        Ok(Some(Arc::new(AggregateExec::try_new(
            AggregateMode::Single,
            groups,
            functions,
            filters,
            child,
            schema,
        )?)))
    }
}

/// A projection, of which nothing is known but its columns: what is equal or in order is of no use to plain plans, and takes long to find out.
struct ColumnsExec {
    input: Operator,
    columns: Arc<[Arc<dyn PhysicalExpr>]>,
    properties: Arc<PlanProperties>,
}

impl ColumnsExec {
    fn new(input: Operator, columns: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef) -> ColumnsExec {
        let below = input.properties();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(below.partitioning.partition_count()),
            below.emission_type,
            below.boundedness,
        );
        ColumnsExec {
            input,
            columns: columns.into(),
            properties: Arc::new(properties),
        }
    }
}

impl fmt::Debug for ColumnsExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.columns.iter()).finish()
    }
}

impl DisplayAs for ColumnsExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ColumnsExec: expr=[")?;
        for (i, (column, field)) in self.columns.iter().zip(self.schema().fields()).enumerate() {
            write!(f, "{}{column} as {}", if i > 0 { ", " } else { "" }, field.name())?;
        }
        write!(f, "]")
    }
}

impl ExecutionPlan for ColumnsExec {
    fn name(&self) -> &'static str {
        "ColumnsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Operator> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        let mut next = TreeNodeRecursion::Continue;
        for column in self.columns.iter() {
            next = next.visit_sibling(|| f(column))?;
        }
        Ok(next)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Operator>) -> DataFusionResult<Operator> {
        match (children.pop(), children.pop()) {
            (Some(input), None) => Ok(Arc::new(ColumnsExec {
                input,
                columns: Arc::clone(&self.columns),
                properties: Arc::clone(&self.properties),
            })),
            _ => Err(DataFusionError::Internal("ColumnsExec takes one input".to_owned())),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let (columns, schema) = (Arc::clone(&self.columns), self.schema());
        let batches = self.input.execute(partition, context)?.map(move |batch| {
            let batch = batch?;
            let rows = batch.num_rows();
            let values = columns.iter().map(|column| column.evaluate(&batch)?.into_array(rows));
            let values = values.collect::<DataFusionResult<Vec<_>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), values, &options)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}
