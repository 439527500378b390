//! A session: where statements run, with settings and at most one open transaction.

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::scalar::ScalarValue;

use crate::error::Result;

/// Values for a statement's placeholders (`$1`, `$2`, … or `?`, in order; or `$name`).
#[derive(Debug, Clone, Default)]
pub enum Parameters {
    /// None.
    #[default]
    None,
    /// By position.
    Positional(Vec<ScalarValue>),
    /// By name (without `$`).
    Named(Vec<(String, ScalarValue)>),
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
    /// One field a placeholder, in order; type `Null` where unknown.
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
pub struct Session {}

impl Session {
    /// Runs one statement. Outside a transaction it is one of its own. DML has happened when this returns; rows stream after it.
    pub async fn execute(&self, _sql: &str, _parameters: Parameters) -> Result<QueryResult> {
        todo!()
    }

    /// Splits a text at `;` into statements, minding strings and comments. Empty ones are left out.
    pub fn split(_sql: &str) -> Result<Vec<String>> {
        todo!()
    }

    /// Plans a statement without running it.
    pub async fn prepare(&self, _sql: &str) -> Result<Prepared> {
        todo!()
    }

    /// Starts a transaction; an error if one is open.
    pub async fn begin(&self) -> Result<()> {
        todo!()
    }

    /// Commits the open transaction.
    pub async fn commit(&self) -> Result<()> {
        todo!()
    }

    /// Rolls the open transaction back.
    pub async fn rollback(&self) -> Result<()> {
        todo!()
    }

    /// Whether a transaction is open.
    pub fn in_transaction(&self) -> bool {
        todo!()
    }

    /// Appends a stream of batches to a table: columns by name, missing ones take defaults, values cast. One atomic change; memory is bounded.
    pub async fn ingest(&self, _request: IngestRequest, _rows: SendableRecordBatchStream) -> Result<u64> {
        todo!()
    }

    /// A setting's value as text.
    pub fn setting(&self, _name: &str) -> Result<String> {
        todo!()
    }

    /// Sets a setting, as `SET name = value`.
    pub fn set(&self, _name: &str, _value: &str) -> Result<()> {
        todo!()
    }
}
