//! A server over Flight SQL.
//!
//! The handshake's token stands for the session, so that BEGIN, SET and the like hold from statement to statement. Every statement is
//! prepared first: the schema tells whether it gives rows (then GetFlightInfo and DoGet) or changes some (then DoPut with a count).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{BinaryArray, RecordBatch};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::{FlightSqlServiceClient, PreparedStatement};
use arrow_flight::sql::{
    CommandStatementIngest, DoPutUpdateResult, ProstMessageExt, TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use arrow_flight::{FlightData, FlightDescriptor, FlightInfo, Ticket};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use prost::Message;
use pyralog_models::rdf::{RdfLoad, RdfLoaded};
use pyralog_models::{Error, Position};
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};

use super::{Connection, Outcome, StatementError, TableName};
use crate::flight::load::{self, LoadResult};
use crate::rdf_format;
use crate::shell::statement::tag;

/// Largest message taken from a server, in bytes.
const MAX_MESSAGE_BYTES: usize = 256 << 20;
/// How long a server may take to answer a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

type Client = FlightSqlServiceClient<Channel>;

/// A session of a server.
pub struct Remote {
    client: Client,
    url: String,
}

impl Remote {
    /// Connects to `grpc://host:port`.
    pub async fn connect(url: &str) -> Result<Self, StatementError> {
        let refused = |cause: &dyn std::error::Error| StatementError::connection(format!("cannot connect to {url}: {}", root_cause(cause)));
        let channel = endpoint(url)?.connect().await.map_err(|error| refused(&error))?;
        let inner = FlightServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let mut client = Client::new_from_inner(inner);
        client.handshake("", "").await.map_err(|error| refused(&error))?;
        Ok(Remote {
            client,
            url: url.to_owned(),
        })
    }
}

impl Remote {
    /// Sends rows under a command; the metadata of the answer.
    async fn put(&self, command: CommandStatementIngest, rows: SendableRecordBatchStream) -> Result<Bytes, StatementError> {
        let (failed, failure) = oneshot::channel();
        let messages = upload(command, rows, failed);
        let mut client = self.client.clone();
        let call = async {
            let mut answers = client.do_put(messages).await?;
            answers
                .message()
                .await?
                .ok_or_else(|| FlightError::protocol("the server took the rows without an answer"))
        };
        // Biased: when the source has failed, its error is the one to tell, and leaving the call breaks it off.
        let answer = tokio::select! {
            biased;
            Ok(error) = failure => return Err(from_flight(error)),
            answer = call => answer.map_err(from_flight)?,
        };
        Ok(answer.app_metadata)
    }
}

/// The endpoint behind a URL.
fn endpoint(url: &str) -> Result<Endpoint, StatementError> {
    let bad = |detail: &str| StatementError::connection(format!("`{url}`: {detail}"));
    let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("expected grpc://host:port"))?;
    match scheme {
        "grpc" | "grpc+tcp" => {}
        "grpc+tls" => return Err(bad("TLS is not supported by this version; use grpc://")),
        _ => return Err(bad("expected grpc://host:port")),
    }
    let authority = rest.trim_end_matches('/');
    if authority.is_empty() || authority.contains('/') {
        return Err(bad("expected grpc://host:port"));
    }
    let endpoint = Endpoint::from_shared(format!("http://{authority}")).map_err(|error| bad(&error.to_string()))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_while_idle(true))
}

#[async_trait]
impl Connection for Remote {
    async fn execute(&self, sql: &str) -> Result<Outcome, StatementError> {
        let mut prepared = self.client.clone().prepare(sql.to_owned(), None).await.map_err(from_flight)?;
        let schema: SchemaRef = Arc::new(prepared.dataset_schema().map_err(from_flight)?.clone());
        if schema.fields().is_empty() {
            let affected = prepared.execute_update().await.map_err(from_flight)?;
            close(prepared).await;
            let affected = u64::try_from(affected).ok();
            return Ok(Outcome {
                schema: Arc::new(Schema::empty()),
                tag: tag(sql),
                affected,
                rows: stream::empty().boxed(),
            });
        }
        let info = prepared.execute().await.map_err(from_flight)?;
        close(prepared).await;
        Ok(Outcome {
            schema,
            tag: tag(sql),
            affected: None,
            rows: rows(self.client.clone(), info),
        })
    }

