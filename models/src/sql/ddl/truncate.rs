//! `TRUNCATE`: outside a transaction the table gets a new, empty relation at once; inside one its rows are deleted as any others.

use datafusion::sql::sqlparser::ast::Truncate;
use pyralog_storage::RelationSchema;

use crate::catalog::{DEFAULT_SCHEMA, Object};
use crate::error::{Error, Result};
use crate::session::{QueryResult, Session, done};
use crate::sql::name;

/// Empties tables.
pub(crate) async fn truncate(session: &Session, truncate: Truncate) -> Result<QueryResult> {
    if truncate.partitions.is_some() || truncate.on_cluster.is_some() {
        return Err(Error::unsupported("TRUNCATE of partitions is not supported"));
    }
    for target in &truncate.table_names {
        let table_name = name::resolve(&target.name, DEFAULT_SCHEMA)?;
        let catalog = session.engine().catalog.snapshot()?;
        if truncate.if_exists && catalog.get(&table_name).is_none() {
            continue;
        }
        let (entry, table) = catalog.require_table(&table_name)?;
        if session.in_transaction() {
            let sql = format!("DELETE FROM {}.{}", name::quote(&table_name.schema), name::quote(&table_name.name));
            session.execute_nested(sql).await?;
            continue;
        }
        let old = table.relation.id;
        let mut emptied = (*table).clone();
        emptied.relation = RelationSchema {
            id: session.engine().catalog.allocate_relation().await?,
            ..table.relation.clone()
        };
        session.engine().catalog.create_relation(&emptied.relation).await?;
        session
            .engine()
            .catalog
            .replace_object(&table_name, &Object::Table(emptied), entry.revision)
            .await?;
        session.engine().catalog.drop_relation(old).await?;
    }
    Ok(done("TRUNCATE", None))
}
