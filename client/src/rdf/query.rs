//! A query on its way: what it will be answered with is known from how it was asked.

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::Duration;

use arrow::datatypes::DataType;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};

use crate::error::{ClientError, Result};
use crate::rows::Rows;
use crate::statement::Statement;

/// A query that has not run yet; `.await` its answer.
#[derive(Debug)]
#[must_use = "a query runs only when it is awaited"]
pub struct Query<A> {
    statement: Statement,
    answer: PhantomData<fn() -> A>,
}

/// What a query may be answered with: [`Rows`], [`Solutions`](super::Solutions), [`Quads`](super::Quads) or `bool`.
pub trait Answer: Sized + Send + 'static {
    /// Reads the answer from rows.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) where the query has another form.
    fn read(rows: Rows) -> BoxFuture<'static, Result<Self>>;
}

impl<A: Answer> Query<A> {
    pub(super) fn new(statement: Statement) -> Self {
        Query {
            statement,
            answer: PhantomData,
        }
    }

    /// How long it may take; the server is told and stops the work.
    pub fn timeout(self, limit: Duration) -> Self {
        Query::new(self.statement.timeout(limit))
    }
}

impl<A: Answer> IntoFuture for Query<A> {
    type Output = Result<A>;
    type IntoFuture = BoxFuture<'static, Result<A>>;

    fn into_future(self) -> Self::IntoFuture {
        async move { A::read(self.statement.fetch().await?).await }.boxed()
    }
}

impl Answer for Rows {
    fn read(rows: Rows) -> BoxFuture<'static, Result<Self>> {
        futures::future::ready(Ok(rows)).boxed()
    }
}

impl Answer for bool {
    fn read(rows: Rows) -> BoxFuture<'static, Result<Self>> {
        async move {
            let schema = rows.schema();
            if schema.fields().len() != 1 || schema.field(0).data_type() != &DataType::Boolean {
                return Err(ClientError::usage("the answer is no truth value: `ask` takes an ASK query"));
            }
            let first = rows.into_rows().boxed().try_next().await?;
            first.ok_or_else(|| ClientError::protocol("the server gave no truth value"))?.get(0)
        }
        .boxed()
    }
}
