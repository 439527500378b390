//! `DROP TABLE`, `DROP VIEW`, `DROP SCHEMA`.

use datafusion::sql::sqlparser::ast::{ObjectName as SqlName, ObjectType};

use crate::catalog::{DEFAULT_SCHEMA, Object};
use crate::error::{Error, ErrorKind, Result};
use crate::session::{QueryResult, Session, done};
use crate::sql::name;

/// Drops one or several objects of a type.
pub(super) async fn run(
    session: &Session,
    object_type: ObjectType,
    if_exists: bool,
    names: &[SqlName],
    cascade: bool,
) -> Result<QueryResult> {
    for sql_name in names {
        match object_type {
            ObjectType::Table | ObjectType::View => drop_object(session, object_type, if_exists, sql_name).await?,
            ObjectType::Schema => drop_schema(session, if_exists, sql_name, cascade).await?,
            other => return Err(Error::unsupported(format!("DROP {other} is not supported by this version"))),
        }
    }
    Ok(done(
        match object_type {
            ObjectType::View => "DROP VIEW",
            ObjectType::Schema => "DROP SCHEMA",
            _ => "DROP TABLE",
        },
        None,
    ))
}

async fn drop_object(session: &Session, object_type: ObjectType, if_exists: bool, sql_name: &SqlName) -> Result<()> {
    let target = name::resolve(sql_name, DEFAULT_SCHEMA)?;
    let catalog = session.engine().catalog.snapshot()?;
    if if_exists && catalog.get(&target).is_none() {
        return Ok(());
    }
    let entry = catalog.require(&target)?;
    let is_view = matches!(entry.object.as_ref(), Object::View(_));
    match (object_type, is_view) {
        (ObjectType::Table, true) => Err(Error::invalid("42809", format!("{target} is a view")).with_hint("use DROP VIEW")),
        (ObjectType::View, false) => Err(Error::invalid("42809", format!("{target} is not a view")).with_hint("use DROP TABLE")),
        _ => session.engine().catalog.drop_object(entry).await,
    }
}

async fn drop_schema(session: &Session, if_exists: bool, sql_name: &SqlName, cascade: bool) -> Result<()> {
    let schema = name::last_part(sql_name)?;
    let catalog = session.engine().catalog.snapshot()?;
    if !catalog.has_schema(&schema) {
        return match if_exists {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::NotFound, "3F000", format!("schema {schema} does not exist"))),
        };
    }
    if schema == DEFAULT_SCHEMA {
        return Err(Error::invalid("2BP01", format!("schema {DEFAULT_SCHEMA} is always there")));
    }
    let inside: Vec<_> = catalog.objects().filter(|entry| entry.name.schema == schema).cloned().collect();
    if !inside.is_empty() && !cascade {
        return Err(
            Error::invalid("2BP01", format!("schema {schema} holds {} objects", inside.len())).with_hint("drop them first, or add CASCADE")
        );
    }
    for entry in &inside {
        session.engine().catalog.drop_object(entry).await?;
    }
    session.engine().catalog.drop_schema(&schema).await
}
