//! Statements that change the catalog. Each is durable at once, also within a transaction: it is not undone by ROLLBACK.

mod alter;
mod collection;
mod column;
mod drop;
mod schema;
mod table;
mod truncate;
mod view;

pub(crate) use collection::{create_collection, drop_collection};
pub(crate) use table::create_from_arrow;
pub(crate) use truncate::truncate;

use datafusion::sql::sqlparser::ast::Statement as SqlStatement;

use crate::error::{Error, Result};
use crate::session::{QueryResult, Session};

/// Runs a DDL statement; what is none is refused.
pub(crate) async fn run(session: &Session, statement: SqlStatement) -> Result<QueryResult> {
    match statement {
        SqlStatement::CreateTable(create) => table::create(session, create).await,
        SqlStatement::CreateView(create) => view::create(session, create).await,
        SqlStatement::CreateSchema {
            schema_name,
            if_not_exists,
            ..
        } => schema::create(session, &schema_name, if_not_exists).await,
        SqlStatement::AlterTable(alter) => alter::alter(session, alter).await,
        SqlStatement::Drop {
            object_type,
            if_exists,
            names,
            cascade,
            ..
        } => drop::run(session, object_type, if_exists, &names, cascade).await,
        other => {
            let text = other.to_string();
            let verb = text.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            Err(Error::unsupported(format!("{verb} is not supported by this version")))
        }
    }
}
