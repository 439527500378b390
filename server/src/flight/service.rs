//! The gRPC service: finds out who calls, takes the command out of its envelope and hands both to the state.
//!
//! It implements `FlightService` itself: arrow-flight's `FlightSqlService` has no place for GetSchema, PollFlightInfo, session actions and
//! response headers.

use std::sync::Arc;

use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{Any, Command, DoPutPreparedStatementResult, DoPutUpdateResult};
use arrow_flight::{
    Action, ActionType, BasicAuth, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prost::Message;
use pyralog_models::{RequestName, request};
use tonic::{Request, Response, Status, Streaming};

use super::auth::{self, Credentials};
use super::caller::Caller;
use super::decode::Decoder;
use super::load;
use super::state::State;
use super::status::{self, invalid};
use super::{action, wire};
use crate::request_name;

/// The Flight SQL service.
#[derive(Clone)]
pub struct Service {
    state: Arc<State>,
}

type Answer<T> = Result<Response<BoxStream<'static, Result<T, Status>>>, Status>;

impl Service {
    /// A service over a state.
    pub fn new(state: Arc<State>) -> Self {
        Service { state }
    }

    async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        self.state.caller(request.metadata(), request.remote_addr()).await
    }

    /// The FlightInfo of a command. A query is offered; a statement with side effects has run when this returns.
    async fn info(&self, caller: &Caller, descriptor: FlightDescriptor) -> Result<FlightInfo, Status> {
        let info = match command(&descriptor)? {
            Command::CommandStatementQuery(query) => self.state.statement_info(caller, &query).await?,
            Command::CommandPreparedStatementQuery(query) => self.state.prepared_info(caller, &query.prepared_statement_handle).await?,
            Command::CommandStatementSubstraitPlan(_) => return Err(substrait()),
            other => {
                let schema = self.state.metadata_schema(&other).ok_or_else(|| unknown("GetFlightInfo", &other))?;
                // The command is its own ticket: reading the catalog twice does no harm.
                let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(descriptor.cmd.clone()));
                FlightInfo::new()
                    .try_with_schema(&schema)
                    .map_err(status::from_arrow)?
                    .with_endpoint(endpoint)
            }
        };
        Ok(info.with_descriptor(descriptor))
    }

    /// The schema of a command's result, without running anything.
    async fn schema(&self, caller: &Caller, descriptor: &FlightDescriptor) -> Result<Bytes, Status> {
        match command(descriptor)? {
            Command::CommandStatementQuery(query) => {
                let prepared = self.state.statement_schema(caller, &query).await?;
                wire::schema_bytes(&wire::wire_schema(&prepared.schema))
            }
            Command::CommandPreparedStatementQuery(query) => {
                let statement = self.state.statement(caller, &query.prepared_statement_handle)?;
                wire::schema_bytes(&wire::wire_schema(&statement.prepared.schema))
            }
            Command::CommandStatementSubstraitPlan(_) => Err(substrait()),
            other => {
                let schema = self.state.metadata_schema(&other).ok_or_else(|| unknown("GetSchema", &other))?;
                wire::schema_bytes(&schema)
            }
        }
    }

    /// Runs what a client puts; the metadata of the one answer.
    async fn put(&self, caller: &Caller, command: Command, decoder: Decoder) -> Result<Vec<u8>, Status> {
        let record_count = match command {
            Command::CommandStatementUpdate(update) => self.state.statement_update(caller, &update).await?,
            Command::CommandPreparedStatementUpdate(update) => {
                self.state
                    .prepared_update(caller, &update.prepared_statement_handle, decoder)
                    .await?
            }
            Command::CommandStatementIngest(ingest) if ingest.options.contains_key(load::FORMAT) => {
                return Ok(self.state.load(caller, ingest, decoder).await?.encode_to_vec());
            }
            Command::CommandStatementIngest(ingest) => self.state.ingest(caller, ingest, decoder).await?,
            Command::CommandPreparedStatementQuery(query) => {
                let handle = query.prepared_statement_handle;
                self.state.bind(caller, &handle, decoder).await?;
                return Ok(DoPutPreparedStatementResult {
                    prepared_statement_handle: Some(handle),
                }
                .encode_to_vec());
            }
            Command::CommandStatementSubstraitPlan(_) => return Err(substrait()),
            other => return Err(unknown("DoPut", &other)),
        };
        Ok(DoPutUpdateResult { record_count }.encode_to_vec())
    }
}

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Answer<HandshakeResponse> {
        let peer = request.remote_addr();
        let mut credentials = auth::credentials(request.metadata())?;
        if credentials == Credentials::None {
            credentials = from_payload(request.into_inner()).await?;
        }
        let principal = self.state.options.authenticator.authenticate(credentials, peer).await?;
        let token = self.state.issue_token(principal)?;
        let header = format!("Bearer {token}")
            .parse()
            .map_err(|_| Status::internal("the token is no header value"))?;
        let answer = HandshakeResponse {
            protocol_version: 0,
            payload: token.into(),
        };
        let mut response = Response::new(one(answer));
        response.metadata_mut().insert("authorization", header);
        Ok(response)
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Answer<FlightInfo> {
        self.caller(&request).await?;
        Err(Status::unimplemented(
            "flights are not listed: use the Flight SQL commands for tables",
        ))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let caller = self.caller(&request).await?;
        let name = name(&request)?;
        let info = request::named(name, self.info(&caller, request.into_inner())).await?;
        Ok(caller.answer(info))
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        let caller = self.caller(&request).await?;
        let info = self.info(&caller, request.into_inner()).await?;
        // Without a descriptor to poll again: the results can be read now.
        let poll = PollInfo::new().with_info(info).try_with_progress(1.0).map_err(status::from_arrow)?;
        Ok(caller.answer(poll))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let caller = self.caller(&request).await?;
        let schema = self.schema(&caller, request.get_ref()).await?;
        Ok(caller.answer(SchemaResult { schema }))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<FlightData> {
        let caller = self.caller(&request).await?;
        let limit = self.state.options.response_bytes;
        match unwrap(&request.get_ref().ticket)? {
            Command::TicketStatementQuery(ticket) => {
                let (schema, rows) = self.state.read(&caller, &ticket.statement_handle).await?;
                Ok(caller.answer(wire::encode(schema, rows, limit)))
            }
            other => {
                let name = other.type_url().to_string();
                let batch = self.state.metadata(&caller, other).await?;
                let batch = batch.ok_or_else(|| invalid(format!("{name:?} is not a ticket of this server")))?;
                Ok(caller.answer(wire::encode_one(batch, limit)))
            }
        }
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<PutResult> {
        let caller = self.caller(&request).await?;
        let name = name(&request)?;
        let mut messages = request.into_inner();
        let first = messages
            .next()
            .await
            .ok_or_else(|| invalid("the stream is empty: its first message has the command"))??;
        let descriptor = first
            .flight_descriptor
            .clone()
            .ok_or_else(|| invalid("the first message has no descriptor"))?;
        let command = command(&descriptor)?;
        let messages = stream::iter([Ok(first)]).chain(messages).boxed();
        let decoder = Decoder::new(messages, self.state.options.max_decoded_bytes);
        let metadata = request::named(name, self.put(&caller, command, decoder)).await?;
        let mut answer = caller.answer(one(PutResult {
            app_metadata: metadata.into(),
        }));
        if name.is_some()
            && let Some(leader) = self.state.database.leading_address().and_then(|address| address.parse().ok())
        {
            // Where such writes need not be passed on.
            answer.metadata_mut().insert(request_name::LEADER, leader);
        }
        Ok(answer)
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<arrow_flight::Result> {
        let caller = self.caller(&request).await?;
        let name = name(&request)?;
        let results = request::named(name, self.state.act(&caller, request.get_ref(), name)).await?;
        Ok(caller.answer(stream::iter(results.map(|body| Ok(arrow_flight::Result { body }))).boxed()))
    }

    async fn list_actions(&self, request: Request<Empty>) -> Answer<ActionType> {
        self.caller(&request).await?;
        Ok(Response::new(stream::iter(action::list().into_iter().map(Ok)).boxed()))
    }

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Answer<FlightData> {
        self.caller(&request).await?;
        Err(Status::unimplemented("DoExchange is not part of Flight SQL"))
    }
}

/// The name that a client has given to its request.
fn name<T>(request: &Request<T>) -> Result<Option<RequestName>, Status> {
    let headers = request.metadata();
    request_name::read(|name| headers.get(name).and_then(|value| value.to_str().ok())).map_err(invalid)
}

/// The command in a descriptor.
fn command(descriptor: &FlightDescriptor) -> Result<Command, Status> {
    if descriptor.r#type() == DescriptorType::Path {
        return Err(invalid("a path names no flight here: send a Flight SQL command"));
    }
    unwrap(&descriptor.cmd)
}

/// The command in an envelope.
fn unwrap(bytes: &Bytes) -> Result<Command, Status> {
    let any = Any::decode(&**bytes).map_err(|error| invalid(format!("not a Flight SQL command: {error}")))?;
    Command::try_from(any).map_err(|error| invalid(error.to_string()))
}

/// The credentials in the first message of a handshake, as the first generation of clients send them.
async fn from_payload(mut messages: Streaming<HandshakeRequest>) -> Result<Credentials, Status> {
    let payload = match messages.message().await? {
        Some(message) if !message.payload.is_empty() => message.payload,
        _ => return Ok(Credentials::None),
    };
    let basic = BasicAuth::decode(&*payload).map_err(|_| Status::unauthenticated("the handshake has no basic credentials"))?;
    Ok(Credentials::Basic {
        user: basic.username,
        password: basic.password,
    })
}

/// A stream of one answer.
fn one<T: Send + 'static>(answer: T) -> BoxStream<'static, Result<T, Status>> {
    stream::iter([Ok(answer)]).boxed()
}

fn substrait() -> Status {
    Status::unimplemented("Substrait plans are not supported: use SQL [0A000]")
}

fn unknown(call: &str, command: &Command) -> Status {
    Status::unimplemented(format!("{call} does not know the command {:?}", command.type_url()))
}
