//! Prepared statements: planned once, run many times with other values.

use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::sql::Any;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt,
};
use arrow_flight::{FlightData, FlightDescriptor, IpcMessage};
use bytes::Bytes;
use futures::{FutureExt, TryStreamExt, stream};
use prost::Message;
use std::sync::Arc;

use crate::error::{ClientError, ErrorKind, Result};
use crate::query;
use crate::retry::Effect;
use crate::rows::Rows;
use crate::scope::Scope;
use crate::value::Parameters;
use crate::wire::{Deadline, Name, PeerId, affected_rows};

/// A statement that a server holds for us. Closed there, in the background, when dropped.
#[derive(Debug)]
pub(crate) struct StatementHandle {
    scope: Scope,
    peer: PeerId,
    handle: Bytes,
    /// Columns of the result; empty for writes.
    pub schema: SchemaRef,
    /// One field a parameter.
    pub parameters: SchemaRef,
}

fn schema_of(bytes: Bytes) -> Result<SchemaRef> {
    if bytes.is_empty() {
        return Ok(Arc::new(Schema::empty()));
    }
    Ok(Arc::new(Schema::try_from(IpcMessage(bytes))?))
}

impl StatementHandle {
    /// Plans a statement at a server.
    pub async fn create(scope: &Scope, peer: PeerId, sql: &str, deadline: Deadline) -> Result<StatementHandle> {
        let request = ActionCreatePreparedStatementRequest {
            query: sql.to_owned(),
            transaction_id: scope.transaction_id(),
        };
        let answer = scope
            .wire
            .action_result(peer, "CreatePreparedStatement", request.as_any(), deadline)
            .await?;
        let result: ActionCreatePreparedStatementResult = answer
            .unpack()?
            .ok_or_else(|| ClientError::protocol("the server's answer is not a prepared statement"))?;
        Ok(StatementHandle {
            scope: scope.clone(),
            peer,
            handle: result.prepared_statement_handle,
            schema: schema_of(result.dataset_schema)?,
            parameters: schema_of(result.parameter_schema)?,
        })
    }

    fn query_command(&self) -> Any {
        CommandPreparedStatementQuery {
            prepared_statement_handle: self.handle.clone(),
        }
        .as_any()
    }

    /// Binds values and runs it as a query. The server may name the bound statement anew.
    pub async fn query(&mut self, parameters: Option<RecordBatch>, deadline: Deadline) -> Result<Rows> {
        if let Some(batch) = parameters {
            let messages = bound_messages(self.query_command(), Some(batch)).await?;
            let answers = self.scope.wire.put(self.peer, stream::iter(messages), deadline, None).await?;
            if let Some(answer) = answers.first() {
                let bound = DoPutPreparedStatementResult::decode(answer.app_metadata.as_ref())?;
                self.handle = bound.prepared_statement_handle.unwrap_or_else(|| self.handle.clone());
            }
        }
        query::run(&self.scope, self.peer, self.query_command(), deadline).await
    }

    /// Binds values and runs it as a write, in one call.
    pub async fn update(&self, parameters: Option<RecordBatch>, deadline: Deadline, name: Option<&Name>) -> Result<u64> {
        let command = CommandPreparedStatementUpdate {
            prepared_statement_handle: self.handle.clone(),
        }
        .as_any();
        let messages = bound_messages(command, parameters).await?;
        let answers = self.scope.wire.put(self.peer, stream::iter(messages), deadline, name).await?;
        Ok(affected_rows(&answers)?.unwrap_or(0))
    }
}

/// The messages of a command with its parameters.
async fn bound_messages(command: Any, parameters: Option<RecordBatch>) -> Result<Vec<FlightData>> {
    let descriptor = Some(FlightDescriptor::new_cmd(command.encode_to_vec()));
    let Some(batch) = parameters else {
        return Ok(vec![FlightData {
            flight_descriptor: descriptor,
            ..FlightData::default()
        }]);
    };
    let encoder = FlightDataEncoderBuilder::new()
        .with_flight_descriptor(descriptor)
        .with_schema(batch.schema());
    Ok(encoder.build(stream::iter([Ok(batch)])).try_collect().await?)
}

