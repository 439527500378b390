//! Answers as rows of SQL, which is how they go over every wire that SQL goes over: `CALL sparql('kb', '…')`.

use std::sync::Arc;

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use spargebra::Query;

use super::query::{SparqlQuery, SparqlResult, selected};
use super::text;
use crate::error::Result;
use crate::rdf::term_column::{data_type, quad_fields};
use crate::session::{QueryResult, Session, rows};

/// The column of a truth value, as the result formats of SPARQL call it.
const BOOLEAN: &str = "boolean";
/// The columns of triples: those of quads, without the graph.
const TRIPLE: [usize; 3] = [0, 1, 2];

/// The columns of a query's answer: of SELECT its variables, of ASK `boolean`, of CONSTRUCT and DESCRIBE `subject`, `predicate` and `object`.
pub fn columns(query: &str) -> Result<SchemaRef> {
    let fields = match text::query(query, None)? {
        Query::Select { pattern, .. } => {
            let variables = selected(query, &pattern)?;
            variables
                .iter()
                .map(|variable| Field::new(variable.as_str(), data_type(), true))
                .collect()
        }
        Query::Ask { .. } => vec![Field::new(BOOLEAN, DataType::Boolean, false)],
        Query::Construct { .. } | Query::Describe { .. } => quad_fields().into_iter().take(TRIPLE.len()).collect(),
    };
    Ok(Arc::new(Schema::new(fields)))
}

/// Runs a query; its answer as a stream of rows, those of SELECT in the query's order.
pub async fn answer(session: &Session, query: &SparqlQuery) -> Result<QueryResult> {
    let parsed = text::query(&query.text, query.base.as_deref())?;
    let tag = "SELECT";
    match session.answer(query, parsed).await? {
        SparqlResult::Solutions(schema, stream) => Ok(QueryResult {
            schema,
            tag,
            affected: None,
            stream,
        }),
        SparqlResult::Boolean(value) => {
            let schema = Arc::new(Schema::new(vec![Field::new(BOOLEAN, DataType::Boolean, false)]));
            let row = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(BooleanArray::from(vec![value]))])?;
            Ok(rows(tag, schema, vec![row], None))
        }
        SparqlResult::Graph(quads) => {
            let schema = Arc::new(quads.schema().project(&TRIPLE)?);
            let triples = quads.map(|batch| Ok::<_, DataFusionError>(batch?.project(&TRIPLE)?));
            Ok(QueryResult {
                schema: Arc::clone(&schema),
                tag,
                affected: None,
                stream: Box::pin(RecordBatchStreamAdapter::new(schema, triples)),
            })
        }
    }
}
