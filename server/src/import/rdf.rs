//! RDF in its syntaxes: quads with the columns of a dataset.

use std::io::{BufReader, Read};
use std::path::Path;

use ::arrow::datatypes::{Schema, SchemaRef};
use ::arrow::error::ArrowError;
use oxrdf::{GraphName, NamedOrBlankNode, Quad, Term};
use oxrdfio::{RdfFormat, RdfParseError, RdfParser};
use pyralog_models::rdf::{quad_batch, quad_fields};
use pyralog_models::{Error, ErrorKind};

use super::ReadOptions;
use super::rows::Rows;

/// Bytes of terms that end a batch: a long subject comes with each of its quads.
pub const BATCH_BYTES: usize = 16 << 20;

/// Opens text of RDF. `base` is the file's name, against which relative IRIs are resolved.
pub fn open(input: impl Read + Send + 'static, format: RdfFormat, base: Option<&Path>, options: &ReadOptions) -> Result<Rows, String> {
    let mut parser = RdfParser::from_format(format);
    if let Some(base) = base.and_then(file_iri) {
        parser = parser.with_base_iri(base).map_err(|error| error.to_string())?;
    }
    let schema: SchemaRef = Schema::new(quad_fields()).into();
    let mut quads = parser.for_reader(BufReader::with_capacity(256 << 10, input)).fuse();
    let rows = options.batch_rows;
    let mut failed = None;
    let batches = std::iter::from_fn(move || {
        if let Some(error) = failed.take() {
            return Some(Err(error));
        }
        let (mut batch, mut bytes): (Vec<Quad>, usize) = (Vec::with_capacity(rows), 0);
        while batch.len() < rows && bytes < BATCH_BYTES {
            match quads.next() {
                Some(Ok(quad)) => {
                    bytes += term_bytes(&quad);
                    batch.push(quad);
                }
                Some(Err(error)) => {
                    failed = Some(unreadable(error));
                    break;
                }
                None => break,
            }
        }
        match batch.is_empty() {
            true => failed.take().map(Err),
            false => Some(quad_batch(&batch).map_err(|error| ArrowError::ParseError(error.to_string()))),
        }
    });
    Ok(Rows {
        schema,
        batches: Box::new(batches),
    })
}

/// Bytes of a quad's terms.
pub fn term_bytes(quad: &Quad) -> usize {
    let subject = match &quad.subject {
        NamedOrBlankNode::NamedNode(iri) => iri.as_str().len(),
        NamedOrBlankNode::BlankNode(node) => node.as_str().len(),
    };
    let object = match &quad.object {
        Term::NamedNode(iri) => iri.as_str().len(),
        Term::BlankNode(node) => node.as_str().len(),
        Term::Literal(literal) => literal.value().len() + literal.datatype().as_str().len(),
    };
    let graph = match &quad.graph_name {
        GraphName::NamedNode(iri) => iri.as_str().len(),
        GraphName::BlankNode(node) => node.as_str().len(),
        GraphName::DefaultGraph => 0,
    };
    subject + quad.predicate.as_str().len() + object + graph
}

/// A fault with its place, as an error of the database.
pub fn fault(error: RdfParseError) -> Error {
    match error {
        RdfParseError::Io(error) => Error::new(ErrorKind::InvalidInput, "58030", error.to_string()),
        RdfParseError::Syntax(error) => {
            let fault = Error::new(ErrorKind::InvalidInput, "22000", error.to_string());
            match error.location() {
                // Counted from 0 there.
                Some(place) => fault.at(place.start.line + 1, place.start.column + 1),
                None => fault,
            }
        }
    }
}

/// A fault with its place.
fn unreadable(error: RdfParseError) -> ArrowError {
    match error {
        RdfParseError::Io(error) => ArrowError::from(error),
        RdfParseError::Syntax(error) => {
            let place = error.location().map(|place| {
                // Counted from 0 there.
                format!("line {}, column {}: ", place.start.line + 1, place.start.column + 1)
            });
            ArrowError::ParseError(format!("{}{error}", place.unwrap_or_default()))
        }
    }
}

fn file_iri(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let text = path.to_str()?;
    let escaped = percent_encoding::utf8_percent_encode(text, PATH);
    Some(format!("file://{escaped}"))
}

/// What stands for itself in the path of an IRI.
const PATH: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
