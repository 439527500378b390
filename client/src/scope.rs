//! Where a statement runs: alone, each as a transaction of its own, or inside an open transaction. Here calls are repeated.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::error::{ErrorKind, Result};
use crate::retry::Effect;
use crate::wire::{PeerId, Wire};

/// An open transaction, which lives at one server.
#[derive(Debug, Clone)]
pub(crate) struct OpenTransaction {
    /// The server's name for it.
    pub id: Bytes,
    /// The server.
    pub peer: PeerId,
}

/// The wire, and the transaction if there is one. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub wire: Arc<Wire>,
    pub transaction: Option<OpenTransaction>,
}

impl Scope {
    /// The transaction's name, as the commands want it.
    pub fn transaction_id(&self) -> Option<Bytes> {
        self.transaction.as_ref().map(|transaction| transaction.id.clone())
    }

    /// Whether statements run in a transaction that somebody has opened.
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some() || self.wire.in_session_transaction()
    }

    /// The server for the next call.
    pub fn peer(&self) -> PeerId {
        self.transaction
            .as_ref()
            .map_or_else(|| self.wire.current(), |transaction| transaction.peer)
    }

    /// Makes a call, and repeats it where its effect allows that and no transaction is open.
    pub async fn run<'a, T>(&self, effect: Effect, mut call: impl FnMut(PeerId) -> BoxFuture<'a, Result<T>>) -> Result<T> {
        let policy = self.wire.retry();
        let mut attempt = 0;
        loop {
            let peer = match (&self.transaction, effect) {
                (None, Effect::Named) => self.wire.for_write(),
                _ => self.peer(),
            };
            let outcome = match self.wire.log_in(peer).await {
                Ok(()) => call(peer).await,
                Err(error) => Err(error),
            };
            let error = match outcome {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            attempt += 1;
            if self.in_transaction() || attempt >= policy.attempts || !effect.may_repeat(&error) {
                return Err(error);
            }
            if matches!(error.kind(), ErrorKind::Connection | ErrorKind::Unavailable) {
                self.wire.leave(peer);
            }
            tokio::time::sleep(policy.pause(attempt - 1)).await;
        }
    }
}
