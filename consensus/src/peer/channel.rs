//! A stream of bytes between two nodes that have introduced themselves, for whoever brings a protocol of their own.
//!
//! It has no time-outs, for it does not know what goes over it, and it does not count as presence on the roll. Instead it depends on the
//! connections for calls between its two processes: it ends with the last of them, in either direction, and so when nothing has
//! arrived from the other process for `SILENCE_LIMIT`, or another process takes that one's place.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use super::cancellation::Cancelled;
use super::transport::Stream;

/// A stream to or from another node, over TCP or TLS. Dropping it closes it.
///
/// Reading and writing fail with [`io::ErrorKind::ConnectionAborted`] once one of the two nodes stops, or they do not know each other any more;
/// also what was waiting to read or write then.
pub struct Channel {
    open: Option<Open>,
    /// Reading and writing may wait in different tasks, and each of them is to be woken.
    reading: Vec<Cancelled>,
    writing: Vec<Cancelled>,
}

struct Open {
    stream: Stream,
    /// Its share of what the server takes.
    _slot: Option<OwnedSemaphorePermit>,
}

impl Channel {
    /// A stream that ends with the first of these.
    pub(super) fn new(stream: Stream, ends: Vec<Cancelled>, slot: Option<OwnedSemaphorePermit>) -> Channel {
        Channel {
            open: Some(Open { stream, _slot: slot }),
            reading: ends.clone(),
            writing: ends,
        }
    }

    fn readable(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut Stream>> {
        still_open(&mut self.open, &mut self.reading, context).ok_or_else(ended)
    }

    fn writable(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut Stream>> {
        still_open(&mut self.open, &mut self.writing, context).ok_or_else(ended)
    }
}

/// The stream unless it has ended, and then it is closed.
fn still_open<'a>(open: &'a mut Option<Open>, ends: &mut [Cancelled], context: &mut Context<'_>) -> Option<Pin<&'a mut Stream>> {
    // Where it is closed already, the ends must not be polled again.
    if open.is_some() && ends.iter_mut().any(|end| end.poll_unpin(context).is_ready()) {
        *open = None;
    }
    open.as_mut().map(|open| Pin::new(&mut open.stream))
}

fn ended() -> io::Error {
    let why = "the stream ended with the connection between the two nodes";
    io::Error::new(io::ErrorKind::ConnectionAborted, why)
}

impl AsyncRead for Channel {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.readable(context)?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Channel {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writable(context)?.poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.writable(context)?.poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.stream.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writable(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.writable(context) {
            Ok(stream) => stream.poll_shutdown(context),
            // It is closed.
            Err(_) => Poll::Ready(Ok(())),
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("is_open", &self.open.is_some())
            .finish_non_exhaustive()
    }
}
