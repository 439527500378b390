//! Running one statement: which part of the house it goes to, in which transaction, under which time limit.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ParamValues};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, Statement as SqlStatement, TransactionIsolationLevel, TransactionMode, Value, visit_expressions,
};
use pyralog_consensus::{Done, Request};
use pyralog_storage::RelationId;
use tokio::time::Instant;

use super::result::{Deadline, timed_out};
use super::settings::ReadConsistency;
use super::{Isolation, OpenTransaction, Parameters, QueryResult, Reader, Session, done, rows};
use crate::distributed::{Attempt, Distributed, DistributedPlan};
use crate::error::{Error, ErrorKind, Result};
use crate::request;
use crate::sql::context::Planner;
use crate::sql::dml::{Dml, DmlOutcome, is_literal};
use crate::sql::parse::{Statement, parse_one};
use crate::sql::{call, ddl, explain, name, show};
use crate::{copy, external};

/// How often a statement outside a transaction is run again after a write conflict, before the conflict is reported.
pub(super) const CONFLICT_RETRIES: u32 = 16;

/// Whether a statement looks at definitions or rows. `SHOW CLUSTER` and the settings do not: they must be told without a majority, too.
pub(super) fn reads(statement: &Statement) -> bool {
    let Statement::Sql(statement) = statement else { return true };
    match statement.as_ref() {
        DataFusionStatement::Statement(statement) => !matches!(
            statement.as_ref(),
            SqlStatement::StartTransaction { .. }
                | SqlStatement::Commit { .. }
                | SqlStatement::Rollback { .. }
                | SqlStatement::Savepoint { .. }
                | SqlStatement::ReleaseSavepoint { .. }
                | SqlStatement::Set(_)
                | SqlStatement::ShowVariable { .. }
        ),
        DataFusionStatement::Reset(_) => false,
        _ => true,
    }
}

/// Whether a statement only looks.
fn only_looks(statement: &Statement) -> bool {
    let Statement::Sql(statement) = statement else {
        return matches!(statement, Statement::ShowCollections);
    };
    match statement.as_ref() {
        DataFusionStatement::Statement(statement) => {
            matches!(statement.as_ref(), SqlStatement::Query(_) | SqlStatement::StartTransaction { .. })
                || matches!(statement.as_ref(), SqlStatement::Call(function) if call::only_reads(function))
        }
        DataFusionStatement::Explain(_) => true,
        _ => false,
    }
}

impl Session {
    /// Whether a statement is content with what this node has.
    pub(super) fn is_local(&self, statement: &Statement) -> bool {
        self.reads_locally() && only_looks(statement)
    }

    pub(super) fn reads_locally(&self) -> bool {
        self.inner.settings.read().read_consistency == ReadConsistency::Local
    }

    /// Waits until what a query reads is fresh, if the session wants it so.
    pub(crate) async fn fresh_to_read(&self) -> Result<()> {
        match self.reads_locally() {
            true => Ok(()),
            false => self.fresh().await,
        }
    }

    /// Waits until what a statement reads is fresh.
    async fn fresh(&self) -> Result<()> {
        match self.in_transaction() {
            // Its rows are those of its snapshot.
            true => self.engine().fresh_catalog().await,
            false => self.engine().fresh().await,
        }
    }

