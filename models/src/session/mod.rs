//! A session: where statements run, with settings and at most one open transaction.

mod execute;
mod ingest;
mod prepare;
mod reader;
mod result;
mod settings;
mod transaction;
mod views;
mod writes;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::scalar::ScalarValue;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::RwLock;
use tokio::sync::Mutex;

pub(crate) use execute::{bind, bind_expr, isolation_of, run_plan};
pub(crate) use reader::Reader;
pub(crate) use result::{Deadline, done, rows, timed_out};
pub(crate) use settings::{Settings, all as all_settings};
pub(crate) use transaction::{Isolation, OpenTransaction, commit_parts};
pub(crate) use views::Views;
pub(crate) use writes::SortedRuns;

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::large_stack::OnLargeStack;
use crate::request;

/// Values for a statement's parameters (`$1`, `$2`, … or `?`, in order; or `$name`).
#[derive(Debug, Clone, Default)]
pub enum Parameters {
    /// None.
    #[default]
    None,
    /// By position.
    Positional(Vec<ScalarValue>),
    /// By name (without `$`).
    Named(Vec<(String, ScalarValue)>),
    /// Parameters stay open: for planning without running.
    #[doc(hidden)]
    Open,
}

/// What a statement gave.
pub struct QueryResult {
    /// Columns of `stream`; empty for statements without rows.
    pub schema: SchemaRef,
    /// What was done: `SELECT`, `INSERT`, `CREATE TABLE`, …
    pub tag: &'static str,
    /// Rows changed, for DML.
    pub affected: Option<u64>,
    /// The rows. Dropping it stops the work.
    pub stream: SendableRecordBatchStream,
}

/// A parsed and planned statement.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The text.
    pub sql: String,
    /// Columns of the result; empty for DML and DDL.
    pub schema: SchemaRef,
    /// One field a parameter, in order; type `Null` where unknown.
    pub parameters: SchemaRef,
    /// Whether it gives rows (as opposed to an update count).
    pub returns_rows: bool,
}

/// What an ingest does with the target table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngestMode {
    /// Make it; an error if it exists.
    Create,
    /// Append; an error if it does not exist.
    Append,
    /// Drop and make it.
    Replace,
    /// Make it if needed, then append.
    CreateAppend,
}

/// A bulk insert.
#[derive(Debug, Clone)]
pub struct IngestRequest {
    /// Schema name; `None`: the session's.
    pub schema: Option<String>,
    /// Table name, taken as it is (not folded).
    pub table: String,
    /// What to do.
    pub mode: IngestMode,
}

/// A session. Cheap to clone (clones share settings and transaction).
#[derive(Clone)]
pub struct Session {
    pub(crate) inner: Arc<SessionInner>,
}

pub(crate) struct SessionInner {
    pub(crate) engine: Arc<Engine>,
    pub(crate) state: RwLock<Arc<SessionState>>,
    pub(crate) settings: RwLock<Settings>,
    /// Held while a statement of a transaction runs, so that statements of one transaction never interleave.
    pub(crate) transaction: Mutex<Option<OpenTransaction>>,
}

