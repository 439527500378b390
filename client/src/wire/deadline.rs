//! When a statement must be done. The server is told by `grpc-timeout`, but many servers keep to that only until their first
//! answer, so the client keeps to it as well, and cancels.

use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use crate::error::{ClientError, ErrorKind, Result};

/// A point in time, or none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// No limit.
    pub const NONE: Deadline = Deadline(None);

    /// So long from now.
    pub fn after(limit: Option<Duration>) -> Self {
        Deadline(limit.and_then(|limit| Instant::now().checked_add(limit)))
    }

    /// What is left, for the server.
    pub fn remaining(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn passed() -> ClientError {
        ClientError::new(ErrorKind::DeadlineExceeded, "the time limit of the statement passed")
    }

    /// Gives a call up at the deadline.
    pub async fn bound<T>(self, call: impl Future<Output = Result<T>>) -> Result<T> {
        match self.0 {
            None => call.await,
            Some(at) => tokio::time::timeout_at(at, call).await.unwrap_or_else(|_| Err(Deadline::passed())),
        }
    }

    /// Ends a stream with an error at the deadline, and drops it then.
    pub fn bound_stream<T: Send + 'static>(self, items: BoxStream<'static, Result<T>>) -> BoxStream<'static, Result<T>> {
        let Some(at) = self.0 else { return items };
        stream::try_unfold(items, move |mut items| async move {
            // An always ready stream would never let the timer speak.
            if Instant::now() >= at {
                return Err(Deadline::passed());
            }
            Ok(self.bound(items.try_next()).await?.map(|item| (item, items)))
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_and_streams_end_at_the_deadline() {
        let deadline = Deadline::after(Some(Duration::from_millis(20)));
        let call = deadline.bound(std::future::pending::<Result<()>>()).await;
        assert_eq!(call.map_err(|error| error.kind()), Err(ErrorKind::DeadlineExceeded));
        let endless = deadline.bound_stream(stream::repeat_with(|| Ok(1)).boxed());
        assert!(matches!(endless.collect::<Vec<_>>().await.as_slice(), [Err(_)]));
    }

    #[tokio::test]
    async fn no_deadline_no_end() {
        assert!(Deadline::NONE.remaining().is_none());
        let items = Deadline::NONE.bound_stream(stream::iter([Ok(1), Ok(2)]).boxed());
        assert_eq!(items.count().await, 2);
    }
}
