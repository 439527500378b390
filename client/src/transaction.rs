//! Transactions: snapshot isolation, read-your-writes, first committer wins.

use std::sync::Arc;

use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionBeginTransactionResult, ActionEndTransactionRequest, EndTransaction, ProstMessageExt,
};
use bytes::Bytes;
use prost::Message;

use crate::error::{ClientError, ErrorKind, Result};
use crate::kv::Bucket;
use crate::prepared::Prepared;
use crate::rdf::Dataset;
use crate::retry::Effect;
use crate::scope::{OpenTransaction, Scope};
use crate::statement::Statement;
use crate::table::Table;
use crate::wire::{Deadline, Name, PeerId, Wire};

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

    /// A dataset of RDF. The name is taken as it is, not folded to lower case.
    pub fn rdf(&self, dataset: impl AsRef<str>) -> Dataset {
        Dataset::new(self.scope.clone(), dataset.as_ref())
    }

    /// Makes all changes durable and visible at once.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict): nothing has happened; begin anew. [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable):
    /// it may or may not have happened, and no server could be asked which.
    pub async fn commit(mut self) -> Result<()> {
        self.end(EndTransaction::Commit).await
    }

    /// Undoes all changes.
    pub async fn rollback(mut self) -> Result<()> {
        self.end(EndTransaction::Rollback).await
    }

    async fn end(&mut self, how: EndTransaction) -> Result<()> {
        let wire = &self.scope.wire;
        match self.open.take() {
            Some(open) if how == EndTransaction::Commit => {
                let name = wire.name();
                match end_at(wire, open, how, Some(&name)).await {
                    Err(error) if matches!(error.kind(), ErrorKind::Connection | ErrorKind::Unavailable) => {
                        settle(wire, &name, error).await
                    }
                    outcome => outcome,
                }
            }
            Some(open) => end_at(wire, open, how, None).await,
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
            let _ = end_at(&wire, open, EndTransaction::Rollback, None).await;
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

/// Finds out what came of a commit whose answer was lost, from whichever server answers.
async fn settle(wire: &Wire, name: &Name, lost: ClientError) -> Result<()> {
    let policy = wire.retry();
    for attempt in 0..policy.attempts {
        for peer in wire.all() {
            if wire.log_in(peer).await.is_err() {
                continue;
            }
            let asked = wire
                .named_action(peer, "SettleRequest", Bytes::new(), Deadline::NONE, Some(name))
                .await;
            match asked.as_deref() {
                Ok([done]) if done == &b"1"[..] => return Ok(()),
                Ok([_]) => {
                    return Err(ClientError::new(
                        ErrorKind::Conflict,
                        format!("the transaction was not committed, and will not be: {lost}; begin anew"),
                    )
                    .with_source(lost));
                }
                Ok(_) => return Err(ClientError::protocol("the server did not say what came of the commit").with_source(lost)),
                // Not this one, or not yet.
                Err(_) => {}
            }
        }
        tokio::time::sleep(policy.pause(attempt)).await;
    }
    Err(lost)
}

async fn end_at(wire: &Wire, open: OpenTransaction, how: EndTransaction, name: Option<&Name>) -> Result<()> {
    let request = ActionEndTransactionRequest {
        transaction_id: open.id,
        action: how.into(),
    };
    let body = request.as_any().encode_to_vec();
    wire.named_action(open.peer, "EndTransaction", body, Deadline::NONE, name).await?;
    Ok(())
}
