//! `CREATE TABLE`, `CREATE TABLE … AS`.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::sql::sqlparser::ast::{
    CreateTable, CreateTableOptions, Expr as SqlExpr, FunctionArg, FunctionArgExpr, FunctionArguments, IndexColumn,
    Statement as SqlStatement, TableConstraint,
};
use pyralog_storage::RelationSchema;

use super::column::{self, NewColumn};
use crate::catalog::{CheckConstraint, CollectionKind, DEFAULT_SCHEMA, ObjectName, ROW_ID, TableDefinition};
use crate::error::{Error, ErrorKind, Result};
use crate::session::{IngestMode, IngestRequest, Parameters, QueryResult, Reader, Session, done};
use crate::sql::context::{Planner, rename_columns};
use crate::sql::name;
use crate::sql::parse::parse_expression;

/// `CREATE [OR REPLACE] TABLE [IF NOT EXISTS] …`.
pub(super) async fn create(session: &Session, create: CreateTable) -> Result<QueryResult> {
    check_supported(&create)?;
    let target = name::resolve(&create.name, DEFAULT_SCHEMA)?;
    let catalog = session.engine().catalog.snapshot()?;
    if !catalog.has_schema(&target.schema) {
        return Err(Error::new(
            ErrorKind::NotFound,
            "3F000",
            format!("schema {} does not exist", target.schema),
        ));
    }
    let existing = catalog.get(&target);
    if existing.is_some() {
        if create.if_not_exists {
            return Ok(done("CREATE TABLE", None));
        }
        if !create.or_replace {
            return Err(Error::new(ErrorKind::AlreadyExists, "42P07", format!("{target} exists already"))
                .with_hint("drop it first, or add IF NOT EXISTS"));
        }
    }
    match create.query.clone() {
        Some(query) => create_as(session, target, &create, *query).await,
        None => {
            let table = define(session, target, &create).await?;
            if let Some(entry) = existing {
                session.engine().catalog.drop_object(entry).await?;
            }
            session.engine().catalog.create_table(table).await?;
            Ok(done("CREATE TABLE", None))
        }
    }
}

fn check_supported(create: &CreateTable) -> Result<()> {
    let refuse = |what: &str| Err(Error::unsupported(format!("CREATE TABLE: {what} is not supported")));
    if create.temporary || create.global.is_some() || create.volatile || create.transient {
        return refuse("TEMPORARY");
    }
    if create.like.is_some() || create.clone.is_some() || create.inherits.is_some() {
        return refuse("LIKE, CLONE or INHERITS");
    }
    if create.partition_of.is_some() || create.cluster_by.is_some() || create.clustered_by.is_some() {
        return refuse("PARTITION OF or CLUSTER BY");
    }
    if create.partition_by.is_some() && create.query.is_some() {
        return refuse("PARTITION BY together with AS");
    }
    if create.location.is_some() || create.file_format.is_some() {
        return refuse("LOCATION or a file format");
    }
    match &create.table_options {
        CreateTableOptions::None => Ok(()),
        other => refuse(&other.to_string()),
    }
}

/// A definition from declared columns.
async fn define(session: &Session, target: ObjectName, create: &CreateTable) -> Result<TableDefinition> {
    let state = session.statement_state();
    let engine = session.engine();
    let reader = Reader::newest(engine).await?;
    let planner = Planner {
        engine,
        state: &state,
        catalog: engine.catalog.snapshot()?,
        reader: &reader,
    };
    let columns = create
        .columns
        .iter()
        .map(|c| column::read(&planner, c))
        .collect::<Result<Vec<_>>>()?;
    if columns.is_empty() {
        return Err(Error::invalid("42P16", format!("{target} needs at least one column")));
    }
    let (key, checks) = constraints(&target, &columns, &create.constraints)?;
    let placed_by = create
        .partition_by
        .as_deref()
        .map(|by| partition_key(&target, by, &key))
        .transpose()?;
    let mut table = build(session, target, CollectionKind::Table, columns, &key, checks).await?;
    if let Some(columns) = placed_by {
        table.relation = table.relation.placed_by_first(columns);
    }
    check_checks(&planner, &table)?;
    Ok(table)
}

