//! `\sparql [DATASET [REQUEST]]`: switches to SPARQL, or runs one request.

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use futures::StreamExt;

use super::splitter::Splitter;
use crate::shell::connection::{Connection, StatementError, TableName};
use crate::shell::language::Language;
use crate::shell::runner::Runner;

/// Words that a request begins with; a dataset of such a name is quoted.
const BEGINNINGS: [&str; 16] = [
    "ADD",
    "ASK",
    "BASE",
    "CLEAR",
    "CONSTRUCT",
    "COPY",
    "CREATE",
    "DELETE",
    "DESCRIBE",
    "DROP",
    "INSERT",
    "LOAD",
    "MOVE",
    "PREFIX",
    "SELECT",
    "WITH",
];

/// What `\sparql` was told.
#[derive(Debug, PartialEq, Eq)]
pub struct Argument<'a> {
    /// The dataset, if it was named.
    pub dataset: Option<String>,
    /// What to run; empty: switch.
    pub text: &'a str,
}

impl<'a> Argument<'a> {
    /// Reads what stands behind `\sparql`.
    pub fn read(argument: &'a str) -> Result<Argument<'a>, String> {
        let end = match argument.strip_prefix('"') {
            Some(quoted) => quoted.find('"').map_or(argument.len(), |at| at + 2),
            None => argument
                .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.')))
                .unwrap_or(argument.len()),
        };
        let (first, rest) = argument.split_at(end);
        let is_text = !rest.trim_end_matches(';').trim().is_empty();
        let begins_text = is_text && BEGINNINGS.contains(&first.to_ascii_uppercase().as_str());
        if first.is_empty() || begins_text {
            return Ok(Argument {
                dataset: None,
                text: if is_text { argument } else { "" },
            });
        }
        let name = TableName::parse(first)?;
        match name.schema {
            Some(_) => Err(format!("`{first}` is not a dataset's name")),
            None => Ok(Argument {
                dataset: Some(name.table),
                text: if is_text { rest.trim() } else { "" },
            }),
        }
    }

    /// Whether brackets or strings of the request are open, so that it goes on on the next line.
    pub fn is_open(&self) -> bool {
        let mut splitter = Splitter::of_script(1);
        splitter.push(self.text);
        while splitter.next_statement().is_some() {}
        splitter.is_open()
    }
}

/// Switches to SPARQL.
pub async fn switch(runner: &mut Runner, dataset: Option<String>) -> Result<(), String> {
    let dataset = choose(runner, dataset).await?;
    runner.dataset = Some(dataset.clone());
    runner.language = Language::Sparql(dataset);
    Ok(())
}

/// The dataset that is meant: the one that is named, else the last one, else the one called `default`, else the only one there is.
pub async fn choose(runner: &Runner, named: Option<String>) -> Result<String, String> {
    let all = datasets(runner.connection.as_ref()).await.map_err(|error| error.to_string())?;
    let listed = || match all.is_empty() {
        true => "there is none; CREATE COLLECTION kb AS RDF makes one".to_owned(),
        false => format!("there are {}", all.join(", ")),
    };
    let is_there = |name: &&String| all.contains(name);
    match (named, runner.dataset.as_ref().filter(is_there)) {
        (Some(name), _) if all.contains(&name) => Ok(name),
        (Some(name), _) => Err(format!("no dataset {name}: {}", listed())),
        (None, Some(last)) => Ok(last.clone()),
        (None, None) => {
            let only = (all.len() == 1).then(|| all[0].clone());
            all.iter()
                .find(|name| *name == "default")
                .cloned()
                .or(only)
                .ok_or_else(|| format!("\\sparql DATASET: {}", listed()))
        }
    }
}

/// The names of all datasets.
pub async fn datasets(connection: &dyn Connection) -> Result<Vec<String>, StatementError> {
    let mut outcome = connection.execute("SHOW COLLECTIONS").await?;
    let mut names = Vec::new();
    while let Some(batch) = outcome.rows.next().await {
        let batch = batch?;
        let column = |name: &str| {
            let column = batch
                .column_by_name(name)
                .ok_or_else(|| StatementError::connection(format!("SHOW COLLECTIONS has no column {name}")))?;
            cast(column, &DataType::Utf8).map_err(|error| StatementError::connection(error.to_string()))
        };
        let (kinds, all) = (column("kind")?, column("name")?);
        let rows = kinds.as_string::<i32>().iter().zip(all.as_string::<i32>());
        names.extend(
            rows.filter(|(kind, _)| *kind == Some("RDF"))
                .filter_map(|(_, name)| name.map(str::to_owned)),
        );
    }
    Ok(names)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(argument: &str) -> (Option<String>, &str) {
        let argument = Argument::read(argument).unwrap();
        (argument.dataset, argument.text)
    }

    #[test]
    fn datasets_and_requests_are_told_apart() {
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(read(""), (None, ""));
        assert_eq!(read(";"), (None, ""));
        assert_eq!(read("KB"), (named("kb"), ""));
        assert_eq!(read("kb;"), (named("kb"), ""));
        assert_eq!(read("\"Kb\" ASK {}"), (named("Kb"), "ASK {}"));
        assert_eq!(read("select"), (named("select"), ""));
        assert_eq!(read("\"select\" SELECT * {}"), (named("select"), "SELECT * {}"));
        assert_eq!(read("kb SELECT * { ?s ?p ?o };"), (named("kb"), "SELECT * { ?s ?p ?o };"));
        assert_eq!(read("ask{}"), (None, "ask{}"));
        assert_eq!(read("# x"), (None, "# x"));
        assert!(Argument::read("a.b ASK {}").is_err());
        assert!(Argument::read("\"kb").is_err());
    }

    #[test]
    fn open_brackets_go_on() {
        assert!(Argument::read("kb SELECT * {").unwrap().is_open());
        assert!(!Argument::read("kb SELECT * { };").unwrap().is_open());
        assert!(!Argument::read("kb").unwrap().is_open());
    }
}
