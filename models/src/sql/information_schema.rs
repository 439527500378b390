//! `information_schema`: the standard's views of the catalog, built for the statement that asks.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::{MemTable, TableProvider};

use super::context::Planner;
use crate::catalog::{DATABASE, Object, TableDefinition};
use crate::error::{Error, ErrorKind, Result, nearest};
use crate::rdf::quad_fields;

/// The schema's name.
pub(crate) const SCHEMA: &str = "information_schema";

const VIEWS: [&str; 6] = ["schemata", "tables", "views", "columns", "key_columns", "table_constraints"];

/// One view as a table.
pub(crate) fn table(planner: &Planner<'_>, name: &str) -> Result<Arc<dyn TableProvider>> {
    let batch = match name {
        "schemata" => schemata(planner),
        "tables" => tables(planner),
        "views" => views(planner),
        "columns" => return Ok(Arc::new(columns(planner)?)),
        "key_columns" => key_columns(planner),
        "table_constraints" => table_constraints(planner),
        _ => {
            let error = Error::new(ErrorKind::NotFound, "42P01", format!("table {SCHEMA}.{name} does not exist"));
            return Err(match nearest(name, VIEWS) {
                Some(near) => error.with_hint(format!("did you mean {near}?")),
                None => error.with_hint(format!("there are {}", VIEWS.join(", "))),
            });
        }
    }?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}

/// Rows of text columns.
struct Rows {
    names: Vec<&'static str>,
    rows: Vec<Vec<Option<String>>>,
}

impl Rows {
    fn new(names: &[&'static str]) -> Rows {
        Rows {
            names: names.to_vec(),
            rows: Vec::new(),
        }
    }

    fn push<const N: usize>(&mut self, values: [&str; N]) {
        self.rows.push(values.iter().map(|v| Some((*v).to_owned())).collect());
    }

    fn column(&self, i: usize) -> ArrayRef {
        Arc::new(self.rows.iter().map(|row| row[i].as_deref()).collect::<StringArray>())
    }

    fn finish(self) -> Result<RecordBatch> {
        let fields: Vec<Field> = self.names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
        let columns = (0..self.names.len()).map(|i| self.column(i)).collect();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}

fn schemata(planner: &Planner<'_>) -> Result<RecordBatch> {
    let mut rows = Rows::new(&["catalog_name", "schema_name"]);
    for schema in planner.catalog.schemas().chain([SCHEMA]) {
        rows.push([DATABASE, schema]);
    }
    rows.finish()
}

fn tables(planner: &Planner<'_>) -> Result<RecordBatch> {
    let mut rows = Rows::new(&["table_catalog", "table_schema", "table_name", "table_type"]);
    for entry in planner.catalog.objects() {
        let kind = match entry.object.as_ref() {
            Object::Table(_) => "BASE TABLE",
            Object::View(_) => "VIEW",
            Object::External { .. } => "EXTERNAL",
            // Its quads are.
            Object::Dataset(_) => continue,
        };
        rows.push([DATABASE, &entry.name.schema, &entry.name.name, kind]);
    }
    for quads in planner.catalog.quads_tables() {
        rows.push([DATABASE, &quads.schema, &quads.name, "BASE TABLE"]);
    }
    for view in VIEWS {
        rows.push([DATABASE, SCHEMA, view, "SYSTEM VIEW"]);
    }
    rows.finish()
}

fn views(planner: &Planner<'_>) -> Result<RecordBatch> {
    let mut rows = Rows::new(&["table_catalog", "table_schema", "table_name", "view_definition"]);
    for entry in planner.catalog.objects() {
        if let Object::View(view) = entry.object.as_ref() {
            rows.push([DATABASE, &entry.name.schema, &entry.name.name, &view.query]);
        }
    }
    rows.finish()
}

fn all_tables<'a>(planner: &'a Planner<'_>) -> impl Iterator<Item = &'a TableDefinition> {
    planner.catalog.objects().filter_map(|entry| match entry.object.as_ref() {
        Object::Table(table) => Some(table),
        _ => None,
    })
}

fn columns(planner: &Planner<'_>) -> Result<MemTable> {
    let mut text = Rows::new(&[
        "table_catalog",
        "table_schema",
        "table_name",
        "column_name",
        "is_nullable",
        "data_type",
    ]);
    let mut positions = Vec::new();
    let mut defaults = Vec::new();
    for table in all_tables(planner) {
        for (i, (field, column)) in table.visible_schema().fields().iter().zip(&table.columns).enumerate() {
            let nullable = if field.is_nullable() { "YES" } else { "NO" };
            let data_type = super::name::sql_type(field.data_type());
            text.push([DATABASE, &table.name.schema, &table.name.name, field.name(), nullable, &data_type]);
            positions.push(i as i64 + 1);
            defaults.push(column.default.clone());
        }
    }
    for quads in planner.catalog.quads_tables() {
        for (i, field) in quad_fields().iter().enumerate() {
            let nullable = if field.is_nullable() { "YES" } else { "NO" };
            let data_type = super::name::sql_type(field.data_type());
            text.push([DATABASE, &quads.schema, &quads.name, field.name(), nullable, &data_type]);
            positions.push(i as i64 + 1);
            defaults.push(None);
        }
    }
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("table_catalog", DataType::Utf8, true),
        Field::new("table_schema", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, true),
        Field::new("column_name", DataType::Utf8, true),
        Field::new("ordinal_position", DataType::Int64, true),
        Field::new("column_default", DataType::Utf8, true),
        Field::new("is_nullable", DataType::Utf8, true),
        Field::new("data_type", DataType::Utf8, true),
    ]));
    let arrays = vec![
        text.column(0),
        text.column(1),
        text.column(2),
        text.column(3),
        Arc::new(Int64Array::from(positions)) as ArrayRef,
        Arc::new(StringArray::from(defaults)),
        text.column(4),
        text.column(5),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    Ok(MemTable::try_new(schema, vec![vec![batch]])?)
}

fn key_columns(planner: &Planner<'_>) -> Result<RecordBatch> {
    let mut rows = Rows::new(&["table_catalog", "table_schema", "table_name", "column_name", "key_name"]);
    let mut sequence = Vec::new();
    for table in all_tables(planner) {
        let key_name = format!("{}_pkey", table.name.name);
        for (i, column) in table.primary_key().into_iter().enumerate() {
            rows.push([DATABASE, &table.name.schema, &table.name.name, column, &key_name]);
            sequence.push(i as i64 + 1);
        }
    }
    let batch = rows.finish()?;
    let mut fields: Vec<Arc<Field>> = batch.schema().fields().iter().cloned().collect();
    let mut columns = batch.columns().to_vec();
    fields.insert(4, Arc::new(Field::new("key_sequence", DataType::Int64, true)));
    columns.insert(4, Arc::new(Int64Array::from(sequence)));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn table_constraints(planner: &Planner<'_>) -> Result<RecordBatch> {
    let mut rows = Rows::new(&[
        "table_catalog",
        "table_schema",
        "table_name",
        "constraint_name",
        "constraint_type",
        "definition",
    ]);
    for table in all_tables(planner) {
        let (schema, name) = (&table.name.schema, &table.name.name);
        let key = table.primary_key();
        if !key.is_empty() {
            rows.push([DATABASE, schema, name, &format!("{name}_pkey"), "PRIMARY KEY", &key.join(", ")]);
        }
        for check in &table.checks {
            rows.push([DATABASE, schema, name, &check.name, "CHECK", &check.expression]);
        }
    }
    rows.finish()
}
