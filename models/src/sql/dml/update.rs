//! `UPDATE t SET … [FROM …] [WHERE …] [RETURNING …]`.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::logical_expr::{Expr as LogicalExpr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{Update, UpdateTableFromKind};
use futures::StreamExt;

use super::conflict::assigned_column;
use super::insert::{default_of, is_default};
use super::{Dml, DmlOutcome, RowCheck};
use crate::catalog::TableDefinition;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::template::{SelectTemplate, column, item, target_of};

/// How an UPDATE selects: old key columns first, then every column of the relation with its new value.
pub(super) struct UpdatePlan {
    pub(super) plan: LogicalPlan,
    table: Arc<TableDefinition>,
    alias: String,
    changes_key: bool,
    joined: bool,
}

impl Dml<'_> {
    pub(super) async fn update(&mut self, mut update: Update) -> Result<DmlOutcome> {
        let items = update.returning.take();
        let UpdatePlan {
            plan,
            table,
            alias,
            changes_key,
            joined,
        } = self.update_plan(&update).await?;
        let reader = self.reader()?;
        let check = RowCheck::new(&self.planner(&reader)?, &table)?;
        let mut returning = self.returning(items, &table, &alias);
        let mut stream = self.stream(&plan).await?;
        let mut seen = HashSet::new();
        // Rows whose keys move are kept until all old keys are gone: `SET id = id + 1` must not meet its own neighbours.
        let mut moved: Vec<RecordBatch> = Vec::new();
        let reservation = MemoryConsumer::new("UPDATE of key columns").register(&self.engine.runtime.memory_pool);
        let key_count = table.relation.key.len();
        let mut affected = 0;
        while let Some(batch) = stream.next().await {
            let mut batch = batch?;
            if joined {
                batch = self.first_of_each(&table, batch, &mut seen)?;
            }
            if batch.num_rows() == 0 {
                continue;
            }
            affected += batch.num_rows() as u64;
            let rows = check.finish(batch.columns()[key_count..].to_vec())?;
            if let Some(returning) = &mut returning {
                returning.add(&rows)?;
            }
            if changes_key {
                reservation.try_grow(rows.get_array_memory_size())?;
                let keys = RecordBatch::try_new(table.relation.key_schema(), batch.columns()[..key_count].to_vec())?;
                self.transaction.delete(table.relation.id, keys).await?;
                moved.push(rows);
            } else {
                self.transaction.put(table.relation.id, rows).await?;
            }
        }
        drop(stream);
        for rows in moved {
            self.insert_new(&table, rows).await?;
        }
        Ok(DmlOutcome {
            tag: "UPDATE",
            affected,
            returned: self.returned(returning).await?,
        })
    }

    pub(super) async fn update_plan(&mut self, update: &Update) -> Result<UpdatePlan> {
        if update.or.is_some() || update.limit.is_some() || !update.order_by.is_empty() || update.output.is_some() {
            return Err(Error::unsupported("UPDATE with OR, ORDER BY, LIMIT or OUTPUT is not supported")
                .with_hint("choose the rows in WHERE, for example by a subquery"));
        }
        if !update.table.joins.is_empty() {
            return Err(Error::unsupported("UPDATE of a join is not supported").with_hint("write UPDATE t SET … FROM other WHERE …"));
        }
        let (sql_name, alias) = target_of(&update.table.relation)?;
        let table = self.table(&sql_name)?;
        let fields = table.relation.schema.fields().clone();
        let mut values: Vec<_> = fields.iter().map(|field| column(&alias, field.name())).collect();
        let mut assigned = HashSet::new();
        for assignment in &update.assignments {
            let position = assigned_column(assignment, &table)?;
            if !assigned.insert(position) {
                return Err(Error::invalid("42601", format!("column {} is set twice", fields[position].name())));
            }
            values[position] = if is_default(&assignment.value) {
                default_of(&table, fields[position].name())?
            } else {
                assignment.value.clone()
            };
        }
        let mut template = SelectTemplate::target(&alias)?;
        let select = template.select()?;
        let keys = table
            .relation
            .key
            .iter()
            .enumerate()
            .map(|(i, &k)| item(column(&alias, fields[k].name()), format!("__key{i}")));
        let values = values.into_iter().enumerate().map(|(i, value)| item(value, format!("__new{i}")));
        select.projection = keys.chain(values).collect();
        if let Some(UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) = &update.from {
            select.from.extend(from.iter().cloned());
        }
        select.selection = update.selection.clone();
        let plan = self.plan_over_target(&table, template.into_statement()).await?;
        let plan = cast_values(plan, &table)?;
        let changes_key = table.relation.key.iter().any(|k| assigned.contains(k));
        Ok(UpdatePlan {
            plan,
            changes_key,
            joined: update.from.is_some(),
            table,
            alias,
        })
    }

    /// With FROM, a row may match several others: the first match stands, as in PostgreSQL.
    fn first_of_each(&mut self, table: &TableDefinition, batch: RecordBatch, seen: &mut HashSet<Box<[u8]>>) -> Result<RecordBatch> {
        let keys: Vec<ArrayRef> = batch.columns()[..table.relation.key.len()].to_vec();
        let views = self.transaction.views(table.relation.id)?;
        let first: BooleanArray = views.encode_keys(&keys)?.into_iter().map(|key| Some(seen.insert(key))).collect();
        if seen.len() > MAX_JOINED_ROWS {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                "53200",
                format!("UPDATE … FROM changes more than {MAX_JOINED_ROWS} rows"),
            )
            .with_hint("split it by a condition on the key"));
        }
        Ok(filter_record_batch(&batch, &first)?)
    }
}

/// Most rows that UPDATE … FROM changes: their keys are remembered, to change each once.
const MAX_JOINED_ROWS: usize = 10_000_000;

/// Casts the new values to their columns' types.
fn cast_values(plan: LogicalPlan, table: &TableDefinition) -> Result<LogicalPlan> {
    let key_count = table.relation.key.len();
    let schema = Arc::clone(plan.schema());
    let exprs = schema
        .columns()
        .into_iter()
        .enumerate()
        .map(|(i, column)| {
            let name = column.name.clone();
            let expr = LogicalExpr::Column(column);
            if i < key_count {
                return Ok(expr);
            }
            Ok(expr
                .cast_to(table.relation.schema.field(i - key_count).data_type(), &schema)?
                .alias(name))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}
