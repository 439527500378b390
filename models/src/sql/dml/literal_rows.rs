//! `INSERT … VALUES` of literals and parameters: the rows are built as they stand, without a plan.
//!
//! That is what applications insert a row at a time. Planning and optimizing such a statement costs many times what writing its row does.
//! A cell means what the planner would make of it: a value cast to its column's type. Whatever else a cell may be, and every statement
//! that is wrong, is left to the planner.

use std::collections::{BTreeMap, HashMap};

use datafusion::arrow::array::{ArrayRef, new_null_array};
use datafusion::arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr as Planned;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{Expr, Insert, SetExpr, TableObject, UnaryOperator, Value};

use super::insert::{default_of, is_default};
use crate::catalog::TableDefinition;
use crate::error::Result;
use crate::session::Parameters;
use crate::sql::context::Planner;
use crate::sql::name;

/// One cell.
#[derive(Clone)]
enum Cell {
    Value(ScalarValue),
    /// A placeholder, with its `$`.
    Parameter(String),
}

/// Rows of an INSERT, by visible column of the table; a column that gets no value is empty.
pub(crate) struct LiteralRows {
    schema: SchemaRef,
    columns: Vec<Vec<Cell>>,
    rows: usize,
}

/// Whether every cell of an INSERT is a literal, a parameter or DEFAULT, and nothing else in the statement needs a plan.
pub(crate) fn is_literal(insert: &Insert) -> bool {
    let Some(source) = &insert.source else { return false };
    let plain = source.with.is_none() && source.order_by.is_none() && source.limit_clause.is_none() && source.fetch.is_none();
    let SetExpr::Values(values) = source.body.as_ref() else {
        return false;
    };
    plain
        && matches!(insert.table, TableObject::TableName(_))
        && insert.returning.is_none()
        && insert.on.is_none()
        && values.rows.iter().all(|row| row.content.iter().all(is_literal_cell))
}

fn is_literal_cell(cell: &Expr) -> bool {
    match cell {
        Expr::Value(value) => matches!(
            value.value,
            Value::Number(..) | Value::SingleQuotedString(_) | Value::Boolean(_) | Value::Null | Value::Placeholder(_)
        ),
        Expr::UnaryOp {
            op: UnaryOperator::Minus | UnaryOperator::Plus,
            expr,
        } => matches!(expr.as_ref(), Expr::Value(value) if matches!(value.value, Value::Number(..))),
        cell => is_default(cell),
    }
}

impl LiteralRows {
    /// The rows of an INSERT for which [`is_literal`] holds; `None` where the planner has to look at it.
    pub(crate) fn new(planner: &Planner<'_>, table: &TableDefinition, insert: &Insert) -> Result<Option<LiteralRows>> {
        let Some(SetExpr::Values(values)) = insert.source.as_ref().map(|source| source.body.as_ref()) else {
            return Ok(None);
        };
        let schema = table.visible_schema();
        let Some(targets) = targets(&schema, insert)? else {
            return Ok(None);
        };
        let empty = DFSchema::empty();
        let mut columns: Vec<Vec<Cell>> = schema.fields().iter().map(|_| Vec::with_capacity(values.rows.len())).collect();
        let mut defaults: HashMap<usize, Cell> = HashMap::new();
        for (at, field) in schema.fields().iter().enumerate() {
            let has_default = table.columns.get(at).is_some_and(|column| column.default.is_some());
            if has_default && !targets.contains(&at) {
                match cell(planner, default_of(table, field.name())?, &empty)? {
                    Some(value) => defaults.insert(at, value),
                    None => return Ok(None),
                };
            }
        }
        for row in &values.rows {
            if row.content.len() != targets.len() {
                return Ok(None);
            }
            for (expr, &at) in row.content.iter().zip(&targets) {
                let expr = match is_default(expr) {
                    true => default_of(table, schema.field(at).name())?,
                    false => expr.clone(),
                };
                match cell(planner, expr, &empty)? {
                    Some(value) => columns[at].push(value),
                    None => return Ok(None),
                }
            }
            for (&at, default) in &defaults {
                columns[at].push(default.clone());
            }
        }
        Ok(Some(LiteralRows {
            schema,
            columns,
            rows: values.rows.len(),
        }))
    }

    /// The placeholders and the columns whose types they take. Where one stands for two columns, the first one's.
    pub(crate) fn parameters(&self) -> BTreeMap<String, FieldRef> {
        let mut parameters = BTreeMap::new();
        for (column, field) in self.columns.iter().zip(self.schema.fields()) {
            for cell in column {
                if let Cell::Parameter(id) = cell {
                    parameters.entry(id.clone()).or_insert_with(|| field.clone());
                }
            }
        }
        parameters
    }

    /// The visible columns; `None` when a parameter has no value.
    pub(crate) fn columns(&self, parameters: &Parameters) -> Result<Option<Vec<ArrayRef>>> {
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (cells, field) in self.columns.iter().zip(self.schema.fields()) {
            if cells.is_empty() {
                arrays.push(new_null_array(field.data_type(), self.rows));
                continue;
            }
            let mut values = Vec::with_capacity(cells.len());
            for cell in cells {
                let value = match cell {
                    Cell::Value(value) => value,
                    Cell::Parameter(id) => match value_of(parameters, id) {
                        Some(value) => value,
                        None => return Ok(None),
                    },
                };
                values.push(match value.data_type() == *field.data_type() {
                    true => value.clone(),
                    false => value.cast_to(field.data_type())?,
                });
            }
            arrays.push(ScalarValue::iter_to_array(values)?);
        }
        Ok(Some(arrays))
    }
}

/// The visible columns that an INSERT names, in its order; `None` for unknown or repeated ones.
fn targets(schema: &SchemaRef, insert: &Insert) -> Result<Option<Vec<usize>>> {
    if insert.columns.is_empty() {
        return Ok(Some((0..schema.fields().len()).collect()));
    }
    let mut targets = Vec::with_capacity(insert.columns.len());
    for column in &insert.columns {
        match schema.index_of(&name::last_part(column)?) {
            Ok(at) if !targets.contains(&at) => targets.push(at),
            _ => return Ok(None),
        }
    }
    Ok(Some(targets))
}

/// What the planner makes of a cell, if that is a value or a placeholder.
fn cell(planner: &Planner<'_>, expr: Expr, empty: &DFSchema) -> Result<Option<Cell>> {
    if !is_literal_cell(&expr) {
        return Ok(None);
    }
    Ok(match planner.plan_expr(expr, empty)? {
        Planned::Literal(value, None) => Some(Cell::Value(value)),
        Planned::Placeholder(placeholder) => Some(Cell::Parameter(placeholder.id)),
        _ => None,
    })
}

fn value_of<'a>(parameters: &'a Parameters, id: &str) -> Option<&'a ScalarValue> {
    let id = id.strip_prefix('$')?;
    match parameters {
        Parameters::Positional(values) => values.get(id.parse::<usize>().ok()?.checked_sub(1)?),
        Parameters::Named(values) => values.iter().find(|(name, _)| name == id).map(|(_, value)| value),
        Parameters::None | Parameters::Open => None,
    }
}
