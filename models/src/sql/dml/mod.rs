//! INSERT, UPDATE, DELETE and MERGE, planned by ourselves: select the affected rows at the snapshot, then write them to the transaction.
//!
//! DataFusion's own hooks for DML lose filters (`IN (subquery)`, `WHERE false`), ignore LIMIT and run during planning; none of them is used.

mod conflict;
mod delete;
mod insert;
mod literal_rows;
mod merge;
mod returning;
mod row_check;
mod target;
mod update;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::{LogicalPlan, TableSource};
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{ObjectName as SqlName, Statement as SqlStatement};

pub(crate) use conflict::OnConflict;
pub(crate) use literal_rows::is_literal;
pub(crate) use row_check::RowCheck;
pub(crate) use target::default_exprs;

use super::context::Planner;
use super::name;
use crate::catalog::{DEFAULT_SCHEMA, TableDefinition};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::session::{OpenTransaction, Parameters, Reader};

/// What a DML statement did.
pub(crate) struct DmlOutcome {
    pub(crate) tag: &'static str,
    pub(crate) affected: u64,
    pub(crate) returned: Option<(SchemaRef, Vec<RecordBatch>)>,
}

/// One DML statement in a transaction.
pub(crate) struct Dml<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) state: &'a SessionState,
    pub(crate) transaction: &'a mut OpenTransaction,
    pub(crate) parameters: &'a Parameters,
}

impl<'a> Dml<'a> {
    pub(crate) fn new(
        engine: &'a Engine,
        state: &'a SessionState,
        transaction: &'a mut OpenTransaction,
        parameters: &'a Parameters,
    ) -> Dml<'a> {
        Dml {
            engine,
            state,
            transaction,
            parameters,
        }
    }

    /// Runs the statement.
    pub(crate) async fn run(mut self, statement: SqlStatement) -> Result<DmlOutcome> {
        match statement {
            SqlStatement::Insert(insert) => self.insert(insert).await,
            SqlStatement::Update(update) => self.update(update).await,
            SqlStatement::Delete(delete) => self.delete(delete).await,
            SqlStatement::Merge(merge) => self.merge(merge).await,
            other => Err(Error::unsupported(format!("{other} is not a supported write"))),
        }
    }

    /// The plan by which a writing statement selects its rows, without running anything: what EXPLAIN shows.
    pub(crate) async fn explain(mut self, statement: SqlStatement) -> Result<LogicalPlan> {
        match statement {
            SqlStatement::Insert(insert) => self.insert_plan(insert).await,
            SqlStatement::Update(update) => Ok(self.update_plan(&update).await?.plan),
            SqlStatement::Delete(delete) => Ok(self.delete_plan(&delete).await?.plan),
            SqlStatement::Merge(merge) => Ok(self.merge_plan(&merge).await?.plan),
            other => Err(Error::unsupported(format!("{other} cannot be explained"))),
        }
    }

    /// The table a statement writes.
    fn table(&self, sql_name: &SqlName) -> Result<Arc<TableDefinition>> {
        let name = name::resolve(sql_name, DEFAULT_SCHEMA)?;
        Ok(self.engine.catalog.snapshot()?.require_table(&name)?.1)
    }

    fn reader(&mut self) -> Result<Reader> {
        self.transaction.reader()
    }

    /// Plans a query in which `__target` stands for the table to write, hidden columns included; parameters are bound.
    async fn plan_over_target(&mut self, table: &TableDefinition, statement: DataFusionStatement) -> Result<LogicalPlan> {
        let reader = self.reader()?;
        let planner = self.planner(&reader)?;
        let own = HashMap::from([(super::template::TARGET.to_owned(), planner.target(table)?)]);
        let plan = planner.plan_with(statement, own).await?;
        crate::session::bind(plan, self.parameters)
    }

    async fn plan_with_own(&mut self, statement: DataFusionStatement, own: HashMap<String, Arc<dyn TableSource>>) -> Result<LogicalPlan> {
        let reader = self.reader()?;
        let plan = self.planner(&reader)?.plan_with(statement, own).await?;
        crate::session::bind(plan, self.parameters)
    }

    fn planner<'b>(&'b self, reader: &'b Reader) -> Result<Planner<'b>> {
        Ok(Planner {
            engine: self.engine,
            state: self.state,
            catalog: self.engine.catalog.snapshot()?,
            reader,
        })
    }

    async fn stream(&self, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
        let physical = self.state.create_physical_plan(plan).await?;
        Ok(execute_stream(physical, self.state.task_ctx())?)
    }

    /// Names the table and its key in a duplicate-key error.
    fn name_duplicate(table: &TableDefinition, error: Error) -> Error {
        if error.code != "23505" {
            return error;
        }
        // Storage knows the relation's number only; its message ends in the key's columns and values.
        let key = error.message.split(" in relation ").next().unwrap_or(&error.message).to_owned();
        Error {
            message: format!("{key} violates the primary key of {}", table.name),
            ..error
        }
        .with_hint("use ON CONFLICT DO UPDATE or DO NOTHING to write over or skip existing rows")
    }
}
