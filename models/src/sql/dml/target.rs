//! The target of an INSERT as the planner sees it: visible columns and their defaults.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, TableSource};

use crate::catalog::TableDefinition;
use crate::error::Result;
use crate::sql::context::Planner;
use crate::sql::parse::parse_expression;

/// A table source that is never read: it gives column types and defaults.
#[derive(Debug)]
pub(crate) struct InsertTarget {
    schema: SchemaRef,
    defaults: HashMap<String, Expr>,
}

impl InsertTarget {
    pub(crate) fn source(planner: &Planner<'_>, table: &TableDefinition) -> Result<Arc<dyn TableSource>> {
        // Nullable all: a null where none may be is found by the row check, which says so in its own words.
        let visible = table.visible_schema();
        let fields: Vec<_> = visible.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        Ok(Arc::new(InsertTarget {
            schema: Arc::new(Schema::new(fields)),
            defaults: default_exprs(planner, table)?,
        }))
    }
}

impl TableSource for InsertTarget {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.defaults.get(column)
    }
}

/// Default values by column.
pub(crate) fn default_exprs(planner: &Planner<'_>, table: &TableDefinition) -> Result<HashMap<String, Expr>> {
    let mut defaults = HashMap::new();
    for (definition, field) in table.columns.iter().zip(table.relation.schema.fields()) {
        if let Some(text) = &definition.default {
            defaults.insert(
                field.name().clone(),
                planner.plan_expr(parse_expression(text)?, &DFSchema::empty())?,
            );
        }
    }
    Ok(defaults)
}
