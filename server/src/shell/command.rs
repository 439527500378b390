//! Commands: what the shell itself does. They begin with a dot or a backslash.

use std::fs::File;
use std::path::Path;

use super::caret;
use super::connection::TableName;
use super::language::Language;
use super::output::Output;
use super::runner::{Failure, Runner};
use super::script::{self, MAX_DEPTH, Stopped};
use super::sparql;
use super::sparql::command::Argument;
use super::sparql::splitter::Splitter;
use crate::format::{FORMATS, Format};

/// Commands with what they do; the help and the completion.
pub const COMMANDS: &[(&str, &str)] = &[
    (".databases", "databases and schemas"),
    (".help", "this list (also \\?); each may begin with \\ instead of a dot"),
    (
        ".mode [FORMAT]",
        "format of results: box, csv, json, ndjson, markdown, line, arrow, parquet",
    ),
    (".output [FILE]", "results go to FILE; without FILE back to the terminal"),
    (".quit", "leave (also .exit, \\q and Ctrl-D)"),
    (".read FILE", "run the statements of FILE"),
    (".schema [TABLE]", "columns of TABLE, or of all tables"),
    (
        ".sparql [DATASET [TEXT]]",
        "type SPARQL for DATASET; with TEXT, run that. Ends: ; or an empty line behind the last }",
    ),
    (".sql", "type SQL again"),
    (".tables", "tables and collections"),
    (".timer on|off", "tell each statement's time"),
];

/// Whether the shell goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It does.
    Continue,
    /// It ends.
    Quit,
}

const TABLES: &str = "SELECT table_schema, table_name, table_type FROM information_schema.tables \
                      WHERE table_schema <> 'information_schema' ORDER BY table_schema, table_name";
const DATABASES: &str = "SELECT catalog_name, schema_name FROM information_schema.schemata ORDER BY catalog_name, schema_name";

/// A command's name, with its dot, and what follows it.
fn parts(line: &str) -> (String, &str) {
    let (name, argument) = line
        .split_once(char::is_whitespace)
        .map_or((line, ""), |(name, rest)| (name, rest.trim()));
    let name = name.strip_prefix('\\').map_or_else(|| name.to_owned(), |name| format!(".{name}"));
    (name, argument)
}

/// Whether a command's text is not whole: `\sparql kb SELECT * {` goes on on the next line.
pub fn goes_on(text: &str) -> bool {
    let (name, argument) = parts(text.trim());
    name == ".sparql" && Argument::read(argument).is_ok_and(|argument| argument.is_open())
}

/// Runs a line that begins with a dot or a backslash. A failure is on standard error already.
pub async fn run(runner: &mut Runner, line: &str, depth: usize) -> Result<Next, Stopped> {
    let (name, argument) = parts(line);
    match name.as_str() {
        ".quit" | ".exit" | ".q" => return Ok(Next::Quit),
        ".help" | ".?" => {
            for (usage, meaning) in COMMANDS {
                println!("{usage:<24} {meaning}");
            }
        }
        ".sql" => runner.language = Language::Sql,
        ".sparql" => sparql(runner, argument).await?,
        ".tables" => query(runner, TABLES).await?,
        ".databases" => query(runner, DATABASES).await?,
        ".schema" => query(runner, &columns_query(argument).map_err(fail)?).await?,
        ".mode" if argument.is_empty() => println!("{}", runner.format.name()),
        ".mode" => mode(runner, argument)?,
        ".timer" => {
            runner.timer = match argument {
                "on" => true,
                "off" => false,
                _ => return Err(fail(".timer on or .timer off".into())),
            }
        }
        ".output" if argument.is_empty() => runner.output = Output::Stdout,
        ".output" => runner.output = Output::file(Path::new(argument)).map_err(|error| fail(format!("{argument}: {error}")))?,
        ".read" if argument.is_empty() => return Err(fail(".read FILE".into())),
        ".read" if depth >= MAX_DEPTH => return Err(fail(format!(".read files nest deeper than {MAX_DEPTH}"))),
        ".read" => {
            let file = File::open(argument).map_err(|error| fail(format!("{argument}: {error}")))?;
            match Box::pin(script::run(runner, argument, file, depth + 1)).await {
                Err(Stopped::Quit) => return Ok(Next::Quit),
                outcome => outcome?,
            }
        }
        _ => return Err(fail(format!("no command {name}; .help lists them"))),
    }
    Ok(Next::Continue)
}

