//! What a ticket stands for: a query that starts when it is read, rows that a statement has given already, or nothing but a count.
//!
//! Each is read at most once. While it is read its entry stays in the table, so that it can be cancelled by its ticket.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::sql::{Any, Command, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightEndpoint, FlightInfo, Ticket};
use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use prost::Message;
use pyralog_models::Parameters;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use uuid::Uuid;

use super::binding::Bindings;
use super::caller::Caller;
use super::state::{Lease, State};
use super::status;
use super::ticket::{self, Kind};

/// What is left to do for a query.
pub enum Work {
    /// Run the statement once for each set of parameters.
    Statement(Bindings),
    /// The statement has run; read its rows.
    Rows(SendableRecordBatchStream),
    /// The statement has run; these are its rows.
    Batches(Vec<RecordBatch>),
}

/// A query behind a ticket.
pub struct Query {
    lease: Lease,
    /// Schema as clients get it.
    schema: SchemaRef,
    /// Taken by the one who reads.
    work: Mutex<Option<Work>>,
    /// Cancelled by CancelFlightInfo and at shutdown.
    pub cancel: CancellationToken,
}

/// Rows of a query in the engine's form.
type Rows = BoxStream<'static, Result<RecordBatch, Status>>;

impl State {
    /// Registers a query and describes it. `schema` is the wire schema; `count` the rows, if known.
    pub fn offer(&self, lease: Lease, schema: SchemaRef, work: Work, count: i64) -> Result<FlightInfo, Status> {
        let info = FlightInfo::new().try_with_schema(&schema).map_err(status::from_arrow)?;
        let query = Query {
            lease,
            schema,
            work: Mutex::new(Some(work)),
            cancel: CancellationToken::new(),
        };
        let id = self.queries.insert(Arc::new(query), Instant::now())?;
        let command = TicketStatementQuery {
            statement_handle: ticket::encode(Kind::Query, id),
        };
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(command.as_any().encode_to_vec()));
        Ok(info.with_endpoint(endpoint).with_total_records(count))
    }

    /// Starts to read a query: its wire schema and its rows. A second reader gets `NotFound`.
    pub async fn read(self: &Arc<Self>, caller: &Caller, handle: &[u8]) -> Result<(SchemaRef, Rows), Status> {
        let id = ticket::decode(Kind::Query, handle)?;
        let query = self.query(caller, &id)?;
        let work = query
            .work
            .lock()
            .take()
            .ok_or_else(|| Status::not_found("the ticket has been read already"))?;
        let reading = Reading { state: self.clone(), id };
        let rows = tokio::select! {
            rows = start(&query.lease, work) => rows?,
            () = query.cancel.cancelled() => return Err(cancelled()),
        };
        let schema = query.schema.clone();
        let cancel = query.cancel.clone();
        // The query's entry counts as held, so never idle, as long as the stream lives.
        let held = (query, reading);
        let rows = rows.map(move |batch| {
            let _ = &held;
            batch
        });
        Ok((schema, until_cancelled(rows.boxed(), cancel)))
    }

    /// Cancels a query; whether there was one.
    pub fn cancel(&self, caller: &Caller, id: &Uuid) -> bool {
        let Ok(query) = self.query(caller, id) else { return false };
        query.cancel.cancel();
        query.work.lock().take();
        drop(query);
        self.queries.remove(id);
        true
    }

    fn query(&self, caller: &Caller, id: &Uuid) -> Result<Arc<Query>, Status> {
        self.queries
            .get(id, Instant::now())
            .filter(|query| query.lease.slot.principal == caller.principal)
            .ok_or_else(|| Status::not_found("no such ticket: it has been read already, was cancelled or has expired"))
    }
}

/// The id of the query behind a ticket's bytes.
pub fn id_of_ticket(ticket: &Bytes) -> Result<Uuid, Status> {
    let any = Any::decode(&**ticket).map_err(|error| status::invalid(format!("not a ticket: {error}")))?;
    match Command::try_from(any) {
        Ok(Command::TicketStatementQuery(command)) => ticket::decode(Kind::Query, &command.statement_handle),
        _ => Err(status::invalid("only the tickets of statements can be cancelled")),
    }
}

/// Takes the query out of the table when its reader is done with it, or gone.
struct Reading {
    state: Arc<State>,
    id: Uuid,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.state.queries.remove(&self.id);
    }
}

/// The error of a cancelled query.
fn cancelled() -> Status {
    Status::cancelled("the query was cancelled [57014]")
}

/// Runs what is left to do up to its first rows, so that most errors come before the response begins.
async fn start(lease: &Lease, work: Work) -> Result<Rows, Status> {
    match work {
        Work::Rows(rows) => Ok(rows.map_err(|error| status::from_stream(&error)).boxed()),
        Work::Batches(batches) => Ok(stream::iter(batches.into_iter().map(Ok)).boxed()),
        Work::Statement(mut bindings) => {
            let Some(first) = bindings.next().await? else {
                return Ok(stream::empty().boxed());
            };
            let first = run(lease, bindings.sql(), first).await?;
            let others = stream::try_unfold((lease.clone(), bindings), |(lease, mut bindings)| async move {
                let Some(parameters) = bindings.next().await? else {
                    return Ok::<_, Status>(None);
                };
                let rows = run(&lease, bindings.sql(), parameters).await?;
                Ok(Some((rows, (lease, bindings))))
            });
            Ok(first.chain(others.try_flatten()).boxed())
        }
    }
}

/// Runs the statement with one set of parameters.
async fn run(lease: &Lease, sql: &str, parameters: Parameters) -> Result<Rows, Status> {
    let result = lease.slot.execute(sql, parameters).await?;
    Ok(result.stream.map_err(|error| status::from_stream(&error)).boxed())
}

/// The rows until the token is cancelled, then an error; the work behind them is dropped at once.
fn until_cancelled(rows: Rows, cancel: CancellationToken) -> Rows {
    let stopped = cancel.clone();
    // Whoever drops the stream stops what else listens to the token.
    let guard: DropGuard = cancel.clone().drop_guard();
    let rows = Box::pin(rows.take_until(cancel.cancelled_owned()));
    let state = (Some(rows), stopped, guard);
    stream::unfold(state, |(rows, stopped, guard)| async move {
        let mut rows = rows?;
        match rows.next().await {
            Some(item) => Some((item, (Some(rows), stopped, guard))),
            None if stopped.is_cancelled() => Some((Err(cancelled()), (None, stopped, guard))),
            None => None,
        }
    })
    .boxed()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cancelled_stream_ends_with_an_error_and_drops_its_source() {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let cancel = CancellationToken::new();
        let source = tokio_stream::wrappers::ReceiverStream::new(receiver).boxed();
        let mut rows = until_cancelled(source, cancel.clone());
        let batch = RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()));
        sender.send(Ok(batch)).await.unwrap();
        assert!(rows.next().await.unwrap().is_ok());
        cancel.cancel();
        assert_eq!(rows.next().await.unwrap().unwrap_err().code(), tonic::Code::Cancelled);
        assert!(sender.is_closed());
        assert!(rows.next().await.is_none());
    }

    #[tokio::test]
    async fn a_stream_that_ends_by_itself_ends_without_error() {
        let rows = until_cancelled(stream::empty().boxed(), CancellationToken::new());
        assert_eq!(rows.count().await, 0);
    }
}
