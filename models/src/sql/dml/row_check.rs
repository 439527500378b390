//! Makes rows fit a relation: types, NOT NULL, CHECK.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use datafusion::physical_expr::PhysicalExpr;

use crate::catalog::TableDefinition;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::context::Planner;
use crate::sql::parse::parse_expression;

/// Slack that a view array may drag along before its strings are copied, in bytes.
const VIEW_SLACK: usize = 64 << 10;

/// View arrays that came from a filter keep the whole buffers of their source; what is written must hold only its own bytes.
fn own_bytes(column: ArrayRef) -> ArrayRef {
    let wasteful = |held: usize, used: usize| held > used.saturating_mul(2) + VIEW_SLACK;
    let held = |buffers: &[Buffer]| buffers.iter().map(Buffer::len).sum::<usize>();
    if let Some(views) = column.as_string_view_opt() {
        if wasteful(held(views.data_buffers()), views.total_buffer_bytes_used()) {
            return Arc::new(views.gc());
        }
    } else if let Some(views) = column.as_binary_view_opt()
        && wasteful(held(views.data_buffers()), views.total_buffer_bytes_used())
    {
        return Arc::new(views.gc());
    }
    column
}

/// The constraints of one table, ready to evaluate.
pub(crate) struct RowCheck {
    table: Arc<TableDefinition>,
    visible: SchemaRef,
    checks: Vec<(String, Arc<dyn PhysicalExpr>)>,
}

impl RowCheck {
    /// Plans the table's constraints.
    pub(crate) fn new(planner: &Planner<'_>, table: &Arc<TableDefinition>) -> Result<RowCheck> {
        let visible = table.visible_schema();
        let schema = DFSchema::try_from(visible.as_ref().clone())?;
        let mut checks = Vec::with_capacity(table.checks.len());
        for check in &table.checks {
            let expr = planner.plan_expr(parse_expression(&check.expression)?, &schema)?;
            checks.push((check.name.clone(), planner.state.create_physical_expr(expr, &schema)?));
        }
        Ok(RowCheck {
            table: Arc::clone(table),
            visible,
            checks,
        })
    }

    /// Columns of the table (hidden ones last, as given) as a batch of the relation; fails when a constraint does.
    pub(crate) fn finish(&self, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        let schema = &self.table.relation.schema;
        let mut out = Vec::with_capacity(columns.len());
        for (i, (column, field)) in columns.into_iter().zip(schema.fields()).enumerate() {
            let column = if column.data_type() == field.data_type() {
                column
            } else {
                cast_with_options(
                    &column,
                    field.data_type(),
                    &CastOptions {
                        safe: false,
                        ..Default::default()
                    },
                )?
            };
            let not_null = !field.is_nullable() || self.table.columns.get(i).is_some_and(|c| c.not_null);
            if not_null && column.logical_null_count() > 0 {
                return Err(Error::new(
                    ErrorKind::Constraint,
                    "23502",
                    format!(
                        "column {} of {} is NOT NULL, but a row has no value for it",
                        field.name(),
                        self.table.name
                    ),
                ));
            }
            out.push(own_bytes(column));
        }
        let batch = RecordBatch::try_new(Arc::clone(schema), out)?;
        self.evaluate_checks(&batch)?;
        Ok(batch)
    }

    fn evaluate_checks(&self, batch: &RecordBatch) -> Result<()> {
        if self.checks.is_empty() {
            return Ok(());
        }
        let columns = batch.columns()[..self.visible.fields().len()].to_vec();
        let visible = RecordBatch::try_new(Arc::clone(&self.visible), columns)?;
        for (name, check) in &self.checks {
            let holds = check.evaluate(&visible)?.into_array(visible.num_rows())?;
            // A check that is neither true nor false (null) holds, as the standard says.
            if holds.as_boolean().iter().any(|value| value == Some(false)) {
                return Err(Error::new(
                    ErrorKind::Constraint,
                    "23514",
                    format!("a row violates the check {name} of {}", self.table.name),
                ));
            }
        }
        Ok(())
    }
}
