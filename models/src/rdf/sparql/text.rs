//! The text of a query: bounded before it is parsed, since the parser recurses on what is nested.

use spargebra::{Query, SparqlParser};

use crate::error::{Error, ErrorKind, Position, Result};

/// Longest text, in bytes.
const MAX_BYTES: usize = 8 << 20;
/// Most brackets and operators of one operand (`!!!…`, `---…`) within each other.
const MAX_DEPTH: usize = 128;

/// Parses a query. `base`: against what relative IRIs are resolved.
pub fn query(text: &str, base: Option<&str>) -> Result<Query> {
    check(text)?;
    parser(base)?.parse_query(text).map_err(|error| syntax(text, &error))
}

fn parser(base: Option<&str>) -> Result<SparqlParser> {
    let parser = SparqlParser::new();
    match base {
        None => Ok(parser),
        Some(base) => parser
            .with_base_iri(base)
            .map_err(|error| Error::invalid("42601", format!("the base <{base}> is no IRI: {error}"))),
    }
}

/// The parser's message begins with the place where it stopped.
fn syntax(text: &str, error: &spargebra::SparqlSyntaxError) -> Error {
    let message = error.to_string();
    let place: Option<(u64, u64, &str)> = message.strip_prefix("error at ").and_then(|rest| {
        let (place, rest) = rest.split_once(": ")?;
        let (line, column) = place.split_once(':')?;
        Some((line.parse().ok()?, column.parse().ok()?, rest))
    });
    match place {
        Some((line, column, rest)) => {
            let found = text.lines().nth((line as usize).saturating_sub(1)).map_or("", |line| {
                let from = line
                    .char_indices()
                    .nth((column as usize).saturating_sub(1))
                    .map_or(line.len(), |(at, _)| at);
                &line[from..line[from..].char_indices().nth(20).map_or(line.len(), |(at, _)| from + at)]
            });
            let near = if found.is_empty() {
                "the end".to_owned()
            } else {
                format!("`{found}`")
            };
            Error::invalid("42601", format!("syntax error near {near}: {rest}")).at(line, column)
        }
        None => Error::invalid("42601", message),
    }
}

/// Refuses what is too long or too deep. Strings, IRIs and comments are passed over.
fn check(text: &str) -> Result<()> {
    if text.len() > MAX_BYTES {
        return Err(Error::new(
            ErrorKind::ResourceExhausted,
            "54001",
            format!("the text has {} bytes; at most {MAX_BYTES} are read", text.len()),
        ));
    }
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut prefixes) = (0, 0_usize, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'#' => at += skip_line(&bytes[at..]),
            b'<' => at += skip_iri(&bytes[at..]),
            b'"' | b'\'' => at += skip_string(&bytes[at..]),
            b'{' | b'(' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            _ => at += 1,
        }
        prefixes = match byte {
            b'!' | b'-' | b'+' | b'^' => prefixes + 1,
            byte if byte.is_ascii_whitespace() => prefixes,
            _ => 0,
        };
        if depth > MAX_DEPTH || prefixes > MAX_DEPTH {
            let before = &text[..at];
            let line = before.matches('\n').count() as u64 + 1;
            let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) as u64;
            let error = Error::new(
                ErrorKind::ResourceExhausted,
                "54001",
                format!("more than {MAX_DEPTH} brackets or signs within each other"),
            );
            return Err(Error {
                position: Some(Position { line, column }),
                ..error
            });
        }
    }
    Ok(())
}

fn skip_line(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(bytes.len())
}

/// An IRI, or a less-than sign.
fn skip_iri(bytes: &[u8]) -> usize {
    let end = bytes[1..]
        .iter()
        .position(|byte| matches!(byte, 0..=b' ' | b'<' | b'>' | b'"' | b'{' | b'}' | b'|' | b'^' | b'`'));
    match end {
        Some(end) if bytes[end + 1] == b'>' => end + 2,
        _ => 1,
    }
}

/// A string in any of its four quotings; one that does not end goes on to the text's end, where the parser will say so.
fn skip_string(bytes: &[u8]) -> usize {
    let quote = bytes[0];
    let long = bytes.starts_with(&[quote, quote, quote]);
    let mut at = if long { 3 } else { 1 };
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            byte if byte == quote && !long => return at + 1,
            byte if byte == quote && bytes[at..].starts_with(&[quote, quote, quote]) => return at + 3,
            b'\n' | b'\r' if !long => return at,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_deep_is_refused_with_its_place() {
        for (open, close) in [("{", "}"), ("(", ")"), ("[", "]"), ("!", ""), ("-", ""), ("^", ""), ("! ", "")] {
            let text = format!("SELECT *\n{}{}", open.repeat(100_000), close.repeat(100_000));
            let error = query(&text, None).unwrap_err();
            assert_eq!((error.code, error.position.unwrap().line), ("54001", 2), "{open}");
        }
        let long = format!("SELECT * {{}} #{}", "x".repeat(MAX_BYTES));
        assert_eq!(query(&long, None).unwrap_err().code, "54001");
    }

    #[test]
    fn brackets_in_strings_iris_and_comments_do_not_count() {
        let deep = "{(".repeat(1000);
        for text in [
            format!("SELECT * {{ ?s ?p \"{deep}\" }}"),
            format!("SELECT * {{ ?s ?p '''{deep}\n'\\'x''' }}"),
            format!("SELECT * # {deep}\n{{ ?s ?p ?o FILTER(?o < 3 && ?o > 1) }}"),
            format!("SELECT * {{ ?s <urn:{}> ?o }}", "(".repeat(1000)),
        ] {
            query(&text, None).unwrap();
        }
    }

    #[test]
    fn errors_have_a_place() {
        let error = query("SELECT *\n{ ?s ?p ", None).unwrap_err();
        assert_eq!(error.code, "42601");
        assert_eq!(error.position.map(|place| place.line), Some(2), "{error}");
        let error = query("SELECT ?é { ?é ?p ", None).unwrap_err();
        assert_eq!(error.position, Some(Position { line: 1, column: 19 }), "{error}");
        assert!(error.message.contains("near the end"), "{error}");
        // Whatever stands there: an answer, never a panic.
        let text = "SELECT ?é { '\\u{e9}' <urn:é> \"\"\" }";
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            let _ = query(&text[..end], None);
        }
    }
}
