//! Colours for the line being typed: keywords, strings, numbers, comments.

use super::completion::KEYWORDS;

const KEYWORD: &str = "\u{1b}[1;34m";
const STRING: &str = "\u{1b}[32m";
const NUMBER: &str = "\u{1b}[36m";
const COMMENT: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// The text with ANSI colours; without them it is the same text.
pub fn highlight(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut rest = text;
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

/// Length in bytes and colour of the token at the start of `rest`.
fn token(rest: &str, first: char) -> (usize, Option<&'static str>) {
    let while_true = |test: fn(char) -> bool| rest.find(|c| !test(c)).unwrap_or(rest.len());
    match first {
        '\'' => (closing(rest, '\''), Some(STRING)),
        '"' => (closing(rest, '"'), None),
        '-' if rest.starts_with("--") => (rest.find('\n').unwrap_or(rest.len()), Some(COMMENT)),
        '/' if rest.starts_with("/*") => (rest[2..].find("*/").map_or(rest.len(), |at| at + 4), Some(COMMENT)),
        c if c.is_ascii_digit() => (while_true(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_'), Some(NUMBER)),
        c if c.is_alphabetic() || c == '_' => {
            let length = while_true(|c| c.is_alphanumeric() || c == '_');
            let known = KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(&rest[..length]));
            (length, known.then_some(KEYWORD))
        }
        c => (c.len_utf8(), None),
    }
}

/// Length up to and with the closing quote, or of all the rest.
fn closing(rest: &str, quote: char) -> usize {
    rest[1..].find(quote).map_or(rest.len(), |at| at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_are_added() {
        for text in [
            "SELECT 'a''b', 1.5 -- x\nFROM \"select\" /* é */ größe",
            "'open",
            "/* open",
            "",
            "é$1;",
        ] {
            let mut plain = highlight(text);
            for color in [KEYWORD, STRING, NUMBER, COMMENT, PLAIN] {
                plain = plain.replace(color, "");
            }
            assert_eq!(plain, text);
        }
        assert_eq!(highlight("from x"), format!("{KEYWORD}from{PLAIN} x"));
        assert_eq!(highlight("\"from\""), "\"from\"");
    }
}
