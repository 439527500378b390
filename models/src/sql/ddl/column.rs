//! Column definitions: SQL types to Arrow types, and what follows them.

use std::collections::HashMap;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::DFSchema;
use datafusion::logical_expr::ExprSchemable;
use datafusion::sql::planner::SqlToRel;
use datafusion::sql::sqlparser::ast::{ColumnDef, ColumnOption, DataType as SqlType};

use crate::catalog::{CheckConstraint, ColumnDefinition};
use crate::error::{Error, Result};
use crate::sql::context::{Planner, no_tables, parser_options};
use crate::sql::name;
use crate::sql::parse::parse_expression;

/// A column as declared.
pub(super) struct NewColumn {
    pub(super) field: Field,
    pub(super) definition: ColumnDefinition,
    pub(super) primary_key: bool,
    pub(super) checks: Vec<CheckConstraint>,
}

/// Reads a column definition.
pub(super) fn read(planner: &Planner<'_>, column: &ColumnDef) -> Result<NewColumn> {
    let column_name = name::fold(&column.name);
    name::check_new_column(&column_name)?;
    let data_type = arrow_type(planner, column)?;
    let mut nullable = true;
    let mut primary_key = false;
    let mut definition = ColumnDefinition::default();
    let mut checks = Vec::new();
    for option in &column.options {
        match &option.option {
            ColumnOption::Null => {}
            ColumnOption::NotNull => nullable = false,
            ColumnOption::Default(expr) => {
                let text = expr.to_string();
                check_default(planner, &column_name, &text, &data_type)?;
                definition.default = Some(text);
            }
            ColumnOption::PrimaryKey(_) => {
                primary_key = true;
                nullable = false;
            }
            ColumnOption::Check(check) => {
                let check_name = option.name.as_ref().map_or_else(|| format!("{column_name}_check"), name::fold);
                checks.push(CheckConstraint {
                    name: check_name,
                    expression: check.expr.to_string(),
                });
            }
            ColumnOption::Comment(_) => {}
            other => {
                return Err(Error::unsupported(format!("column {column_name}: {other} is not supported"))
                    .with_hint("supported are NULL, NOT NULL, DEFAULT, PRIMARY KEY and CHECK"));
            }
        }
    }
    Ok(NewColumn {
        field: Field::new(column_name, data_type, nullable),
        definition,
        primary_key,
        checks,
    })
}

/// The Arrow type of a SQL type, by DataFusion's rules.
fn arrow_type(planner: &Planner<'_>, column: &ColumnDef) -> Result<DataType> {
    let mut plain = ColumnDef {
        options: Vec::new(),
        ..column.clone()
    };
    // The planner knows bytes as BYTEA only.
    if matches!(plain.data_type, SqlType::Blob(_) | SqlType::Binary(_) | SqlType::Varbinary(_)) {
        plain.data_type = SqlType::Bytea;
    }
    let names = no_tables(planner.state);
    let schema = SqlToRel::new_with_options(&names, parser_options(planner.state)).build_schema(vec![plain])?;
    let data_type = schema.field(0).data_type().clone();
    if matches!(data_type, DataType::Null) {
        return Err(Error::invalid("42704", format!("column {} has no type", column.name)));
    }
    Ok(data_type)
}

fn check_default(planner: &Planner<'_>, column: &str, text: &str, data_type: &DataType) -> Result<()> {
    let expr = planner
        .plan_expr(parse_expression(text)?, &DFSchema::empty())
        .map_err(|error| Error {
            message: format!("default of column {column}: {}", error.message),
            ..error
        })?;
    expr.cast_to(data_type, &DFSchema::empty())?;
    Ok(())
}

/// A column taken from a query's or a stream's result: name and type, nullable, internal metadata dropped.
pub(super) fn from_arrow(field: &Field) -> Result<NewColumn> {
    name::check_new_column(field.name())?;
    let metadata: HashMap<String, String> = field
        .metadata()
        .iter()
        .filter(|(k, _)| k.starts_with("ARROW:extension"))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let data_type = stored_type(field.data_type());
    if matches!(data_type, DataType::Null) {
        return Err(Error::invalid("42P16", format!("column {} has no type", field.name())).with_hint("cast it: CAST(… AS type)"));
    }
    let field = Field::new(field.name(), data_type, true).with_metadata(metadata);
    Ok(NewColumn {
        field,
        definition: ColumnDefinition::default(),
        primary_key: false,
        checks: Vec::new(),
    })
}

/// The type in which values of a type are stored: strings and bytes as views, dictionaries and runs unpacked.
fn stored_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Dictionary(_, values) => stored_type(values),
        DataType::RunEndEncoded(_, values) => stored_type(values.data_type()),
        other => other.clone(),
    }
}
