//! Running statements: queries are offered behind a ticket, everything else runs here and now, once.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use arrow_flight::FlightInfo;
use arrow_flight::sql::{CommandStatementQuery, CommandStatementUpdate};
use futures::TryStreamExt;
use pyralog_models::{Parameters, Prepared, QueryResult, Session};
use tokio::sync::OwnedMutexGuard;
use tonic::Status;

use super::binding::Bindings;
use super::caller::Caller;
use super::effect;
use super::query::Work;
use super::slot::{self, Slot};
use super::state::{Lease, State};
use super::{status, wire};

/// An update count that means "it gave rows, not a count".
const NO_COUNT: i64 = -1;

impl State {
    /// GetFlightInfo of a statement's text.
    pub async fn statement_info(&self, caller: &Caller, command: &CommandStatementQuery) -> Result<FlightInfo, Status> {
        let lease = self.lease(caller, command.transaction_id.as_ref())?;
        let prepared = Arc::new(lease.slot.prepare(&command.query).await?);
        let bindings = Bindings::none(&prepared)?;
        self.run(caller, lease, &prepared, bindings).await
    }

    /// The schema of a statement's result, without running it.
    pub async fn statement_schema(&self, caller: &Caller, command: &CommandStatementQuery) -> Result<Prepared, Status> {
        self.lease(caller, command.transaction_id.as_ref())?
            .slot
            .prepare(&command.query)
            .await
    }

    /// Runs a text of one or more statements; the sum of their counts.
    pub async fn statement_update(&self, caller: &Caller, command: &CommandStatementUpdate) -> Result<i64, Status> {
        let mut lease = self.lease(caller, command.transaction_id.as_ref())?;
        let mut statements = Session::split(&command.query).map_err(|error| status::from_error(&error))?;
        if statements.len() <= 1 {
            // As it was written, so that an error's position is right.
            statements = vec![command.query.clone()];
        }
        let mut total = 0_i64;
        for sql in &statements {
            let count = self.run_once(caller, &mut lease, sql, Parameters::None).await?;
            total = if statements.len() == 1 {
                count
            } else {
                total.saturating_add(count.max(0))
            };
        }
        Ok(total)
    }

    /// GetFlightInfo of a planned statement with its parameters: offers a query, runs anything else.
    pub async fn run(&self, caller: &Caller, mut lease: Lease, prepared: &Prepared, mut bindings: Bindings) -> Result<FlightInfo, Status> {
        if !prepared.returns_rows {
            let count = self.run_all(caller, &mut lease, bindings).await?;
            return self.offer(lease, Arc::new(Schema::empty()), Work::Batches(Vec::new()), count);
        }
        let schema = wire::wire_schema(&prepared.schema);
        // The columns of `CALL sparql('kb', ?)` are those of the query that is bound.
        let open = schema.fields().is_empty();
        let untyped = open || (has_null(&prepared.schema) && has_null(&prepared.parameters));
        if effect::only_reads(&prepared.sql) && !untyped {
            return self.offer(lease, schema, Work::Statement(bindings), NO_COUNT);
        }
        let Some(first) = bindings.next().await? else {
            return self.offer(lease, schema, Work::Batches(Vec::new()), 0);
        };
        match bindings.next().await? {
            None => {
                let result = lease.slot.execute(&prepared.sql, first).await?;
                self.keep_if_changed(caller, &mut lease, result.tag)?;
                // The values tell the type of a column that the text alone does not: `SELECT ?`.
                let schema = if untyped { wire::wire_schema(&result.schema) } else { schema };
                self.offer(lease, schema, Work::Rows(result.stream), NO_COUNT)
            }
            Some(_) if open => Err(status::invalid(
                "the columns of the result depend on the parameters: bind one set of them [07001]",
            )),
            Some(second) => {
                let mut outcome = Outcome {
                    rows: Some(Vec::new()),
                    row_bytes: self.options.max_bound_bytes,
                    count: 0,
                };
                run_atomically(&lease.slot, [first, second], bindings, &mut outcome).await?;
                self.offer(lease, schema, Work::Batches(outcome.rows.unwrap_or_default()), NO_COUNT)
            }
        }
    }

