//! Bulk inserts: a client's stream of batches goes into a table as it comes, as one atomic change.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_flight::sql::{CommandStatementIngest, TableExistsOption, TableNotExistOption};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use parking_lot::Mutex;
use pyralog_models::{IngestMode, IngestRequest};
use tonic::Status;

use super::caller::Caller;
use super::decode::Decoder;
use super::metadata::CATALOG;
use super::state::State;
use super::status::{self, invalid};

/// Metadata keys that describe another server's column, which a table must not inherit.
const DESCRIPTION_PREFIX: &str = "ARROW:FLIGHT:SQL:";

impl State {
    /// Runs an ingest; the number of rows.
    pub async fn ingest(&self, caller: &Caller, command: CommandStatementIngest, mut decoder: Decoder) -> Result<i64, Status> {
        let request = request(&command)?;
        let lease = self.lease(caller, command.transaction_id.as_ref())?;
        let schema = decoder.schema().await?.ok_or_else(|| invalid("the ingest has no schema"))?;
        let target = plain_schema(&schema);
        // The database reports a failed stream in its own words; the client should get the stream's.
        let failure = Arc::new(Mutex::new(None));
        let state = (decoder, target.clone(), failure.clone());
        let batches = stream::try_unfold(state, |(mut decoder, target, failure)| async move {
            match decoder.next().await {
                Ok(Some(batch)) => Ok(Some((with_schema(&batch, &target)?, (decoder, target, failure)))),
                Ok(None) => Ok(None),
                Err(error) => {
                    let message = error.message().to_string();
                    *failure.lock() = Some(error);
                    Err(DataFusionError::Execution(message))
                }
            }
        });
        let rows = Box::pin(RecordBatchStreamAdapter::new(target, batches));
        let _turn = lease.slot.turn().await?;
        let result = lease.slot.session().ingest(request, rows).await;
        lease.slot.settle(result.is_ok());
        let count = result.map_err(|error| failure.lock().take().unwrap_or_else(|| status::from_error(&error)))?;
        Ok(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

/// What the database is asked to do. Refuses what it cannot.
fn request(command: &CommandStatementIngest) -> Result<IngestRequest, Status> {
    if command.temporary {
        return Err(Status::unimplemented(
            "temporary tables are not supported: ingest into a table [0A000]",
        ));
    }
    if let Some(catalog) = command
        .catalog
        .as_deref()
        .filter(|catalog| !catalog.is_empty() && *catalog != CATALOG)
    {
        return Err(invalid(format!(
            "there is no catalog {catalog:?}: the only one is {CATALOG:?} [3D000]"
        )));
    }
    if let Some(name) = command.options.keys().next() {
        return Err(invalid(format!("unknown ingest option {name:?}")));
    }
    if command.table.is_empty() {
        return Err(invalid("the ingest names no table"));
    }
    let schema = command.schema.clone().filter(|schema| !schema.is_empty());
    Ok(IngestRequest {
        schema,
        table: command.table.clone(),
        mode: mode(command)?,
    })
}

/// The mode, from what to do if the table is missing and if it exists.
fn mode(command: &CommandStatementIngest) -> Result<IngestMode, Status> {
    let options = command
        .table_definition_options
        .as_ref()
        .ok_or_else(|| invalid("the ingest has no table definition options"))?;
    match (options.if_not_exist(), options.if_exists()) {
        (TableNotExistOption::Create, TableExistsOption::Fail) => Ok(IngestMode::Create),
        (TableNotExistOption::Fail, TableExistsOption::Append) => Ok(IngestMode::Append),
        (TableNotExistOption::Create, TableExistsOption::Replace) => Ok(IngestMode::Replace),
        (TableNotExistOption::Create, TableExistsOption::Append) => Ok(IngestMode::CreateAppend),
        (missing, exists) => Err(invalid(format!(
            "the ingest options {} with {} are not supported: use create, append, replace or create-append",
            missing.as_str_name(),
            exists.as_str_name()
        ))),
    }
}

/// The schema without the description that a column may carry from where it was read.
fn plain_schema(schema: &Schema) -> SchemaRef {
    let plain = |field: &Arc<Field>| {
        let mut metadata = field.metadata().clone();
        metadata.retain(|key, _| !key.starts_with(DESCRIPTION_PREFIX));
        field.as_ref().clone().with_metadata(metadata)
    };
    Arc::new(Schema::new_with_metadata(
        schema.fields().iter().map(plain).collect::<Vec<_>>(),
        schema.metadata().clone(),
    ))
}

fn with_schema(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow_flight::sql::TableDefinitionOptions;

    use super::*;

    fn command(missing: TableNotExistOption, exists: TableExistsOption) -> CommandStatementIngest {
        let options = TableDefinitionOptions {
            if_not_exist: missing as i32,
            if_exists: exists as i32,
        };
        CommandStatementIngest {
            table_definition_options: Some(options),
            table: "T".into(),
            ..Default::default()
        }
    }

    #[test]
    fn the_four_modes() {
        use {TableExistsOption as E, TableNotExistOption as N};
        let cases = [
            (N::Create, E::Fail, IngestMode::Create),
            (N::Fail, E::Append, IngestMode::Append),
            (N::Create, E::Replace, IngestMode::Replace),
            (N::Create, E::Append, IngestMode::CreateAppend),
        ];
        for (missing, exists, want) in cases {
            assert_eq!(request(&command(missing, exists)).unwrap().mode, want);
        }
        assert!(request(&command(N::Unspecified, E::Append)).is_err());
        assert!(request(&command(N::Fail, E::Replace)).is_err());
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        let good = command(TableNotExistOption::Create, TableExistsOption::Fail);
        let temporary = CommandStatementIngest {
            temporary: true,
            ..good.clone()
        };
        assert_eq!(request(&temporary).unwrap_err().code(), tonic::Code::Unimplemented);
        let elsewhere = CommandStatementIngest {
            catalog: Some("other".into()),
            ..good.clone()
        };
        assert_eq!(request(&elsewhere).unwrap_err().code(), tonic::Code::InvalidArgument);
        let here = CommandStatementIngest {
            catalog: Some(CATALOG.into()),
            schema: Some(String::new()),
            ..good.clone()
        };
        assert_eq!(request(&here).unwrap().schema, None);
        let odd = CommandStatementIngest {
            options: [("x".into(), "y".into())].into(),
            ..good.clone()
        };
        assert!(request(&odd).is_err());
        assert!(
            request(&CommandStatementIngest {
                table: String::new(),
                ..good
            })
            .is_err()
        );
    }
}
