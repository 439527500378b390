//! Answers to queries as streams: what the first rows bring decides on the status, the rest follows as fast as the client takes it.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_TYPE;
use arrow::array::{AsArray, RecordBatch};
use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use oxrdf::Variable;
use oxrdfio::{RdfFormat, RdfSerializer, WriterQuadSerializer};
use parking_lot::Mutex;
use pyralog_models::rdf::{SparqlQuery, SparqlResult, TermColumn, quads};
use pyralog_models::{Error, ErrorKind};
use sparesults::{QueryResultsFormat, QueryResultsSerializer, WriterSolutionsSerializer};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use crate::error::from_stream;
use crate::http::State;
use crate::http::error::Problem;
use crate::http::statement::{CHUNKS_IN_FLIGHT, Deadline};

/// Text is sent in pieces of about so many bytes.
const PIECE_BYTES: usize = 64 << 10;
/// Bytes that a serializer writes before others see them.
const SHOWN: usize = 4 << 10;
/// Rows that are written down at once.
const ROWS: usize = 1024;
/// For how long more rows are waited for, so that a short answer goes out as one piece: each piece wakes the client once more.
const TOGETHER_WITHIN: Duration = Duration::from_millis(2);

/// The forms that a client takes.
pub struct Forms {
    /// Of solutions and truth values.
    pub results: Result<QueryResultsFormat, Problem>,
    /// Of graphs.
    pub graph: Result<RdfFormat, Problem>,
}

/// What goes out first.
enum Head {
    /// The whole answer.
    Whole(&'static str, Bytes),
    /// The media type; the body follows.
    Stream(&'static str),
}

/// A buffer that a serializer writes to and that is emptied meanwhile.
#[derive(Default)]
pub struct Buffer {
    /// What is not seen by others yet: serializers write a few bytes at a time.
    piece: Vec<u8>,
    written: Written,
}

/// What has been written to a buffer.
#[derive(Clone, Default)]
pub struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    /// What has been written since.
    pub fn take(&self) -> Bytes {
        Bytes::from(std::mem::take(&mut *self.0.lock()))
    }

    fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl Buffer {
    fn show(&mut self) {
        self.written.0.lock().append(&mut self.piece);
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        // A row may end so.
        if matches!(bytes.last(), Some(b'}' | b'>' | b'\n')) || self.piece.len() >= SHOWN {
            self.show();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.show();
        Ok(())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.show();
    }
}

/// Runs work on the runtime of statements, within a time limit. It stops when the client goes away.
pub async fn on_runtime<T: Send + 'static>(
    state: &State,
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Problem> {
    let (mut sender, receiver) = oneshot::channel();
    state.runtime.spawn(async move {
        let deadline = Deadline::new(limit);
        tokio::select! {
            result = deadline.keep(work) => {
                // The receiver is gone only if the client is: nobody to tell then.
                let _gone = sender.send(result.and_then(|result| result));
            }
            () = sender.closed() => tracing::debug!("the client went away; its request is stopped"),
        }
    });
    match receiver.await {
        Ok(result) => Ok(result?),
        Err(_) => Err(ended()),
    }
}

fn ended() -> Problem {
    Error::new(ErrorKind::Internal, "XX000", "the request's task ended without an answer").into()
}

/// Runs a query and answers with its result.
pub async fn run(state: &State, query: SparqlQuery, forms: Forms, limit: Option<Duration>) -> Result<HttpResponse, Problem> {
    let session = state.database.session();
    stream(state, async move { session.sparql(query).await }, forms, limit).await
}

/// Answers with a result.
pub async fn stream(
    state: &State,
    result: impl Future<Output = Result<SparqlResult, Error>> + Send + 'static,
    forms: Forms,
    limit: Option<Duration>,
) -> Result<HttpResponse, Problem> {
    let (chunks, body) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let (head_sender, head) = oneshot::channel();
    let gone = chunks.clone();
    state.runtime.spawn(async move {
        let deadline = Deadline::new(limit);
        let work = async {
            let answer = match begin(result, forms, &deadline).await {
                Ok(answer) => answer,
                Err(problem) => {
                    let _gone = head_sender.send(Err(problem));
                    return;
                }
            };
            let (media, writer, first, rows) = match answer {
                Answer::Whole(media, bytes) => {
                    let _gone = head_sender.send(Ok(Head::Whole(media, bytes)));
                    return;
                }
                Answer::Rows(media, writer, first, rows) => (media, writer, first, rows),
            };
            if head_sender.send(Ok(Head::Stream(media))).is_err() {
                return;
            }
            if let Err(error) = deliver(writer, first, rows, &deadline, &chunks).await {
                tracing::warn!(code = error.code, "a result broke off: {}", error.message);
                // The connection breaks without its last chunk, so that no client takes the part for the whole.
                let _gone = chunks.send(Err(Problem::from(error))).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = gone.closed() => tracing::debug!("the client went away; its query is stopped"),
        }
    });
    match head.await {
        Ok(Ok(Head::Whole(media, bytes))) => Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, media)).body(bytes)),
        Ok(Ok(Head::Stream(media))) => Ok(HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, media))
            .streaming(ReceiverStream::new(body))),
        Ok(Err(problem)) => Err(problem),
        Err(_) => Err(ended()),
    }
}

