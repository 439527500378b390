//! Transactions: snapshot isolation, read-your-writes, first committer wins.

use std::sync::Arc;

use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionBeginTransactionResult, ActionEndTransactionRequest, EndTransaction, ProstMessageExt,
};
use bytes::Bytes;
use prost::Message;

use crate::error::{ClientError, Result};
use crate::kv::Bucket;
use crate::prepared::Prepared;
use crate::retry::Effect;
use crate::scope::{OpenTransaction, Scope};
use crate::statement::Statement;
use crate::table::Table;
use crate::wire::{Deadline, PeerId, Wire};

/// An open transaction, with the verbs of a [`Client`](crate::Client). Dropping it without [`commit`](Tx::commit) rolls it back.
///
/// If another transaction changed the same rows first, a statement or the commit fails with
/// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict); begin anew then.
///
/// ```no_run
/// # async fn f(db: pyralog_client::Client) -> pyralog_client::Result<()> {
/// let tx = db.begin().await?;
/// tx.sql("UPDATE account SET balance = balance - 10 WHERE id = $1").bind(1).execute().await?;
/// tx.sql("UPDATE account SET balance = balance + 10 WHERE id = $1").bind(2).execute().await?;
/// tx.kv("cache").delete("balances").await?;
/// tx.commit().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping a transaction rolls it back"]
pub struct Tx {
    scope: Scope,
    /// The transaction as long as it is open.
    open: Option<OpenTransaction>,
}

impl Tx {
    pub(crate) async fn begin(wire: Arc<Wire>) -> Result<Tx> {
        let alone = Scope {
            wire: Arc::clone(&wire),
            transaction: None,
        };
        let open = alone.run(Effect::Read, |peer| Box::pin(begin_at(&wire, peer))).await?;
        Ok(Tx {
            scope: Scope {
                wire,
                transaction: Some(open.clone()),
            },
            open: Some(open),
        })
    }

    /// A statement in this transaction.
    pub fn sql(&self, text: impl Into<String>) -> Statement {
        Statement::new(self.scope.clone(), text.into())
    }

    /// A prepared statement in this transaction.
    pub async fn prepare(&self, text: impl AsRef<str>) -> Result<Prepared> {
        Prepared::new(&self.scope, text.as_ref()).await
    }

    /// A table to insert into. If an insert fails half-way, roll the transaction back.
    pub fn table(&self, name: impl Into<String>) -> Table {
        Table::new(self.scope.clone(), name.into())
    }

    /// A key-value bucket.
    pub fn kv(&self, bucket: impl AsRef<str>) -> Bucket {
        Bucket::new(self.scope.clone(), bucket.as_ref())
    }

    /// Makes all changes durable and visible at once.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict): nothing has happened. [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable):
    /// it may or may not have happened.
    pub async fn commit(mut self) -> Result<()> {
        self.end(EndTransaction::Commit).await
    }

    /// Undoes all changes.
    pub async fn rollback(mut self) -> Result<()> {
        self.end(EndTransaction::Rollback).await
    }

    async fn end(&mut self, how: EndTransaction) -> Result<()> {
        match self.open.take() {
            Some(open) => end_at(&self.scope.wire, open, how).await,
            None => Err(ClientError::usage("the transaction is over")),
        }
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        // Without a runtime nobody can tell the server, which rolls back when the session ends.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let wire = Arc::clone(&self.scope.wire);
        runtime.spawn(async move {
            // Best effort, as above: a server that cannot be told has lost the connection, and rolls back.
            let _ = end_at(&wire, open, EndTransaction::Rollback).await;
        });
    }
}

async fn begin_at(wire: &Wire, peer: PeerId) -> Result<OpenTransaction> {
    let request = ActionBeginTransactionRequest {};
    let answer = wire
        .action_result(peer, "BeginTransaction", request.as_any(), Deadline::NONE)
        .await?;
    let result: Option<ActionBeginTransactionResult> = answer.unpack()?;
    let id: Bytes = result
        .ok_or_else(|| ClientError::protocol("the server's answer is not a transaction"))?
        .transaction_id;
    Ok(OpenTransaction { id, peer })
}

async fn end_at(wire: &Wire, open: OpenTransaction, how: EndTransaction) -> Result<()> {
    let request = ActionEndTransactionRequest {
        transaction_id: open.id,
        action: how.into(),
    };
    wire.action(open.peer, "EndTransaction", request.as_any().encode_to_vec(), Deadline::NONE)
        .await?;
    Ok(())
}
