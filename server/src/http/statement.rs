//! Running statements for a request, as a task that writes its result into a bounded channel.
//!
//! The task belongs to the process's runtime, the channel's other end to the response. A slow client fills the channel and so stops the
//! query (back-pressure); a client that goes away drops its end, which ends the task and with it the query's stream.

use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use pyralog_models::{Error, ErrorKind, Parameters, QueryResult, RequestName, Session, request};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::accept::Form;
use super::error::Problem;
use super::result_writer::ResultWriter;
use crate::error::from_stream;
use crate::format::{Format, Look, RowWriter};

/// Encoded chunks that wait for the client.
pub const CHUNKS_IN_FLIGHT: usize = 4;
/// Rows are cut into pieces of about so many bytes of Arrow data.
const PIECE_BYTES: usize = 256 << 10;

/// What to run and how to answer.
pub struct Work {
    /// Statements in order; the last one's result is the answer.
    pub statements: Vec<String>,
    /// Parameters of the only statement.
    pub parameters: Parameters,
    /// Form of the result.
    pub form: Form,
    /// Time limit.
    pub limit: Option<Duration>,
    /// The client's name for the request.
    pub name: Option<RequestName>,
}

/// What is known before the first row goes out.
#[derive(Debug)]
pub struct Head {
    /// Rows changed, for DML.
    pub affected: Option<u64>,
    /// What was done.
    pub tag: &'static str,
}

/// Chunks of a response's body.
pub type Chunks = mpsc::Receiver<Result<Bytes, Problem>>;

/// Starts the work; comes back when its result's first rows are there, or with the error that came before them.
pub async fn start(runtime: &Handle, session: Session, work: Work) -> Result<(Head, Chunks), Problem> {
    let (chunks, body) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let (head_sender, head) = oneshot::channel();
    let gone = chunks.clone();
    runtime.spawn(async move {
        tokio::select! {
            () = request::named(work.name, run(session, work, head_sender, chunks)) => {}
            () = gone.closed() => tracing::debug!("the client went away; its statement is stopped"),
        }
    });
    // Dropping this future (the client left while it waited) drops `body`, which ends the task.
    match head.await {
        Ok(Ok(head)) => Ok((head, body)),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Error::new(ErrorKind::Internal, "XX000", "the statement's task ended without an answer").into()),
    }
}

async fn run(session: Session, work: Work, head: oneshot::Sender<Result<Head, Error>>, chunks: mpsc::Sender<Result<Bytes, Problem>>) {
    let deadline = Deadline::new(work.limit);
    let form = work.form;
    let begun = async {
        let mut result = deadline.keep(execute(&session, work)).await??;
        let first = deadline
            .keep(result.stream.next())
            .await?
            .transpose()
            .map_err(|error| from_stream(&error))?;
        Ok((result, first))
    };
    let (result, first) = match begun.await {
        Ok(begun) => begun,
        Err(error) => {
            // The receiver is gone only if the client is: nobody to tell then.
            let _gone = head.send(Err(error));
            return;
        }
    };
    if head
        .send(Ok(Head {
            affected: result.affected,
            tag: result.tag,
        }))
        .is_err()
    {
        return;
    }
    if let Err(error) = deliver(result.schema, result.affected, form, first, result.stream, &deadline, &chunks).await {
        break_off(error, form, &chunks).await;
    }
}

/// Runs all statements; the last one's result. A transaction that stays open would end with this request, so it is refused.
async fn execute(session: &Session, work: Work) -> Result<QueryResult, Error> {
    let Work {
        mut statements,
        mut parameters,
        ..
    } = work;
    let Some(last) = statements.pop() else {
        return Err(Error::new(ErrorKind::InvalidInput, "42601", "the query is empty"));
    };
    for statement in statements {
        // Rows of statements before the last one are dropped; DML has happened.
        session.execute(&statement, Parameters::None).await?;
    }
    let result = session.execute(&last, std::mem::take(&mut parameters)).await?;
    if session.in_transaction() {
        session.rollback().await?;
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "25000",
            "a transaction cannot outlive its HTTP request; it was rolled back",
        )
        .with_hint("send BEGIN; …; COMMIT in one request, or use Flight SQL"));
    }
    Ok(result)
}

