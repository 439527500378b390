//! `CREATE [OR REPLACE] VIEW`.

use datafusion::sql::sqlparser::ast::{CreateView, Statement as SqlStatement};

use crate::catalog::{DEFAULT_SCHEMA, Object, ViewDefinition};
use crate::error::{Error, Result};
use crate::session::{Parameters, QueryResult, Session, done};
use crate::sql::context::rename_columns;
use crate::sql::name;

/// Makes a view. Its query is planned once, so that a view that cannot be read is never made.
pub(super) async fn create(session: &Session, create: CreateView) -> Result<QueryResult> {
    if create.materialized || create.temporary || create.secure {
        return Err(Error::unsupported(
            "MATERIALIZED, TEMPORARY and SECURE views are not supported by this version",
        ));
    }
    let target = name::resolve(&create.name, DEFAULT_SCHEMA)?;
    name::check_new(&target.name)?;
    let catalog = session.engine().catalog.snapshot()?;
    let existing = catalog.get(&target);
    if existing.is_some() && create.if_not_exists {
        return Ok(done("CREATE VIEW", None));
    }
    let columns: Vec<String> = create.columns.iter().map(|c| name::fold(&c.name)).collect();
    let statement = SqlStatement::Query(create.query.clone());
    let (_, plan, _) = session.plan_query(statement, &Parameters::None).await?;
    rename_columns(plan, &columns)?;
    let view = Object::View(ViewDefinition {
        query: create.query.to_string(),
        columns,
    });
    match existing {
        Some(entry) if create.or_replace && matches!(entry.object.as_ref(), Object::View(_)) => {
            session.engine().catalog.replace_object(&target, &view, entry.revision).await?;
        }
        _ => session.engine().catalog.create_object(&target, &view).await?,
    }
    Ok(done("CREATE VIEW", None))
}
