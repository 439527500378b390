//! Documents of RDF and solutions of queries, from answers as they come.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use oxrdf::Term;
use pyralog_models::Error;
use pyralog_models::rdf::{Document, Remote, solution_batch, solution_fields};
use sparesults::{
    QueryResultsFormat, QueryResultsParseError, QueryResultsParser, TokioAsyncReaderQueryResultsParserOutput,
    TokioAsyncReaderSolutionsParser,
};
use tokio::io::AsyncRead;
use url::Url;

use super::client::{Answer, Ask, Client, answered, of_reading};
use crate::compression::Compression;
use crate::http::rdf::form;
use crate::rdf_format;

/// Solutions of one batch.
const BATCH: usize = 4096;
const DOCUMENTS: &str = "text/turtle, application/n-triples, application/n-quads;q=0.9, application/trig;q=0.9, \
                         application/rdf+xml;q=0.8, application/ld+json;q=0.8, text/n3;q=0.7, */*;q=0.1";
const SOLUTIONS: &str = "application/sparql-results+json, application/sparql-results+xml;q=0.9";
/// Media types that servers give to files that they do not know.
const UNKNOWN: [&str; 9] = [
    "",
    "text/plain",
    "application/octet-stream",
    "binary/octet-stream",
    "application/gzip",
    "application/x-gzip",
    "application/xml",
    "text/xml",
    "application/json",
];

/// What lies elsewhere, over HTTP.
#[derive(Debug)]
pub struct Http {
    client: Client,
}

impl Http {
    /// Through a client.
    pub fn new(client: Client) -> Http {
        Http { client }
    }
}

#[async_trait]
impl Remote for Http {
    async fn document(&self, iri: &str) -> Result<Document, Error> {
        let ask = Ask {
            accept: DOCUMENTS,
            form: None,
        };
        let Answer { url, media, body } = self.client.send(iri, ask).await?;
        let is_unknown = UNKNOWN.contains(&media.as_str());
        let (compression, path) = Compression::of_path(Path::new(url.path()));
        let body = match compression {
            Compression::None => body,
            Compression::Gzip if is_unknown => body.unzipped(),
            Compression::Zstd if is_unknown => return Err(answered(&url, "is compressed by Zstandard; gzip can be read")),
            _ => body,
        };
        let by_name = rdf_format::of_path(path).filter(|_| is_unknown);
        let Some(format) = by_name.or_else(|| form::syntax(&media)) else {
            let what = if media.is_empty() {
                "something without Content-Type"
            } else {
                &media
            };
            return Err(answered(&url, &format!("gives {what}, which is no known syntax of RDF")));
        };
        Ok(Document {
            format,
            base: url.to_string(),
            text: body.text(),
        })
    }

    async fn solutions(&self, endpoint: &str, query: &str, variables: &[String]) -> Result<SendableRecordBatchStream, Error> {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("query", query)
            .finish();
        let ask = Ask {
            accept: SOLUTIONS,
            form: Some(form),
        };
        let Answer { url, media, body } = self.client.send(endpoint, ask).await?;
        let format = match media.as_str() {
            "application/sparql-results+json" | "application/json" => QueryResultsFormat::Json,
            "application/sparql-results+xml" | "application/xml" | "text/xml" => QueryResultsFormat::Xml,
            other => {
                let what = if other.is_empty() {
                    "something without Content-Type"
                } else {
                    other
                };
                return Err(answered(&url, &format!("gives {what}, which are no solutions in JSON or XML")));
            }
        };
        let parser = QueryResultsParser::from_format(format).for_tokio_async_reader(body.reader());
        let parser = match parser.await.map_err(|error| unreadable(&url, error))? {
            TokioAsyncReaderQueryResultsParserOutput::Solutions(parser) => parser,
            TokioAsyncReaderQueryResultsParserOutput::Boolean(_) => {
                return Err(answered(&url, "gives a truth value, where solutions were asked for"));
            }
        };
        let variables = variables.to_vec();
        let schema: SchemaRef = Schema::new(solution_fields(&variables)).into();
        Ok(batches(schema, Solutions { url, parser, variables }))
    }
}

/// Batches that are made as they are asked for.
#[async_trait]
trait Batches: Send {
    /// The next; `None` at the end.
    async fn next(&mut self) -> Result<Option<RecordBatch>, Error>;
}

/// Batches until there are none, or one is an error.
fn batches(schema: SchemaRef, source: impl Batches + 'static) -> SendableRecordBatchStream {
    let batches = stream::unfold(Some(source), |source| async move {
        let mut source = source?;
        match source.next().await {
            Ok(Some(batch)) => Some((Ok(batch), Some(source))),
            Ok(None) => None,
            Err(error) => Some((Err(error.into()), None)),
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

struct Solutions<R: AsyncRead + Unpin> {
    url: Url,
    parser: TokioAsyncReaderSolutionsParser<R>,
    variables: Vec<String>,
}

#[async_trait]
impl<R: AsyncRead + Unpin + Send> Batches for Solutions<R> {
    async fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        let mut rows: Vec<Vec<Option<Term>>> = Vec::new();
        while rows.len() < BATCH {
            let Some(solution) = self.parser.next().await else { break };
            let solution = solution.map_err(|error| unreadable(&self.url, error))?;
            rows.push(self.variables.iter().map(|name| solution.get(name.as_str()).cloned()).collect());
        }
        match rows.is_empty() {
            true => Ok(None),
            false => solution_batch(&self.variables, &rows).map(Some),
        }
    }
}

/// Solutions with a fault.
fn unreadable(url: &Url, error: QueryResultsParseError) -> Error {
    match error {
        QueryResultsParseError::Io(error) => of_reading(url, error),
        QueryResultsParseError::Syntax(error) => answered(url, &format!("gives solutions with a fault: {error}")),
    }
}
