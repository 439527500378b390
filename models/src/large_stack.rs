//! Planning recurses on the statement, and a planner's frames are large: on a thread with a small stack it runs on a stack of its own.
//!
//! The guard bounds how deep a statement nests, so what is given here suffices. A server's threads have large stacks, where this does
//! nothing; threads of an application that embeds the database usually have two megabytes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;

/// With less than this left, a new stack is used. Bytes. Frames of an unoptimized build are several times as large.
const LEFT: usize = if cfg!(debug_assertions) { 6 << 20 } else { 1 << 20 };
/// Size of a new stack, in bytes; only touched pages cost memory.
const SIZE: usize = 16 << 20;

/// A future that is polled with enough stack. Its type is erased, so that the futures around it stay small to lay out and to compile.
pub(crate) struct OnLargeStack<'a, T> {
    inner: BoxFuture<'a, T>,
}

impl<'a, T> OnLargeStack<'a, T> {
    pub(crate) fn new(inner: impl Future<Output = T> + Send + 'a) -> OnLargeStack<'a, T> {
        OnLargeStack { inner: inner.boxed() }
    }
}

impl<T> Future for OnLargeStack<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        stacker::maybe_grow(LEFT, SIZE, || self.inner.as_mut().poll(context))
    }
}
