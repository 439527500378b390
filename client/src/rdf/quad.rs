//! Quads: what a CONSTRUCT query or a dump gives, and what goes in. `Display` writes them as N-Quads does.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, TryStreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::column::{self, TermColumn, is_terms};
use super::query::Answer;
use super::solutions::Decoded;
use super::term::Term;
use crate::error::{ClientError, ErrorKind, Result};
use crate::rows::Rows;

/// The columns of quads; the last one may be missing.
const COLUMNS: [&str; 4] = ["subject", "predicate", "object", "graph"];
/// Quads of a batch that is sent.
const BATCH: usize = 8192;
/// Bytes of N-Quads that are written at once.
const CHUNK: usize = 64 << 10;

/// A triple, and the graph that it is in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Quad {
    /// An IRI or a blank node.
    pub subject: Term,
    /// An IRI.
    pub predicate: Term,
    /// Any term.
    pub object: Term,
    /// An IRI or a blank node; `None`: the default graph.
    pub graph: Option<Term>,
}

impl Quad {
    /// A triple of the default graph.
    pub fn new(subject: Term, predicate: Term, object: Term) -> Quad {
        Quad {
            subject,
            predicate,
            object,
            graph: None,
        }
    }

    /// The triple in a named graph.
    pub fn in_graph(self, graph: Term) -> Quad {
        Quad {
            graph: Some(graph),
            ..self
        }
    }

    fn terms(&self) -> [Option<&Term>; 4] {
        [Some(&self.subject), Some(&self.predicate), Some(&self.object), self.graph.as_ref()]
    }
}

impl fmt::Display for Quad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for term in self.terms().into_iter().flatten() {
            write!(f, "{term} ")?;
        }
        f.write_str(".")
    }
}

/// Quads, streamed as [`Rows`] are.
#[derive(Debug)]
pub struct Quads {
    rows: Decoded<Quad>,
}

impl Quads {
    /// The next quad; `None` at the end.
    pub async fn next_quad(&mut self) -> Result<Option<Quad>> {
        self.try_next().await
    }

    /// The batches, with the columns of `kb.quads` (without `graph` for the triples of a query), which
    /// [`load_quads`](super::Dataset::load_quads) takes. The batch that a quad was taken from is left out.
    pub fn into_rows(self) -> Rows {
        self.rows.rows
    }

    /// Writes what is left as N-Quads (where all is in the default graph: as N-Triples), a line a quad; how many they were. The writer is flushed.
    ///
    /// # Errors
    /// Those of the query, and [`ErrorKind::Usage`] where the writer fails, with its error as the source.
    pub async fn write_nquads(mut self, writer: &mut (impl AsyncWrite + Unpin + Send)) -> Result<u64> {
        let failed =
            |error: std::io::Error| ClientError::new(ErrorKind::Usage, format!("the quads cannot be written: {error}")).with_source(error);
        let (mut count, mut text) = (0, String::new());
        while let Some(quad) = self.next_quad().await? {
            count += 1;
            text += &format!("{quad}\n");
            if text.len() >= CHUNK {
                writer.write_all(text.as_bytes()).await.map_err(failed)?;
                text.clear();
            }
        }
        writer.write_all(text.as_bytes()).await.map_err(failed)?;
        writer.flush().await.map_err(failed)?;
        Ok(count)
    }

    /// What is left as N-Quads. Holds the whole text in memory.
    pub async fn to_nquads(mut self) -> Result<String> {
        let mut text = String::new();
        while let Some(quad) = self.next_quad().await? {
            text += &format!("{quad}\n");
        }
        Ok(text)
    }
}

impl Stream for Quads {
    type Item = Result<Quad>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.rows.poll(cx, quads)
    }
}

