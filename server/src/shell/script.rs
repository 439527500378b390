//! Statements without a person: `-c`, `-f` and standard input. The first failure ends it; exit code 1.

use std::io::{BufRead, BufReader, Read};

use super::caret;
use super::command::{self, Next};
use super::language::Splitter;
use super::runner::{Failure, Runner};
use super::statement::Statement;

/// `.read` files within `.read` files go at most so deep.
pub const MAX_DEPTH: usize = 16;

/// How a script ended, if not well. The problem is on standard error already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// A statement or command failed.
    Failed,
    /// `.quit`, or our reader is gone.
    Quit,
}

/// Runs statements and commands from `input`, line by line. `name` stands before line numbers in messages.
pub async fn run(runner: &mut Runner, name: &str, input: impl Read + Send, depth: usize) -> Result<(), Stopped> {
    let mut reader = BufReader::new(input);
    let mut splitter = Splitter::of_script(&runner.language, 1);
    let mut number: u64 = 0;
    let mut bytes = Vec::new();
    // The lines of a command that goes on.
    let mut begun = String::new();
    loop {
        bytes.clear();
        let read = reader
            .read_until(b'\n', &mut bytes)
            .map_err(|error| fail(format!("{name}: {error}")))?;
        if read == 0 {
            break;
        }
        number += 1;
        let line = std::str::from_utf8(&bytes).map_err(|error| fail(format!("{name}: line {number} is not UTF-8: {error}")))?;
        if !begun.is_empty() || splitter.is_command(line) {
            if let Some(statement) = splitter.finish() {
                execute(runner, name, &statement).await?;
            }
            begun.push_str(line);
            if !command::goes_on(&begun) {
                obey(runner, &begun, depth).await?;
                begun.clear();
                splitter = Splitter::of_script(&runner.language, number + 1);
            }
            continue;
        }
        splitter.push(line);
        while let Some(statement) = splitter.next_statement() {
            execute(runner, name, &statement).await?;
        }
    }
    match splitter.finish() {
        Some(statement) => execute(runner, name, &statement).await,
        // A command that is not whole says so.
        None if !begun.is_empty() => obey(runner, &begun, depth).await,
        None => Ok(()),
    }
}

async fn obey(runner: &mut Runner, command: &str, depth: usize) -> Result<(), Stopped> {
    match Box::pin(command::run(runner, command.trim(), depth)).await? {
        Next::Quit => Err(Stopped::Quit),
        Next::Continue => Ok(()),
    }
}

async fn execute(runner: &mut Runner, name: &str, statement: &Statement) -> Result<(), Stopped> {
    match runner.run_statement(&statement.text).await {
        Ok(()) => Ok(()),
        Err(Failure::Closed) => Err(Stopped::Quit),
        Err(Failure::Output(problem)) => Err(fail(problem)),
        Err(Failure::Statement(error)) => {
            let place = if name.is_empty() {
                String::new()
            } else {
                format!("{name}:{}: ", statement.line)
            };
            Err(fail(format!("{place}{}", caret::describe(&error, &statement.text))))
        }
    }
}

fn fail(message: String) -> Stopped {
    eprintln!("{message}");
    Stopped::Failed
}
