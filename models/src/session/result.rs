//! Results: rows as a stream that can be dropped at any time, with an optional deadline.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{Stream, StreamExt};
use tokio::time::Instant;

use super::QueryResult;
use crate::error::{Error, ErrorKind};

/// A result without rows.
pub(crate) fn done(tag: &'static str, affected: Option<u64>) -> QueryResult {
    let schema = Arc::new(Schema::empty());
    let stream = batches_stream(Arc::clone(&schema), Vec::new());
    QueryResult {
        schema,
        tag,
        affected,
        stream,
    }
}

/// A result of rows that are at hand.
pub(crate) fn rows(tag: &'static str, schema: SchemaRef, batches: Vec<RecordBatch>, affected: Option<u64>) -> QueryResult {
    let stream = batches_stream(Arc::clone(&schema), batches);
    QueryResult {
        schema,
        tag,
        affected,
        stream,
    }
}

/// Batches as a stream.
pub(crate) fn batches_stream(schema: SchemaRef, batches: Vec<RecordBatch>) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(
        schema,
        futures::stream::iter(batches.into_iter().map(Ok)),
    ))
}

/// A stream that ends with an error once its time is over; the work below it is then dropped.
pub(crate) struct Deadline {
    schema: SchemaRef,
    inner: Option<SendableRecordBatchStream>,
    limit: Duration,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Deadline {
    /// `inner` with a limit that began at `started`.
    pub(crate) fn wrap(inner: SendableRecordBatchStream, started: Instant, limit: Duration) -> SendableRecordBatchStream {
        let schema = inner.schema();
        let sleep = Box::pin(tokio::time::sleep_until(started + limit));
        Box::pin(Deadline {
            schema,
            inner: Some(inner),
            limit,
            sleep,
        })
    }
}

/// The error of a statement that ran out of time.
pub(crate) fn timed_out(limit: Duration) -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "57014",
        format!("the statement was cancelled after {} ms", limit.as_millis()),
    )
    .with_hint("raise statement_timeout")
}

impl Stream for Deadline {
    type Item = DataFusionResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.inner.is_none() {
            return Poll::Ready(None);
        }
        if std::future::Future::poll(self.sleep.as_mut(), cx).is_ready() {
            self.inner = None;
            return Poll::Ready(Some(Err(timed_out(self.limit).into())));
        }
        match self.inner.as_mut() {
            Some(inner) => inner.poll_next_unpin(cx),
            None => Poll::Ready(None),
        }
    }
}

impl RecordBatchStream for Deadline {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
