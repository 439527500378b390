//! `ALTER TABLE`: columns added, dropped, renamed; defaults, NOT NULL and checks set and dropped; renaming.

use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::sql::sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation, ColumnDef, Ident, RenameTableNameKind, TableConstraint,
};
use pyralog_storage::schema::with_field_id;
use std::sync::Arc;

use super::column;
use crate::catalog::{CatalogEntry, CheckConstraint, CollectionKind, DEFAULT_SCHEMA, Object, TableDefinition};
use crate::error::{Error, ErrorKind, Result};
use crate::session::{QueryResult, Reader, Session, done};
use crate::sql::context::Planner;
use crate::sql::name::{self, quote};

/// Runs the operations one after the other; each is a change of its own.
pub(super) async fn alter(session: &Session, alter: AlterTable) -> Result<QueryResult> {
    let target = name::resolve(&alter.name, DEFAULT_SCHEMA)?;
    for operation in alter.operations {
        let catalog = session.engine().catalog.snapshot()?;
        if alter.if_exists && catalog.get(&target).is_none() {
            break;
        }
        if let AlterTableOperation::RenameTable { table_name } = operation {
            rename_table(session, catalog.require(&target)?, table_name).await?;
            // What follows would name a table that is no more.
            break;
        }
        let (entry, table) = catalog.require_table(&target)?;
        if table.kind != CollectionKind::Table {
            return Err(Error::unsupported(format!(
                "{target} is a {} collection, whose columns are fixed; only its name can be changed",
                table.kind.word()
            )));
        }
        apply(session, &entry, (*table).clone(), operation).await?;
    }
    Ok(done("ALTER TABLE", None))
}

async fn apply(session: &Session, entry: &CatalogEntry, mut table: TableDefinition, operation: AlterTableOperation) -> Result<()> {
    match operation {
        AlterTableOperation::AddColumn {
            if_not_exists,
            column_def,
            column_position: None,
            ..
        } => {
            return add_column(session, entry, table, &column_def, if_not_exists).await;
        }
        AlterTableOperation::DropColumn {
            column_names, if_exists, ..
        } => {
            for ident in &column_names {
                drop_column(&mut table, ident, if_exists)?;
            }
            return save_relation(session, entry, table).await;
        }
        AlterTableOperation::RenameColumn {
            old_column_name,
            new_column_name,
        } => {
            rename_column(&mut table, &old_column_name, &new_column_name)?;
            return save_relation(session, entry, table).await;
        }
        AlterTableOperation::AlterColumn { column_name, op } => return alter_column(session, entry, table, &column_name, op).await,
        AlterTableOperation::AddConstraint {
            constraint: TableConstraint::Check(check),
            ..
        } => {
            let taken = |name: &String| table.checks.iter().any(|known| known.name == *name);
            let check_name = match &check.name {
                Some(given) => name::fold(given),
                None => (1..)
                    .map(|n| format!("{}_check{n}", table.name.name))
                    .find(|name| !taken(name))
                    .unwrap_or_default(),
            };
            if taken(&check_name) {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    "42710",
                    format!("constraint {check_name} of {} exists already", table.name),
                ));
            }
            refuse_violations(
                session,
                &table,
                &format!("NOT ({})", check.expr),
                "23514",
                &format!("violates the check {check_name}"),
            )
            .await?;
            table.checks.push(CheckConstraint {
                name: check_name,
                expression: check.expr.to_string(),
            });
        }
        AlterTableOperation::DropConstraint {
            name: constraint,
            if_exists,
            ..
        } => {
            let wanted = name::fold(&constraint);
            let before = table.checks.len();
            table.checks.retain(|c| c.name != wanted);
            if table.checks.len() == before && !if_exists {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    "42704",
                    format!("constraint {wanted} of {} does not exist", table.name),
                ));
            }
        }
        other => return Err(Error::unsupported(format!("ALTER TABLE {other} is not supported by this version"))),
    }
    session
        .engine()
        .catalog
        .replace_object(&entry.name, &Object::Table(table), entry.revision)
        .await
}

async fn rename_table(session: &Session, entry: &CatalogEntry, to: RenameTableNameKind) -> Result<()> {
    let (RenameTableNameKind::As(sql_name) | RenameTableNameKind::To(sql_name)) = to;
    let to = name::resolve(&sql_name, &entry.name.schema)?;
    name::check_new(&to.name)?;
    let object = match entry.object.as_ref() {
        Object::Table(table) => Object::Table(TableDefinition {
            name: to.clone(),
            ..table.clone()
        }),
        other => other.clone(),
    };
    session
        .engine()
        .catalog
        .rename_object(entry, &to, &object)
        .await
        .map_err(|error| match error.kind {
            ErrorKind::Conflict => Error::new(ErrorKind::AlreadyExists, "42P07", format!("{to} exists already")),
            _ => error,
        })
}

