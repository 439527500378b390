//! A Flight server that answers by the text of the statement and notes what it was asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::{
    ActionBeginTransactionResult, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, ActionEndTransactionRequest,
    Any, Command, DoPutPreparedStatementResult, DoPutUpdateResult, ProstMessageExt,
};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use pyralog_client::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

/// What the server was asked, in order.
pub type Events = Arc<Mutex<Vec<String>>>;

/// The scripted server.
#[derive(Clone, Default)]
pub struct Fake {
    events: Events,
    conflicts: Arc<AtomicUsize>,
}

/// A running server and its notes.
pub struct Running {
    pub address: SocketAddr,
    pub events: Events,
}

impl Running {
    /// Starts a server on a free port.
    pub async fn start() -> Running {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let fake = Fake::default();
        let events = Arc::clone(&fake.events);
        let serve = tonic::transport::Server::builder()
            .add_service(FlightServiceServer::new(fake).max_decoding_message_size(usize::MAX))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serve);
        Running { address, events }
    }

    /// The address as the client wants it.
    pub fn url(&self) -> String {
        format!("grpc://{}", self.address)
    }

    /// All notes so far.
    pub fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }

    /// Waits for a note that begins with a text.
    pub async fn wait_for(&self, start: &str) -> String {
        for _ in 0..500 {
            if let Some(event) = self.events().into_iter().find(|event| event.starts_with(start)) {
                return event;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no event \"{start}\" in {:?}", self.events());
    }
}

/// Notes when a stream is dropped before its end.
struct Watched(Events, &'static str);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(self.1.to_owned());
    }
}

/// One batch with `id` from `start`.
pub fn ids(start: i64, count: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(start..start + count));
    RecordBatch::try_from_iter([("id", ids)]).unwrap()
}

impl Fake {
    fn note(&self, text: impl Into<String>) {
        self.events.lock().unwrap().push(text.into());
    }

    /// What a query does at planning.
    fn plan(&self, sql: &str) -> Result<FlightInfo, Status> {
        self.note(format!("query {sql}"));
        if sql.contains("missing") {
            return Err(Status::not_found("table \"missing\" does not exist [42P01]"));
        }
        if sql.contains("flaky") && self.conflicts.fetch_add(1, Ordering::SeqCst) < 2 {
            return Err(Status::unavailable("starting up"));
        }
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(sql.to_owned()));
        let second = sql.contains("two endpoints").then(|| endpoint.clone());
        Ok([Some(endpoint), second]
            .into_iter()
            .flatten()
            .fold(FlightInfo::new(), FlightInfo::with_endpoint))
    }

    fn update(&self, sql: &str) -> Result<i64, Status> {
        self.note(format!("update {sql}"));
        if sql.contains("busy") && self.conflicts.fetch_add(1, Ordering::SeqCst) < 2 {
            return Err(Status::aborted("somebody else changed it [40001]"));
        }
        if sql.contains("unsure") {
            return Err(Status::unavailable("going down"));
        }
        Ok(if sql.starts_with("CREATE") { -1 } else { 3 })
    }

    async fn ingest(&self, table: &str, data: BoxStream<'static, Result<FlightData, Status>>) -> Result<i64, Status> {
        let batches = arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(data.map_err(Into::into));
        match batches.try_fold(0, async |rows, batch| Ok(rows + batch.num_rows() as i64)).await {
            Ok(rows) => {
                self.note(format!("ingest {table} {rows}"));
                Ok(rows)
            }
            Err(error) => {
                self.note(format!("ingest {table} aborted"));
                Err(error.into())
            }
        }
    }
}

fn one<T: Send + 'static>(value: T) -> Response<BoxStream<'static, Result<T, Status>>> {
    Response::new(stream::iter([Ok(value)]).boxed())
}

fn command(bytes: &[u8]) -> Result<Command, Status> {
    let any = Any::decode(bytes).map_err(|e| Status::invalid_argument(e.to_string()))?;
    Command::try_from(any).map_err(|e| Status::invalid_argument(e.to_string()))
}

