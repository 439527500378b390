//! What a text may be like to be parsed: the parser recurses on what is nested and what is chained, reads some things twice, and copies IRIs.

use std::collections::HashSet;

use super::token::{Kind, Token, tokens};
use crate::error::{Error, ErrorKind, Position, Result};

/// Longest text, in bytes.
pub const MAX_BYTES: usize = 8 << 20;
/// Most brackets and signs of one operand (`---…`) within each other.
const MAX_DEPTH: usize = 128;
/// Most operators, paths and groups of a text, outside of data: the parser nests each chain of them (`a + b + c …`) as deep as it is long.
const MAX_OPERATORS: usize = 2048;
/// Most different variables: the parser compares all of them.
const MAX_VARIABLES: usize = 4096;
/// Bytes that the parser may read, where it reads some more than once: the operand of `!`, and arguments of functions whose number varies.
const MAX_READ: u64 = 8 * MAX_BYTES as u64;
/// Bytes that prefixes and repeated subjects may grow to.
const MAX_WRITTEN: usize = 256 << 20;
/// Functions whose arguments the parser reads once for each number of arguments.
const READ_TWICE: [&str; 4] = ["regex", "substr", "replace", "group_concat"];

/// Refuses what is too long, too deep or too large to be parsed. Strings, IRIs and comments are passed over. `base`: against what relative IRIs
/// are resolved. Whether the text has IRIs that read as expressions, too (see [`masked`]).
pub fn check(text: &str, base: Option<&str>) -> Result<bool> {
    if text.len() > MAX_BYTES {
        let message = format!("the text has {} bytes; at most {MAX_BYTES} are read", text.len());
        return Err(too_complex(text, MAX_BYTES, message));
    }
    let mut reading = Reading {
        declared: base.map_or(0, str::len),
        levels: vec![0],
        ..Reading::default()
    };
    for token in tokens(text) {
        if let Err(message) = reading.take(&token) {
            return Err(too_complex(text, token.at, message));
        }
        reading.before = Some(token);
    }
    Ok(reading.odd)
}

fn too_complex(text: &str, mut at: usize, message: String) -> Error {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let line = before.matches('\n').count() as u64 + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) as u64 + 1;
    Error {
        position: Some(Position { line, column }),
        ..Error::new(ErrorKind::InvalidInput, "54001", message)
    }
}

/// What has been read of a text.
#[derive(Default)]
struct Reading<'a> {
    /// The token before.
    before: Option<Token<'a>>,
    /// For each bracket that is open, and for the text itself, how many times what is in it is read, as a power of two.
    levels: Vec<u32>,
    /// `!` before the operand that follows.
    nots: u32,
    /// Signs in a row that stand before an operand.
    signs: usize,
    /// `<<`
    quoted: usize,
    operators: usize,
    /// Braces that are open within data.
    in_data: usize,
    /// Whether the next brace is one of data.
    data_follows: bool,
    /// Whether the resources of DESCRIBE follow.
    describing: bool,
    /// Brackets that were open before those of DELETE WHERE, whose every triple becomes a pattern of its own.
    delete_where: Option<usize>,
    /// Whether they follow.
    delete_where_follows: bool,
    variables: HashSet<&'a str>,
    /// Bytes that the parser reads.
    read: u64,
    /// Bytes of the longest IRI that others begin with.
    declared: usize,
    /// Names and IRIs that may begin with it.
    names: usize,
    /// Bytes of the literal that was read last, if it can still be a subject, as far as the grammar goes.
    literal: usize,
    /// Bytes of the longest term that may stand before several others.
    longest: usize,
    /// Signs that say that it stands there once more.
    separators: usize,
    odd: bool,
}

