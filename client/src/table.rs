//! Bulk insert: record batches into a table by Flight SQL's ingest.

use std::collections::HashMap;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_flight::PutResult;
use arrow_flight::sql::{CommandStatementIngest, ProstMessageExt, TableDefinitionOptions, TableExistsOption, TableNotExistOption};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::error::{ClientError, Result};
use crate::rows::Rows;
use crate::scope::Scope;
use crate::wire::{Deadline, affected_rows};

/// Rows for an insert: a schema and batches of it.
pub struct Batches {
    schema: Option<SchemaRef>,
    batches: BoxStream<'static, Result<RecordBatch>>,
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Batches {
    /// A stream of batches, read as fast as the server takes them. If it fails, nothing is inserted.
    pub fn from_stream<S, E>(schema: SchemaRef, batches: S) -> Self
    where
        S: Stream<Item = Result<RecordBatch, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let batches = batches.map_err(|error| ClientError::usage(format!("the rows to insert: {error}")).with_source(error));
        Batches {
            schema: Some(schema),
            batches: batches.boxed(),
        }
    }
}

impl From<RecordBatch> for Batches {
    fn from(batch: RecordBatch) -> Self {
        vec![batch].into()
    }
}

impl From<Vec<RecordBatch>> for Batches {
    fn from(batches: Vec<RecordBatch>) -> Self {
        let schema = batches.first().map(RecordBatch::schema);
        Batches {
            schema,
            batches: stream::iter(batches.into_iter().map(Ok)).boxed(),
        }
    }
}

impl From<Rows> for Batches {
    fn from(rows: Rows) -> Self {
        Batches {
            schema: Some(rows.schema()),
            batches: rows.boxed(),
        }
    }
}

/// What an insert does with the table itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Append,
    Create,
    Replace,
    CreateAppend,
}

impl Mode {
    fn options(self) -> TableDefinitionOptions {
        let (absent, present) = match self {
            Mode::Append => (TableNotExistOption::Fail, TableExistsOption::Append),
            Mode::Create => (TableNotExistOption::Create, TableExistsOption::Fail),
            Mode::Replace => (TableNotExistOption::Create, TableExistsOption::Replace),
            Mode::CreateAppend => (TableNotExistOption::Create, TableExistsOption::Append),
        };
        TableDefinitionOptions {
            if_not_exist: absent.into(),
            if_exists: present.into(),
        }
    }
}

/// A table to insert into. Columns go by name; those that are missing take their defaults.
///
/// Each call is one atomic change: all rows or none. It is never repeated by itself; after
/// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) it may or may not have happened.
#[derive(Debug, Clone)]
#[must_use = "nothing happens before rows are inserted"]
pub struct Table {
    scope: Scope,
    name: String,
    schema: Option<String>,
    limit: Option<Duration>,
}

impl Table {
    pub(crate) fn new(scope: Scope, name: String) -> Self {
        Table {
            scope,
            name,
            schema: None,
            limit: None,
        }
    }

    /// The database schema of the table, where it is not the session's own.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = Some(name.into());
        self
    }

    /// How long an insert may take.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Appends rows to the table, which must exist; the number of rows.
    pub async fn insert(&self, rows: impl Into<Batches>) -> Result<u64> {
        self.ingest(Mode::Append, rows.into()).await
    }

    /// Makes the table from the rows; an error if it exists.
    pub async fn create_from(&self, rows: impl Into<Batches>) -> Result<u64> {
        self.ingest(Mode::Create, rows.into()).await
    }

    /// Makes the table from the rows, in place of one that exists.
    pub async fn replace_from(&self, rows: impl Into<Batches>) -> Result<u64> {
        self.ingest(Mode::Replace, rows.into()).await
    }

    /// Appends rows to the table, which is made if it does not exist.
    pub async fn create_or_insert(&self, rows: impl Into<Batches>) -> Result<u64> {
        self.ingest(Mode::CreateAppend, rows.into()).await
    }

    async fn ingest(&self, mode: Mode, rows: Batches) -> Result<u64> {
        if rows.schema.is_none() {
            return if mode == Mode::Append {
                Ok(0)
            } else {
                Err(ClientError::usage("no batch was given, so the columns are not known"))
            };
        }
        let answers = self.upload(mode, HashMap::new(), rows).await?;
        Ok(affected_rows(&answers)?.unwrap_or(0))
    }

    /// Sends rows under options of the server's own; the metadata of the answer.
    pub(crate) async fn send(&self, options: HashMap<String, String>, rows: Batches) -> Result<Bytes> {
        let answers = self.upload(Mode::Append, options, rows).await?;
        let last = answers.into_iter().next_back();
        last.map(|answer| answer.app_metadata)
            .ok_or_else(|| ClientError::protocol("the server ended the call without a result"))
    }

    async fn upload(&self, mode: Mode, options: HashMap<String, String>, rows: Batches) -> Result<Vec<PutResult>> {
        let Batches { schema, batches } = rows;
        let schema = schema.ok_or_else(|| ClientError::usage("the columns of the rows are not known"))?;
        let command = CommandStatementIngest {
            table_definition_options: Some(mode.options()),
            table: self.name.clone(),
            schema: self.schema.clone(),
            transaction_id: self.scope.transaction_id(),
            options,
            ..CommandStatementIngest::default()
        };
        let expected = SchemaRef::clone(&schema);
        let batches = batches.map(move |batch| same_columns(&expected, batch?)).boxed();
        let peer = self.scope.peer();
        self.scope.wire.log_in(peer).await?;
        let deadline = Deadline::after(self.limit);
        self.scope.wire.upload(peer, command.as_any(), schema, batches, deadline).await
    }
}

/// Refuses a batch whose columns are not those of the first one.
fn same_columns(expected: &SchemaRef, batch: RecordBatch) -> Result<RecordBatch> {
    let same = |(a, b): (&arrow::datatypes::FieldRef, &arrow::datatypes::FieldRef)| a.name() == b.name() && a.data_type() == b.data_type();
    let found = batch.schema();
    if expected.fields().len() == found.fields().len() && expected.fields().iter().zip(found.fields()).all(same) {
        Ok(batch)
    } else {
        Err(ClientError::usage("all batches of one insert must have the same columns"))
    }
}
