//! What the shell, import and export talk to: a server over Flight SQL or a data directory in this process.

mod embedded;
mod remote;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::BoxStream;
use pyralog_models::rdf::{RdfLoad, RdfLoaded};
use pyralog_models::{Error, Position};

pub use embedded::Embedded;
pub use remote::Remote;

use crate::config::Config;

/// An error of a statement, from either side of the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementError {
    /// SQLSTATE, or the wire's own code.
    pub code: String,
    /// What was wrong.
    pub message: String,
    /// Where in the statement.
    pub position: Option<Position>,
    /// What to do.
    pub hint: Option<String>,
}

impl StatementError {
    /// An error of the connection itself.
    pub fn connection(message: impl Into<String>) -> Self {
        StatementError {
            code: "08000".into(),
            message: message.into(),
            position: None,
            hint: None,
        }
    }

    /// Whether it says that a table is not there.
    pub fn is_missing_table(&self) -> bool {
        self.code == "42P01"
    }
}

impl From<Error> for StatementError {
    fn from(error: Error) -> Self {
        StatementError {
            code: error.code.to_owned(),
            message: error.message,
            position: error.position,
            hint: error.hint,
        }
    }
}

impl From<&DataFusionError> for StatementError {
    fn from(error: &DataFusionError) -> Self {
        crate::error::from_stream(error).into()
    }
}

impl fmt::Display for StatementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; hint: {hint}"))
    }
}

impl std::error::Error for StatementError {}

/// What a statement gave.
pub struct Outcome {
    /// Columns; empty for statements without rows.
    pub schema: SchemaRef,
    /// What was done, such as `INSERT`.
    pub tag: String,
    /// Rows changed, for DML.
    pub affected: Option<u64>,
    /// The rows. Dropping it stops the statement.
    pub rows: BoxStream<'static, Result<RecordBatch, StatementError>>,
}

/// A table's name as given on a command line: unquoted parts are folded to lower case, as in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// Schema, if named.
    pub schema: Option<String>,
    /// Table.
    pub table: String,
}

impl TableName {
    /// Reads `table`, `schema.table` and quoted forms of both.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts: Vec<String> = Vec::new();
        let mut rest = text.trim();
        loop {
            let (part, behind) = match rest.strip_prefix('"') {
                Some(quoted) => unquote(quoted).ok_or_else(|| format!("`{text}`: a quote is not closed"))?,
                None => {
                    let end = rest.find('.').unwrap_or(rest.len());
                    (rest[..end].to_lowercase(), &rest[end..])
                }
            };
            if part.is_empty() {
                return Err(format!("`{text}` is not a table's name"));
            }
            parts.push(part);
            match behind.strip_prefix('.') {
                Some(more) => rest = more,
                None if behind.is_empty() => break,
                None => return Err(format!("`{text}` is not a table's name")),
            }
        }
        match (parts.pop(), parts.pop(), parts.is_empty()) {
            (Some(table), schema, true) => Ok(TableName { schema, table }),
            _ => Err(format!("`{text}`: expected table or schema.table")),
        }
    }

    /// The name as SQL text, quoted.
    pub fn sql(&self) -> String {
        let quote = |part: &str| format!("\"{}\"", part.replace('"', "\"\""));
        self.schema
            .as_ref()
            .map_or_else(|| quote(&self.table), |schema| format!("{}.{}", quote(schema), quote(&self.table)))
    }
}

/// A quoted part and what follows it; `""` within stands for a quote.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = quoted;
    loop {
        let (text, behind) = rest.split_once('"')?;
        part.push_str(text);
        match behind.strip_prefix('"') {
            Some(more) => {
                part.push('"');
                rest = more;
            }
            None => return Some((part, behind)),
        }
    }
}

/// A session with a database.
#[async_trait]
pub trait Connection: Send + Sync {
    /// Runs one statement. Dropping the future or the rows stops it.
    async fn execute(&self, sql: &str) -> Result<Outcome, StatementError>;

    /// Appends rows to a table, making it if it is not there; how many came in.
    async fn ingest(&self, table: &TableName, rows: SendableRecordBatchStream) -> Result<u64, StatementError>;

    /// Loads text of RDF into a dataset that is there.
    async fn load(&self, load: RdfLoad, text: BoxStream<'static, Result<Bytes, Error>>) -> Result<RdfLoaded, StatementError>;

    /// What it is connected to, for eyes.
    fn target(&self) -> String;

    /// Ends the session and lets go of the database.
    async fn close(&self) -> Result<(), StatementError>;
}

/// Opens what `--url` or `--data-dir` names: exactly one of them. The outer error is wrong usage.
pub async fn open(config: &Config) -> Result<Result<Arc<dyn Connection>, StatementError>, String> {
    // A flag is nearer than what environment or file say of the other.
    let flagged = |name: &str| {
        config
            .effective()
            .any(|value| value.setting.name == name && value.source == crate::config::Source::Flag)
    };
    match (config.text("url"), config.path("data-dir")) {
        (Some(url), None) => Ok(remote(url).await),
        (None, Some(dir)) => embedded(config, dir).await,
        (Some(url), Some(_)) if flagged("url") && !flagged("data-dir") => Ok(remote(url).await),
        (Some(_), Some(dir)) if flagged("data-dir") && !flagged("url") => embedded(config, dir).await,
        (Some(_), Some(_)) => Err("give --url or --data-dir, not both".into()),
        (None, None) => Err("give --url grpc://host:port for a server, or --data-dir DIR to open a directory in this process".into()),
    }
}

async fn remote(url: &str) -> Result<Arc<dyn Connection>, StatementError> {
    Ok(Arc::new(Remote::connect(url).await?))
}

async fn embedded(config: &Config, dir: PathBuf) -> Result<Result<Arc<dyn Connection>, StatementError>, String> {
    let database = config.database(dir)?;
    Ok(match Embedded::open(database).await {
        Ok(connection) => Ok(Arc::new(connection)),
        Err(error) => Err(error),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn table_names() {
        let name = |text| TableName::parse(text).unwrap();
        assert_eq!(name("Users").sql(), "\"users\"");
        assert_eq!(name("public.\"Users\"").sql(), "\"public\".\"Users\"");
        assert_eq!(name("\"a\"\"b.c\"").table, "a\"b.c");
        for wrong in ["", ".", "a.", "\"a", "a.b.c", "\"a\"b", "x; DROP TABLE y."] {
            assert!(TableName::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(name("t\"; DROP TABLE x").sql(), "\"t\"\"; drop table x\"");
    }
}