    /// How long a statement may take.
    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        self.inner.settings.read().statement_timeout
    }

    pub(super) async fn execute_text(&self, sql: &str, parameters: Parameters) -> Result<QueryResult> {
        let started = Instant::now();
        let statement = parse_one(sql)?;
        let limit = self.statement_timeout();
        let Some(limit) = limit else {
            return self.run(statement, &parameters).await;
        };
        let mut result = match tokio::time::timeout_at(started + limit, self.run(statement, &parameters)).await {
            Ok(result) => result?,
            Err(_) => return Err(timed_out(limit)),
        };
        result.stream = Deadline::wrap(result.stream, started, limit);
        Ok(result)
    }

    async fn run(&self, statement: Statement, parameters: &Parameters) -> Result<QueryResult> {
        check_bound(&statement, parameters)?;
        if reads(&statement) && !self.is_local(&statement) {
            self.fresh().await?;
        }
        match statement {
            Statement::Sql(statement) => self.run_sql(*statement, parameters).await,
            Statement::CreateCollection { name, kind, if_not_exists } => ddl::create_collection(self, &name, &kind, if_not_exists).await,
            Statement::DropCollection { name, if_exists } => ddl::drop_collection(self, &name, if_exists).await,
            Statement::ShowCollections => show::collections(self).await,
            Statement::Checkpoint => {
                for partition in self.engine().node.partitions() {
                    partition.checkpoint().await?;
                }
                Ok(done("CHECKPOINT", None))
            }
            Statement::Compact(collection) => {
                let relations: Vec<Option<RelationId>> = match collection {
                    Some(collection) => {
                        let name = name::resolve(&collection, crate::catalog::DEFAULT_SCHEMA)?;
                        let catalog = self.engine().catalog.snapshot()?;
                        match catalog.require(&name)?.object.relations() {
                            none if none.is_empty() => return Err(Error::invalid("42809", format!("{name} has no rows of its own"))),
                            relations => relations.into_iter().map(|relation| Some(relation.id)).collect(),
                        }
                    }
                    None => vec![None],
                };
                for partition in self.engine().node.partitions() {
                    for relation in &relations {
                        partition.compact(*relation).await?;
                    }
                }
                Ok(done("COMPACT", None))
            }
        }
    }

    async fn run_sql(&self, statement: DataFusionStatement, parameters: &Parameters) -> Result<QueryResult> {
        match statement {
            DataFusionStatement::Statement(statement) => self.run_statement(*statement, parameters).await,
            DataFusionStatement::CreateExternalTable(create) => external::create(self, create).await,
            DataFusionStatement::CopyTo(copy) => copy::copy_to(self, copy).await,
            DataFusionStatement::Explain(explain) => explain::run(self, explain, parameters).await,
            DataFusionStatement::Reset(datafusion::sql::parser::ResetStatement::Variable(variable)) => {
                super::settings::reset(self, &variable.to_string())?;
                Ok(done("RESET", None))
            }
        }
    }

    async fn run_statement(&self, statement: SqlStatement, parameters: &Parameters) -> Result<QueryResult> {
        match statement {
            SqlStatement::Query(_) => self.query(statement, parameters).await,
            SqlStatement::Insert(_) | SqlStatement::Update(_) | SqlStatement::Delete(_) | SqlStatement::Merge(_) => {
                self.write(statement, parameters).await
            }
            SqlStatement::Truncate(truncate) => ddl::truncate(self, truncate).await,
            SqlStatement::StartTransaction { modes, .. } => {
                self.begin_at(isolation_of(&modes)?.unwrap_or_else(|| self.isolation())).await?;
                Ok(done("BEGIN", None))
            }
            SqlStatement::Commit { chain: false, .. } => {
                self.commit().await?;
                Ok(done("COMMIT", None))
            }
            SqlStatement::Rollback { chain: false, savepoint } => self.rollback_statement(savepoint.as_ref().map(name::fold)).await,
            SqlStatement::Savepoint { name } => {
                self.open_transaction()
                    .await?
                    .as_mut()
                    .ok_or_else(super::no_transaction)?
                    .savepoint(name::fold(&name))?;
                Ok(done("SAVEPOINT", None))
            }
            SqlStatement::ReleaseSavepoint { name } => {
                self.open_transaction()
                    .await?
                    .as_mut()
                    .ok_or_else(super::no_transaction)?
                    .release(&name::fold(&name))?;
                Ok(done("RELEASE", None))
            }
            SqlStatement::Call(function) => call::run(self, &function, parameters).await,
            SqlStatement::Copy { .. } => copy::copy_from(self, statement).await,
            other => match show::run(self, &other)? {
                Some(result) => Ok(result),
                None => ddl::run(self, other).await,
            },
        }
    }

    async fn open_transaction(&self) -> Result<tokio::sync::MutexGuard<'_, Option<OpenTransaction>>> {
        let open = self.inner.transaction.lock().await;
        if open.is_none() { Err(super::no_transaction()) } else { Ok(open) }
    }

    async fn rollback_statement(&self, savepoint: Option<String>) -> Result<QueryResult> {
        match savepoint {
            None => self.rollback().await?,
            Some(name) => {
                self.open_transaction()
                    .await?
                    .as_mut()
                    .ok_or_else(super::no_transaction)?
                    .rollback_to(&name)
                    .await?
            }
        }
        Ok(done("ROLLBACK", None))
    }

    /// What a statement reads now: the open transaction's view, or the newest snapshot.
    pub(crate) async fn reader(&self) -> Result<Reader> {
        match self.inner.transaction.lock().await.as_mut() {
            Some(transaction) => transaction.reader(),
            None => Reader::newest(self.engine()).await,
        }
    }

    /// Plans a query at the present state, which is given too.
    pub(crate) async fn plan_query(&self, statement: SqlStatement, parameters: &Parameters) -> Result<(SessionState, LogicalPlan, Reader)> {
        let state = self.statement_state();
        let reader = self.reader().await?;
        let catalog = self.engine().catalog.snapshot()?;
        let planner = Planner {
            engine: self.engine(),
            state: &state,
            catalog,
            reader: &reader,
        };
        let plan = planner.plan(DataFusionStatement::Statement(Box::new(statement))).await?;
        let plan = bind(plan, parameters)?;
        Ok((state, plan, reader))
    }

    async fn query(&self, statement: SqlStatement, parameters: &Parameters) -> Result<QueryResult> {
        let (state, plan, reader) = self.plan_query(statement, parameters).await?;
        self.run_query(&state, &plan, &reader).await
    }

    /// As [`run_plan`], on several nodes where that is worth while. `reader`: what the plan reads.
    pub(crate) async fn run_query(&self, state: &SessionState, plan: &LogicalPlan, reader: &Reader) -> Result<QueryResult> {
        let local = state.create_physical_plan(plan).await?;
        let stream = match self.distribute(state, plan, &local, reader).await {
            Some((distributed, plan)) => distributed.run(plan, local, state.task_ctx())?,
            None => execute_stream(local, state.task_ctx())?,
        };
        Ok(QueryResult {
            schema: stream.schema(),
            tag: "SELECT",
            affected: None,
            stream,
        })
    }

    /// A plan of the same query for several nodes, and what runs it; `None`: this node runs it.
    pub(crate) async fn distribute(
        &self,
        state: &SessionState,
        logical: &LogicalPlan,
        local: &Arc<dyn ExecutionPlan>,
        reader: &Reader,
    ) -> Option<(&Distributed, DistributedPlan)> {
        let distributed = self.engine().distributed.get()?;
        let mode = self.inner.settings.read().distributed;
        let attempt = Attempt {
            state,
            logical,
            local,
            reader,
            mode,
        };
        let plan = distributed.plan(&attempt).await?;
        Some((distributed, plan))
    }

    /// Runs a writing statement in the open transaction, or in one of its own that is retried on conflict.
    async fn write(&self, statement: SqlStatement, parameters: &Parameters) -> Result<QueryResult> {
        let mut open = self.inner.transaction.lock().await;
        if let Some(transaction) = open.as_mut() {
            return Ok(outcome(self.write_in(transaction, &statement, parameters).await?));
        }
        drop(open);
        let part = request::next_part();
        let result = self.write_alone(&statement, parameters, part).await;
        let told = |done| told_again(&statement, done);
        Ok(outcome(request::outcome(self.engine(), part, result, told).await?))
    }

    /// A writing statement in a transaction of its own.
    async fn write_alone(&self, statement: &SqlStatement, parameters: &Parameters, part: Option<Request>) -> Result<DmlOutcome> {
        let mut attempt = 0;
        loop {
            if attempt > 0 {
                // What it lost against must be seen before it is tried again.
                self.engine().fresh_rows().await?;
            }
            let mut transaction = OpenTransaction::begin(self.engine(), self.isolation()).await?;
            let result = match self.write_once(&mut transaction, statement, parameters).await {
                Ok(result) => {
                    transaction.name(part, result.affected);
                    transaction.commit(self.engine()).await.map(|()| result)
                }
                Err(error) => Err(error),
            };
            match result {
                Err(error) if error.kind == ErrorKind::Conflict && attempt < CONFLICT_RETRIES => {
                    attempt += 1;
                    pause(attempt).await;
                }
                result => return result,
            }
        }
    }

    /// One statement of a transaction: all of it, or nothing.
    async fn write_in(&self, transaction: &mut OpenTransaction, statement: &SqlStatement, parameters: &Parameters) -> Result<DmlOutcome> {
        let before = transaction.mark()?;
        match self.write_once(transaction, statement, parameters).await {
            Ok(outcome) => Ok(outcome),
            Err(error) => {
                transaction.back_to(before).await?;
                Err(error)
            }
        }
    }

    async fn write_once(&self, transaction: &mut OpenTransaction, statement: &SqlStatement, parameters: &Parameters) -> Result<DmlOutcome> {
        if let SqlStatement::Insert(insert) = statement
            && is_literal(insert)
        {
            let state = self.shared_state();
            let mut dml = Dml::new(self.engine(), &state, transaction, parameters);
            if let Some(outcome) = dml.insert_literals(insert).await? {
                return Ok(outcome);
            }
        }
        let state = self.statement_state();
        Dml::new(self.engine(), &state, transaction, parameters)
            .run(statement.clone())
            .await
    }
}