impl<'a> Reading<'a> {
    /// Takes the next token; what is wrong with it.
    fn take(&mut self, token: &Token<'a>) -> std::result::Result<(), String> {
        let level = self.levels.last().copied().unwrap_or_default().saturating_add(self.nots);
        self.read = self.read.saturating_add((token.text.len() as u64 + 1) << level.min(40));
        match token.kind {
            Kind::Sign => self.sign(token),
            Kind::Name => self.name(token),
            Kind::Iri => self.iri(token),
            Kind::String => self.literal = token.text.len(),
        }
        if token.kind != Kind::Sign {
            self.signs = 0;
        }
        if self.levels.len() > MAX_DEPTH + 1 || self.signs > MAX_DEPTH || self.quoted > MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} brackets or signs within each other"));
        }
        if self.operators > MAX_OPERATORS {
            return Err(format!("more than {MAX_OPERATORS} operators and groups"));
        }
        if self.variables.len() > MAX_VARIABLES {
            return Err(format!("more than {MAX_VARIABLES} different variables"));
        }
        if self.read > MAX_READ {
            return Err("too many negations, or calls of REPLACE, SUBSTR, REGEX and the like, within each other".to_owned());
        }
        let written = self.declared.saturating_mul(self.names);
        let repeated = self.longest.saturating_add(self.declared).saturating_mul(self.separators);
        if written.max(repeated) > MAX_WRITTEN {
            return Err(format!("the text's IRIs, written out, have more than {MAX_WRITTEN} bytes"));
        }
        Ok(())
    }

    fn sign(&mut self, token: &Token<'a>) {
        let before = self.before.filter(|before| before.at + before.text.len() == token.at);
        let follows = |sign: &str| before.is_some_and(|before| before.kind == Kind::Sign && before.text == sign);
        match token.text {
            "{" | "(" | "[" => self.open(token),
            "}" | ")" | "]" => self.close(token),
            "<" if follows("<") => self.quoted += 1,
            "," | ";" | "." => {
                self.separators += 1;
                if self.delete_where.is_some() {
                    self.operators += 1;
                }
            }
            _ => {}
        }
        if matches!(token.text, "+" | "-" | "*" | "/" | "|" | "&" | "=" | "<" | ">" | "!" | "^" | "?") && self.in_data == 0 {
            self.operators += 1;
        }
        if token.text != "^" {
            self.literal = 0;
        }
        self.signs = match token.text {
            "!" | "-" | "+" | "^" => self.signs + 1,
            _ => 0,
        };
        self.nots = match token.text {
            "!" => self.nots + 1,
            _ => 0,
        };
    }

    fn open(&mut self, token: &Token<'a>) {
        let mut level = self.levels.last().copied().unwrap_or_default().saturating_add(self.nots);
        if token.text == "("
            && self.in_data == 0
            && let Some(before) = &self.before
            && (before.kind == Kind::Iri || before.is_prefixed() || READ_TWICE.iter().any(|name| before.is_keyword(name)))
        {
            level += 1;
        }
        if token.text == "{" {
            self.describing = false;
            if std::mem::take(&mut self.delete_where_follows) {
                self.delete_where = Some(self.levels.len());
            }
            if self.in_data > 0 || std::mem::take(&mut self.data_follows) {
                self.in_data += 1;
            }
        }
        if token.text != "[" && self.in_data == 0 {
            self.operators += 1;
        }
        self.levels.push(level);
    }

    fn close(&mut self, token: &Token<'a>) {
        if token.text == "}" {
            self.in_data = self.in_data.saturating_sub(1);
        }
        if self.levels.len() > 1 {
            self.levels.pop();
        }
        if self.delete_where.is_some_and(|outside| self.levels.len() <= outside) {
            self.delete_where = None;
        }
    }

    fn name(&mut self, token: &Token<'a>) {
        let before = self.before;
        let after = |word: &str| before.is_some_and(|before| before.is_keyword(word));
        if !token.text.starts_with('@') {
            self.follow_literal();
        }
        if token.is_variable() {
            self.variables.insert(&token.text[1..]);
            return;
        }
        self.delete_where_follows = token.is_keyword("where") && after("delete") || token.is_keyword("deletewhere");
        self.data_follows = token.is_keyword("data") && (after("insert") || after("delete"));
        if token.is_keyword("values") {
            // A join, as others are.
            self.operators += 1;
            self.data_follows = true;
        }
        if token.text.get(..8).is_some_and(|word| word.eq_ignore_ascii_case("describe")) {
            self.describing = true;
        } else if token.is_keyword("where") || token.is_keyword("from") {
            self.describing = false;
        }
        if token.is_prefixed() {
            self.names += 1;
            self.longest = self.longest.max(token.text.len());
            self.operators += usize::from(self.describing);
            let boolean = ["true-", "false-"].iter().any(|word| {
                let begin = token.text.get(..word.len());
                begin.is_some_and(|begin| begin.eq_ignore_ascii_case(word))
            });
            if boolean && self.in_data == 0 {
                // Where there is no such prefix, it is a subtraction.
                self.operators += token.text.matches('-').count();
            }
        }
    }

    fn iri(&mut self, token: &Token<'a>) {
        let inner = &token.text[1..token.text.len() - 1];
        self.names += 1;
        self.longest = self.longest.max(token.text.len());
        self.operators += usize::from(self.describing);
        let declares = |before: Token<'_>| before.is_keyword("base") || before.kind == Kind::Name && before.text.ends_with(':');
        if self.before.is_some_and(declares) {
            self.declared = self.declared.max(inner.len());
        }
        self.follow_literal();
        self.odd |= self.in_data == 0 && reads_as_expression(inner);
    }

    /// A literal that a verb follows stands before several objects, as far as the grammar goes.
    fn follow_literal(&mut self) {
        let is_datatype = self.before.is_some_and(|before| before.kind == Kind::Sign && before.text == "^");
        if !is_datatype {
            self.longest = self.longest.max(std::mem::take(&mut self.literal));
        }
    }
}

