//! The operators of plain plans: those that look up, compute, filter, sort and cut in one order, by one thread.
//!
//! DataFusion's planner plans any plan, many parts of it at a time, and goes through what it has made again and again. A plain plan is a chain of
//! operators of which each is what its node says, and planning it counts: most such plans run for less time.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Aggregate, Expr, FetchType, Limit, LogicalPlan, Projection, SkipType, Sort};
use datafusion::physical_expr::{LexOrdering, create_physical_expr, create_physical_sort_exprs};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use super::bind::bind_operator;

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
            LogicalPlan::Aggregate(aggregate) if aggregate.aggr_expr.is_empty() => self.distinct(aggregate, child)?,
            LogicalPlan::Extension(extension) => return bind_operator(extension.node.as_ref(), &child, self.state),
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
        let child = self.operator(&limit.input, fetch.and_then(|fetch| fetch.checked_add(skip)))?;
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
        let named = projection.expr.iter().zip(projection.schema.fields());
        let columns = named.map(|(expr, field)| {
            Ok(ProjectionExpr {
                expr: self.expression(expr, projection.input.schema())?,
                alias: field.name().clone(),
            })
        });
        let columns = columns.collect::<DataFusionResult<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new_with_schema_metadata(
            columns,
            child,
            projection.schema.as_arrow(),
        )?))
    }

    /// Each combination of groups once.
    fn distinct(&self, aggregate: &Aggregate, child: Operator) -> DataFusionResult<Operator> {
        let named = aggregate.group_expr.iter().zip(aggregate.schema.fields());
        let groups = named.map(|(expr, field)| Ok((self.expression(expr, aggregate.input.schema())?, field.name().clone())));
        let groups = PhysicalGroupBy::new_single(groups.collect::<DataFusionResult<_>>()?);
        let schema = child.schema();
        Ok(Arc::new(AggregateExec::try_new(
            AggregateMode::Single,
            groups,
            Vec::new(),
            Vec::new(),
            child,
            schema,
        )?))
    }
}
