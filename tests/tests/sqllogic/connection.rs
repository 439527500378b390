//! A session over Flight SQL, as the runner wants it.

use std::time::Duration;

use futures::TryStreamExt;
use pyralog_client::{Client, ClientConfig, ClientError, RetryPolicy};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType};

use super::format;

/// How long one record may take.
const RECORD_WITHIN: Duration = Duration::from_secs(120);

/// A session.
pub struct Connection {
    db: Client,
}

impl Connection {
    /// Connects. Nothing is tried again: a test wants to see the conflict.
    pub async fn open(url: String) -> Result<Connection, ClientError> {
        let db = Client::connect(ClientConfig::new(&url)?.retry(RetryPolicy {
            attempts: 1,
            ..RetryPolicy::default()
        }))
        .await?;
        Ok(Connection { db })
    }
}

/// Whether a statement gives rows rather than a count, from its words.
fn gives_rows(sql: &str) -> bool {
    let upper = sql.trim_start_matches(|c: char| c.is_whitespace() || c == '(').to_ascii_uppercase();
    let first = upper.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    match first {
        "SELECT" | "VALUES" | "SHOW" | "EXPLAIN" | "TABLE" | "DESCRIBE" | "FROM" => true,
        "WITH" => !["INSERT INTO", "DELETE FROM", "UPDATE "].iter().any(|word| upper.contains(word)),
        "INSERT" | "UPDATE" | "DELETE" => upper.contains("RETURNING"),
        _ => false,
    }
}

#[async_trait::async_trait]
impl AsyncDB for Connection {
    type Error = ClientError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, ClientError> {
        let statement = self.db.sql(sql).timeout(RECORD_WITHIN);
        if !gives_rows(sql) {
            return Ok(DBOutput::StatementComplete(statement.execute().await?));
        }
        let mut batches = statement.fetch().await?;
        let types = format::types(&batches.schema());
        let mut rows = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            rows.extend(format::rows(&batch));
        }
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {
        // The server ends with the file; a session that does not close is no concern of the file's.
        let _ = self.db.clone().close().await;
    }

    fn engine_name(&self) -> &str {
        "pyralog"
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn error_sql_state(error: &ClientError) -> Option<String> {
        error.code().map(str::to_owned)
    }
}

#[test]
fn rows_and_counts_are_told_apart() {
    for sql in [
        "select 1",
        "(VALUES (1))",
        "INSERT INTO t VALUES (1) RETURNING a",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "explain x",
    ] {
        assert!(gives_rows(sql), "{sql}");
    }
    for sql in [
        "insert into t values (1)",
        "WITH a AS (SELECT 1) DELETE FROM t",
        "BEGIN",
        "CREATE TABLE t AS SELECT 1",
    ] {
        assert!(!gives_rows(sql), "{sql}");
    }
}