    /// Runs a statement with each set of parameters, all or none; the sum of the counts.
    pub async fn run_all(&self, caller: &Caller, lease: &mut Lease, mut bindings: Bindings) -> Result<i64, Status> {
        let Some(first) = bindings.next().await? else { return Ok(0) };
        match bindings.next().await? {
            None => {
                let sql = bindings.sql().to_string();
                self.run_once(caller, lease, &sql, first).await
            }
            Some(second) => {
                let mut outcome = Outcome {
                    rows: None,
                    row_bytes: 0,
                    count: 0,
                };
                run_atomically(&lease.slot, [first, second], bindings, &mut outcome).await?;
                Ok(outcome.count)
            }
        }
    }

    /// Runs a statement once to its end; its count.
    async fn run_once(&self, caller: &Caller, lease: &mut Lease, sql: &str, parameters: Parameters) -> Result<i64, Status> {
        let result = lease.slot.execute(sql, parameters).await?;
        self.keep_if_changed(caller, lease, result.tag)?;
        let mut outcome = Outcome {
            rows: None,
            row_bytes: 0,
            count: 0,
        };
        outcome.add(result).await?;
        Ok(outcome.count)
    }
}

/// Whether a column's type is not known.
fn has_null(schema: &Schema) -> bool {
    schema.fields().iter().any(|field| field.data_type() == &DataType::Null)
}

/// What several runs of a statement gave.
struct Outcome {
    /// Their rows, if they are wanted.
    rows: Option<Vec<RecordBatch>>,
    /// Bytes that may still be kept in `rows`.
    row_bytes: usize,
    /// Rows changed.
    count: i64,
}

impl Outcome {
    /// Reads a result to its end.
    async fn add(&mut self, result: QueryResult) -> Result<(), Status> {
        let gives_rows = !result.schema.fields().is_empty();
        let mut stream = result.stream;
        while let Some(batch) = stream.try_next().await.map_err(|error| status::from_stream(&error))? {
            let Some(rows) = &mut self.rows else { continue };
            let left = self.row_bytes.checked_sub(batch.get_array_memory_size());
            self.row_bytes = left.ok_or_else(|| Status::resource_exhausted("the rows that the statement returns are too many to keep"))?;
            rows.push(batch);
        }
        self.count = match result.affected {
            Some(count) => self.count.saturating_add(i64::try_from(count).unwrap_or(i64::MAX)),
            None if gives_rows && self.count == 0 => NO_COUNT,
            None => self.count,
        };
        Ok(())
    }
}

/// Runs a statement with several sets of parameters, in a transaction of its own unless one is open.
async fn run_atomically(slot: &Arc<Slot>, head: [Parameters; 2], mut tail: Bindings, outcome: &mut Outcome) -> Result<(), Status> {
    let turn = slot.turn().await?;
    let session = slot.session();
    let own = !session.in_transaction();
    let mut rollback = RollbackOnDrop {
        session: own.then(|| session.clone()),
        turn: Some(turn),
    };
    if own && let Err(error) = session.begin().await {
        rollback.session = None;
        return Err(status::from_error(&error));
    }
    let result = run_each(session, head, &mut tail, outcome).await;
    if own {
        let ended = match &result {
            Ok(()) => session.commit().await,
            Err(_) => session.rollback().await,
        };
        rollback.session = None;
        match (&result, ended) {
            (Ok(()), Err(error)) => return Err(status::from_error(&error)),
            (Err(_), Err(error)) => slot::report_rollback(&error),
            (_, Ok(())) => {}
        }
    }
    slot.settle(result.is_ok());
    result
}

/// Runs a statement with each set of parameters.
async fn run_each(session: &Session, head: [Parameters; 2], tail: &mut Bindings, outcome: &mut Outcome) -> Result<(), Status> {
    for parameters in head {
        let result = session
            .execute(tail.sql(), parameters)
            .await
            .map_err(|error| status::from_error(&error))?;
        outcome.add(result).await?;
    }
    while let Some(parameters) = tail.next().await? {
        let result = session
            .execute(tail.sql(), parameters)
            .await
            .map_err(|error| status::from_error(&error))?;
        outcome.add(result).await?;
    }
    Ok(())
}

/// Rolls back when a client goes away in the midst of a series of runs. The session's turn is held until that is done.
struct RollbackOnDrop {
    session: Option<Session>,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Drop for RollbackOnDrop {
    fn drop(&mut self) {
        let (Some(session), turn) = (self.session.take(), self.turn.take()) else {
            return;
        };
        tokio::spawn(async move {
            if session.in_transaction()
                && let Err(error) = session.rollback().await
            {
                slot::report_rollback(&error);
            }
            drop(turn);
        });
    }
}
