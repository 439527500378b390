//! Primary keys, from `information_schema.key_columns`, and the empty answers for foreign keys, which this version does not have.
//!
//! The column order is that of Arrow's own clients and servers (`key_sequence` before `key_name`).

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{SortColumn, cast, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::sql::CommandGetPrimaryKeys;
use pyralog_models::Session;
use tonic::Status;

use super::Filter;
use super::columns::text;
use crate::flight::status;

/// Columns of GetPrimaryKeys.
pub fn primary_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("key_name", DataType::Utf8, true),
    ]))
}

/// Columns of GetImportedKeys, GetExportedKeys and GetCrossReference.
pub fn foreign_schema() -> SchemaRef {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    Arc::new(Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}

/// GetPrimaryKeys of one table.
pub async fn primary(session: &Session, command: CommandGetPrimaryKeys) -> Result<RecordBatch, Status> {
    let mut filter = Filter::default();
    filter.add("table_catalog", "=", command.catalog.as_deref());
    filter.add("table_schema", "=", command.db_schema.as_deref());
    filter.add("table_name", "=", Some(&command.table));
    let select = "SELECT table_catalog, table_schema, table_name, column_name, key_sequence, key_name FROM information_schema.key_columns";
    let batches = filter.run(session, select).await?;
    let batches: Result<Vec<RecordBatch>, Status> = batches.iter().map(plain).collect();
    let batch = concat_batches(&primary_schema(), &batches?).map_err(status::from_arrow)?;
    sorted(batch)
}

/// The keys in the protocol's order.
fn sorted(batch: RecordBatch) -> Result<RecordBatch, Status> {
    let by = [0, 1, 2, 5, 4].map(|column| SortColumn {
        values: batch.column(column).clone(),
        options: None,
    });
    let order = lexsort_to_indices(&by, None).map_err(status::from_arrow)?;
    take_record_batch(&batch, &order).map_err(status::from_arrow)
}

/// A batch of `key_columns` in the protocol's types.
fn plain(batch: &RecordBatch) -> Result<RecordBatch, Status> {
    let sequence = cast(batch.column(4), &DataType::Int32).map_err(status::from_arrow)?;
    let text = |column| text(batch, column).map(|column| Arc::new(column) as ArrayRef);
    let columns = vec![text(0)?, text(1)?, text(2)?, text(3)?, sequence, text(5)?];
    RecordBatch::try_new(primary_schema(), columns).map_err(status::from_arrow)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringViewArray};

    use super::*;

    #[test]
    fn keys_come_in_their_sequence_and_plain() {
        let text = |values: [&'static str; 2]| Arc::new(StringViewArray::from(values.to_vec())) as ArrayRef;
        let batch = RecordBatch::try_from_iter([
            ("table_catalog", text(["pyralog"; 2])),
            ("table_schema", text(["public"; 2])),
            ("table_name", text(["t"; 2])),
            ("column_name", text(["second", "first"])),
            ("key_sequence", Arc::new(Int64Array::from(vec![2, 1])) as ArrayRef),
            ("key_name", text(["t_pkey"; 2])),
        ]);
        let keys = sorted(plain(&batch.unwrap()).unwrap()).unwrap();
        assert_eq!(keys.schema(), primary_schema());
        assert_eq!(
            keys.column(3).as_string::<i32>().iter().flatten().collect::<Vec<_>>(),
            ["first", "second"]
        );
    }
}