    async fn ingest(&self, table: &TableName, rows: SendableRecordBatchStream) -> Result<u64, StatementError> {
        let options = TableDefinitionOptions {
            if_not_exist: TableNotExistOption::Create as i32,
            if_exists: TableExistsOption::Append as i32,
        };
        let command = CommandStatementIngest {
            table_definition_options: Some(options),
            table: table.table.clone(),
            schema: table.schema.clone(),
            ..CommandStatementIngest::default()
        };
        let answer = self.put(command, rows).await?;
        let result = DoPutUpdateResult::decode(&*answer).map_err(|error| from_flight(FlightError::DecodeError(error.to_string())))?;
        Ok(u64::try_from(result.record_count).unwrap_or(0))
    }

    async fn load(&self, load: RdfLoad, text: BoxStream<'static, Result<Bytes, Error>>) -> Result<RdfLoaded, StatementError> {
        let mode = TableDefinitionOptions {
            if_not_exist: TableNotExistOption::Fail as i32,
            if_exists: TableExistsOption::Append as i32,
        };
        let mut options = HashMap::from([(load::FORMAT.to_owned(), rdf_format::name(load.format).to_owned())]);
        options.extend(load.base.map(|base| (load::BASE.to_owned(), base)));
        options.extend(load.lenient.then(|| (load::LENIENT.to_owned(), "true".to_owned())));
        let (schema, table) = load.dataset;
        let command = CommandStatementIngest {
            table_definition_options: Some(mode),
            table,
            schema,
            options,
            ..CommandStatementIngest::default()
        };
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("text", DataType::Binary, false)]));
        let columns = schema.clone();
        let batches = text.map(move |piece| {
            let piece = Buffer::from(piece?);
            let column = BinaryArray::try_new(OffsetBuffer::from_lengths([piece.len()]), piece, None)?;
            Ok(RecordBatch::try_new(columns.clone(), vec![Arc::new(column)])?)
        });
        let answer = self.put(command, Box::pin(RecordBatchStreamAdapter::new(schema, batches))).await?;
        let result = LoadResult::decode(&*answer).map_err(|error| from_flight(FlightError::DecodeError(error.to_string())))?;
        Ok(result.into())
    }

    fn target(&self) -> String {
        self.url.clone()
    }

    async fn close(&self) -> Result<(), StatementError> {
        // The server ends the session; an open transaction is rolled back with it.
        let action = arrow_flight::Action {
            r#type: "CloseSession".into(),
            body: Default::default(),
        };
        let closing = self.client.clone().do_action(action).await;
        if let Err(error) = closing {
            tracing::debug!("the session was not closed: {error}");
        }
        Ok(())
    }
}

/// The messages of an ingest. A stream that ended where its source failed would look whole to the server, so then it never ends: the error
/// goes to `failed`, and whoever waits for it breaks the call off.
fn upload(
    command: CommandStatementIngest,
    rows: SendableRecordBatchStream,
    failed: oneshot::Sender<FlightError>,
) -> impl Stream<Item = FlightData> + Send + 'static {
    let schema = rows.schema();
    let batches = rows.map_err(|error: DataFusionError| FlightError::ExternalError(Box::new(error)));
    let messages = FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(FlightDescriptor::new_cmd(command.as_any().encode_to_vec())))
        .with_schema(schema)
        .build(batches);
    stream::unfold((messages, Some(failed)), |(mut messages, mut failed)| async move {
        match messages.next().await? {
            Ok(message) => Some((message, (messages, failed))),
            Err(error) => {
                if let Some(failed) = failed.take() {
                    // Nobody waits only when the call is over already.
                    let _ = failed.send(error);
                }
                std::future::pending().await
            }
        }
    })
}

/// Lets go of a statement. If that fails, the statement has run nevertheless, and the server lets go of it in time.
async fn close(prepared: PreparedStatement<Channel>) {
    if let Err(error) = prepared.close().await {
        tracing::debug!("a prepared statement was not closed: {error}");
    }
}

