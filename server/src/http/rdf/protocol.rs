//! The SPARQL 1.1 Protocol.

use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use pyralog_models::Session;
use pyralog_models::rdf::SparqlQuery;
use pyralog_models::request::named;

use super::answer;
use super::description;
use super::form::{GRAPHS, RESULTS, negotiate};
use super::request::{Kind, Parameters};
use crate::http::error::Problem;
use crate::http::sql::time_limit;
use crate::http::{State, body, request_name};

/// Queries, and the service description for who sends none.
pub async fn query(request: HttpRequest, payload: web::Payload, state: State, dataset: web::Path<String>) -> Result<HttpResponse, Problem> {
    let body = read_body(&request, payload, &state, &[Method::GET, Method::HEAD, Method::POST]).await?;
    let parameters = Parameters::read(&request, &body)?;
    run_query(&request, &state, parameters, dataset.into_inner()).await
}

/// Updates.
pub async fn update(
    request: HttpRequest,
    payload: web::Payload,
    state: State,
    dataset: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let body = read_body(&request, payload, &state, &[Method::POST]).await?;
    let parameters = Parameters::read(&request, &body)?;
    run_update(&request, &state, parameters, dataset.into_inner()).await
}

/// Queries and updates of the default dataset.
pub async fn default_dataset(request: HttpRequest, payload: web::Payload, state: State) -> Result<HttpResponse, Problem> {
    let body = read_body(&request, payload, &state, &[Method::GET, Method::HEAD, Method::POST]).await?;
    let parameters = Parameters::read(&request, &body)?;
    let dataset = state.database.default_dataset().await?;
    match parameters.has(Kind::Update) {
        true => run_update(&request, &state, parameters, dataset).await,
        false => run_query(&request, &state, parameters, dataset).await,
    }
}

/// The body of a request with one of these methods.
pub async fn read_body(request: &HttpRequest, payload: web::Payload, state: &State, methods: &[Method]) -> Result<Bytes, Problem> {
    if !methods.contains(request.method()) {
        let message = format!("{} is not possible on {}", request.method(), request.path());
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message));
    }
    match *request.method() {
        Method::POST | Method::PUT => body::read(request, payload, &state.options).await,
        _ => Ok(Bytes::new()),
    }
}

async fn run_query(request: &HttpRequest, state: &State, parameters: Parameters, dataset: String) -> Result<HttpResponse, Problem> {
    if request.method() != Method::POST && !parameters.has(Kind::Query) {
        return description::describe(request, state, &dataset).await;
    }
    let query = parameters.query(Kind::Query, dataset)?;
    let forms = answer::Forms {
        results: negotiate(request, &RESULTS),
        graph: negotiate(request, &GRAPHS),
    };
    let limit = time_limit(request)?.or(state.options.statement_timeout);
    answer::run(state, query, forms, limit).await
}

async fn run_update(request: &HttpRequest, state: &State, parameters: Parameters, dataset: String) -> Result<HttpResponse, Problem> {
    let query = parameters.query(Kind::Update, dataset)?;
    let limit = time_limit(request)?.or(state.options.statement_timeout);
    let name = request_name(request)?;
    let work = |session: Session, query: SparqlQuery| async move { named(name, session.sparql_update(query)).await };
    answer::on_runtime(state, limit, work(state.database.session(), query)).await?;
    Ok(HttpResponse::NoContent().finish())
}
