//! The SPARQL 1.1 Graph Store Protocol: graphs as resources, named by `?graph=`, by `?default`, or by the request's own IRI.

use actix_web::http::header::{CONTENT_TYPE, LOCATION};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use futures::{StreamExt, stream};
use oxrdf::{GraphName, NamedNode};
use oxrdfio::RdfFormat;
use pyralog_models::rdf::{RdfLoad, SparqlQuery, SparqlResult};
use pyralog_models::request::named;
use pyralog_models::{Error, ErrorKind, Session};

use super::answer::{self, Forms, on_runtime};
use super::form::{DATASETS, GRAPHS, media_type, negotiate, syntax};
use super::protocol::read_body;
use super::request::own_iri;
use crate::http::error::Problem;
use crate::http::key::parse_query;
use crate::http::sql::time_limit;
use crate::http::{State, request_name};

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// The whole dataset.
    Dataset,
    /// One graph.
    Graph(GraphName),
}

/// A body that is RDF.
struct Upload {
    format: RdfFormat,
    base: String,
    body: Bytes,
}

/// Serves all methods.
pub async fn dispatch(request: HttpRequest, payload: web::Payload, state: State) -> Result<HttpResponse, Problem> {
    let methods = [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE];
    let body = read_body(&request, payload, &state, &methods).await?;
    let dataset = request.match_info().get("dataset").unwrap_or_default().to_owned();
    let target = target(&request)?;
    match *request.method() {
        Method::GET | Method::HEAD => get(&request, &state, dataset, target).await,
        Method::DELETE => delete(&request, &state, dataset, target).await,
        _ => upload(&request, &state, dataset, target, body).await,
    }
}

fn target(request: &HttpRequest) -> Result<Target, Problem> {
    let query = parse_query(request.uri().query())?;
    let graphs = query.texts("graph")?;
    let is_default = query.bytes("default").is_some();
    let is_direct = request.match_info().get("path").is_some_and(|path| !path.is_empty());
    let iri = match (graphs.as_slice(), is_default, is_direct) {
        ([], false, false) => return Ok(Target::Dataset),
        ([], true, false) => return Ok(Target::Graph(GraphName::DefaultGraph)),
        ([], false, true) => own_iri(request),
        ([graph], false, false) => match oxiri::Iri::parse(own_iri(request)).and_then(|base| base.resolve(graph)) {
            Ok(iri) => iri.into_inner(),
            Err(error) => return Err(Problem::bad_request("BAD_GRAPH", format!("the graph <{graph}> is no IRI: {error}"))),
        },
        _ => {
            return Err(Problem::bad_request(
                "BAD_GRAPH",
                "a request is about one graph: ?graph=IRI, ?default, or the path behind /store/",
            ));
        }
    };
    match NamedNode::new(iri) {
        Ok(iri) => Ok(Target::Graph(iri.into())),
        Err(error) => Err(Problem::bad_request("BAD_GRAPH", format!("the graph's name is no IRI: {error}"))),
    }
}

fn no_graph(graph: &NamedNode) -> Error {
    Error::new(ErrorKind::NotFound, "42P01", format!("the graph {graph} does not exist"))
}

/// Whether a graph is there. The default graph always is.
async fn exists(session: &Session, dataset: &str, graph: &GraphName) -> Result<bool, Error> {
    let GraphName::NamedNode(graph) = graph else { return Ok(true) };
    let query = SparqlQuery {
        dataset: dataset.to_owned(),
        text: format!("ASK {{ GRAPH {graph} {{}} }}"),
        ..SparqlQuery::default()
    };
    match session.sparql(query).await? {
        SparqlResult::Boolean(exists) => Ok(exists),
        _ => Err(Error::new(ErrorKind::Internal, "XX000", "ASK gave no truth value")),
    }
}

async fn get(request: &HttpRequest, state: &State, dataset: String, target: Target) -> Result<HttpResponse, Problem> {
    let form = match target {
        Target::Dataset => negotiate(request, &DATASETS)?,
        Target::Graph(_) => negotiate(request, &GRAPHS)?,
    };
    let limit = time_limit(request)?.or(state.options.statement_timeout);
    let session = state.database.session();
    let work = async move {
        match target {
            Target::Dataset => session.rdf_quads(&dataset).await.map(SparqlResult::Graph),
            Target::Graph(graph) => {
                if let (GraphName::NamedNode(name), false) = (&graph, exists(&session, &dataset, &graph).await?) {
                    return Err(no_graph(name));
                }
                let pattern = match &graph {
                    GraphName::NamedNode(name) => format!("GRAPH {name} {{ ?s ?p ?o }}"),
                    _ => "?s ?p ?o".to_owned(),
                };
                let query = SparqlQuery {
                    dataset,
                    text: format!("CONSTRUCT {{ ?s ?p ?o }} WHERE {{ {pattern} }}"),
                    ..SparqlQuery::default()
                };
                session.sparql(query).await
            }
        }
    };
    let results = Err(Problem::bad_request("NOT_ACCEPTABLE", "a graph has no solutions"));
    answer::stream(state, work, Forms { results, graph: Ok(form) }, limit).await
}

