//! Datasets of RDF: queries and updates of SPARQL, which run inside a transaction like any other statement.

use std::future::IntoFuture;

use futures::future::BoxFuture;

use crate::error::Result;
use crate::rows::Rows;
use crate::scope::Scope;
use crate::statement::Statement;
use crate::text::quoted_text;

/// A dataset.
///
/// ```no_run
/// # async fn f(db: pyralog_client::Client) -> pyralog_client::Result<()> {
/// let kb = db.rdf("kb");
/// kb.update("INSERT DATA { <urn:ann> <urn:name> 'Ann' }").await?;
/// let rows = kb.sparql("SELECT ?s ?name { ?s <urn:name> ?name }").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Dataset {
    scope: Scope,
    name: String,
}

impl Dataset {
    pub(crate) fn new(scope: Scope, name: &str) -> Self {
        Dataset {
            scope,
            name: quoted_text(name),
        }
    }

    /// A SELECT query; `.await` the result: a stream of batches with a column of text for each variable (the IRI, the label of a blank node, or the
    /// literal's lexical form), null where it is unbound. As rows of SQL they come in any order, unless the query has a LIMIT.
    pub fn sparql(&self, query: impl AsRef<str>) -> Select {
        let sql = format!("SELECT * FROM sparql({}, {})", self.name, quoted_text(query.as_ref()));
        Select {
            statement: Statement::new(self.scope.clone(), sql),
        }
    }

    /// An update: all of it, or nothing.
    pub async fn update(&self, update: impl AsRef<str>) -> Result<()> {
        let sql = format!("CALL sparql_update({}, {})", self.name, quoted_text(update.as_ref()));
        Statement::new(self.scope.clone(), sql).execute().await.map(drop)
    }
}

/// A query that has not run yet.
#[derive(Debug)]
#[must_use = "a query runs only when it is awaited"]
pub struct Select {
    statement: Statement,
}

impl Select {
    /// How long it may take; the server is told and stops the work.
    pub fn timeout(self, limit: std::time::Duration) -> Self {
        Select {
            statement: self.statement.timeout(limit),
        }
    }
}

impl IntoFuture for Select {
    type Output = Result<Rows>;
    type IntoFuture = BoxFuture<'static, Result<Rows>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.statement.fetch())
    }
}
