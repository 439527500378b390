//! `DELETE /cluster/nodes/{node}`: takes a node out of the cluster.

use actix_web::{HttpResponse, web};
use pyralog_models::{Error, ErrorKind};

use super::State;
use super::error::Problem;

/// Status 204 once the node votes in no group any more.
pub async fn remove(node: web::Path<u64>, state: State) -> Result<HttpResponse, Problem> {
    let (database, node) = (state.database.clone(), node.into_inner());
    let removed = state.runtime.spawn(async move { database.remove_node(node).await }).await;
    removed.map_err(|error| Error::new(ErrorKind::Internal, "XX000", format!("the request's task failed: {error}")))??;
    Ok(HttpResponse::NoContent().finish())
}
