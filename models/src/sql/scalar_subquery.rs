//! A scalar subquery without a row is null, whatever its column says: DataFusion takes over a column's NOT NULL, and fails when the null comes.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::error::Result;

/// Lets the scalar subqueries of a fresh plan be null.
pub(crate) fn allow_nulls(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|plan| {
        plan.map_expressions(|expr| {
            expr.transform_up(|expr| match expr {
                Expr::ScalarSubquery(mut subquery) if may_be_empty(&subquery.subquery) => {
                    // Its name is the column's, in the subquery's place only: inside, the planner may add the column itself.
                    let name = subquery.subquery.schema().field(0).name().clone();
                    subquery.subquery = Arc::new(nullable(&subquery.subquery)?);
                    Ok(Transformed::yes(Expr::ScalarSubquery(subquery).alias(name)))
                }
                expr => Ok(Transformed::no(expr)),
            })
        })
    })?;
    Ok(plan.data)
}

/// Whether a query over a NOT NULL column can give no row.
fn may_be_empty(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) if !gives_null(plan) => may_be_empty(&projection.input),
        LogicalPlan::SubqueryAlias(alias) if !gives_null(plan) => may_be_empty(&alias.input),
        // An aggregate of all rows gives one row always.
        LogicalPlan::Aggregate(aggregate) => !gives_null(plan) && !aggregate.group_expr.is_empty(),
        plan => !gives_null(plan),
    }
}

fn gives_null(plan: &LogicalPlan) -> bool {
    plan.schema().fields().first().is_none_or(|field| field.is_nullable())
}

fn nullable(plan: &LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let columns: Vec<Expr> = plan
        .schema()
        .columns()
        .into_iter()
        .map(|column| ScalarUDF::from(OrNull::new()).call(vec![Expr::Column(column)]))
        .collect();
    LogicalPlanBuilder::from(plan.clone()).project(columns)?.build()
}

/// The function that [`allow_nulls`] puts into plans: who gets a plan from elsewhere must know it.
pub(crate) fn function() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(OrNull::new()))
}

/// A function that gives its argument, of which nobody knows that it is not null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OrNull {
    signature: Signature,
}

impl OrNull {
    fn new() -> OrNull {
        OrNull {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for OrNull {
    fn name(&self) -> &str {
        "or_null"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let field: &Field = &args.arg_fields[0];
        Ok(Arc::new(field.clone().with_nullable(true)))
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        Ok(args.args.remove(0))
    }
}