/// Growing pauses let the others through; the spread comes from who began when.
pub(super) async fn pause(attempt: u32) {
    tokio::time::sleep(Duration::from_micros(200 << attempt.min(8))).await;
}

/// The outcome of a statement that an earlier try of the same request has carried out.
fn told_again(statement: &SqlStatement, done: Done) -> Result<DmlOutcome> {
    let (tag, returning) = match statement {
        SqlStatement::Insert(insert) => ("INSERT", insert.returning.is_some()),
        SqlStatement::Update(update) => ("UPDATE", update.returning.is_some()),
        SqlStatement::Delete(delete) => ("DELETE", delete.returning.is_some()),
        _ => ("MERGE", false),
    };
    if returning {
        return Err(Error::new(
            ErrorKind::Unavailable,
            "40003",
            format!(
                "an earlier try of this statement has changed {} rows; what it returned is gone",
                done.rows
            ),
        )
        .with_hint("read the rows instead of writing them again"));
    }
    Ok(DmlOutcome {
        tag,
        affected: done.rows,
        returned: None,
    })
}

fn outcome(outcome: DmlOutcome) -> QueryResult {
    match outcome.returned {
        Some((schema, batches)) => rows(outcome.tag, schema, batches, Some(outcome.affected)),
        None => done(outcome.tag, Some(outcome.affected)),
    }
}

