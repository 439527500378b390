//! The little that a client must know of a statement's text: its first words (to tell reads from writes), and how names and
//! literals are quoted.

use crate::retry::Effect;

/// What a statement does to the session's own transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransactionVerb {
    /// Opens one.
    Begin,
    /// Ends it.
    End,
}

/// Words at the start of a statement, in upper case, past spaces, comments and opening parentheses. At most `count`.
fn leading_words(sql: &str, count: usize) -> Vec<String> {
    let mut rest = sql;
    let mut words = Vec::with_capacity(count);
    while words.len() < count {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '(' || c == ';');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, tail)| tail);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, tail)| tail);
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            if end == 0 {
                break;
            }
            words.push(rest[..end].to_ascii_uppercase());
            rest = &rest[end..];
        }
    }
    words
}

/// Whether the statement reads only. `WITH` and `EXPLAIN` may stand before a write, so they do not count as reads.
pub(crate) fn effect(sql: &str) -> Effect {
    let words = leading_words(sql, 2);
    match words.first().map(String::as_str) {
        Some("SELECT" | "VALUES" | "SHOW" | "TABLE" | "FROM" | "DESCRIBE" | "DESC") => Effect::Read,
        Some("CALL") if words.get(1).is_some_and(|procedure| procedure == "SPARQL") => Effect::Read,
        Some("INSERT" | "UPDATE" | "DELETE" | "MERGE" | "WITH" | "CALL") => Effect::Autocommit,
        _ => Effect::Unknown,
    }
}

/// What the statement does to the session's transaction, if anything. `ROLLBACK TO` a savepoint leaves it open.
pub(crate) fn transaction_verb(sql: &str) -> Option<TransactionVerb> {
    let words = leading_words(sql, 3);
    let word = |i: usize| words.get(i).map(String::as_str);
    match (word(0), word(1), word(2)) {
        (Some("BEGIN"), _, _) | (Some("START"), Some("TRANSACTION"), _) => Some(TransactionVerb::Begin),
        (Some("ROLLBACK"), Some("TO"), _) | (Some("ROLLBACK"), Some("WORK" | "TRANSACTION"), Some("TO")) => None,
        (Some("COMMIT" | "ROLLBACK" | "END" | "ABORT"), _, _) => Some(TransactionVerb::End),
        _ => None,
    }
}

/// A name in double quotes, taken as it is.
pub(crate) fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in single quotes.
pub(crate) fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_told_from_writes() {
        for sql in [
            "select 1",
            " -- hi\n SELECT 1",
            "/* a */ (select 1)",
            "VALUES (1)",
            "((TABLE t))",
            "show tables",
            "CALL sparql('kb', 'ASK {}')",
        ] {
            assert_eq!(effect(sql), Effect::Read, "{sql}");
        }
        for sql in [
            "insert into t values (1)",
            "WITH x AS (SELECT 1) DELETE FROM t",
            "UPDATE t SET a=1",
            "call f(1)",
            "CALL sparql_update('kb', 'CLEAR ALL')",
        ] {
            assert_eq!(effect(sql), Effect::Autocommit, "{sql}");
        }
        for sql in [
            "",
            "EXPLAIN ANALYZE DELETE FROM t",
            "CREATE TABLE t (a INT)",
            "selector",
            "/* open",
            "--",
            "é",
        ] {
            assert_eq!(effect(sql), Effect::Unknown, "{sql}");
        }
    }

    #[test]
    fn transaction_statements_are_seen() {
        assert_eq!(transaction_verb("begin isolation level snapshot"), Some(TransactionVerb::Begin));
        assert_eq!(transaction_verb("START TRANSACTION"), Some(TransactionVerb::Begin));
        assert_eq!(transaction_verb("commit"), Some(TransactionVerb::End));
        assert_eq!(transaction_verb("ROLLBACK"), Some(TransactionVerb::End));
        assert_eq!(transaction_verb("ROLLBACK TO SAVEPOINT a"), None);
        assert_eq!(transaction_verb("ROLLBACK WORK TO a"), None);
        assert_eq!(transaction_verb("SAVEPOINT a"), None);
        assert_eq!(transaction_verb("SELECT 1"), None);
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted_name("a\"b"), "\"a\"\"b\"");
        assert_eq!(quoted_text("it's"), "'it''s'");
    }
}
