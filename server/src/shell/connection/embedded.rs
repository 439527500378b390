//! A data directory opened in this process.

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use futures::stream::BoxStream;
use pyralog_models::rdf::{RdfLoad, RdfLoaded};
use pyralog_models::{Database, DatabaseConfig, Error, IngestMode, IngestRequest, Parameters, Session};

use super::{Connection, Outcome, StatementError, TableName};

/// A session of a database in this process.
pub struct Embedded {
    database: Database,
    session: Session,
    target: String,
}

impl Embedded {
    /// Opens a directory, making it if it is not there.
    pub async fn open(config: DatabaseConfig) -> Result<Self, StatementError> {
        let target = config.data_dir.display().to_string();
        let database = Database::open_with(config).await?;
        Ok(Self::over(database, target))
    }

    /// A session of a database that is open already.
    pub fn over(database: Database, target: String) -> Self {
        let session = database.session();
        Embedded { database, session, target }
    }
}

#[async_trait]
impl Connection for Embedded {
    async fn execute(&self, sql: &str) -> Result<Outcome, StatementError> {
        let result = self.session.execute(sql, Parameters::None).await?;
        let rows = result.stream.map(|batch| batch.map_err(|error| StatementError::from(&error)));
        Ok(Outcome {
            schema: result.schema,
            tag: result.tag.to_owned(),
            affected: result.affected,
            rows: rows.boxed(),
        })
    }

    async fn ingest(&self, table: &TableName, rows: SendableRecordBatchStream) -> Result<u64, StatementError> {
        let request = IngestRequest {
            schema: table.schema.clone(),
            table: table.table.clone(),
            mode: IngestMode::CreateAppend,
        };
        Ok(self.session.ingest(request, rows).await?)
    }

    async fn load(&self, load: RdfLoad, text: BoxStream<'static, Result<Bytes, Error>>) -> Result<RdfLoaded, StatementError> {
        Ok(self.session.load_rdf(load, text).await?)
    }

    fn target(&self) -> String {
        self.target.clone()
    }

    async fn close(&self) -> Result<(), StatementError> {
        if self.session.in_transaction() {
            self.session.rollback().await?;
        }
        Ok(self.database.close().await?)
    }
}