/// Adds a column behind the visible ones. Existing rows read null, or are rewritten with the default.
async fn add_column(
    session: &Session,
    entry: &CatalogEntry,
    mut table: TableDefinition,
    definition: &ColumnDef,
    if_not_exists: bool,
) -> Result<()> {
    let engine = session.engine();
    let state = session.statement_state();
    let reader = Reader::newest(engine).await?;
    let planner = Planner {
        engine,
        state: &state,
        catalog: engine.catalog.snapshot()?,
        reader: &reader,
    };
    let new = column::read(&planner, definition)?;
    if new.primary_key {
        return Err(Error::unsupported("a primary key cannot be added to an existing table"));
    }
    let column_name = new.field.name().clone();
    if table.relation.schema.index_of(&column_name).is_ok() {
        return match if_not_exists {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::AlreadyExists,
                "42701",
                format!("column {column_name} of {} exists already", table.name),
            )),
        };
    }
    let rows: u64 = reader.relation(table.relation.id)?.iter().map(|view| view.row_count()).sum();
    let not_null = !new.field.is_nullable();
    if rows > 0 && not_null && new.definition.default.is_none() {
        return Err(Error::new(
            ErrorKind::Constraint,
            "23502",
            format!("column {column_name} is NOT NULL, but existing rows have no value for it"),
        )
        .with_hint("give it a DEFAULT"));
    }
    // Existing rows lack the column until they are rewritten, so it is nullable until then.
    let field = with_field_id(new.field.clone().with_nullable(true), table.next_field_id);
    let default = new.definition.default.clone();
    table.next_field_id += 1;
    insert_visible(&mut table, field);
    table.columns.push(new.definition);
    table.checks.extend(new.checks);
    save_relation(session, entry, table).await?;
    if let Some(default) = default.filter(|_| rows > 0) {
        let sql = format!("UPDATE {} SET {} = {default}", quoted(&entry.name), quote(&column_name));
        session.execute_nested(sql).await?;
    }
    if not_null {
        let sql = format!(
            "ALTER TABLE {} ALTER COLUMN {} SET NOT NULL",
            quoted(&entry.name),
            quote(&column_name)
        );
        session.execute_nested(sql).await?;
    }
    Ok(())
}

fn quoted(name: &crate::catalog::ObjectName) -> String {
    format!("{}.{}", quote(&name.schema), quote(&name.name))
}

/// Puts a field behind the visible ones and before the hidden ones; key positions move along.
fn insert_visible(table: &mut TableDefinition, field: Field) {
    let at = table.columns.len();
    let mut fields: Vec<Arc<Field>> = table.relation.schema.fields().iter().cloned().collect();
    fields.insert(at, Arc::new(field));
    table.relation.schema = Arc::new(Schema::new_with_metadata(fields, table.relation.schema.metadata().clone()));
    for key in &mut table.relation.key {
        if *key >= at {
            *key += 1;
        }
    }
}

fn position(table: &TableDefinition, ident: &Ident) -> Result<usize> {
    let wanted = name::fold(ident);
    table
        .visible_schema()
        .index_of(&wanted)
        .map_err(|_| Error::invalid("42703", format!("column {wanted} of {} does not exist", table.name)))
}

fn drop_column(table: &mut TableDefinition, ident: &Ident, if_exists: bool) -> Result<()> {
    let at = match position(table, ident) {
        Err(_) if if_exists => return Ok(()),
        at => at?,
    };
    if table.relation.key.contains(&at) {
        return Err(Error::invalid(
            "42P16",
            format!("column {ident} is part of the primary key of {}", table.name),
        ));
    }
    if table.columns.len() == 1 {
        return Err(Error::invalid("42P16", format!("column {ident} is the only one of {}", table.name)));
    }
    let column_name = table.relation.schema.field(at).name().clone();
    if let Some(check) = table.checks.iter().find(|c| mentions(&c.expression, &column_name)) {
        return Err(
            Error::invalid("2BP01", format!("check {} needs column {column_name}", check.name)).with_hint("drop the constraint first")
        );
    }
    let mut fields: Vec<Arc<Field>> = table.relation.schema.fields().iter().cloned().collect();
    fields.remove(at);
    table.relation.schema = Arc::new(Schema::new_with_metadata(fields, table.relation.schema.metadata().clone()));
    table.columns.remove(at);
    for key in &mut table.relation.key {
        if *key > at {
            *key -= 1;
        }
    }
    Ok(())
}

