//! Which columns a stream reads, in which of its two reads, and how they make up the output.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use super::filter::{RowFilter, Selection};
use super::metrics::ScanMetrics;
use super::output::Output;
use super::predicate::Predicate;
use super::shape::TableShape;

/// What a stream reads and hands out.
pub(super) struct Columns {
    /// Table columns of the predicate, and their relation columns.
    predicate: (Vec<usize>, Vec<usize>),
    /// Output columns that the predicate does not read, as relation columns.
    rest: Vec<usize>,
    /// All relation columns read.
    all: Vec<usize>,
    /// For each output column: where it is, in the predicate's columns or in the rest.
    source: Vec<Source>,
    schema: SchemaRef,
}

#[derive(Clone, Copy)]
enum Source {
    Predicate(usize),
    Rest(usize),
}

impl Columns {
    /// For output columns (table columns) under a predicate.
    pub fn new(shape: &TableShape, output: &[usize], predicate: &Predicate) -> Columns {
        let predicate_columns = predicate.columns();
        let mut rest: Vec<usize> = Vec::new();
        let source = output
            .iter()
            .map(|column| match predicate_columns.binary_search(column) {
                Ok(position) => Source::Predicate(position),
                Err(_) => Source::Rest(rest.iter().position(|r| r == column).unwrap_or_else(|| {
                    rest.push(*column);
                    rest.len() - 1
                })),
            })
            .collect();
        let rest = shape.relation_columns(&rest);
        let predicate_relation = shape.relation_columns(&predicate_columns);
        let all = predicate_relation.iter().chain(&rest).copied().collect();
        Columns {
            predicate: (predicate_columns, predicate_relation),
            rest,
            all,
            source,
            schema: shape.project(output),
        }
    }

    /// The output's schema.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Table columns of the predicate: the first ones of [`Self::relation_columns`].
    pub fn table_columns(&self) -> &[usize] {
        &self.predicate.0
    }

    /// Relation columns of the predicate: read first.
    pub fn predicate_columns(&self) -> &[usize] {
        &self.predicate.1
    }

    /// The other relation columns of the output: read for batches with rows that pass.
    pub fn rest(&self) -> &[usize] {
        &self.rest
    }

    /// All relation columns that are read: the predicate's, then the rest.
    pub fn relation_columns(&self) -> &[usize] {
        &self.all
    }

    /// Filters a batch of [`Self::relation_columns`] into the output.
    pub fn filter_into(
        &self,
        rows: &RecordBatch,
        filter: Option<&mut RowFilter>,
        output: &mut Output,
        metrics: &ScanMetrics,
    ) -> Result<()> {
        let count = rows.num_rows();
        let split = self.predicate.1.len();
        let looked_at = rows.project(&(0..split).collect::<Vec<_>>())?;
        let rest = rows.project(&(split..self.all.len()).collect::<Vec<_>>())?;
        let selection = match filter {
            Some(filter) => filter.select(&looked_at)?,
            None => Selection::All,
        };
        match selection {
            Selection::None => metrics.rows_filtered.add(count),
            Selection::All => output.push(self.assemble(Some(&looked_at), Some(&rest), count)?)?,
            Selection::Some(mask, passed) => {
                metrics.rows_filtered.add(count - passed);
                output.push_selected(self.assemble(Some(&looked_at), Some(&rest), count)?, &mask, passed)?;
            }
        }
        Ok(())
    }

    /// The output columns of `rows` rows from a batch of the predicate's columns and one of the rest.
    pub fn assemble(&self, predicate: Option<&RecordBatch>, rest: Option<&RecordBatch>, rows: usize) -> Result<RecordBatch> {
        let column = |source: &Source| -> Option<ArrayRef> {
            match *source {
                Source::Predicate(i) => predicate?.columns().get(i).cloned(),
                Source::Rest(i) => rest?.columns().get(i).cloned(),
            }
        };
        let columns = self.source.iter().filter_map(column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}