impl Answer for Quads {
    fn read(rows: Rows) -> BoxFuture<'static, Result<Self>> {
        let schema = rows.schema();
        let is_column = |(name, field): (&&str, &Arc<Field>)| field.name() == name && is_terms(field.data_type());
        let fields = schema.fields();
        let answer = match matches!(fields.len(), 3 | 4) && COLUMNS.iter().zip(fields).all(is_column) {
            true => Ok(Quads { rows: Decoded::new(rows) }),
            false => Err(ClientError::usage(
                "the answer has no triples: `construct` takes a CONSTRUCT or DESCRIBE query",
            )),
        };
        futures::future::ready(answer).boxed()
    }
}

fn quads(batch: &RecordBatch) -> Result<Vec<Quad>> {
    let columns = batch.columns().iter().map(TermColumn::new).collect::<Result<Vec<_>>>()?;
    let [subjects, predicates, objects, graphs @ ..] = columns.as_slice() else {
        return Err(ClientError::protocol("quads with too few columns"));
    };
    let term = |column: &TermColumn, row: usize| column.get(row)?.ok_or_else(|| ClientError::protocol("a quad with a null term"));
    (0..batch.num_rows())
        .map(|row| {
            Ok(Quad {
                subject: term(subjects, row)?,
                predicate: term(predicates, row)?,
                object: term(objects, row)?,
                graph: graphs.first().map_or(Ok(None), |graphs| graphs.get(row))?,
            })
        })
        .collect()
}

/// Quads as batches to send.
pub(super) fn batches(quads: impl IntoIterator<Item = Quad>) -> Result<Vec<RecordBatch>> {
    let fields: Vec<Field> = COLUMNS
        .iter()
        .map(|name| Field::new(*name, column::data_type(), *name == "graph"))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let quads: Vec<Quad> = quads.into_iter().collect();
    quads
        .chunks(BATCH)
        .map(|quads| {
            let columns = (0..COLUMNS.len()).map(|place| column::build(quads.iter().map(|quad| quad.terms()[place])));
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect::<Result<_>>()?);
            batch.map_err(|error| ClientError::usage(error.to_string()).with_source(error))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::{StreamExt, stream};

    use super::*;

    fn sample() -> Vec<Quad> {
        let quad = Quad::new(Term::iri("urn:a"), Term::iri("urn:p"), Term::literal("x\n"));
        vec![quad.clone(), quad.in_graph(Term::blank("g"))]
    }

    async fn read(batches: Vec<RecordBatch>) -> Result<Quads> {
        let schema = batches[0].schema();
        Quads::read(Rows::new(schema, stream::iter(batches.into_iter().map(Ok)).boxed())).await
    }

    #[tokio::test]
    async fn quads_go_into_batches_and_come_back() {
        let sent = batches(sample()).unwrap();
        let back: Vec<Quad> = read(sent.clone()).await.unwrap().try_collect().await.unwrap();
        assert_eq!(back, sample());
        let text = "<urn:a> <urn:p> \"x\\n\" .\n<urn:a> <urn:p> \"x\\n\" _:g .\n";
        assert_eq!(read(sent.clone()).await.unwrap().to_nquads().await.unwrap(), text);
        let mut written = Vec::new();
        assert_eq!(read(sent.clone()).await.unwrap().write_nquads(&mut written).await.unwrap(), 2);
        assert_eq!(String::from_utf8(written).unwrap(), text);
        // Triples have no graph.
        let triples = sent.iter().map(|batch| batch.project(&[0, 1, 2]).unwrap()).collect();
        let mut triples = read(triples).await.unwrap();
        assert_eq!(triples.next_quad().await.unwrap().unwrap(), sample()[0]);
        let two = sent.iter().map(|batch| batch.project(&[0, 1]).unwrap()).collect();
        assert!(read(two).await.unwrap_err().to_string().contains("CONSTRUCT"));
    }

    #[test]
    fn many_quads_are_several_batches() {
        let many = std::iter::repeat_n(sample(), BATCH).flatten();
        let rows: Vec<usize> = batches(many).unwrap().iter().map(RecordBatch::num_rows).collect();
        assert_eq!(rows, [BATCH, BATCH]);
        assert!(batches([]).unwrap().is_empty());
    }
}