fn reads_as_expression(iri: &str) -> bool {
    iri.starts_with(['?', '$', '(', '+', '-', '=', '!'])
        || iri.starts_with(|first: char| first.is_ascii_digit())
        || iri.contains(['(', '['])
        || iri.matches(['+', '-', '*', '/', '=', '&', '!']).nth(MAX_DEPTH).is_some()
}

/// The text with other letters in its IRIs, so that none reads as an expression, such as `?x<?a&&?b>?y`: they are IRIs nevertheless, since the
/// longest token counts, and the parser, which would take them apart, must not.
pub fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut copied = 0;
    for token in tokens(text).filter(|token| token.kind == Kind::Iri) {
        let inner = &token.text[1..token.text.len() - 1];
        let scheme = match inner.chars().next() {
            Some(first) if first.is_ascii_alphabetic() => inner.find(':'),
            _ => None,
        };
        masked.push_str(&text[copied..=token.at]);
        for (at, character) in inner.char_indices() {
            masked.push(match character {
                ':' if Some(at) == scheme => ':',
                character if character.is_ascii_alphanumeric() && scheme.is_some() => character,
                _ => 'x',
            });
        }
        copied = token.at + 1 + inner.len();
    }
    masked.push_str(&text[copied..]);
    masked
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::text::{query, update};
    use super::*;

    fn refused(text: &str) -> Error {
        let error = query(text, None).err().or_else(|| update(text, None).err()).unwrap();
        assert_eq!(error.code, "54001", "{}…: {error}", text.chars().take(60).collect::<String>());
        assert!(error.position.is_some(), "{error}");
        error
    }

    #[test]
    fn what_hides_brackets_does_not_hide_them() {
        let deep = "(".repeat(100_000);
        for text in [
            // A quotation mark that is part of a name.
            format!(r"PREFIX e: <urn:> ASK {{ e:a\' e:p ?x FILTER{deep}"),
            format!(r"PREFIX e: <urn:> ASK {{ e:a\# e:p ?x FILTER{deep}"),
            format!("ASK {{ FILTER{}", r"\u0028".repeat(100_000)),
            format!("ASK {{ FILTER{}", r"\U00000028".repeat(100_000)),
            "INSERT DATA { ".to_owned() + &"<< ".repeat(100_000),
            "INSERT DATA { ".to_owned() + &"<< <urn:a> <urn:b> ".repeat(100_000),
            "PREFIX e: <urn:> ASK { e:a.values e:p 1 . {".to_owned() + &format!("BIND(1{} AS ?x)", "+1".repeat(100_000)),
            format!("ASK {{ BIND(1{} AS ?x) }}", "-1".repeat(100_000)),
            format!("ASK {{ BIND(true{} AS ?x) }}", "-true".repeat(100_000)),
            format!("PREFIX e: <urn:> ASK {{ BIND(e:{} AS ?x) }}", "-1".repeat(100_000)),
            format!("ASK {{ BIND('x'@en-{} AS ?x) }}", "-1".repeat(100_000)),
            format!("ASK {{ {} }}", "VALUES ?x { 1 } ".repeat(100_000)),
            format!("ASK {{ {} }}", "?a <urn:p>? ?b . ".repeat(100_000)),
            format!("PREFIX : <urn:> ASK {{ {} }}", "?a :p ?:o . ".repeat(100_000)),
            format!("DESCRIBE {}", "<urn:a> ".repeat(100_000)),
            format!("PREFIX e: <urn:> DESCRIBEe:a {}", "e:a ".repeat(100_000)),
            format!("DELETE WHERE {{ GRAPH ?g {{ {} }} }}", "?a ?b ?c . ".repeat(100_000)),
            format!("DELETEWHERE{{GRAPH ?g {{ ?a ?b 1{} }} }}", ",1".repeat(100_000)),
        ] {
            refused(&text);
        }
        // An IRI, which is none where it is taken apart.
        for inner in [
            format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000)),
            format!("ex:f{}", "+1".repeat(100_000)),
        ] {
            let text = format!("PREFIX ex: <urn:> ASK {{ FILTER(?x<{inner}>?y) }}");
            assert_eq!(query(&text, None).unwrap_err().code, "42601");
            query(&format!("ASK {{ ?x <urn:{inner}> ?y }}"), None).unwrap();
        }
    }

    #[test]
    fn what_would_be_read_again_and_again_is_refused() {
        for (open, close) in [("!(", ")"), ("SUBSTR(", ",1)"), ("REPLACE(", ",'a','b')"), ("REGEX(STR(", "),'a')")] {
            let nested = |depth: usize| format!("ASK {{ FILTER({}?x{}) }}", open.repeat(depth), close.repeat(depth));
            query(&nested(8), None).unwrap();
            refused(&nested(40));
        }
        refused(&format!("SELECT ({}?x", "GROUP_CONCAT(".repeat(40)));
        let error = format!("ASK {{ FILTER <urn:f>{}", "(EXISTS { FILTER <urn:f>".repeat(40));
        refused(&error);
    }

    #[test]
    fn what_would_be_copied_too_often_is_refused() {
        let long = "x".repeat(1 << 20);
        for text in [
            format!("PREFIX p: <urn:{long}> INSERT DATA {{ {} }}", "p:a p:b p:c . ".repeat(1000)),
            format!("BASE <urn:{long}> INSERT DATA {{ {} }}", "<#a> <#b> <#c> . ".repeat(1000)),
            format!("INSERT DATA {{ <urn:{long}> <urn:p> 1{} }}", ",1".repeat(1000)),
            format!("ASK {{ \"{long}\"^^<urn:t> ?p 1{} }}", ",1".repeat(1000)),
            format!("WITH <urn:{long}> INSERT {{ {} }} WHERE {{}}", "<urn:a> <urn:b> 1 . ".repeat(1000)),
        ] {
            refused(&text);
        }
        update(&format!("INSERT DATA {{ <urn:a> <urn:p> \"{long}\"{} }}", ",1".repeat(1000)), None).unwrap();
        let variables: String = (0..100_000).map(|i| format!("?v{i} ")).collect();
        refused(&format!("SELECT * {{ VALUES ({variables}) {{}} }}"));
    }

    #[test]
    fn masks_keep_what_an_iri_is() {
        assert_eq!(masked("ASK { <http://a/(b)?c=d> ?p '<(>' }"), "ASK { <http:xxaxxbxxcxd> ?p '<(>' }");
        assert_eq!(masked("<?a&&?b><é:(>"), "<xxxxxx><xxx>");
    }
}
