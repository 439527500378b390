//! A database in a temporary directory, and statements whose rows come back as text.

use futures::TryStreamExt;
use pyralog_models::{Database, Error, Parameters, Session};

pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub db: Database,
    pub session: Session,
}

impl Fixture {
    pub async fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path()).await.unwrap();
        let session = db.session();
        Fixture { dir, db, session }
    }

    pub async fn run(&self, sql: &str) -> u64 {
        run(&self.session, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    pub async fn fails(&self, sql: &str) -> Error {
        match run(&self.session, sql).await {
            Ok(_) => panic!("{sql} succeeded"),
            Err(error) => error,
        }
    }

    /// Rows as `a|b`, in the order of the result.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        rows(&self.session, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    pub async fn reopen(self) -> Fixture {
        let Fixture { dir, db, session } = self;
        drop(session);
        db.close().await.unwrap();
        drop(db);
        let db = Database::open(dir.path()).await.unwrap();
        let session = db.session();
        Fixture { dir, db, session }
    }
}

pub async fn run(session: &Session, sql: &str) -> Result<u64, Error> {
    let result = session.execute(sql, Parameters::None).await?;
    let affected = result.affected;
    let batches: Vec<_> = result.stream.try_collect().await.map_err(Error::from)?;
    let rows: usize = batches.iter().map(|b| b.num_rows()).sum();
    Ok(affected.unwrap_or(rows as u64))
}

pub async fn rows(session: &Session, sql: &str) -> Result<Vec<String>, Error> {
    use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
    let result = session.execute(sql, Parameters::None).await?;
    let batches: Vec<_> = result.stream.try_collect().await.map_err(Error::from)?;
    let options = FormatOptions::default().with_null("NULL");
    let mut out = Vec::new();
    for batch in &batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|c| ArrayFormatter::try_new(c, &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            out.push(columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join("|"));
        }
    }
    Ok(out)
}