#[tonic::async_trait]
impl FlightService for Fake {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    async fn handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Result<Response<Self::HandshakeStream>, Status> {
        let basic = request.metadata().get("authorization").cloned();
        if basic.as_ref().and_then(|v| v.to_str().ok()) != Some("Basic YW5uOnB3") {
            return Err(Status::unauthenticated("wrong password [28P01]"));
        }
        let mut response = one(HandshakeResponse::default());
        response.metadata_mut().insert("authorization", "Bearer t0k3n".parse().unwrap());
        Ok(response)
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let header = |name: &str| request.metadata().get(name).and_then(|v| v.to_str().ok()).unwrap_or("-").to_owned();
        self.note(format!("cookie {} authorization {}", header("cookie"), header("authorization")));
        let sql = match command(&request.get_ref().cmd)? {
            Command::CommandStatementQuery(query) => query.query,
            Command::CommandPreparedStatementQuery(query) => String::from_utf8_lossy(&query.prepared_statement_handle).into_owned(),
            other => return Err(Status::unimplemented(other.type_url().to_owned())),
        };
        let mut response = Response::new(self.plan(&sql)?);
        response.metadata_mut().insert("set-cookie", "sid=42; Path=/".parse().unwrap());
        Ok(response)
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let sql = String::from_utf8_lossy(&request.get_ref().ticket).into_owned();
        let batches: BoxStream<'static, _> = if sql.contains("endless") {
            let watched = Watched(Arc::clone(&self.events), "stream dropped");
            stream::unfold((watched, 0), async |(watched, n)| Some((Ok(ids(n * 1000, 1000)), (watched, n + 1)))).boxed()
        } else if sql.contains("breaks") {
            let error = Status::resource_exhausted("memory limit reached [53200]");
            stream::iter([Ok(ids(0, 10)), Err(error.into())]).boxed()
        } else if sql.contains("empty") {
            stream::empty().boxed()
        } else {
            stream::iter([Ok(ids(1, 3))]).boxed()
        };
        let data = FlightDataEncoderBuilder::new().with_schema(ids(0, 0).schema()).build(batches);
        Ok(Response::new(data.map_err(Status::from).boxed()))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let header = |name: &str| request.metadata().get(name).and_then(|value| value.to_str().ok());
        if let (Some(client), Some(serial)) = (header("pyralog-client"), header("pyralog-serial")) {
            self.note(format!("named {client} {serial}"));
        }
        let mut data = request.into_inner();
        let first = data.message().await?.ok_or_else(|| Status::invalid_argument("empty put"))?;
        let cmd = first.flight_descriptor.clone().unwrap_or_default().cmd;
        let all = stream::iter([Ok(first)]).chain(data).boxed();
        let handle_text = |handle: &[u8]| String::from_utf8_lossy(handle).into_owned();
        let record_count = match command(&cmd)? {
            Command::CommandStatementUpdate(update) => self.update(&update.query)?,
            Command::CommandPreparedStatementUpdate(update) => {
                let rows = rows_of(all).await?;
                self.update(&format!("{} with {rows}", handle_text(&update.prepared_statement_handle)))?
            }
            Command::CommandPreparedStatementQuery(query) => {
                let rows = rows_of(all).await?;
                let handle = format!("{} bound {rows}", handle_text(&query.prepared_statement_handle));
                let bound = DoPutPreparedStatementResult {
                    prepared_statement_handle: Some(handle.into()),
                };
                return Ok(one(PutResult {
                    app_metadata: bound.encode_to_vec().into(),
                }));
            }
            Command::CommandStatementIngest(ingest) if ingest.table == "silent" => {
                return Ok(Response::new(stream::empty().boxed()));
            }
            Command::CommandStatementIngest(ingest) => {
                let fake = self.clone();
                // Headers go out at once, the count when the upload is done: a client must cope with both.
                let result = async move {
                    let record_count = fake.ingest(&ingest.table, all).await?;
                    Ok(PutResult {
                        app_metadata: DoPutUpdateResult { record_count }.encode_to_vec().into(),
                    })
                };
                return Ok(Response::new(stream::once(tokio::spawn(result)).map(|r| r.unwrap()).boxed()));
            }
            other => return Err(Status::unimplemented(other.type_url().to_owned())),
        };
        Ok(one(PutResult {
            app_metadata: DoPutUpdateResult { record_count }.encode_to_vec().into(),
        }))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let Action { r#type: name, body } = request.into_inner();
        let any = Any::decode(body.as_ref()).unwrap_or_default();
        let answer = |any: Any| {
            one(arrow_flight::Result {
                body: any.encode_to_vec().into(),
            })
        };
        match name.as_str() {
            "BeginTransaction" => Ok(answer(
                ActionBeginTransactionResult {
                    transaction_id: "tx1".into(),
                }
                .as_any(),
            )),
            "EndTransaction" => {
                let end: ActionEndTransactionRequest = any.unpack().unwrap().unwrap();
                self.note(format!("end {:?}", end.action()));
                // The error comes in the stream, behind good headers.
                let late: Result<arrow_flight::Result, Status> = Err(Status::aborted("first committer wins [40001]"));
                Ok(Response::new(stream::iter([late]).boxed()))
            }
            "CreatePreparedStatement" => {
                let create: ActionCreatePreparedStatementRequest = any.unpack().unwrap().unwrap();
                self.note(format!("prepare {}", create.query));
                let result = ActionCreatePreparedStatementResult {
                    prepared_statement_handle: create.query.into_bytes().into(),
                    ..ActionCreatePreparedStatementResult::default()
                };
                Ok(answer(result.as_any()))
            }
            other => {
                self.note(other.to_owned());
                Ok(Response::new(stream::empty().boxed()))
            }
        }
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented("list_flights"))
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented("poll_flight_info"))
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(Status::unimplemented("get_schema"))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(Status::unimplemented("list_actions"))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented("do_exchange"))
    }
}

/// The number of rows bound by a put; 0 where no schema came.
async fn rows_of(data: BoxStream<'static, Result<FlightData, Status>>) -> Result<usize, Status> {
    let messages: Vec<FlightData> = data
        .try_filter(|m| std::future::ready(!m.data_header.is_empty()))
        .try_collect()
        .await?;
    let batches = arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(stream::iter(messages.into_iter().map(Ok)));
    Ok(batches.try_fold(0, async |rows, batch| Ok(rows + batch.num_rows())).await?)
}