/// Switches to SPARQL, or runs a request.
async fn sparql(runner: &mut Runner, argument: &str) -> Result<(), Stopped> {
    let Argument { dataset, text } = Argument::read(argument).map_err(fail)?;
    if text.is_empty() {
        return sparql::command::switch(runner, dataset).await.map_err(fail);
    }
    let dataset = match dataset {
        Some(dataset) => dataset,
        None => sparql::command::choose(runner, None).await.map_err(fail)?,
    };
    let mut splitter = Splitter::of_script(1);
    splitter.push(text);
    while let Some(request) = splitter.next_statement().or_else(|| splitter.finish()) {
        let outcome = sparql::answer::run(runner, &dataset, &request.text).await;
        told(outcome, &request.text)?;
    }
    Ok(())
}

fn mode(runner: &mut Runner, argument: &str) -> Result<(), Stopped> {
    let format: Format = argument.parse().map_err(fail)?;
    if format.is_binary() && runner.output.is_terminal() {
        let names: Vec<&str> = FORMATS
            .iter()
            .filter(|(_, format)| !format.is_binary())
            .map(|(name, _)| *name)
            .collect();
        return Err(fail(format!(
            "{argument} is not for a terminal: give .output FILE first, or one of {}",
            names.join(", ")
        )));
    }
    runner.format = format;
    Ok(())
}

/// The columns of a table as a query; the name is bound as text.
fn columns_query(argument: &str) -> Result<String, String> {
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let filter = if argument.is_empty() {
        "table_schema <> 'information_schema'".to_owned()
    } else {
        let name = TableName::parse(argument.trim_end_matches(';'))?;
        let schema = name
            .schema
            .as_deref()
            .map(|schema| format!(" AND table_schema = {}", literal(schema)))
            .unwrap_or_default();
        format!("table_name = {}{schema}", literal(&name.table))
    };
    Ok(format!(
        "SELECT table_schema, table_name, column_name, data_type, is_nullable FROM information_schema.columns WHERE {filter} \
         ORDER BY table_schema, table_name, ordinal_position"
    ))
}

async fn query(runner: &mut Runner, sql: &str) -> Result<(), Stopped> {
    let outcome = runner.run(sql).await;
    told(outcome, sql)
}

/// What came of a statement; a failure is told.
fn told(outcome: Result<(), Failure>, text: &str) -> Result<(), Stopped> {
    match outcome {
        Ok(()) => Ok(()),
        Err(Failure::Closed) => Err(Stopped::Quit),
        Err(Failure::Output(problem)) => Err(fail(problem)),
        Err(Failure::Statement(error)) => Err(fail(caret::describe(&error, text))),
    }
}

fn fail(message: String) -> Stopped {
    eprintln!("{message}");
    Stopped::Failed
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_backslash_is_a_dot() {
        assert_eq!(parts("\\sparql  kb ASK {}"), (".sparql".to_owned(), "kb ASK {}"));
        assert_eq!(parts("\\?"), (".?".to_owned(), ""));
        assert_eq!(parts(".mode csv"), (".mode".to_owned(), "csv"));
        assert!(goes_on("\\sparql kb SELECT * {\n ?s") && !goes_on("\\sparql kb ASK {}") && !goes_on(".mode {"));
    }

    #[test]
    fn names_are_quoted_as_text() {
        let sql = columns_query("\"o'brien\"").unwrap();
        assert!(sql.contains("table_name = 'o''brien'"), "{sql}");
        assert!(columns_query("s.t;").unwrap().contains("table_name = 't' AND table_schema = 's'"));
        assert!(columns_query("a.b.c").is_err());
    }
}
