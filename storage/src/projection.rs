//! Rows in the shape of a relation's schema: columns by their stable ids, missing ones as nulls.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::error::{Result, StorageError};
use crate::schema::{RelationSchema, field_id};
use crate::segment::TIMESTAMP_COLUMN;

/// The schema of rows read with `projection`.
pub(crate) fn projected_schema(schema: &RelationSchema, projection: &[usize]) -> Result<SchemaRef> {
    let fields = projection.iter().map(|&position| {
        if position == schema.timestamp_column() {
            Ok(Arc::new(Field::new(TIMESTAMP_COLUMN, DataType::UInt64, false)))
        } else {
            schema
                .schema
                .fields()
                .get(position)
                .cloned()
                .ok_or_else(|| mismatch(schema, format!("no column {position}")))
        }
    });
    Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?)))
}

/// `rows`, written with schema `from`, as columns of `to`.
pub(crate) fn project(
    rows: &RecordBatch,
    from: &RelationSchema,
    to: &RelationSchema,
    projection: &[usize],
    timestamps: impl Fn() -> ArrayRef,
) -> Result<RecordBatch> {
    let same = from.version == to.version;
    let column = |&position: &usize| -> Result<ArrayRef> {
        if position == to.timestamp_column() {
            return Ok(timestamps());
        }
        if same {
            return rows
                .columns()
                .get(position)
                .cloned()
                .ok_or_else(|| mismatch(to, format!("no column {position}")));
        }
        let field = to
            .schema
            .fields()
            .get(position)
            .ok_or_else(|| mismatch(to, format!("no column {position}")))?;
        let source = (0..from.schema.fields().len()).find(|&i| from.field_id(i) == to.field_id(position));
        Ok(source.map_or_else(|| new_null_array(field.data_type(), rows.num_rows()), |i| rows.column(i).clone()))
    };
    let columns = projection.iter().map(column).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        projected_schema(to, projection)?,
        columns,
        &options,
    )?)
}

/// `rows` as rows of the relation, column by column.
pub(crate) fn conform(rows: &RecordBatch, schema: &RelationSchema) -> Result<RecordBatch> {
    if Arc::ptr_eq(&rows.schema(), &schema.schema) {
        return check_nulls(rows.clone(), schema);
    }
    let fields = schema.schema.fields();
    if rows.num_columns() != fields.len() {
        return Err(mismatch(
            schema,
            format!("{} columns instead of {}", rows.num_columns(), fields.len()),
        ));
    }
    for (field, column) in fields.iter().zip(rows.columns()) {
        if field.data_type() != column.data_type() {
            return Err(mismatch(
                schema,
                format!("column {} is {} instead of {}", field.name(), column.data_type(), field.data_type()),
            ));
        }
    }
    assemble(rows.columns().to_vec(), rows.num_rows(), schema)
}

/// `rows`, written by a transaction that may have seen an earlier schema, as rows of the relation: columns by id if they have ids.
pub(crate) fn conform_by_id(rows: &RecordBatch, schema: &RelationSchema) -> Result<RecordBatch> {
    let given = rows.schema();
    if Arc::ptr_eq(&given, &schema.schema) {
        return check_nulls(rows.clone(), schema);
    }
    let ids: Option<Vec<u32>> = given.fields().iter().map(|field| field_id(field)).collect();
    let Some(ids) = ids.filter(|ids| {
        !ids.iter()
            .copied()
            .eq((0..schema.schema.fields().len()).map(|i| schema.field_id(i)))
    }) else {
        return conform(rows, schema);
    };
    let mut columns = Vec::with_capacity(schema.schema.fields().len());
    for (i, field) in schema.schema.fields().iter().enumerate() {
        match ids.iter().position(|id| *id == schema.field_id(i)) {
            Some(j) if rows.column(j).data_type() == field.data_type() => columns.push(rows.column(j).clone()),
            Some(j) => {
                let found = rows.column(j).data_type();
                return Err(mismatch(
                    schema,
                    format!("column {} is {found} instead of {}", field.name(), field.data_type()),
                ));
            }
            None => columns.push(new_null_array(field.data_type(), rows.num_rows())),
        }
    }
    assemble(columns, rows.num_rows(), schema)
}

fn assemble(columns: Vec<ArrayRef>, count: usize, schema: &RelationSchema) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    let rows = RecordBatch::try_new_with_options(schema.schema.clone(), columns, &options);
    check_nulls(rows.map_err(|error| mismatch(schema, error.to_string()))?, schema)
}

fn check_nulls(rows: RecordBatch, schema: &RelationSchema) -> Result<RecordBatch> {
    for &position in &schema.key {
        if rows.column(position).null_count() > 0 {
            return Err(mismatch(
                schema,
                format!("null in key column {}", schema.schema.field(position).name()),
            ));
        }
    }
    Ok(rows)
}

fn mismatch(schema: &RelationSchema, detail: String) -> StorageError {
    StorageError::SchemaMismatch {
        relation: schema.id,
        detail,
    }
}
