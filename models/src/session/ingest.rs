//! Bulk insert of a stream of Arrow batches: columns by name, defaults for missing ones, values cast; one atomic change.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, RecordBatch, new_null_array};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::ExprSchemable;
use datafusion::physical_expr::PhysicalExpr;
use futures::StreamExt;
use futures::stream::BoxStream;
use pyralog_consensus::Request;

use super::execute::{CONFLICT_RETRIES, pause};
use super::{IngestMode, IngestRequest, OpenTransaction, Parameters, Session};
use crate::catalog::{CatalogSnapshot, CollectionKind, DEFAULT_SCHEMA, Object, ObjectName, TableDefinition};
use crate::error::{Error, ErrorKind, Result, nearest};
use crate::rdf::{self, DatasetDefinition, RdfLoad, RdfLoaded};
use crate::request;
use crate::sql::context::Planner;
use crate::sql::ddl;
use crate::sql::dml::{Dml, OnConflict, RowCheck, default_exprs};

impl Session {
    pub(super) async fn ingest_stream(&self, request: IngestRequest, rows: SendableRecordBatchStream) -> Result<u64> {
        self.ingest_rows(request, rows).await
    }

    /// Makes the table if the mode says so, then appends in the open transaction or one of its own.
    pub(crate) async fn ingest_rows(&self, request: IngestRequest, rows: SendableRecordBatchStream) -> Result<u64> {
        let target = ObjectName {
            schema: request.schema.unwrap_or_else(|| DEFAULT_SCHEMA.to_owned()),
            name: request.table,
        };
        self.engine().fresh().await?;
        let catalog = self.engine().catalog.snapshot()?;
        if let Some(dataset) = dataset(&catalog, &target) {
            return match request.mode {
                IngestMode::Append | IngestMode::CreateAppend => self.append_quads(dataset, rows).await,
                IngestMode::Create => Err(Error::new(ErrorKind::AlreadyExists, "42P07", format!("{target} exists already"))),
                IngestMode::Replace => Err(Error::unsupported(format!("the dataset {target} is not replaced by an ingest"))
                    .with_hint("drop and make it, then append")),
            };
        }
        if !catalog.has_schema(&target.schema) {
            return Err(Error::new(
                ErrorKind::NotFound,
                "3F000",
                format!("schema {} does not exist", target.schema),
            ));
        }
        let existing = catalog.get(&target);
        let create = match (request.mode, existing) {
            (IngestMode::Append, _) => false,
            (IngestMode::Create, Some(_)) => {
                return Err(Error::new(ErrorKind::AlreadyExists, "42P07", format!("{target} exists already")));
            }
            (IngestMode::CreateAppend, Some(_)) => false,
            (IngestMode::Create | IngestMode::CreateAppend | IngestMode::Replace, _) => true,
        };
        if !create {
            let (_, table) = catalog.require_table(&target)?;
            return self.append(table, rows).await;
        }
        // The relation is filled before its name is given, so that nobody sees a table that is still being loaded.
        let table = ddl::create_from_arrow(self, target.clone(), &rows.schema()).await?;
        if self.in_transaction() {
            // Rows of an open transaction show at its commit, the (empty) table at once.
            if let Some(entry) = existing {
                self.engine().catalog.drop_object(entry).await?;
            }
            self.engine().catalog.create_table((*table).clone()).await?;
            return self.append(table, rows).await;
        }
        self.engine().catalog.create_relation(&table.relation).await?;
        let result = match self.append(Arc::clone(&table), rows).await {
            Ok(count) => self.publish(&table, existing).await.map(|()| count),
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.engine().catalog.drop_relation(table.relation.id).await?;
        }
        result
    }

    async fn publish(&self, table: &TableDefinition, existing: Option<&crate::catalog::CatalogEntry>) -> Result<()> {
        let object = Object::Table(table.clone());
        match existing {
            None => self.engine().catalog.create_object(&table.name, &object).await,
            Some(entry) => {
                self.engine().catalog.replace_object(&table.name, &object, entry.revision).await?;
                if let Object::Table(old) = entry.object.as_ref() {
                    self.engine().catalog.drop_relation(old.relation.id).await?;
                }
                Ok(())
            }
        }
    }

    async fn append(&self, table: Arc<TableDefinition>, rows: SendableRecordBatchStream) -> Result<u64> {
        self.in_one_change(self.next_part(), async |transaction| {
            self.append_in(transaction, &table, rows).await
        })
        .await
    }

    async fn append_quads(&self, dataset: &DatasetDefinition, rows: SendableRecordBatchStream) -> Result<u64> {
        self.in_one_change(self.next_part(), async |transaction| {
            rdf::ingest(self.engine(), transaction, dataset, rows).await
        })
        .await
    }

    /// Loads text of RDF into a dataset, all of it or nothing, in the open transaction or one of its own.
    ///
    /// # Errors
    /// A fault of the text, with its place, unless faults are passed over; a dataset that is not there.
    pub async fn load_rdf(&self, load: RdfLoad, text: BoxStream<'static, Result<Bytes>>) -> Result<RdfLoaded> {
        self.engine().fresh().await?;
        let (schema, name) = load.dataset.clone();
        let target = ObjectName {
            schema: schema.unwrap_or_else(|| DEFAULT_SCHEMA.to_owned()),
            name,
        };
        let catalog = self.engine().catalog.snapshot()?;
        let Some(dataset) = dataset(&catalog, &target) else {
            return Err(Error::new(ErrorKind::NotFound, "42P01", format!("dataset {target} does not exist"))
                .with_hint(format!("CREATE COLLECTION {target} AS RDF")));
        };
        let mut loaded = RdfLoaded::default();
        let quads = self.in_one_change(self.next_part(), async |transaction| {
            loaded = rdf::load(self.engine(), transaction, dataset, load, text).await?;
            Ok(loaded.quads)
        });
        let quads = quads.await?;
        Ok(RdfLoaded { quads, ..loaded })
    }

