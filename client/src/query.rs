//! From a planned command to its rows: the endpoints one after the other, the first batch awaited so that an early error can
//! still be repeated.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::sql::Any;
use arrow_flight::{FlightEndpoint, FlightInfo, Ticket};
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::{ClientError, Result};
use crate::rows::Rows;
use crate::scope::Scope;
use crate::wire::{Deadline, PeerId, Wire};

/// What a server writes for "the connection that you have".
const SAME_CONNECTION: &str = "arrow-flight-reuse-connection://";

/// Plans a command, and opens its result up to the first batch.
pub(crate) async fn run(scope: &Scope, peer: PeerId, command: Any, deadline: Deadline) -> Result<Rows> {
    let info = scope.wire.flight_info(peer, command, deadline).await?;
    let promised = promised_schema(&info)?;
    let mut tickets = Vec::with_capacity(info.endpoint.len());
    for endpoint in info.endpoint {
        tickets.push(ticket(&scope.wire, peer, endpoint)?);
    }
    let mut tickets = tickets.into_iter();
    let Some((first_peer, first_ticket)) = tickets.next() else {
        return Ok(Rows::empty(promised.unwrap_or_else(|| Arc::new(Schema::empty()))));
    };
    let mut batches: FlightRecordBatchStream = scope.wire.stream(first_peer, first_ticket, deadline).await?;
    let first = deadline.bound(async { Ok(batches.try_next().await?) }).await?;
    let schema = match (batches.schema(), promised) {
        (Some(schema), _) => Arc::clone(schema),
        (None, Some(schema)) => schema,
        (None, None) => Arc::new(Schema::empty()),
    };
    let wire = Arc::clone(&scope.wire);
    let others = stream::iter(tickets).then(move |(peer, ticket)| {
        let wire = Arc::clone(&wire);
        async move { Ok::<_, ClientError>(wire.stream(peer, ticket, deadline).await?.map_err(ClientError::from)) }
    });
    let rest = batches.map_err(ClientError::from).chain(others.try_flatten());
    Ok(Rows::new(
        schema,
        stream::iter(first.map(Ok)).chain(deadline.bound_stream(rest.boxed())).boxed(),
    ))
}

/// The schema that the plan promised, if it did.
fn promised_schema(info: &FlightInfo) -> Result<Option<SchemaRef>> {
    if info.schema.is_empty() {
        return Ok(None);
    }
    Ok(Some(Arc::new(info.clone().try_decode_schema()?)))
}

/// The ticket of an endpoint and the server that has it.
fn ticket(wire: &Wire, peer: PeerId, endpoint: FlightEndpoint) -> Result<(PeerId, Ticket)> {
    let ticket = endpoint
        .ticket
        .ok_or_else(|| ClientError::protocol("an endpoint of the result has no ticket"))?;
    let here = endpoint.location.is_empty() || endpoint.location.iter().any(|at| at.uri.starts_with(SAME_CONNECTION));
    if here {
        return Ok((peer, ticket));
    }
    let holder = endpoint.location.iter().find_map(|at| wire.peer_at(&at.uri)).unwrap_or(peer);
    Ok((holder, ticket))
}