enum Answer {
    Whole(&'static str, Bytes),
    Rows(&'static str, Writer, Option<RecordBatch>, SendableRecordBatchStream),
}

async fn begin(result: impl Future<Output = Result<SparqlResult, Error>>, forms: Forms, deadline: &Deadline) -> Result<Answer, Problem> {
    let (media, mut writer, mut rows) = match deadline.keep(result).await?? {
        SparqlResult::Boolean(value) => {
            let form = forms.results?;
            let buffer = QueryResultsSerializer::from_format(form).serialize_boolean_to_writer(Vec::new(), value);
            return Ok(Answer::Whole(form.media_type(), Bytes::from(buffer.map_err(unwritten)?)));
        }
        SparqlResult::Solutions(schema, rows) => {
            let form = forms.results?;
            let names = schema.fields().iter().map(|field| Variable::new_unchecked(field.name()));
            (form.media_type(), Writer::solutions(form, names.collect())?, rows)
        }
        SparqlResult::Graph(rows) => {
            let form = forms.graph?;
            (form.media_type(), Writer::graph(form), rows)
        }
    };
    let Some(first) = next_of(&mut rows, deadline).await? else {
        return Ok(Answer::Whole(media, writer.finish()?));
    };
    if pieces(&first).len() > 1 {
        return Ok(Answer::Rows(media, writer, Some(first), rows));
    }
    writer.write(&first)?;
    match timeout(TOGETHER_WITHIN, next_of(&mut rows, deadline)).await {
        Ok(Ok(None)) => Ok(Answer::Whole(media, writer.finish()?)),
        Ok(next) => Ok(Answer::Rows(media, writer, next?, rows)),
        Err(_) => Ok(Answer::Rows(media, writer, None, rows)),
    }
}

async fn next_of(rows: &mut SendableRecordBatchStream, deadline: &Deadline) -> Result<Option<RecordBatch>, Error> {
    deadline.keep(rows.next()).await?.transpose().map_err(|error| from_stream(&error))
}

/// Rows on their way into text.
pub struct Writer {
    written: Written,
    rows: Rows,
}

enum Rows {
    Solutions(Vec<Variable>, WriterSolutionsSerializer<Buffer>),
    Graph(WriterQuadSerializer<Buffer>),
}

impl Writer {
    fn solutions(form: QueryResultsFormat, variables: Vec<Variable>) -> Result<Writer, Error> {
        let buffer = Buffer::default();
        let written = buffer.written.clone();
        let serializer = QueryResultsSerializer::from_format(form)
            .serialize_solutions_to_writer(buffer, variables.clone())
            .map_err(unwritten)?;
        Ok(Writer {
            written,
            rows: Rows::Solutions(variables, serializer),
        })
    }

    /// A writer of quads.
    pub fn graph(form: RdfFormat) -> Writer {
        let buffer = Buffer::default();
        Writer {
            written: buffer.written.clone(),
            rows: Rows::Graph(RdfSerializer::from_format(form).for_writer(buffer)),
        }
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        match &mut self.rows {
            Rows::Solutions(variables, serializer) => {
                let columns = batch.columns().iter().map(TermColumn::new).collect::<Result<Vec<_>, Error>>()?;
                for row in 0..batch.num_rows() {
                    let mut solution = Vec::with_capacity(columns.len());
                    for (variable, column) in variables.iter().zip(&columns) {
                        if let Some(term) = column.get(row)? {
                            solution.push((variable.as_ref(), term));
                        }
                    }
                    serializer.serialize(solution).map_err(unwritten)?;
                }
            }
            Rows::Graph(serializer) => {
                for quad in quads(batch)? {
                    serializer.serialize_quad(&quad).map_err(unwritten)?;
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Bytes, Error> {
        match self.rows {
            Rows::Solutions(_, serializer) => drop(serializer.finish().map_err(unwritten)?),
            Rows::Graph(serializer) => drop(serializer.finish().map_err(unwritten)?),
        }
        Ok(self.written.take())
    }
}

fn unwritten(error: io::Error) -> Error {
    Error::new(ErrorKind::Internal, "XX000", format!("the answer cannot be written: {error}"))
}

/// The rows of a batch, cut so that few are written down at once, and long ones by themselves.
fn pieces(batch: &RecordBatch) -> Vec<Range<usize>> {
    let mut lengths = vec![0_usize; batch.num_rows()];
    for terms in batch.columns().iter().filter_map(|column| column.as_struct_opt()) {
        if let Some(values) = terms.column_by_name("value").and_then(|values| values.as_string_view_opt()) {
            lengths
                .iter_mut()
                .zip(values.lengths())
                .for_each(|(sum, length)| *sum += length as usize);
        }
    }
    let mut pieces = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (row, length) in lengths.into_iter().enumerate() {
        bytes += length;
        if bytes >= PIECE_BYTES || row + 1 - start == ROWS || row + 1 == batch.num_rows() {
            pieces.push(start..row + 1);
            (start, bytes) = (row + 1, 0);
        }
    }
    pieces
}

/// Sends what is written down already, then further rows: the next ones, where they are there, and those that follow.
async fn deliver(
    mut writer: Writer,
    mut next: Option<RecordBatch>,
    mut rows: SendableRecordBatchStream,
    deadline: &Deadline,
    chunks: &mpsc::Sender<Result<Bytes, Problem>>,
) -> Result<(), Error> {
    if next.is_none() {
        if deadline.keep(chunks.send(Ok(writer.written.take()))).await?.is_err() {
            return Ok(());
        }
        next = next_of(&mut rows, deadline).await?;
    }
    while let Some(batch) = next {
        for piece in pieces(&batch) {
            writer.write(&batch.slice(piece.start, piece.len()))?;
            if writer.written.len() >= PIECE_BYTES && deadline.keep(chunks.send(Ok(writer.written.take()))).await?.is_err() {
                return Ok(());
            }
        }
        next = next_of(&mut rows, deadline).await?;
    }
    let last = writer.finish()?;
    let _gone = chunks.send(Ok(last)).await;
    Ok(())
}