/// Whether an expression's text holds a name as a word; a false alarm only refuses a change.
fn mentions(expression: &str, column: &str) -> bool {
    expression
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| word.eq_ignore_ascii_case(column))
}

fn rename_column(table: &mut TableDefinition, from: &Ident, to: &Ident) -> Result<()> {
    let at = position(table, from)?;
    let to = name::fold(to);
    name::check_new_column(&to)?;
    if table.relation.schema.index_of(&to).is_ok() {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            "42701",
            format!("column {to} of {} exists already", table.name),
        ));
    }
    let old = table.relation.schema.field(at).name().clone();
    if let Some(check) = table.checks.iter().find(|c| mentions(&c.expression, &old)) {
        return Err(Error::invalid("2BP01", format!("check {} needs column {old}", check.name)).with_hint("drop the constraint first"));
    }
    replace_field(table, at, |field| field.with_name(to));
    Ok(())
}

fn replace_field(table: &mut TableDefinition, at: usize, change: impl FnOnce(Field) -> Field) {
    let mut fields: Vec<Arc<Field>> = table.relation.schema.fields().iter().cloned().collect();
    fields[at] = Arc::new(change(fields[at].as_ref().clone()));
    table.relation.schema = Arc::new(Schema::new_with_metadata(fields, table.relation.schema.metadata().clone()));
}

async fn alter_column(
    session: &Session,
    entry: &CatalogEntry,
    mut table: TableDefinition,
    ident: &Ident,
    operation: AlterColumnOperation,
) -> Result<()> {
    let at = position(&table, ident)?;
    match operation {
        AlterColumnOperation::SetDefault { value } => {
            table.columns[at].default = Some(value.to_string());
            session
                .engine()
                .catalog
                .replace_object(&entry.name, &Object::Table(table), entry.revision)
                .await
        }
        AlterColumnOperation::DropDefault => {
            table.columns[at].default = None;
            session
                .engine()
                .catalog
                .replace_object(&entry.name, &Object::Table(table), entry.revision)
                .await
        }
        AlterColumnOperation::SetNotNull => {
            let column_name = table.relation.schema.field(at).name().clone();
            let condition = format!("{} IS NULL", quote(&column_name));
            refuse_violations(
                session,
                &table,
                &condition,
                "23502",
                &format!("has no value for column {column_name}"),
            )
            .await?;
            table.columns[at].not_null = true;
            session
                .engine()
                .catalog
                .replace_object(&entry.name, &Object::Table(table), entry.revision)
                .await
        }
        AlterColumnOperation::DropNotNull if table.relation.key.contains(&at) => {
            Err(Error::invalid("42P16", format!("column {ident} is part of the primary key")))
        }
        AlterColumnOperation::DropNotNull => {
            table.columns[at].not_null = false;
            replace_field(&mut table, at, |field| field.with_nullable(true));
            save_relation(session, entry, table).await
        }
        other => Err(Error::unsupported(format!("ALTER COLUMN {other} is not supported by this version"))
            .with_hint("make a new table with CREATE TABLE … AS and CAST, then rename it")),
    }
}

/// Fails when some row meets a condition that a new constraint forbids.
async fn refuse_violations(session: &Session, table: &TableDefinition, condition: &str, code: &'static str, what: &str) -> Result<()> {
    let sql = format!("SELECT 1 FROM {} WHERE {condition} LIMIT 1", quoted(&table.name));
    let result = session.execute_nested(sql).await?;
    let batches = datafusion::physical_plan::common::collect(result.stream).await?;
    if batches.iter().any(|batch| batch.num_rows() > 0) {
        return Err(Error::new(ErrorKind::Constraint, code, format!("a row of {} {what}", table.name)));
    }
    Ok(())
}

/// A changed relation: storage learns of it before the catalog does, so that rows of the new shape are never refused.
async fn save_relation(session: &Session, entry: &CatalogEntry, mut table: TableDefinition) -> Result<()> {
    table.relation.version += 1;
    session.engine().catalog.alter_relation(&table.relation).await?;
    session
        .engine()
        .catalog
        .replace_object(&entry.name, &Object::Table(table), entry.revision)
        .await
}
