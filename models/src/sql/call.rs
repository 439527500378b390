//! `CALL sparql_update('kb', 'INSERT DATA { … }')`: what other languages change, as a statement of SQL and so over every wire.

use datafusion::sql::sqlparser::ast::{Function, FunctionArguments};

use super::table_function::Call;
use crate::error::{Error, Result};
use crate::rdf::SparqlQuery;
use crate::session::{QueryResult, Session, done};

/// Runs a call.
pub(crate) async fn run(session: &Session, function: &Function) -> Result<QueryResult> {
    let name = function.name.to_string().to_lowercase();
    if name != "sparql_update" {
        return Err(
            Error::invalid("42883", format!("procedure {name} does not exist")).with_hint("there is sparql_update(dataset, update)")
        );
    }
    let arguments = match &function.args {
        FunctionArguments::List(list) => list.args.as_slice(),
        _ => &[],
    };
    let call = Call::read(name, arguments)?;
    let ([dataset, text], true) = (call.positional.as_slice(), call.named.is_empty()) else {
        return Err(Error::invalid(
            "42601",
            "sparql_update takes two arguments: a dataset's name and an update",
        ));
    };
    let update = SparqlQuery {
        dataset: dataset.clone(),
        text: text.clone(),
        ..SparqlQuery::default()
    };
    session
        .run_update(&update)
        .await
        .map_err(|error| error.of_inner_text("SPARQL update"))?;
    Ok(done("CALL", None))
}
