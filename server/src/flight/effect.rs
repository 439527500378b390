//! Whether a statement only reads, told from its words.
//!
//! Only decides *when* a statement that gives rows runs: one that reads starts when its rows are fetched, any other runs at once.
//! In doubt the answer is "it may write", which is always safe.

/// Whether a statement surely only reads.
pub fn only_reads(sql: &str) -> bool {
    let mut words = Words { rest: sql };
    match words.next().as_deref() {
        Some("SELECT" | "VALUES" | "TABLE" | "SHOW" | "DESCRIBE" | "DESC" | "FROM") => true,
        Some("CALL") => words.next().as_deref() == Some("SPARQL"),
        // EXPLAIN ANALYZE runs its statement.
        Some("EXPLAIN") => !words.any(|word| word == "ANALYZE"),
        Some("WITH") => !words.any(|word| matches!(word.as_str(), "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "TRUNCATE")),
        _ => false,
    }
}

/// The bare words of a text in upper case, without strings, quoted names and comments.
struct Words<'a> {
    rest: &'a str,
}

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            let first = self.rest.chars().next()?;
            if first.is_alphabetic() || first == '_' {
                let end = self
                    .rest
                    .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                    .unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                self.rest = rest;
                return Some(word.to_ascii_uppercase());
            }
            self.rest = skip(self.rest, first);
        }
    }
}

/// What follows the string, quoted name, comment or single character at the start of `text`.
fn skip(text: &str, first: char) -> &str {
    let rest = &text[first.len_utf8()..];
    match first {
        '\'' | '"' | '`' => after(rest, first),
        '-' if rest.starts_with('-') => rest.split_once('\n').map_or("", |(_, rest)| rest),
        '/' if rest.starts_with('*') => after_comment(&rest[1..]),
        '$' => match rest.find(|c: char| !(c.is_alphanumeric() || c == '_')) {
            // $tag$ … $tag$; `$1` is a placeholder.
            Some(end) if rest[end..].starts_with('$') && !rest.starts_with(|c: char| c.is_ascii_digit()) => {
                let tag = &text[..end + 2];
                text[tag.len()..].split_once(tag).map_or("", |(_, rest)| rest)
            }
            _ => rest,
        },
        _ => rest,
    }
}

/// What follows the next `quote`. A doubled quote reads as two strings in a row, which is as good here.
fn after(text: &str, quote: char) -> &str {
    text.split_once(quote).map_or("", |(_, rest)| rest)
}

/// What follows the end of a comment that has begun; comments nest. One pass, however the comment is made.
fn after_comment(text: &str) -> &str {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (1_usize, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"*/" if depth == 1 => return &text[at + 2..],
            b"*/" => (depth, at) = (depth - 1, at + 2),
            b"/*" => (depth, at) = (depth + 1, at + 2),
            _ => at += 1,
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::only_reads;

    #[test]
    fn readers() {
        for sql in [
            "select 1",
            "  -- INSERT\n (SELECT 1)",
            "/* a /* nested */ delete */ select 'x'",
            "WITH a AS (SELECT 'delete it' AS \"update\") SELECT * FROM a",
            "with a as (select $$ insert $$) select * from a where b = $1",
            "EXPLAIN SELECT 1",
            "SHOW TABLES",
            "VALUES (1)",
            "call sparql('kb', 'ASK {}')",
        ] {
            assert!(only_reads(sql), "{sql}");
        }
    }

    #[test]
    fn writers_and_doubtful_ones() {
        for sql in [
            "INSERT INTO t VALUES (1) RETURNING id",
            "WITH a AS (SELECT 1) DELETE FROM t RETURNING *",
            "EXPLAIN ANALYZE INSERT INTO t VALUES (1)",
            "/* select */ UPDATE t SET a = 1",
            "CALL sparql_update('kb', 'CALL sparql')",
            "CALL \"sparql\" ('kb', 'ASK {}')",
            "",
            "/* open",
            "'select'",
        ] {
            assert!(!only_reads(sql), "{sql}");
        }
    }
}
