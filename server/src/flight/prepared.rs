//! Prepared statements: created, bound and closed by handle; run like any other statement.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow_flight::FlightInfo;
use arrow_flight::sql::{ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult};
use bytes::Bytes;
use parking_lot::Mutex;
use pyralog_models::Prepared;
use tonic::Status;

use super::auth::Principal;
use super::binding::{self, Bindings, Rows};
use super::caller::Caller;
use super::decode::Decoder;
use super::state::State;
use super::ticket::{self, Kind};
use super::{metadata, wire};

/// A prepared statement of a client.
pub struct PreparedStatement {
    principal: Principal,
    /// What the database knows of it.
    pub prepared: Arc<Prepared>,
    /// Handle of the transaction that it was prepared in.
    pub transaction: Option<Bytes>,
    /// Parameters that a client has bound; they stay until it binds others.
    bound: Mutex<Option<Vec<RecordBatch>>>,
}

impl PreparedStatement {
    /// What to run it with: what was bound, else nothing.
    fn bindings(&self) -> Result<Bindings, Status> {
        match self.bound.lock().clone() {
            Some(batches) => Ok(Bindings::stored(&self.prepared, batches)),
            None => Bindings::none(&self.prepared),
        }
    }
}

impl State {
    /// Plans a statement and keeps it. An empty dataset schema tells drivers that it gives a count, not rows.
    pub async fn create_prepared(
        &self,
        caller: &Caller,
        request: ActionCreatePreparedStatementRequest,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let transaction = request.transaction_id.filter(|handle| !handle.is_empty());
        let lease = self.lease(caller, transaction.as_ref())?;
        let prepared = Arc::new(lease.slot.prepare(&request.query).await?);
        let dataset_schema = match prepared.returns_rows {
            true => wire::schema_bytes(&metadata::columns::described(&wire::wire_schema(&prepared.schema)))?,
            false => Bytes::new(),
        };
        let parameter_schema = wire::schema_bytes(&binding::wire_parameters(&prepared))?;
        let statement = PreparedStatement {
            principal: caller.principal.clone(),
            prepared,
            transaction,
            bound: Mutex::new(None),
        };
        let id = self.prepared.insert(Arc::new(statement), Instant::now())?;
        let prepared_statement_handle = ticket::encode(Kind::Prepared, id);
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle,
            dataset_schema,
            parameter_schema,
        })
    }

    /// Forgets a prepared statement. One that is gone already is no error.
    pub fn close_prepared(&self, caller: &Caller, handle: &[u8]) -> Result<(), Status> {
        let id = ticket::decode(Kind::Prepared, handle)?;
        if self.statement(caller, handle).is_ok() {
            self.prepared.remove(&id);
        }
        Ok(())
    }

    /// The statement of a handle.
    pub fn statement(&self, caller: &Caller, handle: &[u8]) -> Result<Arc<PreparedStatement>, Status> {
        let id = ticket::decode(Kind::Prepared, handle)?;
        self.prepared
            .get(&id, Instant::now())
            .filter(|statement| statement.principal == caller.principal)
            .ok_or_else(|| Status::not_found("no such prepared statement: it was closed or has expired; prepare it again [26000]"))
    }

    /// GetFlightInfo of a prepared statement with what is bound to it.
    pub async fn prepared_info(&self, caller: &Caller, handle: &[u8]) -> Result<FlightInfo, Status> {
        let statement = self.statement(caller, handle)?;
        let lease = self.lease_of(caller, &statement)?;
        let bindings = statement.bindings()?;
        self.run(caller, lease, &statement.prepared, bindings).await
    }

    /// Binds a client's rows to a prepared statement.
    pub async fn bind(&self, caller: &Caller, handle: &[u8], mut decoder: Decoder) -> Result<(), Status> {
        let statement = self.statement(caller, handle)?;
        let (mut batches, mut bytes) = (Vec::new(), 0_usize);
        while let Some(batch) = decoder.next().await? {
            Rows::new(&statement.prepared, &batch)?;
            bytes = bytes.saturating_add(batch.get_array_memory_size());
            let limit = self.options.max_bound_bytes;
            if bytes > limit {
                return Err(Status::resource_exhausted(format!(
                    "the parameters take more than {limit} bytes: use an ingest or a table"
                )));
            }
            batches.push(batch);
        }
        let has_columns = decoder.schema().await?.is_some_and(|schema| !schema.fields().is_empty());
        *statement.bound.lock() = has_columns.then_some(batches);
        Ok(())
    }

    /// Runs a prepared statement with the rows that come with the call, else with what is bound to it; the update count.
    pub async fn prepared_update(&self, caller: &Caller, handle: &[u8], mut decoder: Decoder) -> Result<i64, Status> {
        let statement = self.statement(caller, handle)?;
        let mut lease = self.lease_of(caller, &statement)?;
        let bindings = match decoder.schema().await? {
            Some(schema) if !schema.fields().is_empty() => Bindings::incoming(&statement.prepared, decoder),
            _ => statement.bindings()?,
        };
        self.run_all(caller, &mut lease, bindings).await
    }
}