impl Drop for SessionInner {
    fn drop(&mut self) {
        self.engine.counters.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Session {
    pub(crate) fn new(engine: Arc<Engine>) -> Session {
        engine.counters.sessions.fetch_add(1, Ordering::Relaxed);
        let state = RwLock::new(Arc::clone(&engine.base_state));
        let settings = Settings {
            distributed: engine.config.distributed,
            ..Settings::default()
        };
        Session {
            inner: Arc::new(SessionInner {
                engine,
                state,
                settings: RwLock::new(settings),
                transaction: Mutex::new(None),
            }),
        }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.inner.engine
    }

    /// The planner's state for one statement: the settings of now, and the time of now for `now()`.
    pub(crate) fn statement_state(&self) -> SessionState {
        let mut state = SessionState::clone(&self.shared_state());
        state.mark_start_execution();
        state
    }

    /// The planner's state with the settings of now, for what never asks for the time. Copying a state costs more than inserting a row.
    pub(crate) fn shared_state(&self) -> Arc<SessionState> {
        Arc::clone(&self.inner.state.read())
    }

    /// Runs one statement. Outside a transaction it is one of its own. DML has happened when this returns; rows stream after it.
    pub async fn execute(&self, sql: &str, parameters: Parameters) -> Result<QueryResult> {
        let result = OnLargeStack::new(self.execute_text(sql, parameters)).await;
        self.engine().count(&result);
        result
    }

    /// Runs a statement from within another. The type is named, since the futures of both would otherwise hold each other.
    pub(crate) fn execute_nested(&self, sql: String) -> BoxFuture<'_, Result<QueryResult>> {
        async move { self.execute_text(&sql, Parameters::None).await }.boxed()
    }

    /// Splits a text at `;` into statements, minding strings and comments. Empty ones are left out.
    pub fn split(sql: &str) -> Result<Vec<String>> {
        crate::sql::parse::split(sql)
    }

    /// Plans a statement without running it.
    pub async fn prepare(&self, sql: &str) -> Result<Prepared> {
        OnLargeStack::new(self.prepare_text(sql)).await
    }

    /// How transactions that do not name it, and single statements, are kept apart from others.
    pub(crate) fn isolation(&self) -> Isolation {
        self.inner.settings.read().isolation
    }

    /// The isolation of the open transaction, or of the next one.
    pub(crate) fn isolation_now(&self) -> Isolation {
        let open = self.inner.transaction.try_lock();
        let of_transaction = open.ok().and_then(|open| open.as_ref().map(OpenTransaction::isolation));
        of_transaction.unwrap_or_else(|| self.isolation())
    }

    /// Starts a transaction, of the isolation that the session is set to; an error if one is open.
    pub async fn begin(&self) -> Result<()> {
        self.begin_at(self.isolation()).await
    }

    /// Changes the isolation of the open transaction, which has done nothing so far.
    pub(crate) fn set_isolation(&self, isolation: Isolation) -> Result<()> {
        let busy =
            || Error::new(ErrorKind::InvalidInput, "55006", "a statement of the transaction is running").with_hint("wait for its end");
        let mut open = self.inner.transaction.try_lock().map_err(|_| busy())?;
        open.as_mut().ok_or_else(no_transaction)?.set_isolation(self.engine(), isolation)
    }

    async fn begin_at(&self, isolation: Isolation) -> Result<()> {
        let mut open = self.inner.transaction.lock().await;
        if open.is_some() {
            return Err(
                Error::new(ErrorKind::InvalidInput, "25001", "a transaction is open already").with_hint("COMMIT or ROLLBACK it first")
            );
        }
        if !self.reads_locally() {
            self.engine().fresh_rows().await?;
        }
        *open = Some(OpenTransaction::begin(self.engine(), isolation).await?);
        Ok(())
    }

    /// Commits the open transaction.
    pub async fn commit(&self) -> Result<()> {
        let open = self.inner.transaction.lock().await.take();
        match open {
            Some(mut transaction) => {
                let part = request::next_part();
                transaction.name(part, 0);
                let result = transaction.commit(self.engine()).await;
                request::outcome(self.engine(), part, result, |_| Ok(())).await
            }
            None => Err(no_transaction()),
        }
    }

    /// Rolls the open transaction back.
    pub async fn rollback(&self) -> Result<()> {
        let open = self.inner.transaction.lock().await.take();
        match open {
            Some(transaction) => transaction.rollback().await,
            None => Err(no_transaction()),
        }
    }

    /// Whether a transaction is open.
    pub fn in_transaction(&self) -> bool {
        // While a statement of a transaction runs, the lock is held: then one is open.
        self.inner.transaction.try_lock().map_or(true, |open| open.is_some())
    }

    /// Appends a stream of batches to a table: columns by name, missing ones take defaults, values cast. One atomic change; memory is bounded.
    pub async fn ingest(&self, request: IngestRequest, rows: SendableRecordBatchStream) -> Result<u64> {
        let result = OnLargeStack::new(self.ingest_stream(request, rows)).await;
        self.engine().count(&result);
        result
    }

    /// A setting's value as text.
    pub fn setting(&self, name: &str) -> Result<String> {
        settings::get(self, name)
    }

    /// Sets a setting, as `SET name = value`.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        settings::set(self, name, value)
    }
}

pub(crate) fn no_transaction() -> Error {
    Error::new(ErrorKind::InvalidInput, "25P01", "no transaction is open").with_hint("BEGIN starts one")
}
