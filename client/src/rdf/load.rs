//! Text of RDF into a dataset: the server parses it, on all its threads.

use std::collections::HashMap;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::BinaryArray;
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Dataset;
use crate::error::{ClientError, Result};
use crate::table::{Batches, Table};

/// Bytes of text that are sent together.
const PIECE: usize = 1 << 20;

/// A syntax of RDF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Syntax {
    /// N-Triples.
    NTriples,
    /// N-Quads.
    NQuads,
    /// Turtle.
    Turtle,
    /// TriG.
    TriG,
    /// Notation 3.
    N3,
    /// RDF/XML.
    RdfXml,
    /// JSON-LD.
    JsonLd,
}

impl Syntax {
    /// As the server calls it.
    fn name(self) -> &'static str {
        match self {
            Syntax::NTriples => "nt",
            Syntax::NQuads => "nq",
            Syntax::Turtle => "ttl",
            Syntax::TriG => "trig",
            Syntax::N3 => "n3",
            Syntax::RdfXml => "rdf/xml",
            Syntax::JsonLd => "jsonld",
        }
    }
}

/// Text that comes in pieces. If it fails, nothing is loaded.
pub struct Text(BoxStream<'static, Result<Bytes>>);

impl Text {
    /// A stream of pieces of any size, read as fast as the server takes them.
    pub fn from_stream<S, E>(pieces: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let failed = |error: E| ClientError::usage(format!("the text to load: {error}")).with_source(error);
        Text(pieces.map_err(failed).boxed())
    }

    /// What a reader gives, such as a file.
    pub fn from_reader(reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self::from_stream(stream::try_unfold(reader, |mut reader| async move {
            let mut piece = Vec::with_capacity(PIECE);
            (&mut reader).take(PIECE as u64).read_to_end(&mut piece).await?;
            Ok::<_, std::io::Error>((!piece.is_empty()).then(|| (Bytes::from(piece), reader)))
        }))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text(stream::iter([Ok(Bytes::from(text))]).boxed())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// What a load did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Quads that were read, also those that were there already.
    pub quads: u64,
    /// Faults that were passed over, in a lenient load.
    pub faults: u64,
    /// The first of them.
    pub told: Vec<Fault>,
}

/// What was wrong in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line and column, counted from 1, where the server knows them.
    pub place: Option<(u64, u64)>,
    /// What was wrong.
    pub message: String,
}

/// The server's answer to a load.
#[derive(Clone, PartialEq, Eq, Message)]
struct LoadResult {
    #[prost(int64, tag = "1")]
    record_count: i64,
    #[prost(uint64, tag = "100")]
    faults: u64,
    #[prost(message, repeated, tag = "101")]
    told: Vec<LoadFault>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct LoadFault {
    #[prost(uint64, tag = "1")]
    line: u64,
    #[prost(uint64, tag = "2")]
    column: u64,
    #[prost(string, tag = "3")]
    message: String,
}

/// A load that has not begun; `.await` what it did: all of the text comes in, or nothing.
#[must_use = "a load runs only when it is awaited"]
pub struct Load {
    dataset: Dataset,
    options: HashMap<String, String>,
    text: Text,
    limit: Option<Duration>,
}

impl Load {
    pub(super) fn new(dataset: Dataset, syntax: Syntax, text: Text) -> Self {
        Load {
            dataset,
            options: HashMap::from([("rdf-format".to_owned(), syntax.name().to_owned())]),
            text,
            limit: None,
        }
    }

    /// The IRI against which relative ones of the text are resolved.
    pub fn base(mut self, iri: impl Into<String>) -> Self {
        self.options.insert("rdf-base".to_owned(), iri.into());
        self
    }

    /// Passes over what is wrong, and tells it in the answer. Not in RDF/XML and JSON-LD.
    pub fn lenient(mut self) -> Self {
        self.options.insert("lenient".to_owned(), "true".to_owned());
        self
    }

    /// How long it may take.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl IntoFuture for Load {
    type Output = Result<Loaded>;
    type IntoFuture = BoxFuture<'static, Result<Loaded>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Dataset { scope, name } = self.dataset;
            let mut table = Table::new(scope, name);
            if let Some(limit) = self.limit {
                table = table.timeout(limit);
            }
            let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Binary, false)]));
            let columns = Arc::clone(&schema);
            let batches = self.text.0.map(move |piece| {
                let piece = Buffer::from(piece?);
                let column = BinaryArray::try_new(OffsetBuffer::from_lengths([piece.len()]), piece, None)?;
                Ok::<_, ClientError>(RecordBatch::try_new(Arc::clone(&columns), vec![Arc::new(column)])?)
            });
            let answer = table.send(self.options, Batches::from_stream(schema, batches)).await?;
            let LoadResult {
                record_count,
                faults,
                told,
            } = LoadResult::decode(answer)?;
            let told = told.into_iter().map(|LoadFault { line, column, message }| Fault {
                place: (line > 0).then_some((line, column)),
                message,
            });
            Ok(Loaded {
                quads: u64::try_from(record_count).unwrap_or(0),
                faults,
                told: told.collect(),
            })
        })
    }
}