/// Refuses values that are too few or too many for the statement's parameters. A name that the statement does not have is no harm: values by
/// name may be shared by several statements.
fn check_bound(statement: &Statement, parameters: &Parameters) -> Result<()> {
    let unbound = |name: &str| Error::invalid("07001", format!("no value is bound to parameter {name}"));
    match parameters {
        Parameters::None | Parameters::Open => Ok(()),
        Parameters::Named(values) => {
            let names = parameter_names(statement);
            let missing = names
                .iter()
                .find(|name| !values.iter().any(|(given, _)| name.strip_prefix('$') == Some(given)));
            missing.map_or(Ok(()), |name| Err(unbound(name)))
        }
        Parameters::Positional(values) => {
            let mut wanted = 0;
            for name in parameter_names(statement) {
                match name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok()) {
                    Some(number) => wanted = wanted.max(number),
                    None => return Err(unbound(&name).with_hint("values are given by position; give them by name")),
                }
            }
            match values.len() {
                given if given == wanted => Ok(()),
                given => Err(Error::invalid(
                    "07001",
                    format!("the statement has {wanted} parameters, but {given} values are bound"),
                )),
            }
        }
    }
}

/// Names of the parameters that the statement's text has.
fn parameter_names(statement: &Statement) -> BTreeSet<String> {
    let mut inner = match statement {
        Statement::Sql(statement) => Some(statement.as_ref()),
        _ => None,
    };
    while let Some(DataFusionStatement::Explain(explain)) = inner {
        inner = Some(explain.statement.as_ref());
    }
    match inner {
        Some(DataFusionStatement::Statement(statement)) => names_in(statement),
        _ => BTreeSet::new(),
    }
}

