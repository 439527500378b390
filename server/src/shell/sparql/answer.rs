//! Runs one request of SPARQL and writes what comes of it.
//!
//! | form | in `box` | in `line` and `markdown` | in `csv` | in `json`, `ndjson`, `arrow`, `parquet` |
//! |---|---|---|---|---|
//! | SELECT | a table, terms as in Turtle | terms as in Turtle | plain values | terms as structs, as `kb.quads` has them |
//! | CONSTRUCT, DESCRIBE | N-Triples | the same, with the columns subject, predicate and object | the same | the same |
//! | ASK | `true` or `false` | a row with the column `boolean` | the same | the same |

use std::time::Instant;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use futures::StreamExt;
use pyralog_models::Position;
use pyralog_models::rdf::SparqlForm;

use super::term_text::{self, Face};
use crate::format::{Format, Triples};
use crate::shell::connection::{Outcome, StatementError};
use crate::shell::runner::{Failure, Runner};

/// Runs a request on a dataset. Dropping the future stops it.
pub async fn run(runner: &mut Runner, dataset: &str, text: &str) -> Result<(), Failure> {
    let begun = Instant::now();
    let form = SparqlForm::of(text);
    let call = call(dataset, text, form);
    let outcome = runner.connection.execute(&call).await.map_err(of_inner_text)?;
    let line = match (form, runner.format) {
        // SELECT may have no variables: then there is nothing to show.
        _ if outcome.schema.fields().is_empty() => {
            runner.finish(outcome).await?;
            "done".to_owned()
        }
        (SparqlForm::Ask, Format::Box) => truth(outcome).await?.to_string(),
        (SparqlForm::Construct | SparqlForm::Describe, Format::Box) => {
            let limit = if runner.output.is_terminal() { runner.max_rows } else { 0 };
            let count = runner.write(outcome, Box::new(Triples::new(limit))).await?;
            // A comment, so that what is written is N-Triples as a whole.
            format!("# {}", counted(count, "triple"))
        }
        (_, format) => {
            let count = runner.print(shown(outcome, format)).await?;
            counted(count, "row")
        }
    };
    runner.tell(&line, begun.elapsed())
}

/// The statement of SQL that carries a request.
fn call(dataset: &str, text: &str, form: SparqlForm) -> String {
    let procedure = if form.is_query() { "sparql" } else { "sparql_update" };
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    format!("CALL {procedure}({}, {})", quoted(dataset), quoted(text))
}

/// The only value of ASK's answer.
async fn truth(mut outcome: Outcome) -> Result<bool, Failure> {
    while let Some(batch) = outcome.rows.next().await {
        let batch = batch?;
        if batch.num_rows() > 0
            && let Some(values) = batch.column(0).as_boolean_opt()
        {
            return Ok(values.value(0));
        }
    }
    Err(StatementError::connection("the query was answered without a truth value").into())
}

/// The answer with its terms as the format shows them.
fn shown(outcome: Outcome, format: Format) -> Outcome {
    let face = match format {
        Format::Csv => Face::Plain,
        Format::Box | Format::Markdown | Format::Line => Face::Turtle,
        Format::Json | Format::Ndjson | Format::Arrow | Format::Parquet => return outcome,
    };
    // The truth value of ASK.
    if outcome.schema.fields().iter().any(|field| field.data_type() == &DataType::Boolean) {
        return outcome;
    }
    let schema = term_text::schema(&outcome.schema);
    let texts = schema.clone();
    let show = move |batch: RecordBatch| -> Result<RecordBatch, ArrowError> { term_text::batch(&batch, &texts, face) };
    let rows = outcome.rows.map(move |batch| {
        show(batch?).map_err(|error| StatementError {
            code: "22000".into(),
            message: format!("the answer cannot be shown: {error}"),
            position: None,
            hint: None,
        })
    });
    Outcome {
        schema,
        rows: rows.boxed(),
        ..outcome
    }
}

fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// An error with the place in the request's text, which the server tells in words (`line 2, column 3 of the SPARQL query: …`), since to it the
/// request is a text within a statement.
fn of_inner_text(error: StatementError) -> StatementError {
    let read = |message: &str| {
        let (line, rest) = message.strip_prefix("line ")?.split_once(", column ")?;
        let (column, rest) = rest.split_once(" of the SPARQL ")?;
        let (_, message) = rest.split_once(": ")?;
        let position = Position {
            line: line.parse().ok()?,
            column: column.parse().ok()?,
        };
        Some((position, message.to_owned()))
    };
    match read(&error.message) {
        Some((position, message)) => StatementError {
            message,
            position: Some(position),
            ..error
        },
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(message: &str) -> StatementError {
        StatementError {
            code: "42601".into(),
            message: message.into(),
            position: None,
            hint: None,
        }
    }

    #[test]
    fn the_place_is_one_of_the_request() {
        let found = of_inner_text(error("line 2, column 14 of the SPARQL update: unexpected: x"));
        assert_eq!(
            (found.message.as_str(), found.position),
            ("unexpected: x", Some(Position { line: 2, column: 14 }))
        );
        for other in ["unexpected", "line 2, column 3", "line x, column 3 of the SPARQL query: y"] {
            assert_eq!(of_inner_text(error(other)), error(other));
        }
    }

    #[test]
    fn requests_are_quoted() {
        assert_eq!(
            call("kb", "ASK { ?s ?p 'x' }", SparqlForm::Ask),
            "CALL sparql('kb', 'ASK { ?s ?p ''x'' }')"
        );
        assert_eq!(
            call("o'b", "CLEAR ALL", SparqlForm::Update),
            "CALL sparql_update('o''b', 'CLEAR ALL')"
        );
    }
}
