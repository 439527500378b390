//! `DELETE FROM t [USING …] [WHERE …] [RETURNING …]`.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Delete, FromTable, SelectItem};
use futures::StreamExt;

use super::{Dml, DmlOutcome};
use crate::catalog::TableDefinition;
use crate::error::{Error, Result};
use crate::sql::template::{SelectTemplate, column, item, target_of};

/// How a DELETE selects: key columns, then all columns if rows are returned.
pub(super) struct DeletePlan {
    pub(super) plan: LogicalPlan,
    table: Arc<TableDefinition>,
    alias: String,
}

impl Dml<'_> {
    pub(super) async fn delete(&mut self, delete: Delete) -> Result<DmlOutcome> {
        let DeletePlan { plan, table, alias } = self.delete_plan(&delete).await?;
        let mut returning = self.returning(delete.returning, &table, &alias);
        let key_count = table.relation.key.len();
        let mut stream = self.stream(&plan).await?;
        let mut affected = 0;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            if batch.num_rows() == 0 {
                continue;
            }
            let keys = RecordBatch::try_new(table.relation.key_schema(), batch.columns()[..key_count].to_vec())?;
            affected += self.transaction.delete(table.relation.id, keys).await?;
            if let Some(returning) = &mut returning {
                returning.add(&RecordBatch::try_new(
                    Arc::clone(&table.relation.schema),
                    batch.columns()[key_count..].to_vec(),
                )?)?;
            }
        }
        Ok(DmlOutcome {
            tag: "DELETE",
            affected,
            returned: self.returned(returning).await?,
        })
    }

    pub(super) async fn delete_plan(&mut self, delete: &Delete) -> Result<DeletePlan> {
        if delete.limit.is_some() || !delete.order_by.is_empty() || delete.output.is_some() || !delete.tables.is_empty() {
            return Err(
                Error::unsupported("DELETE with ORDER BY, LIMIT, OUTPUT or several tables is not supported")
                    .with_hint("choose the rows in WHERE, for example by a subquery"),
            );
        }
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
        let [from] = from.as_slice() else {
            return Err(Error::unsupported("DELETE from several tables is not supported"));
        };
        if !from.joins.is_empty() {
            return Err(Error::unsupported("DELETE from a join is not supported").with_hint("write DELETE FROM t USING other WHERE …"));
        }
        let (sql_name, alias) = target_of(&from.relation)?;
        let table = self.table(&sql_name)?;
        let fields = table.relation.schema.fields().clone();
        let keys = table
            .relation
            .key
            .iter()
            .enumerate()
            .map(|(i, &k)| item(column(&alias, fields[k].name()), format!("__key{i}")));
        let mut projection: Vec<SelectItem> = keys.collect();
        if delete.returning.is_some() {
            projection.extend(
                fields
                    .iter()
                    .enumerate()
                    .map(|(i, f)| item(column(&alias, f.name()), format!("__old{i}"))),
            );
        }
        let mut template = SelectTemplate::target(&alias)?;
        let select = template.select()?;
        select.projection = projection;
        select.from.extend(delete.using.iter().flatten().cloned());
        select.selection = delete.selection.clone();
        let plan = self.plan_over_target(&table, template.into_statement()).await?;
        Ok(DeletePlan { plan, table, alias })
    }
}
