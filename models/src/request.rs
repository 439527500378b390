//! Requests that their callers have named, so that one that is sent again is not carried out again.
//!
//! A caller wraps the work in [`named`]. Each commit within is a part of the request, numbered in order; consensus carries each part out
//! once. What is tried again runs again, up to its commit: there it turns out that an earlier try was first, and its count is told.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};

pub use pyralog_consensus::{Done, Tried};
use pyralog_consensus::{Known, Request, RequestId};

use crate::engine::Engine;
use crate::error::{Error, Result};

/// A client's name for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestName {
    /// The client: 128 random bits.
    pub client: u128,
    /// The client's number for the request.
    pub serial: u64,
    /// The client sends nothing below this serial again.
    pub settled: u64,
    /// Whether it may have sent this before.
    pub tried: Tried,
}

struct Named {
    name: RequestName,
    parts: AtomicU32,
}

tokio::task_local! {
    static NAMED: Named;
}

/// Does work under a request's name.
pub async fn named<T>(name: Option<RequestName>, work: impl Future<Output = T>) -> T {
    match name {
        Some(name) => {
            let parts = AtomicU32::new(0);
            NAMED.scope(Named { name, parts }, work).await
        }
        None => work.await,
    }
}

/// The next part of the request that is being worked on, if it has a name.
pub(crate) fn next_part() -> Option<Request> {
    let next = |named: &Named| {
        let part = named.parts.fetch_add(1, Ordering::Relaxed);
        named.name.part(part)
    };
    NAMED.try_with(next).ok()
}

/// The part of a request that has one commit only, however often it is tried.
pub(crate) fn only_part() -> Option<Request> {
    NAMED.try_with(|named| named.name.part(0)).ok()
}

impl RequestName {
    pub(crate) fn part(&self, part: u32) -> Request {
        Request {
            id: RequestId {
                client: self.client,
                serial: self.serial,
                part,
            },
            settled: self.settled,
            rows: 0,
            tried: self.tried,
        }
    }
}

/// What came of a part: where it failed though an earlier try had carried it out, that is what counts.
pub(crate) async fn outcome<T>(
    engine: &Engine,
    part: Option<Request>,
    result: Result<T>,
    repeated: impl FnOnce(Done) -> Result<T>,
) -> Result<T> {
    match (result, part) {
        (Err(error), Some(part)) => match carried_out(engine, part.id).await {
            Ok(Some(done)) => repeated(done),
            Ok(None) => Err(error),
            Err(unknown) => {
                tracing::debug!(%unknown, "whether a request was carried out before");
                Err(error)
            }
        },
        (result, _) => result,
    }
}

/// Whether a part was carried out.
pub(crate) async fn carried_out(engine: &Engine, part: RequestId) -> Result<Option<Done>> {
    Ok(match engine.node.known(part).await? {
        Known::Done(done) => Some(done),
        Known::Nothing | Known::Void | Known::Settled => None,
    })
}

/// What a try of a part ends with that an earlier one has carried out; [`outcome`] puts what that came to in its place.
pub(crate) fn repeated() -> Error {
    Error::internal("an earlier try of this request was carried out, and what came of it is not known any more")
}
