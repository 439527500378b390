//! Planning recurses on the statement, and a planner's frames are large: on a thread with a small stack it runs on a stack of its own.
//!
//! The guard bounds how deep a statement nests, so what is given here suffices. A server's threads have large stacks, where this does
//! nothing; threads of an application that embeds the database usually have two megabytes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// With less than this left, a new stack is used. Bytes. Frames of an unoptimized build are several times as large.
const LEFT: usize = if cfg!(debug_assertions) { 6 << 20 } else { 1 << 20 };
/// Size of a new stack, in bytes; only touched pages cost memory.
const SIZE: usize = 16 << 20;

/// A future that is polled with enough stack.
pub(crate) struct OnLargeStack<F> {
    inner: Pin<Box<F>>,
}

impl<F: Future> OnLargeStack<F> {
    pub(crate) fn new(inner: F) -> OnLargeStack<F> {
        OnLargeStack { inner: Box::pin(inner) }
    }
}

impl<F: Future> Future for OnLargeStack<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        stacker::maybe_grow(LEFT, SIZE, || self.inner.as_mut().poll(context))
    }
}
