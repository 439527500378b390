//! `INSERT … VALUES | SELECT | DEFAULT VALUES`, with `ON CONFLICT` and `RETURNING`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{Expr, Ident, Insert, ObjectName, SetExpr, Statement as SqlStatement, TableObject};
use futures::StreamExt;

use super::conflict::OnConflict;
use super::literal_rows::LiteralRows;
use super::returning::Returning;
use super::target::InsertTarget;
use super::{Dml, DmlOutcome, RowCheck, default_exprs};
use crate::catalog::{CollectionKind, TableDefinition};
use crate::error::{Error, Result};
use crate::kv;
use crate::sql::parse::parse_expression;
use crate::sql::{name, template};

impl Dml<'_> {
    pub(super) async fn insert(&mut self, mut insert: Insert) -> Result<DmlOutcome> {
        let (table, alias) = self.insert_target(&insert)?;
        let on = insert.on.take();
        let returning = insert.returning.take();
        let plan = self.insert_source(&table, insert).await?;

        let reader = self.reader()?;
        let planner = self.planner(&reader)?;
        let check = RowCheck::new(&planner, &table)?;
        let on = OnConflict::new(&planner, &table, &alias, on, self.parameters)?;
        let mut returning = self.returning(returning, &table, &alias);
        let mut stream = self.stream(&plan).await?;
        let mut affected = 0;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            if batch.num_rows() > 0 {
                affected += self
                    .insert_batch(&table, &check, &on, batch.columns().to_vec(), returning.as_mut())
                    .await?;
            }
        }
        Ok(DmlOutcome {
            tag: "INSERT",
            affected,
            returned: self.returned(returning).await?,
        })
    }

    /// Runs an INSERT of literals and parameters without a plan; `None` where it needs one.
    pub(crate) async fn insert_literals(&mut self, insert: &Insert) -> Result<Option<DmlOutcome>> {
        let (table, _) = self.insert_target(insert)?;
        let reader = self.reader()?;
        let planner = self.planner(&reader)?;
        let Some(rows) = LiteralRows::new(&planner, &table, insert)? else {
            return Ok(None);
        };
        let Some(columns) = rows.columns(self.parameters)? else {
            return Ok(None);
        };
        let check = RowCheck::new(&planner, &table)?;
        Ok(Some(DmlOutcome {
            tag: "INSERT",
            affected: self.insert_batch(&table, &check, &OnConflict::Fail, columns, None).await?,
            returned: None,
        }))
    }

    /// The parameters of an INSERT of literals and parameters; `None` where it needs a plan.
    pub(crate) fn literal_parameters(&mut self, insert: &Insert) -> Result<Option<BTreeMap<String, FieldRef>>> {
        let (table, _) = self.insert_target(insert)?;
        let reader = self.reader()?;
        let planner = self.planner(&reader)?;
        Ok(LiteralRows::new(&planner, &table, insert)?.map(|rows| rows.parameters()))
    }

    /// The plan of the rows to insert, for EXPLAIN.
    pub(super) async fn insert_plan(&mut self, mut insert: Insert) -> Result<LogicalPlan> {
        let (table, _) = self.insert_target(&insert)?;
        insert.on = None;
        insert.returning = None;
        self.insert_source(&table, insert).await
    }

    fn insert_target(&self, insert: &Insert) -> Result<(Arc<TableDefinition>, String)> {
        let unsupported = insert.or.is_some()
            || insert.ignore
            || insert.overwrite
            || insert.replace_into
            || insert.partitioned.is_some()
            || !insert.assignments.is_empty()
            || insert.output.is_some()
            || insert.multi_table_insert_type.is_some();
        if unsupported {
            return Err(Error::unsupported("this form of INSERT is not supported")
                .with_hint("use INSERT INTO … VALUES or SELECT, with ON CONFLICT"));
        }
        let TableObject::TableName(sql_name) = &insert.table else {
            return Err(Error::invalid("42809", "INSERT needs a table's name"));
        };
        let alias = match &insert.table_alias {
            Some(alias) => name::fold(&alias.alias),
            None => name::last_part(sql_name)?,
        };
        Ok((self.table(sql_name)?, alias))
    }

    /// Plans the rows: one column for each visible column of the table, defaults filled in, values cast.
    async fn insert_source(&mut self, table: &TableDefinition, mut insert: Insert) -> Result<LogicalPlan> {
        if insert.source.is_none() {
            return self.default_row(table);
        }
        replace_default_keywords(table, &mut insert)?;
        insert.table = TableObject::TableName(ObjectName::from(vec![Ident::new(template::TARGET)]));
        insert.table_alias = None;
        let reader = self.reader()?;
        let own = HashMap::from([(template::TARGET.to_owned(), InsertTarget::source(&self.planner(&reader)?, table)?)]);
        let statement = DataFusionStatement::Statement(Box::new(SqlStatement::Insert(insert)));
        match self.plan_with_own(statement, own).await? {
            LogicalPlan::Dml(dml) => Ok(Arc::unwrap_or_clone(dml.input)),
            _ => Err(Error::internal("INSERT was not planned as DML")),
        }
    }

    /// `INSERT INTO t DEFAULT VALUES`.
    fn default_row(&mut self, table: &TableDefinition) -> Result<LogicalPlan> {
        let reader = self.reader()?;
        let mut defaults = default_exprs(&self.planner(&reader)?, table)?;
        let exprs = table
            .visible_schema()
            .fields()
            .iter()
            .map(|field| {
                let null = datafusion::prelude::lit(datafusion::scalar::ScalarValue::Null);
                let expr = defaults.remove(field.name()).unwrap_or(null);
                Ok(expr.cast_to(field.data_type(), &DFSchema::empty())?.alias(field.name()))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(LogicalPlanBuilder::empty(true).project(exprs)?.build()?)
    }

    /// Checks and writes one batch of visible columns; how many rows were written.
    pub(crate) async fn insert_batch(
        &mut self,
        table: &Arc<TableDefinition>,
        check: &RowCheck,
        on: &OnConflict,
        mut columns: Vec<ArrayRef>,
        returning: Option<&mut Returning>,
    ) -> Result<u64> {
        if table.hidden_key {
            let count = columns.first().map_or(0, |c| c.len()) as u64;
            let first = self.engine.row_ids.take(table.relation.id, count).await?;
            columns.push(Arc::new(UInt64Array::from_iter_values(first..first + count)));
        }
        let batch = check.finish(columns)?;
        if table.kind == CollectionKind::KeyValue {
            kv::delete_expired(self.transaction, table, &batch, self.engine.node.now().millis()).await?;
        }
        match on {
            OnConflict::Fail => {
                self.insert_new(table, batch.clone()).await?;
                if let Some(returning) = returning {
                    returning.add(&batch)?;
                }
                Ok(batch.num_rows() as u64)
            }
            on => {
                let (new, changed) = on.split(self, table, check, batch).await?;
                let mut written = 0;
                let mut kept = Vec::new();
                if let Some(new) = new {
                    written += new.num_rows() as u64;
                    kept.push(new.clone());
                    self.insert_new(table, new).await?;
                }
                if let Some(changed) = changed {
                    written += changed.num_rows() as u64;
                    kept.push(changed.clone());
                    self.transaction.put(table.relation.id, changed).await?;
                }
                if let Some(returning) = returning {
                    kept.iter().try_for_each(|batch| returning.add(batch))?;
                }
                Ok(written)
            }
        }
    }

    /// Adds rows whose keys must be new.
    pub(super) async fn insert_new(&mut self, table: &TableDefinition, batch: RecordBatch) -> Result<()> {
        self.transaction
            .insert(table.relation.id, batch)
            .await
            .map_err(|error| Self::name_duplicate(table, error))
    }
}

/// Puts a column's default in place of the word DEFAULT in VALUES.
fn replace_default_keywords(table: &TableDefinition, insert: &mut Insert) -> Result<()> {
    let schema = table.visible_schema();
    let columns = if insert.columns.is_empty() {
        schema.fields().iter().map(|f| f.name().clone()).collect()
    } else {
        insert.columns.iter().map(name::last_part).collect::<Result<Vec<_>>>()?
    };
    let Some(source) = &mut insert.source else { return Ok(()) };
    let SetExpr::Values(values) = source.body.as_mut() else {
        return Ok(());
    };
    for row in &mut values.rows {
        for (value, column) in row.content.iter_mut().zip(&columns) {
            if is_default(value) {
                *value = default_of(table, column)?;
            }
        }
    }
    Ok(())
}

/// Whether an expression is the bare word DEFAULT.
pub(super) fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

/// A column's default as an expression, NULL where it has none.
pub(super) fn default_of(table: &TableDefinition, column: &str) -> Result<Expr> {
    let position = table.relation.schema.fields().iter().position(|f| f.name() == column);
    let text = position.and_then(|i| table.columns.get(i)).and_then(|c| c.default.as_deref());
    parse_expression(text.unwrap_or("NULL"))
}
