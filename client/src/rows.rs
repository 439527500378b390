//! A result: a stream of record batches, and single rows out of it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::error::{ClientError, Result};
use crate::prepared::StatementHandle;

/// The rows of a query, streamed batch by batch.
///
/// Nothing is read ahead of what the transport's window holds (4 MiB), so a slow reader slows the server down. Dropping this
/// before its end cancels the query.
pub struct Rows {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch>>,
    /// The prepared statement that the stream is a result of, kept open until the stream is done.
    _statement: Option<StatementHandle>,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Rows {
    pub(crate) fn new(schema: SchemaRef, batches: BoxStream<'static, Result<RecordBatch>>) -> Self {
        Rows {
            schema,
            batches,
            _statement: None,
        }
    }

    pub(crate) fn empty(schema: SchemaRef) -> Self {
        Rows::new(schema, stream::empty().boxed())
    }

    pub(crate) fn with_statement(mut self, statement: StatementHandle) -> Self {
        self._statement = Some(statement);
        self
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The next batch; `None` at the end.
    pub async fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        self.batches.try_next().await
    }

    /// All batches that are left. Holds the whole result in memory.
    pub async fn collect_batches(self) -> Result<Vec<RecordBatch>> {
        self.try_collect().await
    }

    /// The rows one by one.
    pub fn into_rows(self) -> impl Stream<Item = Result<Row>> + Send {
        self.map_ok(|batch| {
            stream::iter((0..batch.num_rows()).map(move |index| {
                Ok(Row {
                    batch: batch.clone(),
                    index,
                })
            }))
        })
        .try_flatten()
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(cx)
    }
}

/// One row of a result. Convenient, not fast: for many rows work on the [`RecordBatch`]es.
#[derive(Debug, Clone)]
pub struct Row {
    batch: RecordBatch,
    index: usize,
}

/// A column by name or by position (from 0).
pub trait ColumnIndex {
    /// The position in a schema, or what is wrong.
    fn position(&self, schema: &Schema) -> Result<usize>;
}

impl ColumnIndex for usize {
    fn position(&self, schema: &Schema) -> Result<usize> {
        let count = schema.fields().len();
        if *self < count {
            Ok(*self)
        } else {
            Err(ClientError::usage(format!("there is no column {self}: the result has {count}")))
        }
    }
}

impl ColumnIndex for &str {
    fn position(&self, schema: &Schema) -> Result<usize> {
        let names = || {
            schema
                .fields()
                .iter()
                .map(|field| field.name().as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        schema
            .index_of(self)
            .map_err(|_| ClientError::usage(format!("there is no column \"{self}\": the result has {}", names())))
    }
}

impl Row {
    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        self.batch.schema()
    }

    /// The value of a column, converted as SQL's `CAST` would; `Option<T>` where it may be null.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if there is no such column, if it is null, or if it does not fit the type.
    pub fn get<T: FromColumn>(&self, column: impl ColumnIndex) -> Result<T> {
        let position = column.position(&self.batch.schema())?;
        let value = self.batch.column(position).slice(self.index, 1);
        let schema = self.batch.schema();
        let name = schema.field(position).name();
        T::from_column(&value).map_err(|error| ClientError::usage(format!("column \"{name}\": {}", error.message())))
    }
}

/// A Rust type that a column's value can be read as.
pub trait FromColumn: Sized {
    /// Reads an array of exactly one value.
    fn from_column(value: &ArrayRef) -> Result<Self>;
}

/// The one value as another type; an error if it is null or does not fit.
fn converted(value: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    if value.is_null(0) || value.data_type() == &DataType::Null {
        return Err(ClientError::usage("the value is null; read it as an Option"));
    }
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(value, target, &options).map_err(|error| ClientError::usage(error.to_string()).with_source(error))
}

macro_rules! from_primitive {
    ($($rust:ty => $arrow:ty, $data_type:expr;)*) => {
        $(impl FromColumn for $rust {
            fn from_column(value: &ArrayRef) -> Result<Self> {
                Ok(converted(value, &$data_type)?.as_primitive::<$arrow>().value(0))
            }
        })*
    };
}

from_primitive! {
    i32 => Int32Type, DataType::Int32;
    i64 => Int64Type, DataType::Int64;
    u64 => UInt64Type, DataType::UInt64;
    f64 => Float64Type, DataType::Float64;
}

impl FromColumn for bool {
    fn from_column(value: &ArrayRef) -> Result<Self> {
        Ok(converted(value, &DataType::Boolean)?.as_boolean().value(0))
    }
}

impl FromColumn for String {
    fn from_column(value: &ArrayRef) -> Result<Self> {
        Ok(converted(value, &DataType::Utf8)?.as_string::<i32>().value(0).to_owned())
    }
}

impl FromColumn for Vec<u8> {
    fn from_column(value: &ArrayRef) -> Result<Self> {
        Ok(converted(value, &DataType::Binary)?.as_binary::<i32>().value(0).to_vec())
    }
}

impl FromColumn for ArrayRef {
    fn from_column(value: &ArrayRef) -> Result<Self> {
        Ok(Arc::clone(value))
    }
}

impl<T: FromColumn> FromColumn for Option<T> {
    fn from_column(value: &ArrayRef) -> Result<Self> {
        let null = value.is_null(0) || value.data_type() == &DataType::Null;
        if null { Ok(None) } else { T::from_column(value).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::{BinaryArray, Int64Array, StringArray};

    use super::*;

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter(vec![
            ("id", Arc::new(Int64Array::from(vec![1, 1 << 40])) as ArrayRef),
            ("name", Arc::new(StringArray::from(vec![Some("7"), None])) as ArrayRef),
            ("raw", Arc::new(BinaryArray::from(vec![b"\x00\xff".as_slice(), b""])) as ArrayRef),
        ])
        .unwrap()
    }

    #[tokio::test]
    async fn rows_come_one_by_one_and_convert() {
        let batch = batch();
        let rows = Rows::new(batch.schema(), stream::iter([Ok(batch.clone()), Ok(batch)]).boxed());
        let rows: Vec<Row> = rows.into_rows().try_collect().await.unwrap();
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[0].get::<i32>("id").unwrap(), 1);
        assert_eq!(rows[0].get::<String>("id").unwrap(), "1");
        assert_eq!(rows[0].get::<i64>("name").unwrap(), 7);
        assert_eq!(rows[0].get::<Vec<u8>>(2).unwrap(), b"\x00\xff");
        assert_eq!(rows[1].get::<Option<String>>("name").unwrap(), None);
    }

    #[test]
    fn wrong_reads_name_the_column() {
        let row = Row { batch: batch(), index: 1 };
        assert!(row.get::<i32>("id").unwrap_err().to_string().contains("\"id\""));
        assert!(row.get::<String>("name").unwrap_err().to_string().contains("null"));
        assert!(row.get::<i64>("nane").unwrap_err().to_string().contains("id, name, raw"));
        assert!(row.get::<i64>(3).unwrap_err().to_string().contains("has 3"));
    }
}
