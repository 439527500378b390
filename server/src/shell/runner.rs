//! Runs one statement on a connection and writes its result.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;

use super::connection::{Connection, Outcome, StatementError};
use super::language::Language;
use super::output::Output;
use super::sparql;
use crate::format::{Format, Look, RowWriter};

/// Why a statement or a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The database refused the statement.
    Statement(StatementError),
    /// The result cannot be written (such as: a file is full).
    Output(String),
    /// The reader of our output is gone: nothing more to say.
    Closed,
}

impl From<StatementError> for Failure {
    fn from(error: StatementError) -> Self {
        Failure::Statement(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::Closed
        } else {
            Failure::Output(error.to_string())
        }
    }
}

impl From<arrow::error::ArrowError> for Failure {
    fn from(error: arrow::error::ArrowError) -> Self {
        Failure::Output(format!("the result cannot be written: {error}"))
    }
}

/// A session of the shell: connection, settings and output.
pub struct Runner {
    /// What statements run on.
    pub connection: Arc<dyn Connection>,
    /// Format of results.
    pub format: Format,
    /// Whether each statement's time is told.
    pub timer: bool,
    /// Rows that formats for eyes print; 0: all.
    pub max_rows: usize,
    /// Where results go.
    pub output: Output,
    /// What statements are written in.
    pub language: Language,
    /// The dataset that was asked last.
    pub dataset: Option<String>,
}

impl Runner {
    /// A session on standard output.
    pub fn new(connection: Arc<dyn Connection>, format: Format, max_rows: usize) -> Self {
        Runner {
            connection,
            format,
            timer: false,
            max_rows,
            output: Output::Stdout,
            language: Language::Sql,
            dataset: None,
        }
    }

    /// Runs a statement of the present language.
    pub async fn run_statement(&mut self, text: &str) -> Result<(), Failure> {
        match self.language.clone() {
            Language::Sql => self.run(text).await,
            Language::Sparql(dataset) => sparql::answer::run(self, &dataset, text).await,
        }
    }

    /// Runs a statement of SQL and writes its result as it comes. Dropping the future stops the statement.
    pub async fn run(&mut self, sql: &str) -> Result<(), Failure> {
        let begun = Instant::now();
        let outcome = self.connection.execute(sql).await?;
        let rows = if outcome.schema.fields().is_empty() { None } else { Some(()) };
        let line = match rows {
            Some(()) => {
                let count = self.print(outcome).await?;
                format!("{count} {}", if count == 1 { "row" } else { "rows" })
            }
            None => self.finish(outcome).await?,
        };
        self.tell(&line, begun.elapsed())?;
        Ok(())
    }

    /// Writes rows in the session's format; how many they were.
    pub async fn print(&mut self, outcome: Outcome) -> Result<u64, Failure> {
        let look = Look {
            max_rows: self.max_rows,
            color: self.output.is_terminal(),
        };
        let writer = self.format.writer(&outcome.schema, look)?;
        self.write(outcome, writer).await
    }

    /// Writes rows as they come; how many they were.
    pub async fn write(&mut self, mut outcome: Outcome, mut writer: Box<dyn RowWriter>) -> Result<u64, Failure> {
        let mut count = 0;
        let mut out = Vec::new();
        while let Some(batch) = outcome.rows.next().await {
            let batch = batch?;
            count += batch.num_rows() as u64;
            writer.batch(&batch, &mut out)?;
            self.output.write(&out)?;
            out.clear();
        }
        writer.finish(&mut out)?;
        self.output.write(&out)?;
        Ok(count)
    }

    /// Waits for the end of a statement without rows; what it did.
    pub async fn finish(&mut self, mut outcome: Outcome) -> Result<String, Failure> {
        while let Some(batch) = outcome.rows.next().await {
            batch?;
        }
        Ok(outcome
            .affected
            .map_or_else(|| outcome.tag.clone(), |rows| format!("{} {rows}", outcome.tag)))
    }

    /// What happened and how long it took: with a result for eyes on its side, else (if asked for) on standard error.
    pub fn tell(&mut self, line: &str, elapsed: Duration) -> Result<(), Failure> {
        let time = if self.timer {
            format!(" ({})", display_time(elapsed))
        } else {
            String::new()
        };
        if matches!(self.format, Format::Box) {
            self.output.write(format!("{line}{time}\n").as_bytes())?;
        } else if self.timer {
            eprintln!("{line}{time}");
        }
        Ok(())
    }
}

/// A duration for eyes.
pub fn display_time(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}
