//! `CALL sparql('kb', 'ASK { … }')` and `CALL sparql_update('kb', 'INSERT DATA { … }')`: what other languages ask and change, as a statement
//! of SQL and so over every wire.
//!
//! Arguments are texts or placeholders. `sparql` gives the answer as it is, in the query's order and with whole terms; `FROM sparql(…)` is the
//! other way, where a query's solutions are a table within SQL.

use std::slice;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Value};

use super::table_function::Call;
use crate::error::{Error, Result};
use crate::rdf::{SparqlQuery, sparql};
use crate::session::{Parameters, QueryResult, Session, done};

/// What can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Procedure {
    Sparql,
    SparqlUpdate,
}

impl Procedure {
    fn of(function: &Function) -> Result<Procedure> {
        match function.name.to_string().to_lowercase().as_str() {
            "sparql" => Ok(Procedure::Sparql),
            "sparql_update" => Ok(Procedure::SparqlUpdate),
            name => Err(Error::invalid("42883", format!("procedure {name} does not exist"))
                .with_hint("there are sparql(dataset, query) and sparql_update(dataset, update)")),
        }
    }

    /// Its name, and what its second argument is.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Procedure::Sparql => ("sparql", "a query"),
            Procedure::SparqlUpdate => ("sparql_update", "an update"),
        }
    }

    /// The dataset's name and the text; `None` for a placeholder whose value is still open.
    fn arguments(self, function: &Function, parameters: &Parameters) -> Result<[Option<String>; 2]> {
        let (name, what) = self.words();
        let wrong = || Error::invalid("42601", format!("{name} takes two arguments: a dataset's name and {what}"));
        let FunctionArguments::List(list) = &function.args else {
            return Err(wrong());
        };
        let is_plain = list.duplicate_treatment.is_none()
            && list.clauses.is_empty()
            && function.over.is_none()
            && function.filter.is_none()
            && function.null_treatment.is_none()
            && function.within_group.is_empty();
        let ([dataset, text], true) = (list.args.as_slice(), is_plain) else {
            return Err(wrong());
        };
        let argument = |argument: &FunctionArg| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) if let Value::Placeholder(placeholder) = &value.value => {
                bound(placeholder, parameters)
            }
            FunctionArg::Unnamed(_) => {
                let call = Call::read(name.to_owned(), slice::from_ref(argument))?;
                call.positional.into_iter().next().map(Some).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        };
        Ok([argument(dataset)?, argument(text)?])
    }
}

/// The text that is bound to a placeholder; `None` while values are open.
fn bound(placeholder: &str, parameters: &Parameters) -> Result<Option<String>> {
    let key = placeholder.trim_start_matches('$');
    let value = match parameters {
        Parameters::Open => return Ok(None),
        Parameters::None => None,
        Parameters::Positional(values) => key
            .parse::<usize>()
            .ok()
            .and_then(|number| number.checked_sub(1))
            .and_then(|at| values.get(at)),
        Parameters::Named(values) => values.iter().find(|(name, _)| name == key).map(|(_, value)| value),
    };
    let value = value.ok_or_else(|| Error::invalid("07001", format!("no value is bound to parameter {placeholder}")))?;
    match value.try_as_str() {
        Some(Some(text)) => Ok(Some(text.to_owned())),
        _ if value.is_null() => Err(Error::invalid("22004", format!("parameter {placeholder} is null"))),
        _ => Err(Error::invalid(
            "42804",
            format!("parameter {placeholder} is a {}, not a text", value.data_type()),
        )),
    }
}

/// Whether a call only reads.
pub(crate) fn only_reads(function: &Function) -> bool {
    matches!(Procedure::of(function), Ok(Procedure::Sparql))
}

/// The columns that a call gives, `None` for one that gives no rows. No columns are known where the query itself is a placeholder.
pub(crate) fn columns(session: &Session, function: &Function) -> Result<Option<SchemaRef>> {
    let procedure = Procedure::of(function)?;
    let [dataset, text] = procedure.arguments(function, &Parameters::Open)?;
    if let Some(dataset) = dataset {
        session.dataset(&dataset)?;
    }
    match (procedure, text) {
        (Procedure::SparqlUpdate, _) => Ok(None),
        (Procedure::Sparql, None) => Ok(Some(Arc::new(Schema::empty()))),
        (Procedure::Sparql, Some(text)) => sparql::columns(&text).map_err(of_query).map(Some),
    }
}

/// Runs a call.
pub(crate) async fn run(session: &Session, function: &Function, parameters: &Parameters) -> Result<QueryResult> {
    let procedure = Procedure::of(function)?;
    let [Some(dataset), Some(text)] = procedure.arguments(function, parameters)? else {
        return Err(Error::invalid("07001", "no value is bound to a parameter"));
    };
    let request = SparqlQuery {
        dataset,
        text,
        ..SparqlQuery::default()
    };
    match procedure {
        Procedure::Sparql => sparql::answer(session, &request).await.map_err(of_query),
        Procedure::SparqlUpdate => {
            let updated = session.run_update(&request).await;
            updated.map_err(|error| error.of_inner_text("SPARQL update"))?;
            Ok(done("CALL", None))
        }
    }
}

/// An error's place is one of the query, not of the statement that calls it.
fn of_query(error: Error) -> Error {
    error.of_inner_text("SPARQL query")
}
