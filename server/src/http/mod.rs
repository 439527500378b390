//! The HTTP wire, on actix-web: health, metrics, SQL and key-value.
//!
//! A request is read on an actix worker (one thread, many connections); whatever touches the database runs on the runtime of
//! statements, so that a query uses all cores and never stalls the connections of its worker.

pub mod accept;
pub mod body;
pub mod cluster;
pub mod cors;
pub mod error;
pub mod etag;
pub mod health;
pub mod key;
pub mod kv;
pub mod metrics;
pub mod node_metrics;
pub mod page;
pub mod parameters;
pub mod rdf;
pub mod result_writer;
pub mod sql;
pub mod statement;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::http::{KeepAlive, StatusCode};
use actix_web::middleware::{Compress, Condition, Next, from_fn};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use pyralog_models::{Database, RequestName};
use tokio::runtime::Handle;

use self::error::Problem;
use self::metrics::HttpCounters;
use crate::request_name;

/// Limits of the HTTP wire.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Largest request body, in bytes, after decompression.
    pub max_body_bytes: usize,
    /// Time in which a request's head, and then its body, must arrive.
    pub request_timeout: Duration,
    /// Time limit of a statement that names none; `None`: no limit.
    pub statement_timeout: Option<Duration>,
    /// How long a stop waits for requests that run.
    pub shutdown_timeout: Duration,
    /// Origins whose pages may use this; `*` stands for all.
    pub cors_origins: Vec<String>,
}

/// What every request sees.
pub struct HttpState {
    /// The database.
    pub database: Database,
    /// The runtime that statements run on.
    pub runtime: Handle,
    /// Limits.
    pub options: HttpOptions,
    /// Counts for `/metrics`.
    pub counters: HttpCounters,
    /// When the process began to serve.
    pub started: Instant,
}

/// The state as handlers receive it.
pub type State = web::Data<HttpState>;

/// Makes the server on a listening socket. The caller awaits it, and stops it through its handle.
pub fn server(listener: TcpListener, state: Arc<HttpState>) -> io::Result<Server> {
    let options = state.options.clone();
    let state = web::Data::from(state);
    let origins = options.cors_origins.clone();
    let app = move || {
        App::new()
            .app_data(state.clone())
            .wrap(Condition::new(!origins.is_empty(), cors::allow(&origins)))
            .wrap(from_fn(cors::refuse_strangers))
            .wrap(from_fn(count))
            .configure(routes)
    };
    let server = HttpServer::new(app)
        .disable_signals()
        .client_request_timeout(options.request_timeout)
        // An answer's last chunk must not wait until the client has acknowledged the one before, which clients put off by 40 ms.
        .tcp_nodelay(true)
        .keep_alive(KeepAlive::Timeout(Duration::from_secs(75)))
        // A connection whose sending half is closed counts as gone: only so does a vanished client stop its statement.
        .h1_allow_half_closed(false)
        .shutdown_timeout(options.shutdown_timeout.as_secs())
        .listen(listener)?
        .run();
    Ok(server)
}

/// All paths.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/health", web::get().to(health::health)))
        .service(resource("/metrics", web::get().to(metrics::metrics)))
        .service(resource("/cluster/nodes/{node}", web::delete().to(cluster::remove)))
        .service(
            web::resource("/sql")
                .wrap(Compress::default())
                .route(web::post().to(sql::sql))
                .default_service(web::to(method_not_allowed)),
        )
        .configure(page::routes)
        .configure(rdf::routes)
        .service(web::scope("/kv").default_service(web::to(kv::dispatch)))
        .default_service(web::to(other));
}

fn resource(path: &str, route: actix_web::Route) -> actix_web::Resource {
    web::resource(path).route(route).default_service(web::to(method_not_allowed))
}

/// The name that a client has given to its request.
fn request_name(request: &HttpRequest) -> Result<Option<RequestName>, Problem> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    request_name::read(header).map_err(|problem| Problem::bad_request("BAD_REQUEST_NAME", problem))
}

async fn method_not_allowed(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let message = format!("{} is not possible on {}", request.method(), request.path());
    Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message))
}

/// Paths of models that this version does not serve yet: a client learns that from the status, not by guessing at its URL.
const PLANNED: &[&str] = &["graphs", "documents", "tensors"];

async fn other(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let path = request.path();
    let first = path.trim_start_matches('/').split('/').next().unwrap_or("");
    if PLANNED.contains(&first) {
        let message = format!("/{first} is not supported by this version");
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "0A000", message)
            .with_hint("POST /sql, /kv/{bucket}/{key}, /sparql and /rdf/{dataset}/query are there"));
    }
    Err(Problem::new(
        StatusCode::NOT_FOUND,
        "NO_SUCH_PATH",
        format!("there is nothing at {path}"),
    ))
}

/// Counts every request by route and status.
async fn count(
    request: ServiceRequest,
    next: Next<impl actix_web::body::MessageBody + 'static>,
) -> Result<ServiceResponse<impl actix_web::body::MessageBody>, actix_web::Error> {
    let state = request.app_data::<State>().cloned();
    let route = metrics::Route::of(request.path());
    let begun = Instant::now();
    if let Some(state) = &state {
        state.counters.begin();
    }
    let _running = state.as_ref().map(metrics::Running::new);
    let outcome = next.call(request).await;
    let status = match &outcome {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    if let Some(state) = &state {
        state.counters.record(route, status.as_u16(), begun.elapsed());
    }
    outcome
}
