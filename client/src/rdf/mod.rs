//! Datasets of RDF: what SPARQL asks and changes, and quads that go in and out. All of it runs inside a transaction like any other statement.

mod column;
mod dump;
mod load;
mod quad;
mod query;
mod solutions;
mod term;

use crate::error::Result;
use crate::rows::Rows;
use crate::scope::Scope;
use crate::statement::Statement;
use crate::table::{Batches, Table};
use crate::text::quoted_text;

pub use dump::Dump;
pub use load::{Fault, Load, Loaded, Syntax, Text};
pub use quad::{Quad, Quads};
pub use query::{Answer, Query};
pub use solutions::{Solution, Solutions};
pub use term::{Literal, Term};

/// A dataset.
///
/// ```no_run
/// # async fn f(db: pyralog_client::Client) -> pyralog_client::Result<()> {
/// let kb = db.rdf("kb");
/// kb.update("INSERT DATA { <urn:ann> <urn:name> 'Ann' }").await?;
/// let mut people = kb.query("SELECT ?s ?name { ?s <urn:name> ?name } ORDER BY ?name").await?;
/// while let Some(person) = people.next_solution().await? {
///     println!("{}", person.term("name")?);
/// }
/// if kb.ask("ASK { <urn:ann> <urn:knows> ?somebody }").await? {
///     print!("{}", kb.construct("CONSTRUCT WHERE { ?a <urn:knows> ?b }").await?.to_nquads().await?);
/// }
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
            name: name.to_owned(),
        }
    }

    /// A SELECT query as a table of text; `.await` the result: a stream of batches with a column for each variable (the IRI, the label of a blank
    /// node, or the literal's lexical form), null where it is unbound. As rows of SQL they come in any order, unless the query has a LIMIT.
    /// [`query`](Dataset::query) keeps the order and whole terms.
    pub fn sparql(&self, query: impl AsRef<str>) -> Query<Rows> {
        let (dataset, query) = (quoted_text(&self.name), quoted_text(query.as_ref()));
        self.ask_sql(format!("SELECT * FROM sparql({dataset}, {query})"))
    }

    /// A SELECT query; `.await` its solutions, which stream in the query's order.
    pub fn query(&self, query: impl AsRef<str>) -> Query<Solutions> {
        self.call(query.as_ref())
    }

    /// An ASK query; `.await` its truth value.
    pub fn ask(&self, query: impl AsRef<str>) -> Query<bool> {
        self.call(query.as_ref())
    }

    /// A CONSTRUCT or DESCRIBE query; `.await` its triples, each once, which stream.
    pub fn construct(&self, query: impl AsRef<str>) -> Query<Quads> {
        self.call(query.as_ref())
    }

    /// An update: all of it, or nothing.
    pub async fn update(&self, update: impl AsRef<str>) -> Result<()> {
        let (dataset, update) = (quoted_text(&self.name), quoted_text(update.as_ref()));
        let sql = format!("CALL sparql_update({dataset}, {update})");
        Statement::new(self.scope.clone(), sql).execute().await.map(drop)
    }

    /// Adds quads, all of them or none; how many came (also those that were there already). Blank nodes of one call are nodes of their own,
    /// whatever their labels.
    ///
    /// ```no_run
    /// # async fn f(db: pyralog_client::Client) -> pyralog_client::Result<()> {
    /// use pyralog_client::{Quad, Term};
    /// let name = Quad::new(Term::iri("urn:ann"), Term::iri("urn:name"), Term::tagged("Ann", "en"));
    /// db.rdf("kb").insert([name.clone(), name.in_graph(Term::iri("urn:people"))]).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn insert(&self, quads: impl IntoIterator<Item = Quad>) -> Result<u64> {
        self.load_quads(quad::batches(quads)?).await
    }

    /// Adds quads as batches with the columns of `kb.quads` (`subject`, `predicate`, `object`, and `graph`, which may be missing or null: the
    /// default graph), each a struct of `kind` (`iri`, `bnode`, `literal`), `value`, `datatype` and `language`. Else as [`insert`](Dataset::insert);
    /// a stream of batches is read as fast as the server takes it.
    pub async fn load_quads(&self, rows: impl Into<Batches>) -> Result<u64> {
        Table::new(self.scope.clone(), self.name.clone()).insert(rows).await
    }

    /// Loads text, which the server parses; `.await` what it did: all of it comes in, or nothing. Blank nodes of one load are nodes of their own.
    ///
    /// ```no_run
    /// # async fn f(db: pyralog_client::Client, file: tokio::fs::File) -> pyralog_client::Result<()> {
    /// use pyralog_client::{Syntax, Text};
    /// let kb = db.rdf("kb");
    /// kb.load(Syntax::Turtle, "<urn:ann> <urn:name> 'Ann' .").await?;
    /// let loaded = kb.load(Syntax::NQuads, Text::from_reader(file)).lenient().await?;
    /// println!("{} quads, {} faults", loaded.quads, loaded.faults);
    /// # Ok(())
    /// # }
    /// ```
    pub fn load(&self, syntax: Syntax, text: impl Into<Text>) -> Load {
        Load::new(self.clone(), syntax, text.into())
    }

    /// All quads, or those of one graph; `.await` the stream.
    pub fn dump(&self) -> Dump {
        Dump::new(self.clone())
    }

    /// A query of which the answer comes as it is.
    fn call<A: Answer>(&self, query: &str) -> Query<A> {
        let (dataset, query) = (quoted_text(&self.name), quoted_text(query));
        self.ask_sql(format!("CALL sparql({dataset}, {query})"))
    }

    fn ask_sql<A: Answer>(&self, sql: String) -> Query<A> {
        Query::new(Statement::new(self.scope.clone(), sql))
    }
}
