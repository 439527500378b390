//! Answers to the metadata commands: catalogs, schemas, tables, keys, types and what the server can do.
//!
//! Results are plain Utf8 in the exact column order of the protocol: some drivers cast without checking. Names come from
//! `information_schema`, read in the caller's session but never making one.

pub mod columns;
pub mod sql_info;
pub mod types;

mod catalog;
mod keys;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::error::FlightError;
use arrow_flight::sql::Command;
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use pyralog_models::{Parameters, Session};
use tonic::Status;

use super::caller::Caller;
use super::state::State;
use super::status;

/// The name of the one catalog.
pub const CATALOG: &str = "pyralog";

impl State {
    /// The schema of a metadata command's result; `None` for other commands.
    pub fn metadata_schema(&self, command: &Command) -> Option<SchemaRef> {
        Some(match command {
            Command::CommandGetCatalogs(command) => command.into_builder().schema(),
            Command::CommandGetDbSchemas(command) => command.clone().into_builder().schema(),
            Command::CommandGetTables(command) => command.clone().into_builder().schema(),
            Command::CommandGetTableTypes(command) => command.into_builder().schema(),
            Command::CommandGetSqlInfo(_) => self.sql_info.schema(),
            Command::CommandGetXdbcTypeInfo(_) => self.types.schema(),
            Command::CommandGetPrimaryKeys(_) => keys::primary_schema(),
            Command::CommandGetImportedKeys(_) | Command::CommandGetExportedKeys(_) | Command::CommandGetCrossReference(_) => {
                keys::foreign_schema()
            }
            _ => return None,
        })
    }

    /// The result of a metadata command; `None` for other commands.
    pub async fn metadata(&self, caller: &Caller, command: Command) -> Result<Option<RecordBatch>, Status> {
        let session = || self.reading_session(caller);
        Ok(Some(match command {
            Command::CommandGetCatalogs(command) => {
                let mut builder = command.into_builder();
                builder.append(CATALOG);
                builder.build().map_err(from_builder)?
            }
            Command::CommandGetDbSchemas(command) => catalog::schemas(&session(), command).await?,
            Command::CommandGetTables(command) => catalog::tables(&session(), command).await?,
            Command::CommandGetTableTypes(command) => catalog::table_types(&session(), command).await?,
            Command::CommandGetSqlInfo(command) => command.into_builder(&self.sql_info).build().map_err(from_builder)?,
            Command::CommandGetXdbcTypeInfo(command) => command.into_builder(&self.types).build().map_err(from_builder)?,
            Command::CommandGetPrimaryKeys(command) => keys::primary(&session(), command).await?,
            // There are no foreign keys in this version.
            Command::CommandGetImportedKeys(_) | Command::CommandGetExportedKeys(_) | Command::CommandGetCrossReference(_) => {
                RecordBatch::new_empty(keys::foreign_schema())
            }
            _ => return Ok(None),
        }))
    }

    /// The caller's session if it has run anything in it, else one for the moment.
    fn reading_session(&self, caller: &Caller) -> Session {
        let slot = self.lease(caller, None).ok().map(|lease| lease.slot);
        slot.and_then(|slot| slot.used_session().cloned())
            .unwrap_or_else(|| self.database.session())
    }
}

fn from_builder(error: FlightError) -> Status {
    Status::internal(format!("cannot build the metadata: {error}"))
}

/// Conditions of a query and their parameters.
#[derive(Default)]
struct Filter {
    conditions: Vec<String>,
    values: Vec<ScalarValue>,
}

impl Filter {
    /// Adds `column operator value`, if there is a value.
    fn add(&mut self, column: &str, operator: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.values.push(ScalarValue::Utf8(Some(value.to_string())));
            self.conditions.push(format!("{column} {operator} ${}", self.values.len()));
        }
    }

    /// Runs `select` with the conditions.
    async fn run(self, session: &Session, select: &str) -> Result<Vec<RecordBatch>, Status> {
        let conditions = match self.conditions.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", self.conditions.join(" AND ")),
        };
        let parameters = match self.values.is_empty() {
            true => Parameters::None,
            false => Parameters::Positional(self.values),
        };
        let result = session
            .execute(&format!("{select}{conditions}"), parameters)
            .await
            .map_err(|error| status::from_error(&error))?;
        result.stream.try_collect().await.map_err(|error| status::from_stream(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_binds_its_values() {
        let mut filter = Filter::default();
        filter.add("a", "=", None);
        filter.add("b", "LIKE", Some("x'; DROP TABLE t"));
        filter.add("c", "=", Some("y"));
        assert_eq!(filter.conditions, ["b LIKE $1", "c = $2"]);
        assert_eq!(filter.values.len(), 2);
    }
}
