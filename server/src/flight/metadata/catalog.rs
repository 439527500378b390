//! Schemas, tables and table types, from `information_schema.tables`.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables};
use pyralog_models::{ErrorKind, Session};
use tonic::Status;

use super::columns::{described, text};
use super::{CATALOG, Filter, from_builder};
use crate::flight::{status, wire};

/// Schemas that exist whether or not they have tables.
const SCHEMAS: [&str; 2] = ["information_schema", "public"];
/// Table types that exist whether or not there are tables of them.
const TABLE_TYPES: [&str; 2] = ["TABLE", "VIEW"];

/// GetDbSchemas.
pub async fn schemas(session: &Session, command: CommandGetDbSchemas) -> Result<RecordBatch, Status> {
    let batches = Filter::default()
        .run(session, "SELECT DISTINCT table_schema FROM information_schema.tables")
        .await?;
    let mut names: BTreeSet<String> = SCHEMAS.map(str::to_string).into();
    for batch in &batches {
        names.extend(text(batch, 0)?.iter().flatten().map(str::to_string));
    }
    let mut builder = command.into_builder();
    for name in names {
        builder.append(CATALOG, name);
    }
    builder.build().map_err(from_builder)
}

/// GetTables. The builder filters and sorts; what can be filtered before is, since each schema is a statement to plan.
pub async fn tables(session: &Session, command: CommandGetTables) -> Result<RecordBatch, Status> {
    let mut filter = Filter::default();
    filter.add("table_catalog", "=", command.catalog.as_deref());
    filter.add("table_schema", "LIKE", command.db_schema_filter_pattern.as_deref());
    filter.add("table_name", "LIKE", command.table_name_filter_pattern.as_deref());
    let select = "SELECT table_catalog, table_schema, table_name, table_type FROM information_schema.tables";
    let batches = filter.run(session, select).await?;
    let (wanted, include_schema) = (command.table_types.clone(), command.include_schema);
    let mut builder = command.into_builder();
    for batch in &batches {
        let (catalogs, schemas, names, types) = (text(batch, 0)?, text(batch, 1)?, text(batch, 2)?, text(batch, 3)?);
        for row in 0..batch.num_rows() {
            let table_type = type_name(types.value(row));
            if !wanted.is_empty() && !wanted.iter().any(|name| name == table_type) {
                continue;
            }
            let schema = match include_schema {
                true => table_schema(session, [catalogs.value(row), schemas.value(row), names.value(row)]).await?,
                false => Some(Schema::empty()),
            };
            // A table that has been dropped since is no longer listed.
            if let Some(schema) = schema {
                builder
                    .append(catalogs.value(row), schemas.value(row), names.value(row), table_type, &schema)
                    .map_err(from_builder)?;
            }
        }
    }
    builder.build().map_err(from_builder)
}

/// GetTableTypes.
pub async fn table_types(session: &Session, command: CommandGetTableTypes) -> Result<RecordBatch, Status> {
    let batches = Filter::default()
        .run(session, "SELECT DISTINCT table_type FROM information_schema.tables")
        .await?;
    let mut names: BTreeSet<String> = TABLE_TYPES.map(str::to_string).into();
    for batch in &batches {
        names.extend(text(batch, 0)?.iter().flatten().map(|name| type_name(name).to_string()));
    }
    let mut builder = command.into_builder();
    for name in names {
        builder.append(name);
    }
    builder.build().map_err(from_builder)
}

/// The standard's name of a table type as drivers know it.
fn type_name(name: &str) -> &str {
    match name {
        "BASE TABLE" => "TABLE",
        other => other,
    }
}

/// The columns of a table as clients get them; `None` if it is gone.
async fn table_schema(session: &Session, name: [&str; 3]) -> Result<Option<Schema>, Status> {
    let name = name.map(quoted).join(".");
    match session.prepare(&format!("SELECT * FROM {name}")).await {
        Ok(prepared) => Ok(Some(described(&wire::wire_schema(&prepared.schema)))),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(status::from_error(&error)),
    }
}

/// An identifier in quotes.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a\"; DROP TABLE t"), "\"a\"\"; DROP TABLE t\"");
        assert_eq!(type_name("BASE TABLE"), "TABLE");
        assert_eq!(type_name("VIEW"), "VIEW");
    }
}
