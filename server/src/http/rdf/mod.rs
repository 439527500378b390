//! RDF over HTTP: the SPARQL 1.1 Protocol (queries and updates), the Graph Store Protocol, the service description.
//!
//! ```text
//! /sparql                      queries and updates on the default dataset
//! /rdf/{dataset}/query         queries; without one the service description
//! /rdf/{dataset}/update        updates
//! /rdf/{dataset}/store         the dataset (quads), ?default, ?graph=IRI
//! /rdf/{dataset}/store/…       the graph whose IRI is the request's own
//! ```

mod answer;
mod description;
pub mod form;
mod protocol;
mod request;
mod store;

use actix_web::middleware::Compress;
use actix_web::web;

use super::method_not_allowed;

/// The paths.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(endpoint("/sparql", web::to(protocol::default_dataset)))
        .service(endpoint("/sparql/", web::to(protocol::default_dataset)))
        .service(endpoint("/rdf/{dataset}/query", web::to(protocol::query)))
        .service(endpoint("/rdf/{dataset}/update", web::to(protocol::update)))
        .service(endpoint("/rdf/{dataset}/store", web::to(store::dispatch)))
        .service(endpoint("/rdf/{dataset}/store/{path:.*}", web::to(store::dispatch)));
}

fn endpoint(
    path: &str,
    route: actix_web::Route,
) -> actix_web::Resource<
    impl actix_web::dev::ServiceFactory<
        actix_web::dev::ServiceRequest,
        Config = (),
        Response = actix_web::dev::ServiceResponse<impl actix_web::body::MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    web::resource(path)
        .wrap(Compress::default())
        .route(route)
        .default_service(web::to(method_not_allowed))
}