/// The rows of all endpoints, one behind the other.
fn rows(client: Client, info: FlightInfo) -> BoxStream<'static, Result<RecordBatch, StatementError>> {
    let tickets: VecDeque<Ticket> = info.endpoint.into_iter().filter_map(|endpoint| endpoint.ticket).collect();
    let state = (client, tickets, None::<FlightRecordBatchStream>);
    stream::try_unfold(state, |(mut client, mut tickets, mut current)| async move {
        loop {
            if let Some(open) = &mut current
                && let Some(batch) = open.try_next().await.map_err(from_flight)?
            {
                return Ok(Some((batch, (client, tickets, current))));
            }
            let Some(ticket) = tickets.pop_front() else { return Ok(None) };
            current = Some(client.do_get(ticket).await.map_err(from_flight)?);
        }
    })
    .boxed()
}

/// The statement's error inside a client's error.
fn from_flight(error: FlightError) -> StatementError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        // The client keeps a status in a box, which is an error of its own to `source`.
        let boxed = current.downcast_ref::<Box<tonic::Status>>().map(|status| status.as_ref());
        if let Some(status) = current.downcast_ref::<tonic::Status>().or(boxed) {
            let sqlstate = status.metadata().get("x-pyralog-sqlstate").and_then(|value| value.to_str().ok());
            return from_status(status.code(), status.message(), sqlstate);
        }
        if let Some(inner) = current.downcast_ref::<DataFusionError>() {
            return inner.into();
        }
        cause = current.source();
    }
    StatementError::connection(root_cause(&error))
}

/// Reads back what the server wrote: `message (line L, column C). Hint: hint [CODE]`.
fn from_status(code: tonic::Code, message: &str, sqlstate: Option<&str>) -> StatementError {
    let Some(sqlstate) = sqlstate else {
        return StatementError {
            code: format!("{code:?}"),
            message: message.to_owned(),
            position: None,
            hint: None,
        };
    };
    let text = message.strip_suffix(&format!(" [{sqlstate}]")).unwrap_or(message);
    let (text, hint) = match text.rsplit_once(". Hint: ") {
        Some((text, hint)) => (text, Some(hint.to_owned())),
        None => (text, None),
    };
    let (text, position) = match text
        .rsplit_once(" (line ")
        .and_then(|(text, place)| Some((text, read_position(place)?)))
    {
        Some((text, position)) => (text, Some(position)),
        None => (text, None),
    };
    StatementError {
        code: sqlstate.to_owned(),
        message: text.to_owned(),
        position,
        hint,
    }
}

/// `L, column C)`.
fn read_position(place: &str) -> Option<Position> {
    let (line, column) = place.strip_suffix(')')?.split_once(", column ")?;
    Some(Position {
        line: line.parse().ok()?,
        column: column.parse().ok()?,
    })
}

/// The innermost cause, which says what happened.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use pyralog_models::ErrorKind;

    #[test]
    fn a_status_reads_back_as_the_error() {
        let mut error = Error::new(ErrorKind::InvalidInput, "42601", "unexpected (x). y");
        assert_eq!(
            from_status(tonic::Code::InvalidArgument, &error.to_string(), Some("42601")),
            error.clone().into()
        );
        error.position = Some(Position { line: 2, column: 14 });
        error.hint = Some("did you mean FROM?".into());
        assert_eq!(
            from_status(tonic::Code::InvalidArgument, &error.to_string(), Some("42601")),
            error.into()
        );
    }

    #[test]
    fn a_foreign_status_keeps_its_text() {
        let error = from_status(tonic::Code::Unavailable, "gone. Hint: none", None);
        assert_eq!((error.code.as_str(), error.message.as_str()), ("Unavailable", "gone. Hint: none"));
    }

    #[test]
    fn the_status_is_found_in_the_clients_error() {
        let mut status = tonic::Status::not_found("no table t. Hint: h [42P01]");
        status.metadata_mut().insert("x-pyralog-sqlstate", "42P01".parse().unwrap());
        let error = from_flight(FlightError::from(status));
        assert!(error.is_missing_table());
        assert_eq!((error.message.as_str(), error.hint.as_deref()), ("no table t", Some("h")));
    }

    #[test]
    fn urls() {
        assert!(endpoint("grpc://127.0.0.1:50051").is_ok());
        assert!(endpoint("grpc://[::1]:50051/").is_ok());
        assert!(endpoint("grpc+tls://h:1").unwrap_err().message.contains("TLS"));
        for wrong in ["127.0.0.1:1", "http://h:1", "grpc://", "grpc://h/x"] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }
}