    /// The name of the request's next change; none within a transaction, which has its name at its commit.
    pub(crate) fn next_part(&self) -> Option<Request> {
        match self.in_transaction() {
            true => None,
            false => request::next_part(),
        }
    }

    /// Does work in the open transaction, all of it or nothing, or in one of its own.
    pub(crate) async fn in_one_change(
        &self,
        part: Option<Request>,
        work: impl AsyncFnOnce(&mut OpenTransaction) -> Result<u64>,
    ) -> Result<u64> {
        let mut open = self.inner.transaction.lock().await;
        match open.as_mut() {
            Some(transaction) => {
                let before = transaction.mark()?;
                match work(transaction).await {
                    Ok(count) => Ok(count),
                    Err(error) => {
                        transaction.back_to(before).await?;
                        Err(error)
                    }
                }
            }
            None => {
                drop(open);
                let mut transaction = OpenTransaction::begin(self.engine(), self.isolation()).await?;
                let result = match work(&mut transaction).await {
                    Ok(count) => {
                        transaction.name(part, count);
                        transaction.commit(self.engine()).await.map(|()| count)
                    }
                    Err(error) => Err(error),
                };
                request::outcome(self.engine(), part, result, |done| Ok(done.rows)).await
            }
        }
    }

    /// Whether to do a change once more: it lost against another's, and is no part of the caller's transaction. Waits until it may win.
    pub(crate) async fn may_try_again<T>(&self, result: &Result<T>, attempt: &mut u32) -> Result<bool> {
        match result {
            Err(error) if error.kind == ErrorKind::Conflict && *attempt < CONFLICT_RETRIES && !self.in_transaction() => {
                *attempt += 1;
                pause(*attempt).await;
                // What it lost against must be seen before it is tried again.
                self.engine().fresh_rows().await?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn append_in(
        &self,
        transaction: &mut OpenTransaction,
        table: &Arc<TableDefinition>,
        mut rows: SendableRecordBatchStream,
    ) -> Result<u64> {
        if table.kind != CollectionKind::Table {
            return Err(Error::unsupported(format!(
                "{} is a {} collection; it takes no bulk ingest",
                table.name,
                table.kind.word()
            )));
        }
        let state = self.statement_state();
        let reader = transaction.reader()?;
        let planner = Planner {
            engine: self.engine(),
            state: &state,
            catalog: self.engine().catalog.snapshot()?,
            reader: &reader,
        };
        let check = RowCheck::new(&planner, table)?;
        let mapping = Mapping::new(&planner, table, &rows.schema())?;
        let mut dml = Dml::new(self.engine(), &state, transaction, &Parameters::None);
        let mut count = 0;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            if batch.num_rows() > 0 {
                let columns = mapping.apply(&batch)?;
                count += dml.insert_batch(table, &check, &OnConflict::Fail, columns, None).await?;
            }
        }
        Ok(count)
    }
}

/// The dataset that an ingest means: by its own name, or by that of its quads.
fn dataset<'a>(catalog: &'a CatalogSnapshot, target: &ObjectName) -> Option<&'a DatasetDefinition> {
    match catalog.get(target).map(|entry| entry.object.as_ref()) {
        Some(Object::Dataset(dataset)) => Some(dataset),
        _ => catalog.dataset_of(target),
    }
}

/// Where each visible column comes from.
struct Mapping {
    sources: Vec<Source>,
    schema: SchemaRef,
}

enum Source {
    Column(usize),
    Default(Arc<dyn PhysicalExpr>),
    Null,
}

impl Mapping {
    fn new(planner: &Planner<'_>, table: &TableDefinition, incoming: &SchemaRef) -> Result<Mapping> {
        let schema = table.visible_schema();
        if let Some(extra) = incoming.fields().iter().find(|f| schema.index_of(f.name()).is_err()) {
            let error = Error::invalid("42703", format!("column {} of {} does not exist", extra.name(), table.name));
            return Err(match nearest(extra.name(), schema.fields().iter().map(|f| f.name().as_str())) {
                Some(near) => error.with_hint(format!("did you mean {near}?")),
                None => error,
            });
        }
        let mut defaults = default_exprs(planner, table)?;
        let empty = DFSchema::empty();
        let sources = schema
            .fields()
            .iter()
            .map(|field| match (incoming.index_of(field.name()), defaults.remove(field.name())) {
                (Ok(at), _) => Ok(Source::Column(at)),
                (Err(_), Some(default)) => {
                    let expr = default.cast_to(field.data_type(), &empty)?;
                    Ok(Source::Default(planner.state.create_physical_expr(expr, &empty)?))
                }
                (Err(_), None) => Ok(Source::Null),
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Mapping { sources, schema })
    }

    fn apply(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.sources
            .iter()
            .zip(self.schema.fields())
            .map(|(source, field)| match source {
                Source::Column(at) => Ok(Arc::clone(batch.column(*at))),
                Source::Default(expr) => Ok(expr.evaluate(batch)?.into_array(batch.num_rows())?),
                Source::Null => Ok(new_null_array(field.data_type(), batch.num_rows())),
            })
            .collect()
    }
}
