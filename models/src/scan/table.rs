//! A relation at one snapshot as a DataFusion table.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{ScanArgs, ScanResult, Session, TableProvider};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{Constraints, DFSchema, Statistics};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use pyralog_storage::RelationView;

use super::external;
use super::keys::{bound_keys, key_span};
use super::predicate::{Predicate, is_absorbable};
use super::shape::TableShape;
use super::source::{Readers, RelationSource, ScanRequest};
use super::statistics::table_statistics;
use crate::distributed::Deal;
use crate::reads::Reads;

/// A relation at one snapshot, as DataFusion reads it: one [`RelationView`] for each partition of the database.
#[derive(Clone)]
pub struct RelationTable {
    shape: Arc<TableShape>,
    /// Rows that whoever made the table expects to read.
    expected_rows: Option<f64>,
    /// Where to say what is read.
    reads: Option<Arc<Reads>>,
}

impl RelationTable {
    /// A table named `name` (for EXPLAIN) over `views`, one a partition (at least one; all of one relation and schema version), with the
    /// columns at these positions of the relation's schema, in this order. `RelationSchema::timestamp_column()` stands for `_ts`; hidden
    /// columns are those that are not listed. Declares the primary key as a constraint when all key columns are listed.
    ///
    /// # Errors
    /// When there is no view, views differ in relation or schema version, or a position is out of range.
    pub fn try_new(name: impl Into<String>, views: Vec<RelationView>, columns: Vec<usize>) -> Result<RelationTable> {
        Ok(RelationTable {
            shape: Arc::new(TableShape::try_new(name.into(), views, columns)?),
            expected_rows: None,
            reads: None,
        })
    }

    /// The same, where about so many rows are expected to be read.
    pub fn expecting(mut self, rows: f64) -> RelationTable {
        self.expected_rows = Some(rows);
        self
    }

    /// The same, which says what of it is read.
    pub(crate) fn recorded(mut self, reads: Option<Arc<Reads>>) -> RelationTable {
        self.reads = reads;
        self
    }

    /// About how many rows are read, where it was told.
    pub fn expected_rows(&self) -> Option<f64> {
        self.expected_rows
    }

    /// As [`Self::try_new`] with every column of the relation and without `_ts`.
    ///
    /// # Errors
    /// As for [`Self::try_new`].
    pub fn with_all_columns(name: impl Into<String>, views: Vec<RelationView>) -> Result<RelationTable> {
        let columns = views.first().map_or(0, |view| view.schema().schema.fields().len());
        Self::try_new(name, views, (0..columns).collect())
    }

    /// The views under the table, one a partition.
    pub fn views(&self) -> &[RelationView] {
        &self.shape.views
    }

    async fn plan(
        &self,
        state: &dyn Session,
        projection: Option<&[usize]>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut predicate = Predicate::default();
        if let Some(filter) = conjunction(filters.iter().cloned()) {
            let schema = DFSchema::try_from(Arc::clone(&self.shape.schema))?;
            let physical = state.create_physical_expr(filter, &schema)?;
            if !predicate.add(&physical) {
                return datafusion::common::plan_err!("the scan of {} was given a filter it did not accept: {physical}", self.shape.name);
            }
        }
        if let Some(reads) = &self.reads {
            match (bound_keys(&self.shape, &predicate)?, self.shape.views.first()) {
                (Some(keys), Some(view)) => reads.keys(view, &keys).map_err(external)?,
                _ => reads.span(self.shape.relation.id, key_span(&self.shape, &predicate)?),
            }
        }
        // With one stream, operators above would take each task's rows for all there are.
        let (readers, least) = match state.config().get_extension::<Deal>() {
            Some(_) => (Readers::Tasks, 2),
            None => (Readers::One, 1),
        };
        let request = ScanRequest {
            columns: projection.map_or_else(|| (0..self.shape.positions.len()).collect(), <[usize]>::to_vec),
            predicate,
            limit,
            target_partitions: state.config().target_partitions().max(least),
            batch_size: state.config().batch_size(),
            readers,
        };
        let shape = Arc::clone(&self.shape);
        let source = match request.predicate.is_empty() {
            true => RelationSource::plan(shape, request)?,
            // Sampling reads rows.
            false => SpawnedTask::spawn_blocking(move || RelationSource::plan(shape, request))
                .await
                .map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??,
        };
        Ok(DataSourceExec::from_data_source(source))
    }
}

#[async_trait]
impl TableProvider for RelationTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.shape.schema)
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.shape.constraints)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.plan(state, projection.map(Vec::as_slice), filters, limit).await
    }

    async fn scan_with_args<'a>(&self, state: &dyn Session, args: ScanArgs<'a>) -> Result<ScanResult> {
        let plan = self
            .plan(state, args.projection(), args.filters().unwrap_or(&[]), args.limit())
            .await?;
        Ok(plan.into())
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        filters
            .iter()
            .map(|filter| {
                Ok(match is_absorbable(filter)? {
                    true => TableProviderFilterPushDown::Exact,
                    false => TableProviderFilterPushDown::Unsupported,
                })
            })
            .collect()
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(table_statistics(&self.shape, |_| true))
    }
}

impl fmt::Debug for RelationTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelationTable")
            .field("name", &self.shape.name)
            .field("views", &self.shape.views.len())
            .finish()
    }
}