/// Names of the parameters in SQL: `$1`, `$name`.
pub(super) fn names_in(statement: &SqlStatement) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let _: ControlFlow<()> = visit_expressions(statement, |expr| {
        if let SqlExpr::Value(value) = expr
            && let Value::Placeholder(name) = &value.value
        {
            names.insert(name.clone());
        }
        ControlFlow::Continue(())
    });
    names
}

/// Puts the values of parameters into a plan; missing ones are an error.
pub(crate) fn bind(plan: LogicalPlan, parameters: &Parameters) -> Result<LogicalPlan> {
    let values = match parameters {
        Parameters::Open => return Ok(plan),
        Parameters::None => {
            let missing = plan.get_parameter_names()?;
            return match missing.iter().min() {
                None => Ok(plan),
                Some(name) => Err(Error::invalid("07001", format!("no value is bound to parameter {name}"))),
            };
        }
        Parameters::Positional(values) => ParamValues::from(values.clone()),
        Parameters::Named(values) => ParamValues::from(values.clone()),
    };
    Ok(plan.with_param_values(values)?)
}

/// Puts parameters into an expression that is evaluated outside a plan.
pub(crate) fn bind_expr(expr: Expr, schema: &DFSchema, parameters: &Parameters) -> Result<Expr> {
    let (expr, has_parameters) = expr.infer_placeholder_types(schema)?;
    if !has_parameters {
        return Ok(expr);
    }
    let values = match parameters {
        Parameters::Positional(values) => ParamValues::from(values.clone()),
        Parameters::Named(values) => ParamValues::from(values.clone()),
        Parameters::None | Parameters::Open => return Err(Error::invalid("07001", "no value is bound to a parameter")),
    };
    let bound = expr.transform_up(|expr| match &expr {
        Expr::Placeholder(Placeholder { id, .. }) => {
            let value = values.get_placeholders_with_values(id)?;
            Ok(Transformed::yes(Expr::Literal(value.value().clone(), None)))
        }
        _ => Ok(Transformed::no(expr)),
    })?;
    Ok(bound.data)
}

/// Starts a plan; its rows stream.
pub(crate) async fn run_plan(state: &SessionState, plan: &LogicalPlan) -> Result<QueryResult> {
    let physical = state.create_physical_plan(plan).await?;
    let stream = execute_stream(physical, state.task_ctx())?;
    Ok(QueryResult {
        schema: stream.schema(),
        tag: "SELECT",
        affected: None,
        stream,
    })
}

/// The isolation level that BEGIN or SET TRANSACTION names.
pub(crate) fn isolation_of(modes: &[TransactionMode]) -> Result<Option<Isolation>> {
    let mut isolation = None;
    for mode in modes {
        match mode {
            TransactionMode::IsolationLevel(TransactionIsolationLevel::Serializable) => {
                isolation = Some(Isolation::Serializable);
            }
            // Snapshot isolation gives at least what the weaker levels promise.
            TransactionMode::IsolationLevel(_) => isolation = Some(Isolation::Snapshot),
            TransactionMode::AccessMode(datafusion::sql::sqlparser::ast::TransactionAccessMode::ReadOnly) => {
                return Err(Error::unsupported("READ ONLY transactions are not supported by this version"));
            }
            TransactionMode::AccessMode(_) => {}
        }
    }
    Ok(isolation)
}