impl Drop for StatementHandle {
    fn drop(&mut self) {
        // Without a runtime there is nobody to tell the server; it drops the statement with the session.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (wire, peer) = (Arc::clone(&self.scope.wire), self.peer);
        let request = ActionClosePreparedStatementRequest {
            prepared_statement_handle: std::mem::take(&mut self.handle),
        };
        runtime.spawn(async move {
            // Best effort: nobody waits for this, and a server that is gone has forgotten the statement.
            let _ = wire
                .action(peer, "ClosePreparedStatement", request.as_any().encode_to_vec(), Deadline::NONE)
                .await;
        });
    }
}

/// A prepared statement. Dropping it frees it at the server.
///
/// ```no_run
/// # async fn f(db: pyralog_client::Client) -> pyralog_client::Result<()> {
/// use pyralog_client::params;
/// let mut insert = db.prepare("INSERT INTO t (id, name) VALUES ($1, $2)").await?;
/// for (id, name) in [(1, "a"), (2, "b")] {
///     insert.execute(params![id, name]).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Prepared {
    sql: String,
    statement: StatementHandle,
    effect: Effect,
    limit: Option<Duration>,
}

impl Prepared {
    pub(crate) async fn new(scope: &Scope, sql: &str) -> Result<Prepared> {
        let statement = scope
            .run(Effect::Read, |peer| {
                Box::pin(StatementHandle::create(scope, peer, sql, Deadline::NONE))
            })
            .await?;
        Ok(Prepared {
            sql: sql.to_owned(),
            statement,
            effect: crate::text::effect(sql),
            limit: None,
        })
    }

    /// How long each run may take.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The columns of the result; empty for statements without rows.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.statement.schema)
    }

    /// One field a parameter, in order; type `Null` where the server does not know it.
    pub fn parameters(&self) -> SchemaRef {
        Arc::clone(&self.statement.parameters)
    }

    /// Runs it with these values and streams the rows. The statement can run again when the stream is done or dropped.
    pub async fn fetch(&mut self, parameters: impl Into<Parameters>) -> Result<Rows> {
        let batch = parameters.into().to_batch()?;
        self.statement.query(batch, Deadline::after(self.limit)).await
    }

    /// Runs it with these values; the number of rows changed. Outside a transaction it is tried again after a conflict, and at
    /// the next server when this one goes away; it is carried out once.
    pub async fn execute(&mut self, parameters: impl Into<Parameters>) -> Result<u64> {
        let batch = parameters.into().to_batch()?;
        let deadline = Deadline::after(self.limit);
        let scope = self.statement.scope.clone();
        if scope.in_transaction() || self.effect != Effect::Autocommit {
            return self.statement.update(batch, deadline, None).await;
        }
        let (policy, name) = (scope.wire.retry(), scope.wire.name());
        let mut attempt = 0;
        loop {
            let error = match self.statement.update(batch.clone(), deadline, Some(&name)).await {
                Ok(count) => return Ok(count),
                Err(error) => error,
            };
            attempt += 1;
            // A server that was restarted has forgotten the statement.
            let forgotten = error.code() == Some("26000");
            if attempt >= policy.attempts || !(forgotten || Effect::Named.may_repeat(&error)) {
                return Err(error);
            }
            tokio::time::sleep(policy.pause(attempt - 1)).await;
            if error.kind() != ErrorKind::Conflict {
                if !forgotten {
                    scope.wire.leave(self.statement.peer);
                }
                let create = |peer| StatementHandle::create(&scope, peer, &self.sql, deadline).boxed();
                self.statement = scope.run(Effect::Read, create).await?;
            }
        }
    }
}