async fn delete(request: &HttpRequest, state: &State, dataset: String, target: Target) -> Result<HttpResponse, Problem> {
    let text = match target {
        Target::Dataset => "DROP ALL".to_owned(),
        Target::Graph(GraphName::NamedNode(graph)) => format!("DROP GRAPH {graph}"),
        Target::Graph(_) => "DROP DEFAULT".to_owned(),
    };
    let query = SparqlQuery {
        dataset,
        text,
        ..SparqlQuery::default()
    };
    let (session, name) = (state.database.session(), request_name(request)?);
    let limit = time_limit(request)?.or(state.options.statement_timeout);
    on_runtime(state, limit, async move { named(name, session.sparql_update(query)).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// PUT replaces, POST adds. A POST of triples to the dataset makes a graph of a new name.
async fn upload(request: &HttpRequest, state: &State, dataset: String, target: Target, body: Bytes) -> Result<HttpResponse, Problem> {
    let media = media_type(request)?.unwrap_or_default();
    let unknown = |media: &str| {
        let message = match media {
            "" => "the body has no Content-Type".to_owned(),
            media => format!("cannot read {media}"),
        };
        let known: Vec<&str> = GRAPHS.iter().filter_map(|(_, types)| types.first().copied()).collect();
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "BAD_CONTENT_TYPE", message).with_hint(format!("there are {}", known.join(", ")))
    };
    let replaces = request.method() == Method::PUT;
    let parts = match media.as_str() {
        "multipart/form-data" => parts(request, body).await?,
        _ => vec![(media, body)],
    };
    let mut bodies = Vec::with_capacity(parts.len());
    for (media, body) in parts {
        bodies.push((syntax(&media).ok_or_else(|| unknown(&media))?, body));
    }
    let has_quads = bodies.iter().any(|(format, _)| format.supports_datasets());
    let is_new_name = target == Target::Dataset && !replaces && !has_quads;
    let target = match target {
        Target::Dataset if is_new_name => {
            let iri = format!("{}/{}", own_iri(request).trim_end_matches('/'), uuid::Uuid::new_v4());
            let name = NamedNode::new(iri).map_err(|error| Problem::bad_request("BAD_GRAPH", error.to_string()))?;
            Target::Graph(name.into())
        }
        target => target,
    };
    let base = match &target {
        Target::Graph(GraphName::NamedNode(graph)) => graph.as_str().to_owned(),
        _ => own_iri(request),
    };
    let uploads = bodies
        .into_iter()
        .map(|(format, body)| Upload {
            format,
            base: base.clone(),
            body,
        })
        .collect();
    let (session, name) = (state.database.session(), request_name(request)?);
    let limit = time_limit(request)?.or(state.options.statement_timeout);
    let graph = target.clone();
    let work = async move { named(name, write(&session, dataset, graph, replaces, uploads)).await };
    let is_new = on_runtime(state, limit, work).await?;
    let mut response = match is_new {
        true => HttpResponse::Created(),
        false => HttpResponse::NoContent(),
    };
    if let (Target::Graph(GraphName::NamedNode(graph)), true) = (&target, is_new) {
        response.insert_header((LOCATION, graph.as_str()));
    }
    response.insert_header((CONTENT_TYPE, "text/plain"));
    Ok(response.finish())
}

/// The parts of a form with their media types.
async fn parts(request: &HttpRequest, body: Bytes) -> Result<Vec<(String, Bytes)>, Problem> {
    let bad = |error: multer::Error| Problem::bad_request("BAD_FORM", format!("the form cannot be read: {error}"));
    let header = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(header.unwrap_or_default()).map_err(bad)?;
    let mut form = multer::Multipart::new(futures::stream::iter([Ok::<_, std::io::Error>(body)]), boundary);
    let mut parts = Vec::new();
    while let Some(field) = form.next_field().await.map_err(bad)? {
        let media = field.content_type().map(|media| media.essence_str().to_ascii_lowercase());
        parts.push((media.unwrap_or_default(), field.bytes().await.map_err(bad)?));
    }
    Ok(parts)
}

/// Writes in one transaction; whether the graph is new.
async fn write(session: &Session, dataset: String, target: Target, replaces: bool, uploads: Vec<Upload>) -> Result<bool, Error> {
    session.begin().await?;
    let is_new = match &target {
        Target::Dataset => false,
        Target::Graph(graph) => !exists(session, &dataset, graph).await?,
    };
    let update = |text: String| {
        session.sparql_update(SparqlQuery {
            dataset: dataset.clone(),
            text,
            ..SparqlQuery::default()
        })
    };
    if replaces {
        update(match &target {
            Target::Dataset => "DROP ALL".to_owned(),
            Target::Graph(GraphName::NamedNode(graph)) => format!("CLEAR SILENT GRAPH {graph}"),
            Target::Graph(_) => "CLEAR DEFAULT".to_owned(),
        })
        .await?;
    }
    let graph = match &target {
        Target::Dataset => None,
        Target::Graph(graph) => Some(graph.clone()),
    };
    for upload in uploads {
        let load = RdfLoad {
            dataset: (None, dataset.clone()),
            format: upload.format,
            base: Some(upload.base),
            graph: graph.clone(),
            lenient: false,
        };
        session.load_rdf(load, stream::iter([Ok(upload.body)]).boxed()).await?;
    }
    if let Target::Graph(GraphName::NamedNode(graph)) = &target {
        // Without triples, too, it is there now.
        update(format!("CREATE SILENT GRAPH {graph}")).await?;
    }
    session.commit().await?;
    Ok(is_new)
}
