//! Tells a client's stream that broke off from one that ended.
//!
//! The HTTP layer takes a stream that the client resets with `CANCEL` for one that ended, and so would the service: a cancelled upload
//! would be committed with the rows that had come. Only the end that the client itself has marked is one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::http::Request;
use tonic::{Code, Status};

/// Watches the body of a call.
pub fn watch(request: Request<Body>) -> Request<Body> {
    request.map(|body| Body::new(Watched { body }))
}

struct Watched<B> {
    body: B,
}

impl<B: HttpBody<Data = Bytes, Error = Status> + Unpin> HttpBody for Watched<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match frame {
            None if !self.body.is_end_stream() => Some(Err(broken_off())),
            Some(Err(status)) if status.code() == Code::Cancelled => Some(Err(broken_off())),
            frame => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn broken_off() -> Status {
    // Not `Cancelled`, which the decoder would take for an end again.
    Status::aborted("the client broke its stream off [57014]")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A body that gives its frames, and then ends, marked as its end or not.
    struct Given {
        frames: VecDeque<Result<Frame<Bytes>, Status>>,
        marked: bool,
    }

    impl HttpBody for Given {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.frames.pop_front())
        }

        fn is_end_stream(&self) -> bool {
            self.marked && self.frames.is_empty()
        }
    }

    async fn last(frames: Vec<Result<Frame<Bytes>, Status>>, marked: bool) -> Option<Status> {
        let mut body = Watched {
            body: Given {
                frames: frames.into(),
                marked,
            },
        };
        loop {
            match std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                Some(Ok(_)) => {}
                Some(Err(status)) => return Some(status),
                None => return None,
            }
        }
    }

    fn data() -> Result<Frame<Bytes>, Status> {
        Ok(Frame::data(Bytes::from_static(b"x")))
    }

    #[tokio::test]
    async fn only_a_marked_end_is_one() {
        assert!(last(vec![data()], true).await.is_none());
        assert_eq!(last(vec![data()], false).await.unwrap().code(), Code::Aborted);
        assert_eq!(last(vec![], false).await.unwrap().code(), Code::Aborted);
    }

    #[tokio::test]
    async fn a_cancelled_stream_fails_and_others_fail_as_they_did() {
        let cancelled = vec![data(), Err(Status::cancelled("reset"))];
        assert_eq!(last(cancelled, false).await.unwrap().code(), Code::Aborted);
        let broken = vec![Err(Status::internal("torn"))];
        assert_eq!(last(broken, false).await.unwrap().code(), Code::Internal);
    }
}
