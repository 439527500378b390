//! One statement with its values, on its way to the server.

use std::time::Duration;

use arrow::record_batch::RecordBatch;
use arrow_flight::sql::{CommandStatementQuery, CommandStatementUpdate, ProstMessageExt};
use arrow_flight::{FlightData, FlightDescriptor};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;

use crate::error::{ClientError, Result};
use crate::prepared::StatementHandle;
use crate::query;
use crate::retry::Effect;
use crate::rows::{FromColumn, Row, Rows};
use crate::scope::Scope;
use crate::text::{self, TransactionVerb};
use crate::value::{Parameters, Value};
use crate::wire::{Deadline, Name, PeerId, affected_rows};

/// A statement that has not run yet: bind its values, then [`fetch`](Statement::fetch) its rows or [`execute`](Statement::execute) it.
#[derive(Debug)]
#[must_use = "a statement runs only when it is fetched or executed"]
pub struct Statement {
    scope: Scope,
    sql: String,
    parameters: Parameters,
    limit: Option<Duration>,
}

impl Statement {
    pub(crate) fn new(scope: Scope, sql: String) -> Self {
        Statement {
            scope,
            sql,
            parameters: Parameters::None,
            limit: None,
        }
    }

    /// The next parameter's value (`$1`, `$2`, … or `?`, in order).
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.parameters = self.parameters.push(value.into());
        self
    }

    /// The value of `$name`.
    pub fn bind_named(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.parameters = self.parameters.push_named(name.into(), value.into());
        self
    }

    /// All values at once, in place of those bound before.
    pub fn bind_all(mut self, parameters: impl Into<Parameters>) -> Self {
        self.parameters = parameters.into();
        self
    }

    /// How long the statement may take; the server is told and stops the work.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Runs it and streams the rows. Returns when the first batch is there (or the result is empty).
    ///
    /// Reads are tried again if the server goes away before that; later errors come through the stream.
    pub async fn fetch(self) -> Result<Rows> {
        let parameters = self.parameters.to_batch()?;
        let deadline = Deadline::after(self.limit);
        self.run(None, |peer| Box::pin(self.fetch_once(peer, parameters.clone(), deadline)))
            .await
    }

    async fn fetch_once(&self, peer: PeerId, parameters: Option<RecordBatch>, deadline: Deadline) -> Result<Rows> {
        let Some(parameters) = parameters else {
            let command = CommandStatementQuery {
                query: self.sql.clone(),
                transaction_id: self.scope.transaction_id(),
            };
            return query::run(&self.scope, peer, command.as_any(), deadline).await;
        };
        let mut statement = StatementHandle::create(&self.scope, peer, &self.sql, deadline).await?;
        let rows = statement.query(Some(parameters), deadline).await?;
        Ok(rows.with_statement(statement))
    }

    /// Runs it and gives all batches. Holds the whole result in memory.
    pub async fn fetch_all(self) -> Result<Vec<RecordBatch>> {
        self.fetch().await?.collect_batches().await
    }

    /// Runs it and gives all rows. Holds the whole result in memory.
    pub async fn fetch_rows(self) -> Result<Vec<Row>> {
        self.fetch().await?.into_rows().try_collect().await
    }

    /// The first row, if there is one; the rest is cancelled.
    pub async fn fetch_optional(self) -> Result<Option<Row>> {
        let mut rows = self.fetch().await?.into_rows().boxed();
        rows.try_next().await
    }

    /// The first column of the first row.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no row.
    pub async fn fetch_scalar<T: FromColumn>(self) -> Result<T> {
        let none = || ClientError::new(crate::ErrorKind::NotFound, "the statement gave no row");
        self.fetch_optional().await?.ok_or_else(none)?.get(0)
    }

    /// Runs it for its effect; the number of rows changed (0 where the statement has no count, as in DDL).
    ///
    /// Outside a transaction an `INSERT`, `UPDATE`, `DELETE` or `MERGE` that was undone by a conflict is tried again.
    pub async fn execute(self) -> Result<u64> {
        let parameters = self.parameters.to_batch()?;
        let deadline = Deadline::after(self.limit);
        let named = text::effect(&self.sql) == Effect::Autocommit && !self.scope.in_transaction();
        let name = named.then(|| self.scope.wire.name());
        let name = name.as_ref();
        self.run(name, |peer| Box::pin(self.execute_once(peer, parameters.clone(), deadline, name)))
            .await
    }

    async fn execute_once(&self, peer: PeerId, parameters: Option<RecordBatch>, deadline: Deadline, name: Option<&Name>) -> Result<u64> {
        if parameters.is_some() {
            let statement = StatementHandle::create(&self.scope, peer, &self.sql, deadline).await?;
            return statement.update(parameters, deadline, name).await;
        }
        let command = CommandStatementUpdate {
            query: self.sql.clone(),
            transaction_id: self.scope.transaction_id(),
        };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let message = FlightData {
            flight_descriptor: Some(descriptor),
            ..FlightData::default()
        };
        let answers = self.scope.wire.put(peer, stream::iter([message]), deadline, name).await?;
        Ok(affected_rows(&answers)?.unwrap_or(0))
    }

    /// Runs a call as often as the statement's effect allows, and keeps track of `BEGIN` and `COMMIT` written as statements.
    async fn run<'a, T>(&self, name: Option<&Name>, call: impl FnMut(PeerId) -> BoxFuture<'a, Result<T>>) -> Result<T> {
        let verb = text::transaction_verb(&self.sql).filter(|_| self.scope.transaction.is_none());
        let effect = match (&verb, name) {
            (Some(_), _) => Effect::Unknown,
            (None, Some(_)) => Effect::Named,
            (None, None) => text::effect(&self.sql),
        };
        let result = self.scope.run(effect, call).await;
        match (verb, &result) {
            (Some(TransactionVerb::Begin), Ok(_)) => self.scope.wire.set_session_transaction(true),
            (Some(TransactionVerb::End), _) => self.scope.wire.set_session_transaction(false),
            _ => {}
        }
        result
    }
}
