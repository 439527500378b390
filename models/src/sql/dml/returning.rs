//! `RETURNING`: the written rows, kept while the statement runs, as a table that a SELECT of the returned expressions reads.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::common::collect;
use datafusion::sql::sqlparser::ast::{Delete, FromTable, Insert, SelectItem, Statement as SqlStatement, TableObject, Update};

use super::Dml;
use crate::catalog::TableDefinition;
use crate::error::Result;
use crate::sql::name::{self, quote};
use crate::sql::template::{SelectTemplate, target_of};

const RETURNED: &str = "__returned";

/// Rows to return. Their memory counts as the query's.
pub(crate) struct Returning {
    items: Vec<SelectItem>,
    alias: String,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    reservation: MemoryReservation,
}

impl Dml<'_> {
    /// Collects rows if the statement returns any.
    pub(super) fn returning(&self, items: Option<Vec<SelectItem>>, table: &TableDefinition, alias: &str) -> Option<Returning> {
        items.map(|items| Returning {
            items,
            alias: alias.to_owned(),
            schema: table.visible_schema(),
            batches: Vec::new(),
            reservation: MemoryConsumer::new("RETURNING").register(&self.engine.runtime.memory_pool),
        })
    }

    /// The columns that a statement's RETURNING gives, without running it; `None` where there is none.
    pub(crate) async fn returned_schema(mut self, statement: SqlStatement) -> Result<Option<SchemaRef>> {
        let (items, (sql_name, alias)) = match statement {
            SqlStatement::Insert(Insert {
                returning: Some(items),
                table: TableObject::TableName(sql_name),
                table_alias,
                ..
            }) => {
                let alias = match &table_alias {
                    Some(alias) => name::fold(&alias.alias),
                    None => name::last_part(&sql_name)?,
                };
                (items, (sql_name, alias))
            }
            SqlStatement::Update(Update {
                returning: Some(items),
                table,
                ..
            }) => (items, target_of(&table.relation)?),
            SqlStatement::Delete(Delete {
                returning: Some(items),
                from,
                ..
            }) => {
                let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &from;
                match from.first() {
                    Some(from) => (items, target_of(&from.relation)?),
                    None => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        let table = self.table(&sql_name)?;
        let returning = self.returning(Some(items), &table, &alias);
        match returning {
            Some(returning) => Ok(Some(Arc::new(self.returning_plan(returning).await?.schema().as_arrow().clone()))),
            None => Ok(None),
        }
    }

    async fn returning_plan(&mut self, returning: Returning) -> Result<LogicalPlan> {
        let mut template = SelectTemplate::new(&format!("{RETURNED} AS {}", quote(&returning.alias)))?;
        template.select()?.projection = returning.items;
        let table = MemTable::try_new(returning.schema, vec![returning.batches])?;
        let own = HashMap::from([(RETURNED.to_owned(), provider_as_source(Arc::new(table)))]);
        self.plan_with_own(template.into_statement(), own).await
    }

    /// Evaluates the returned expressions.
    pub(super) async fn returned(&mut self, returning: Option<Returning>) -> Result<Option<(SchemaRef, Vec<RecordBatch>)>> {
        let Some(returning) = returning else { return Ok(None) };
        let plan = self.returning_plan(returning).await?;
        let stream = self.stream(&plan).await?;
        let schema = stream.schema();
        Ok(Some((schema, collect(stream).await?)))
    }
}

impl Returning {
    /// Keeps rows of the relation.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        self.reservation.try_grow(batch.get_array_memory_size())?;
        let columns = batch.columns()[..self.schema.fields().len()].to_vec();
        self.batches.push(RecordBatch::try_new(Arc::clone(&self.schema), columns)?);
        Ok(())
    }
}
