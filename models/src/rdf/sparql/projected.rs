//! Projections of plans whose columns have names of their own.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::DFSchema;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Projection};

use crate::error::Result;

/// The columns of a plan. What DataFusion's builder would find out about them (of which table each is, whether two have one name) is known: plans
/// of a query name each column once, and without a table.
pub fn projected(plan: LogicalPlan, columns: Vec<Expr>) -> Result<LogicalPlan> {
    let schema = plan.schema();
    if schema.iter().any(|(table, _)| table.is_some()) {
        return Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?);
    }
    let fields = columns
        .iter()
        .map(|column| field(column, schema))
        .collect::<DataFusionResult<Vec<_>>>()?;
    let schema = DFSchema::from_unqualified_fields(fields.into(), HashMap::new())?;
    Ok(LogicalPlan::Projection(Projection::try_new_with_schema(
        columns,
        Arc::new(plan),
        Arc::new(schema),
    )?))
}

fn field(column: &Expr, schema: &DFSchema) -> DataFusionResult<FieldRef> {
    match column {
        Expr::Column(column) => Ok(Arc::clone(schema.field_with_unqualified_name(&column.name)?)),
        Expr::Alias(alias) if alias.metadata.is_none() => Ok(Arc::new(field(&alias.expr, schema)?.as_ref().clone().with_name(&alias.name))),
        other => Ok(other.to_field(schema)?.1),
    }
}
