//! Colours for the line being typed: keywords, strings, numbers, comments.

use super::completion::KEYWORDS;
use super::language::Language;
use super::sparql::keyword;

const KEYWORD: &str = "\u{1b}[1;34m";
const STRING: &str = "\u{1b}[32m";
const NUMBER: &str = "\u{1b}[36m";
const COMMENT: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// The text with ANSI colours; without them it is the same text.
pub fn highlight(text: &str, language: &Language) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut rest = text;
    let token = match language {
        Language::Sql => sql_token,
        Language::Sparql(_) => sparql_token,
    };
    while let Some(first) = rest.chars().next() {
        let (length, color) = token(rest, first);
        let (piece, behind) = rest.split_at(length);
        match color {
            Some(color) => {
                out.push_str(color);
                out.push_str(piece);
                out.push_str(PLAIN);
            }
            None => out.push_str(piece),
        }
        rest = behind;
    }
    out
}

/// Length in bytes and colour of the token of SQL at the start of `rest`.
fn sql_token(rest: &str, first: char) -> (usize, Option<&'static str>) {
    let while_true = |test: fn(char) -> bool| rest.find(|c| !test(c)).unwrap_or(rest.len());
    match first {
        '\'' => (closing(rest, '\''), Some(STRING)),
        '"' => (closing(rest, '"'), None),
        '-' if rest.starts_with("--") => (rest.find('\n').unwrap_or(rest.len()), Some(COMMENT)),
        '/' if rest.starts_with("/*") => (rest[2..].find("*/").map_or(rest.len(), |at| at + 4), Some(COMMENT)),
        c if c.is_ascii_digit() => (while_true(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_'), Some(NUMBER)),
        c if c.is_alphabetic() || c == '_' => {
            let length = while_true(|c| c.is_alphanumeric() || c == '_');
            (length, keyword_color(&rest[..length], KEYWORDS))
        }
        c => (c.len_utf8(), None),
    }
}

/// The same of SPARQL.
fn sparql_token(rest: &str, first: char) -> (usize, Option<&'static str>) {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ':');
    let while_name = |from: usize| rest[from..].find(|c| !is_name(c)).map_or(rest.len(), |length| from + length);
    match first {
        '\'' | '"' => (quoted(rest, first), Some(STRING)),
        '#' => (rest.find('\n').unwrap_or(rest.len()), Some(COMMENT)),
        '<' => match rest.find(|c: char| c <= ' ' || matches!(c, '>' | '"' | '{' | '}')) {
            Some(end) if rest[end..].starts_with('>') => (end + 1, Some(STRING)),
            _ => (1, None),
        },
        // Variables and tags are no keywords, whatever they are called.
        '?' | '$' | '@' => (while_name(1), None),
        c if c.is_ascii_digit() => (
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).unwrap_or(rest.len()),
            Some(NUMBER),
        ),
        c if is_name(c) => {
            let length = while_name(0);
            (length, keyword_color(&rest[..length], keyword::KEYWORDS))
        }
        c => (c.len_utf8(), None),
    }
}

fn keyword_color(word: &str, keywords: &[&str]) -> Option<&'static str> {
    keywords.iter().any(|keyword| keyword.eq_ignore_ascii_case(word)).then_some(KEYWORD)
}

/// Length of a string of SPARQL up to and with its closing quotes, or of all the rest.
fn quoted(rest: &str, quote: char) -> usize {
    let marks = quote.to_string().repeat(3);
    let end = if rest.starts_with(&marks) { marks.as_str() } else { &marks[..1] };
    let mut at = end.len();
    while let Some(c) = rest[at..].chars().next() {
        if rest[at..].starts_with(end) {
            return at + end.len();
        }
        at += c.len_utf8();
        if c == '\\' {
            at += rest[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    rest.len()
}

/// Length up to and with the closing quote, or of all the rest.
fn closing(rest: &str, quote: char) -> usize {
    rest[1..].find(quote).map_or(rest.len(), |at| at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_colours(text: &str) -> String {
        let colors = [KEYWORD, STRING, NUMBER, COMMENT, PLAIN];
        colors.iter().fold(text.to_owned(), |text, color| text.replace(color, ""))
    }

    #[test]
    fn only_colours_are_added() {
        for text in [
            "SELECT 'a''b', 1.5 -- x\nFROM \"select\" /* é */ größe",
            "'open",
            "/* open",
            "",
            "é$1;",
            "SELECT ?é { ?s <urn:é> '''a'\n'''@fr # x",
            "'a\\é\\",
            "FILTER(?a < 3 && $b > \"",
            "?",
        ] {
            for language in [Language::Sql, Language::Sparql("kb".into())] {
                assert_eq!(without_colours(&highlight(text, &language)), text);
            }
        }
        assert_eq!(highlight("from x", &Language::Sql), format!("{KEYWORD}from{PLAIN} x"));
        assert_eq!(highlight("\"from\"", &Language::Sql), "\"from\"");
    }

    #[test]
    fn sparql_has_its_own_words() {
        assert_eq!(
            highlight("ask { ?ask <ask> 'a\\'sk' . ex:ask }", &Language::Sparql("kb".into())),
            format!("{KEYWORD}ask{PLAIN} {{ ?ask {STRING}<ask>{PLAIN} {STRING}'a\\'sk'{PLAIN} . ex:ask }}")
        );
    }
}
