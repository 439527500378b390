//! The client: connect, then ask.

use std::sync::Arc;

use crate::config::ClientConfig;
use crate::error::{ClientError, ErrorKind, Result};
use crate::kv::Bucket;
use crate::prepared::Prepared;
use crate::rdf::Dataset;
use crate::scope::Scope;
use crate::statement::Statement;
use crate::table::Table;
use crate::transaction::Tx;
use crate::wire::{Deadline, Wire};

/// A connection to a Pyralog database, and one session at the server.
///
/// Cheap to clone; clones share the connection and the session (settings of `SET`, and a transaction opened with the statement
/// `BEGIN`). Statements of one client run side by side. For transactions prefer [`begin`](Client::begin): those are independent of
/// the session, and any number can be open at once.
#[derive(Debug, Clone)]
pub struct Client {
    scope: Scope,
}

impl Client {
    /// Connects to `grpc://[user:password@]host[:port]` (or `grpc+tls://…`); of several addresses with commas between, to the first
    /// that answers. A [`ClientConfig`] goes too.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a wrong address, [`ErrorKind::Connection`] if no server answers, [`ErrorKind::Unauthenticated`] for a
    /// wrong login, [`ErrorKind::Unsupported`] for `grpc+tls://` without the `tls` feature.
    ///
    /// ```no_run
    /// # async fn f() -> pyralog_client::Result<()> {
    /// let db = pyralog_client::Client::connect("grpc://127.0.0.1:50051").await?;
    /// let answer: i64 = db.sql("SELECT 6 * 7").fetch_scalar().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect<C>(config: C) -> Result<Client>
    where
        C: TryInto<ClientConfig>,
        ClientError: From<C::Error>,
    {
        let wire = Arc::new(Wire::connect(config.try_into()?).await?);
        Ok(Client {
            scope: Scope { wire, transaction: None },
        })
    }

    /// A statement.
    ///
    /// ```no_run
    /// # async fn f(db: pyralog_client::Client) -> pyralog_client::Result<()> {
    /// let mut rows = db.sql("SELECT id, name FROM t WHERE id > $1").bind(42).fetch().await?;
    /// while let Some(batch) = rows.next_batch().await? {
    ///     println!("{} rows", batch.num_rows());
    /// }
    /// let changed = db.sql("UPDATE t SET name = $name WHERE id = $id").bind_named("name", "x").bind_named("id", 1).execute().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn sql(&self, text: impl Into<String>) -> Statement {
        Statement::new(self.scope.clone(), text.into())
    }

    /// A statement that is planned once and run many times.
    pub async fn prepare(&self, text: impl AsRef<str>) -> Result<Prepared> {
        Prepared::new(&self.scope, text.as_ref()).await
    }

    /// A table to insert batches into. The name is taken as it is, not folded to lower case.
    pub fn table(&self, name: impl Into<String>) -> Table {
        Table::new(self.scope.clone(), name.into())
    }

    /// A key-value bucket. The name is taken as it is, not folded to lower case.
    pub fn kv(&self, bucket: impl AsRef<str>) -> Bucket {
        Bucket::new(self.scope.clone(), bucket.as_ref())
    }

    /// A dataset of RDF. The name is taken as it is, not folded to lower case.
    pub fn rdf(&self, dataset: impl AsRef<str>) -> Dataset {
        Dataset::new(self.scope.clone(), dataset.as_ref())
    }

    /// Opens a transaction.
    pub async fn begin(&self) -> Result<Tx> {
        Tx::begin(Arc::clone(&self.scope.wire)).await
    }

    /// Opens a serializable transaction: its commit fails with [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) also where another one has changed
    /// what it only read.
    pub async fn begin_serializable(&self) -> Result<Tx> {
        let tx = self.begin().await?;
        tx.sql("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE").execute().await?;
        Ok(tx)
    }

    /// Ends the session at the server: its open transactions are rolled back, its settings forgotten.
    ///
    /// Dropping the client closes the connection too, but leaves the session to the server's own clock.
    pub async fn close(self) -> Result<()> {
        // `CloseSessionRequest` has no fields, so its bytes are none.
        match self
            .scope
            .wire
            .action(self.scope.peer(), "CloseSession", bytes::Bytes::new(), Deadline::NONE)
            .await
        {
            // A server that never made a session has none to close.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => Ok(()),
            other => other.map(drop),
        }
    }
}
