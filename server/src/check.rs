//! `pyralog check`: reads every file of a data directory and says what is damaged.

use std::path::Path;

use pyralog_models::{Database, DatabaseConfig, Error};

/// The problems of a directory, a line each; none: all is well.
pub async fn check(config: DatabaseConfig) -> Result<Vec<String>, Error> {
    let database = Database::open_with(config).await?;
    let problems = database.verify().await;
    let closed = database.close().await;
    let problems = problems?;
    closed?;
    Ok(problems)
}

/// Whether a directory looks like one that `pyralog serve` made: a check must not make a new one.
pub fn is_database(dir: &Path) -> bool {
    dir.join("FORMAT").is_file()
}