async fn deliver(
    schema: SchemaRef,
    affected: Option<u64>,
    form: Form,
    first: Option<RecordBatch>,
    mut rows: SendableRecordBatchStream,
    deadline: &Deadline,
    chunks: &mpsc::Sender<Result<Bytes, Problem>>,
) -> Result<(), Error> {
    let mut writer: Box<dyn RowWriter> = match form {
        Form::Json => Box::new(ResultWriter::new(&schema, affected)),
        Form::Ndjson => Format::Ndjson.writer(&schema, Look::default()).map_err(encoding)?,
        Form::Csv => Format::Csv.writer(&schema, Look::default()).map_err(encoding)?,
        Form::Arrow => Format::Arrow.writer(&schema, Look::default()).map_err(encoding)?,
    };
    let mut next = first;
    while let Some(batch) = next {
        for piece in pieces(&batch) {
            let mut out = Vec::new();
            writer.batch(&piece, &mut out).map_err(encoding)?;
            if deadline.keep(chunks.send(Ok(Bytes::from(out)))).await?.is_err() {
                return Ok(());
            }
        }
        next = deadline.keep(rows.next()).await?.transpose().map_err(|error| from_stream(&error))?;
    }
    let mut out = Vec::new();
    // A statement without columns has no CSV and no lines.
    if !(schema.fields().is_empty() && matches!(form, Form::Csv | Form::Ndjson)) {
        writer.finish(&mut out).map_err(encoding)?;
    }
    let _gone = chunks.send(Ok(Bytes::from(out))).await;
    Ok(())
}

/// An error behind the first rows: the status is out already. Text forms say it in their text; then the connection breaks without its
/// last chunk, so that no client takes the part for the whole.
async fn break_off(error: Error, form: Form, chunks: &mpsc::Sender<Result<Bytes, Problem>>) {
    tracing::warn!(code = error.code, "a result broke off: {}", error.message);
    let problem = Problem::from(error);
    let text = match form {
        Form::Json => Some(format!("],\"affected\":null,\"error\":{}}}\n", problem.error_member())),
        Form::Ndjson => Some(format!("{{\"error\":{}}}\n", problem.error_member())),
        Form::Csv | Form::Arrow => None,
    };
    if let Some(text) = text {
        let _gone = chunks.send(Ok(Bytes::from(text))).await;
    }
    let _gone = chunks.send(Err(problem)).await;
}

/// A batch in pieces that keep a chunk small.
fn pieces(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> + '_ {
    let bytes = batch
        .columns()
        .iter()
        .map(text_bytes)
        .sum::<usize>()
        .max(batch.get_array_memory_size());
    let row_bytes = (bytes / batch.num_rows().max(1)).max(1);
    let rows = (PIECE_BYTES / row_bytes).clamp(1, 8192);
    (0..batch.num_rows())
        .step_by(rows)
        .map(move |start| batch.slice(start, rows.min(batch.num_rows() - start)))
}

/// Bytes of texts, each as often as rows show it: rows may share one.
fn text_bytes(column: &ArrayRef) -> usize {
    match column.data_type() {
        DataType::Utf8View => column.as_string_view().lengths().map(|length| length as usize).sum(),
        DataType::Struct(_) => column.as_struct().columns().iter().map(text_bytes).sum(),
        _ => 0,
    }
}

fn encoding(error: ArrowError) -> Error {
    Error::new(ErrorKind::Internal, "XX000", format!("the result cannot be written: {error}"))
}

/// A point in time that work must not pass.
pub struct Deadline {
    at: Option<Instant>,
    limit: Duration,
}

