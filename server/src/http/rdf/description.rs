//! The service description (SPARQL 1.1 Service Description): what an endpoint can do, as RDF.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse};
use oxrdf::vocab::rdf;
use oxrdf::{BlankNode, NamedNode, NamedNodeRef, NamedOrBlankNode, Term, Triple};
use oxrdfio::RdfSerializer;
use pyralog_models::rdf::SparqlQuery;

use super::answer::on_runtime;
use super::form::{GRAPHS, RESULTS, negotiate};
use super::request::own_iri;
use crate::http::State;
use crate::http::error::Problem;

const VOCABULARY: &str = "http://www.w3.org/ns/sparql-service-description#";
const FORMATS: &str = "http://www.w3.org/ns/formats/";

/// Answers with the description of a dataset's endpoint, in a form that the client takes.
pub async fn describe(request: &HttpRequest, state: &State, dataset: &str) -> Result<HttpResponse, Problem> {
    let form = negotiate(request, &GRAPHS)?;
    // There is nothing to be said of a dataset that does not exist.
    let ask = SparqlQuery {
        dataset: dataset.to_owned(),
        text: "ASK {}".to_owned(),
        ..SparqlQuery::default()
    };
    let session = state.database.session();
    on_runtime(state, state.options.statement_timeout, async move {
        session.sparql(ask).await.map(drop)
    })
    .await?;
    let endpoint = own_iri(request);
    let mut serializer = RdfSerializer::from_format(form).for_writer(Vec::new());
    let written = triples(&endpoint, state.database.fetches())
        .iter()
        .try_for_each(|triple| serializer.serialize_triple(triple));
    let body = written.and_then(|()| serializer.finish());
    let body = body.map_err(|error| Problem::bad_request("BAD_DESCRIPTION", format!("the description cannot be written: {error}")))?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, form.media_type())).body(body))
}

fn term(name: &str) -> NamedNode {
    NamedNode::new_unchecked(format!("{VOCABULARY}{name}"))
}

fn triples(endpoint: &str, fetches: bool) -> Vec<Triple> {
    let service = BlankNode::default();
    let dataset = BlankNode::default();
    let graph = BlankNode::default();
    let mut triples = Vec::new();
    let mut say = |subject: &BlankNode, predicate: NamedNodeRef<'_>, object: Term| {
        triples.push(Triple::new(NamedOrBlankNode::from(subject.clone()), predicate.into_owned(), object));
    };
    say(&service, rdf::TYPE, term("Service").into());
    if let Ok(endpoint) = NamedNode::new(endpoint) {
        say(&service, term("endpoint").as_ref(), endpoint.into());
    }
    for language in ["SPARQL10Query", "SPARQL11Query", "SPARQL11Update"] {
        say(&service, term("supportedLanguage").as_ref(), term(language).into());
    }
    let results = RESULTS.iter().map(|(form, _)| form.iri());
    let graphs = GRAPHS.iter().map(|(form, _)| form.iri());
    for form in results.chain(graphs).filter(|iri| iri.starts_with(FORMATS)) {
        say(&service, term("resultFormat").as_ref(), NamedNode::new_unchecked(form).into());
    }
    for (form, _) in &GRAPHS {
        say(&service, term("inputFormat").as_ref(), NamedNode::new_unchecked(form.iri()).into());
    }
    say(&service, term("feature").as_ref(), term("EmptyGraphs").into());
    if fetches {
        say(&service, term("feature").as_ref(), term("BasicFederatedQuery").into());
    }
    say(&service, term("defaultDataset").as_ref(), dataset.clone().into());
    say(&dataset, rdf::TYPE, term("Dataset").into());
    say(&dataset, term("defaultGraph").as_ref(), graph.clone().into());
    say(&graph, rdf::TYPE, term("Graph").into());
    triples
}