/// How many of the key's columns `PARTITION BY` names: `(a, b)`, or as PostgreSQL writes it, `HASH (a, b)`.
fn partition_key(target: &ObjectName, by: &SqlExpr, key: &[String]) -> Result<usize> {
    let wrong = || {
        Error::invalid(
            "42P16",
            format!("PARTITION BY {by} of {target} does not name the first columns of the primary key"),
        )
        .with_hint("rows are placed by the hash of the primary key, or of its first columns: PARTITION BY (a) where PRIMARY KEY (a, b)")
    };
    let columns: Vec<&SqlExpr> = match by {
        SqlExpr::Nested(one) => vec![one],
        SqlExpr::Tuple(several) => several.iter().collect(),
        SqlExpr::Function(hash) if hash.name.to_string().eq_ignore_ascii_case("hash") => match &hash.args {
            FunctionArguments::List(list) => list.args.iter().filter_map(argument).collect(),
            _ => Vec::new(),
        },
        one => vec![one],
    };
    let named: HashSet<String> = columns
        .iter()
        .map(|column| match column {
            SqlExpr::Identifier(ident) => Ok(name::fold(ident)),
            _ => Err(wrong()),
        })
        .collect::<Result<_>>()?;
    let first: HashSet<String> = key.iter().take(named.len()).cloned().collect();
    match named.is_empty() || named != first || named.len() != columns.len() {
        true => Err(wrong()),
        false => Ok(named.len()),
    }
}

fn argument(argument: &FunctionArg) -> Option<&SqlExpr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(column)) => Some(column),
        _ => None,
    }
}

/// The primary key's columns and the table's checks.
fn constraints(target: &ObjectName, columns: &[NewColumn], constraints: &[TableConstraint]) -> Result<(Vec<String>, Vec<CheckConstraint>)> {
    let mut key: Vec<String> = columns.iter().filter(|c| c.primary_key).map(|c| c.field.name().clone()).collect();
    let mut checks: Vec<CheckConstraint> = columns.iter().flat_map(|c| c.checks.clone()).collect();
    let mut declared = usize::from(!key.is_empty());
    if key.len() > 1 {
        return Err(Error::invalid("42P16", format!("{target} has more than one PRIMARY KEY")).with_hint("write PRIMARY KEY (a, b) once"));
    }
    for constraint in constraints {
        match constraint {
            TableConstraint::PrimaryKey(primary) => {
                declared += 1;
                key = primary.columns.iter().map(index_column).collect::<Result<_>>()?;
            }
            TableConstraint::Check(check) => {
                let check_name = check
                    .name
                    .as_ref()
                    .map_or_else(|| format!("{}_check{}", target.name, checks.len() + 1), name::fold);
                checks.push(CheckConstraint {
                    name: check_name,
                    expression: check.expr.to_string(),
                });
            }
            other => {
                return Err(Error::unsupported(format!("{other} is not supported")).with_hint("supported are PRIMARY KEY and CHECK"));
            }
        }
    }
    if declared > 1 {
        return Err(Error::invalid("42P16", format!("{target} has more than one PRIMARY KEY")));
    }
    Ok((key, checks))
}

fn index_column(column: &IndexColumn) -> Result<String> {
    match &column.column.expr {
        datafusion::sql::sqlparser::ast::Expr::Identifier(ident) => Ok(name::fold(ident)),
        other => Err(Error::invalid(
            "42P16",
            format!("{other} is not a column; PRIMARY KEY takes columns"),
        )),
    }
}

fn check_checks(planner: &Planner<'_>, table: &TableDefinition) -> Result<()> {
    let schema = DFSchema::try_from(table.visible_schema().as_ref().clone())?;
    for check in &table.checks {
        let expr = planner.plan_expr(parse_expression(&check.expression)?, &schema)?;
        let physical = planner.state.create_physical_expr(expr, &schema)?;
        if physical.data_type(table.visible_schema().as_ref())? != DataType::Boolean {
            return Err(Error::invalid("42804", format!("check {} is not a condition", check.name)));
        }
    }
    Ok(())
}