impl Deadline {
    /// The end of a limit that begins now.
    pub fn new(limit: Option<Duration>) -> Self {
        let at = limit.and_then(|limit| Instant::now().checked_add(limit));
        Deadline {
            at,
            limit: limit.unwrap_or_default(),
        }
    }

    /// The outcome of `work`, or the error that time is up; the work is dropped then.
    pub async fn keep<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        let Some(at) = self.at else { return Ok(work.await) };
        // The clock is asked first: work that is ready whenever it is asked would go on for ever.
        let outcome = match Instant::now() < at {
            true => timeout_at(at, work).await.ok(),
            false => None,
        };
        outcome.ok_or_else(|| {
            let message = format!(
                "the statement ran longer than its limit of {} ms and was stopped",
                self.limit.as_millis()
            );
            Error::new(ErrorKind::DeadlineExceeded, "57014", message)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use datafusion::error::DataFusionError;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use futures::stream;

    #[tokio::test]
    async fn what_is_always_ready_ends_too() {
        let deadline = Deadline::new(Some(Duration::from_millis(20)));
        let begun = Instant::now();
        while deadline.keep(async {}).await.is_ok() {
            // A limit around this would not end it either.
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn batch(rows: i64) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    }

    fn rows(items: Vec<Result<RecordBatch, DataFusionError>>) -> SendableRecordBatchStream {
        Box::pin(RecordBatchStreamAdapter::new(batch(0).schema(), stream::iter(items)))
    }

    async fn collect(mut body: Chunks) -> (String, bool) {
        let (mut text, mut whole) = (String::new(), true);
        while let Some(chunk) = body.recv().await {
            match chunk {
                Ok(bytes) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
                Err(_) => whole = false,
            }
        }
        (text, whole)
    }

    #[tokio::test]
    async fn a_result_arrives_whole() {
        let (chunks, body) = mpsc::channel(4);
        let schema = batch(0).schema();
        let sending = async move {
            deliver(
                schema,
                None,
                Form::Json,
                Some(batch(2)),
                rows(vec![Ok(batch(1))]),
                &Deadline::new(None),
                &chunks,
            )
            .await
            .unwrap();
        };
        let ((), (text, whole)) = tokio::join!(sending, collect(body));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["rows"], serde_json::json!([[0], [1], [0]]));
        assert!(whole);
    }

    #[tokio::test]
    async fn a_late_error_is_said_and_breaks_the_body() {
        let (chunks, body) = mpsc::channel(4);
        let schema = batch(0).schema();
        let late = DataFusionError::External(Box::new(Error::new(ErrorKind::InvalidInput, "22012", "division by zero")));
        let sending = async move {
            let error = deliver(
                schema,
                None,
                Form::Json,
                Some(batch(1)),
                rows(vec![Err(late)]),
                &Deadline::new(None),
                &chunks,
            )
            .await;
            break_off(error.unwrap_err(), Form::Json, &chunks).await;
        };
        let ((), (text, whole)) = tokio::join!(sending, collect(body));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["error"]["code"], "22012");
        assert!(!whole);
    }

    #[tokio::test]
    async fn time_is_limited() {
        let deadline = Deadline::new(Some(Duration::from_millis(5)));
        let error = deadline.keep(futures::future::pending::<()>()).await.unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::DeadlineExceeded, "57014"));
    }

    #[test]
    fn wide_rows_make_small_pieces() {
        let column: ArrayRef = Arc::new(StringArray::from_iter_values((0..64).map(|_| "x".repeat(64 << 10))));
        let wide = RecordBatch::try_from_iter([("t", column)]).unwrap();
        let parts: Vec<RecordBatch> = pieces(&wide).collect();
        assert!(parts.len() > 10);
        assert_eq!(parts.iter().map(RecordBatch::num_rows).sum::<usize>(), 64);
        assert_eq!(pieces(&batch(3)).count(), 1);
    }
}
