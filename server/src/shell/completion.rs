//! What Tab offers: keywords, and the tables and columns that the catalog has.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use futures::StreamExt;

use super::command::COMMANDS;
use super::connection::{Connection, StatementError};
use super::language::Language;
use super::sparql::keyword;
use crate::format::FORMATS;

/// Names kept at most: a catalog may be large.
const MAX_NAMES: usize = 20_000;
const NAMES: &str = "SELECT table_name AS name FROM information_schema.tables UNION SELECT column_name FROM information_schema.columns";

/// Keywords that Tab offers and the highlighter marks.
pub const KEYWORDS: &[&str] = &[
    "ALL",
    "ALTER",
    "ANALYZE",
    "AND",
    "AS",
    "ASC",
    "BEGIN",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "CHECKPOINT",
    "COLLECTION",
    "COMMIT",
    "COMPACT",
    "CONFLICT",
    "COPY",
    "CREATE",
    "CROSS",
    "DEFAULT",
    "DELETE",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DO",
    "DOCUMENT",
    "DROP",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FROM",
    "FULL",
    "GRAPH",
    "GROUP",
    "HAVING",
    "IF",
    "IN",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTO",
    "IS",
    "JOIN",
    "KEY",
    "KV",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "PRIMARY",
    "RDF",
    "RETURNING",
    "RIGHT",
    "ROLLBACK",
    "SAVEPOINT",
    "SELECT",
    "SET",
    "SHOW",
    "TABLE",
    "TABLES",
    "TENSOR",
    "THEN",
    "TO",
    "TRUE",
    "UNION",
    "UPDATE",
    "USING",
    "VALUES",
    "VIEW",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
];

/// Names of tables and columns.
pub type Names = Arc<BTreeSet<String>>;

/// Reads the catalog's names.
pub async fn load(connection: &dyn Connection) -> Result<Names, StatementError> {
    let mut outcome = connection.execute(NAMES).await?;
    let mut names = BTreeSet::new();
    while let Some(batch) = outcome.rows.next().await {
        let batch = batch?;
        let column = cast(batch.column(0), &DataType::Utf8).map_err(|error| StatementError::connection(error.to_string()))?;
        names.extend(column.as_string::<i32>().iter().flatten().map(str::to_owned));
        if column.is_empty() || names.len() >= MAX_NAMES {
            break;
        }
    }
    Ok(Arc::new(names))
}

/// Where the word before `position` begins, and what it may become.
pub fn complete(line: &str, position: usize, names: &BTreeSet<String>, language: &Language) -> (usize, Vec<String>) {
    let before = &line[..position];
    if before.trim_start().starts_with(['.', '\\']) {
        return complete_command(before, names);
    }
    let start = before
        .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let word = &before[start..];
    if word.is_empty() {
        return (start, Vec::new());
    }
    match language {
        Language::Sql => (start, words(word, names, KEYWORDS)),
        // The catalog has no terms.
        Language::Sparql(_) => (start, words(word, &BTreeSet::new(), keyword::KEYWORDS)),
    }
}

fn words(word: &str, names: &BTreeSet<String>, keywords: &[&str]) -> Vec<String> {
    let folded = word.to_lowercase();
    let mut found: Vec<String> = names
        .iter()
        .filter(|name| name.to_lowercase().starts_with(&folded))
        .cloned()
        .collect();
    let upper = word.to_uppercase();
    // Keywords come in the case that was begun.
    let lower_case = word.chars().any(char::is_lowercase);
    let keywords = keywords.iter().filter(|keyword| keyword.starts_with(&upper));
    found.extend(keywords.map(|keyword| {
        if lower_case {
            keyword.to_lowercase()
        } else {
            (*keyword).to_owned()
        }
    }));
    found
}

fn complete_command(before: &str, names: &BTreeSet<String>) -> (usize, Vec<String>) {
    let start = before.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let word = &before[start..];
    let begins = |candidates: Vec<String>| candidates.into_iter().filter(|candidate| candidate.starts_with(word)).collect();
    let sign = before.trim_start().chars().next().unwrap_or('.');
    let command = before.split_whitespace().next().unwrap_or("").replacen('\\', ".", 1);
    let found = match command.as_str() {
        _ if word.starts_with(sign) => begins(
            COMMANDS
                .iter()
                .filter_map(|(usage, _)| Some(usage.split(' ').next()?.replacen('.', &sign.to_string(), 1)))
                .collect(),
        ),
        ".mode" => begins(FORMATS.iter().map(|(name, _)| (*name).to_owned()).collect()),
        ".timer" => begins(vec!["on".into(), "off".into()]),
        ".schema" => names.iter().filter(|name| name.starts_with(word)).cloned().collect(),
        _ => Vec::new(),
    };
    (start, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_end(line: &str) -> (usize, Vec<String>) {
        let names = ["city", "country", "Größe"].into_iter().map(str::to_owned).collect();
        complete(line, line.len(), &names, &Language::Sql)
    }

    #[test]
    fn names_and_keywords() {
        assert_eq!(at_end("SELECT * FROM ci"), (14, vec!["city".into()]));
        assert_eq!(at_end("sel"), (0, vec!["select".into()]));
        assert_eq!(at_end("SEL"), (0, vec!["SELECT".into()]));
        assert_eq!(at_end("SELECT é grö"), ("SELECT é ".len(), vec!["Größe".into()]));
        assert_eq!(at_end("SELECT ").1.len(), 0);
    }

    #[test]
    fn sparql_has_its_own_keywords() {
        let names = BTreeSet::from(["constants".to_owned()]);
        let found = complete("ASK { FILTER(const", 18, &names, &Language::Sparql("kb".into()));
        assert_eq!(found, (13, vec!["construct".to_owned()]));
    }

    #[test]
    fn commands() {
        assert_eq!(at_end(".mo").1, [".mode"]);
        assert_eq!(at_end("\\spa").1, ["\\sparql"]);
        assert_eq!(at_end(".mode nd"), (6, vec!["ndjson".into()]));
        assert_eq!(at_end("\\timer of").1, ["off"]);
        assert_eq!(at_end(".schema c").1, ["city", "country"]);
    }
}