/// A definition from finished columns, with a new relation.
pub(super) async fn build(
    session: &Session,
    target: ObjectName,
    kind: CollectionKind,
    columns: Vec<NewColumn>,
    key: &[String],
    checks: Vec<CheckConstraint>,
) -> Result<TableDefinition> {
    name::check_new(&target.name)?;
    let mut names = HashSet::new();
    if let Some(twice) = columns.iter().find(|c| !names.insert(c.field.name().clone())) {
        return Err(Error::invalid("42701", format!("column {} is declared twice", twice.field.name())));
    }
    if names.contains(ROW_ID) || names.contains("_ts") {
        return Err(Error::invalid("42939", format!("the column names {ROW_ID} and _ts are reserved")));
    }
    let mut fields: Vec<Field> = columns.iter().map(|c| c.field.clone()).collect();
    let definitions = columns.into_iter().map(|c| c.definition).collect();
    let hidden_key = key.is_empty();
    let key = if hidden_key {
        fields.push(Field::new(ROW_ID, DataType::UInt64, false));
        vec![fields.len() - 1]
    } else {
        key_positions(&target, &mut fields, key)?
    };
    let id = session.engine().catalog.allocate_relation().await?;
    let next_field_id = fields.len() as u32;
    let relation = RelationSchema::new(id, fields, key);
    Ok(TableDefinition {
        name: target,
        kind,
        relation,
        columns: definitions,
        hidden_key,
        checks,
        next_field_id,
    })
}

fn key_positions(target: &ObjectName, fields: &mut [Field], key: &[String]) -> Result<Vec<usize>> {
    let mut positions = Vec::with_capacity(key.len());
    for column in key {
        let position = fields
            .iter()
            .position(|f| f.name() == column)
            .ok_or_else(|| Error::invalid("42703", format!("key column {column} of {target} does not exist")))?;
        if positions.contains(&position) {
            return Err(Error::invalid("42701", format!("key column {column} of {target} is named twice")));
        }
        if fields[position].data_type().is_nested() {
            return Err(Error::unsupported(format!(
                "key column {column}: a list, struct or map cannot be a key"
            )));
        }
        fields[position].set_nullable(false);
        positions.push(position);
    }
    Ok(positions)
}

/// `CREATE TABLE … AS query`: the table and its rows appear together.
async fn create_as(
    session: &Session,
    target: ObjectName,
    create: &CreateTable,
    query: datafusion::sql::sqlparser::ast::Query,
) -> Result<QueryResult> {
    let (state, plan, reader) = session.plan_query(SqlStatement::Query(Box::new(query)), &Parameters::None).await?;
    let names = create.columns.iter().map(|c| name::fold(&c.name)).collect::<Vec<_>>();
    let plan = rename_columns(plan, &names)?;
    let result = session.run_query(&state, &plan, &reader).await?;
    let mode = if create.or_replace {
        IngestMode::Replace
    } else {
        IngestMode::Create
    };
    let request = IngestRequest {
        schema: Some(target.schema),
        table: target.name,
        mode,
    };
    let affected = session.ingest_rows(request, result.stream).await?;
    Ok(done("CREATE TABLE", Some(affected)))
}

/// A definition without a key from an Arrow schema: for ingest that makes its table.
pub(crate) async fn create_from_arrow(session: &Session, target: ObjectName, schema: &SchemaRef) -> Result<Arc<TableDefinition>> {
    let columns = schema.fields().iter().map(|f| column::from_arrow(f)).collect::<Result<Vec<_>>>()?;
    if columns.is_empty() {
        return Err(Error::invalid("42P16", format!("{target} needs at least one column")));
    }
    Ok(Arc::new(
        build(session, target, CollectionKind::Table, columns, &[], Vec::new()).await?,
    ))
}
