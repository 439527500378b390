//! Solutions: what a SELECT query gives, one by one, in its order.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::vec;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};

use super::column::{TermColumn, is_terms};
use super::query::Answer;
use super::term::Term;
use crate::error::{ClientError, Result};
use crate::rows::Rows;

/// The solutions of a query, streamed as [`Rows`] are.
#[derive(Debug)]
pub struct Solutions {
    rows: Decoded<Solution>,
}

impl Solutions {
    /// The variables, in the query's order.
    pub fn variables(&self) -> Vec<String> {
        self.rows.rows.schema().fields().iter().map(|field| field.name().clone()).collect()
    }

    /// The next solution; `None` at the end.
    pub async fn next_solution(&mut self) -> Result<Option<Solution>> {
        self.try_next().await
    }

    /// The batches, with a column of terms (structs of `kind`, `value`, `datatype` and `language`) for each variable. The batch that a
    /// solution was taken from is left out.
    pub fn into_rows(self) -> Rows {
        self.rows.rows
    }
}

impl Stream for Solutions {
    type Item = Result<Solution>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.rows.poll(cx, solutions)
    }
}

impl Answer for Solutions {
    fn read(rows: Rows) -> BoxFuture<'static, Result<Self>> {
        let schema = rows.schema();
        let other = schema.fields().iter().any(|field| !is_terms(field.data_type()));
        let answer = match other {
            true => Err(ClientError::usage("the answer has no solutions: `query` takes a SELECT query")),
            false => Ok(Solutions { rows: Decoded::new(rows) }),
        };
        futures::future::ready(answer).boxed()
    }
}

fn solutions(batch: &RecordBatch) -> Result<Vec<Solution>> {
    let columns = batch.columns().iter().map(TermColumn::new).collect::<Result<Vec<_>>>()?;
    (0..batch.num_rows())
        .map(|row| {
            Ok(Solution {
                schema: batch.schema(),
                terms: columns.iter().map(|column| column.get(row)).collect::<Result<_>>()?,
            })
        })
        .collect()
}

/// One solution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solution {
    schema: SchemaRef,
    terms: Vec<Option<Term>>,
}

impl Solution {
    /// What a variable is bound to; `None` where it is not bound, or where the query has no such variable.
    pub fn get(&self, variable: &str) -> Option<&Term> {
        self.terms[self.schema.index_of(variable).ok()?].as_ref()
    }

    /// What a variable is bound to.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) where it is not bound, or where the query has no such variable.
    pub fn term(&self, variable: &str) -> Result<&Term> {
        let found = self.get(variable);
        found.ok_or_else(|| ClientError::usage(format!("the solution has no ?{variable}")))
    }

    /// The variables that are bound, with their terms, in the query's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Term)> {
        let names = self.schema.fields().iter().map(|field| field.name().as_str());
        names.zip(&self.terms).filter_map(|(name, term)| Some((name, term.as_ref()?)))
    }
}

/// Rows that are taken apart batch by batch.
#[derive(Debug)]
pub(super) struct Decoded<T> {
    pub(super) rows: Rows,
    ready: vec::IntoIter<T>,
}

impl<T> Decoded<T> {
    pub(super) fn new(rows: Rows) -> Self {
        Decoded {
            rows,
            ready: Vec::new().into_iter(),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, decode: fn(&RecordBatch) -> Result<Vec<T>>) -> Poll<Option<Result<T>>> {
        loop {
            if let Some(next) = self.ready.next() {
                return Poll::Ready(Some(Ok(next)));
            }
            match ready!(self.rows.poll_next_unpin(cx)) {
                Some(batch) => match batch.and_then(|batch| decode(&batch)) {
                    Ok(rows) => self.ready = rows.into_iter(),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                },
                None => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};
    use futures::stream;

    use super::super::column::build;
    use super::*;

    fn rows(names: [&str; 2]) -> Rows {
        let column = |terms: [Option<Term>; 2]| build(terms.iter().map(Option::as_ref)).unwrap();
        let (ann, bob) = (Term::iri("urn:ann"), Term::literal("Bob"));
        let batch = RecordBatch::try_from_iter_with_nullable([
            (names[0], column([Some(ann), Some(bob.clone())]), true),
            (names[1], column([None, Some(bob)]), true),
        ])
        .unwrap();
        Rows::new(batch.schema(), stream::iter([Ok(batch.slice(0, 1)), Ok(batch.slice(1, 1))]).boxed())
    }

    #[tokio::test]
    async fn solutions_come_one_by_one() {
        let mut solutions = Solutions::read(rows(["s", "n"])).await.unwrap();
        assert_eq!(solutions.variables(), ["s", "n"]);
        let first = solutions.next_solution().await.unwrap().unwrap();
        assert_eq!((first.get("s"), first.get("n")), (Some(&Term::iri("urn:ann")), None));
        assert_eq!(first.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["s"]);
        assert!(first.term("n").unwrap_err().to_string().contains("?n"));
        assert_eq!(solutions.next_solution().await.unwrap().unwrap().term("n").unwrap().value(), "Bob");
        assert!(solutions.next_solution().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn another_answer_is_refused() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        let rows = Rows::new(batch.schema(), stream::iter([Ok(batch)]).boxed());
        assert!(Solutions::read(rows).await.unwrap_err().to_string().contains("SELECT"));
    }
}
