//! `CREATE SCHEMA`.

use datafusion::sql::sqlparser::ast::SchemaName;

use crate::error::{Error, ErrorKind, Result};
use crate::session::{QueryResult, Session, done};
use crate::sql::{information_schema, name};

/// Makes a schema.
pub(super) async fn create(session: &Session, schema_name: &SchemaName, if_not_exists: bool) -> Result<QueryResult> {
    let SchemaName::Simple(sql_name) = schema_name else {
        return Err(Error::unsupported("CREATE SCHEMA … AUTHORIZATION is not supported"));
    };
    let schema = name::last_part(sql_name)?;
    name::check_new(&schema)?;
    if schema == information_schema::SCHEMA {
        return Err(Error::invalid("42939", format!("the schema name {schema} is reserved")));
    }
    match session.engine().catalog.create_schema(&schema).await {
        Err(error) if if_not_exists && error.kind == ErrorKind::AlreadyExists => {}
        result => result?,
    }
    Ok(done("CREATE SCHEMA", None))
}
