//! The text of a query: bounded before it is parsed, since the parser recurses on what is nested.

use std::borrow::Cow;

use spargebra::{Query, SparqlParser, Update};

use crate::error::{Error, ErrorKind, Position, Result};

/// Longest text, in bytes.
const MAX_BYTES: usize = 8 << 20;
/// Most brackets and operators of one operand (`!!!…`, `---…`) within each other.
const MAX_DEPTH: usize = 128;

/// Most operators, paths and groups of a text, outside of data: the parser nests each chain of them (`a + b + c …`) as deep as it is long.
const MAX_OPERATORS: usize = 2048;

/// Parses a query. `base`: against what relative IRIs are resolved.
pub fn query(text: &str, base: Option<&str>) -> Result<Query> {
    check(text)?;
    let text = &lower_booleans(text);
    let parsed = parser(base)?.parse_query(text).map_err(|error| syntax(text, &error))?;
    if let Some(masked) = mask_odd_iris(text) {
        parser(base)?.parse_query(&masked).map_err(|error| syntax(text, &error))?;
    }
    Ok(parsed)
}

/// Parses an update.
pub fn update(text: &str, base: Option<&str>) -> Result<Update> {
    check(text)?;
    let text = &lower_booleans(text);
    let parsed = parser(base)?.parse_update(text).map_err(|error| syntax(text, &error))?;
    if let Some(masked) = mask_odd_iris(text) {
        parser(base)?.parse_update(&masked).map_err(|error| syntax(text, &error))?;
    }
    Ok(parsed)
}

/// The variables of a query that selects `*`, in the order in which its text mentions them; `None` for others.
pub fn star_order(text: &str) -> Option<Vec<&str>> {
    let mut words = words(text).map(|(_, word)| word);
    words.find(|word| word.eq_ignore_ascii_case("select"))?;
    let first = words.next()?;
    let is_star = match first.eq_ignore_ascii_case("distinct") || first.eq_ignore_ascii_case("reduced") {
        true => words.next()? == "*",
        false => first == "*",
    };
    let mut names: Vec<&str> = Vec::new();
    for name in words.filter_map(|word| word.strip_prefix(['?', '$'])) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    is_star.then_some(names)
}

/// The words of a text and where they begin: names, variables and single signs, without strings, IRIs and comments.
pub fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let bytes = text.as_bytes();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let begin = at;
            match *bytes.get(at)? {
                b'#' => at += skip_line(&bytes[at..]),
                b'<' => {
                    at += skip_iri(&bytes[at..]);
                    if at == begin + 1 {
                        return Some((begin, "<"));
                    }
                }
                b'"' | b'\'' => at += skip_string(&bytes[at..]),
                byte if byte.is_ascii_whitespace() => at += 1,
                byte if is_name(byte) || matches!(byte, b'?' | b'$' | b':' | b'@') => {
                    at += 1;
                    // What goes on as a prefixed name, a tag or an escape is one word.
                    while bytes
                        .get(at)
                        .is_some_and(|byte| is_name(*byte) || matches!(byte, b':' | b'-' | b'%' | b'\\'))
                    {
                        at += 1;
                    }
                    return Some((begin, &text[begin..at]));
                }
                _ => {
                    at += 1;
                    return Some((begin, &text[begin..at]));
                }
            }
        }
    })
}

/// The text with `true` and `false` in small letters, which are keywords as others are (the parser knows them only so).
fn lower_booleans(text: &str) -> Cow<'_, str> {
    let is_boolean = |word: &str| word.eq_ignore_ascii_case("true") || word.eq_ignore_ascii_case("false");
    let mut lower = Cow::Borrowed(text);
    for (at, word) in words(text).filter(|(_, word)| is_boolean(word)) {
        if word.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower.to_mut().replace_range(at..at + word.len(), &word.to_ascii_lowercase());
        }
    }
    lower
}

/// The text with other letters in the IRIs that read as expressions, such as `?x<?a&&?b>?y`: they are IRIs nevertheless, since the longest
/// token counts, and the parser, which takes them apart, must not. `None` where there are none.
fn mask_odd_iris(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut at, mut masked) = (0, None);
    while let Some(&byte) = bytes.get(at) {
        let begin = at;
        match byte {
            b'#' => at += skip_line(&bytes[at..]),
            b'"' | b'\'' => at += skip_string(&bytes[at..]),
            b'<' => {
                at += skip_iri(&bytes[at..]);
                let inner = text.get(begin + 1..at - 1).unwrap_or_default();
                if inner.starts_with(['?', '$', '(', '+', '-', '=']) || inner.starts_with(|first: char| first.is_ascii_digit()) {
                    masked
                        .get_or_insert_with(|| text.to_owned())
                        .replace_range(begin + 1..at - 1, &"x".repeat(inner.len()));
                }
            }
            _ => at += 1,
        }
    }
    masked
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

/// Refuses what has too many operators.
fn check_operators(text: &str) -> Result<()> {
    let (mut count, mut in_data, mut data_follows) = (0, 0_usize, false);
    for (at, word) in words(text) {
        match word {
            "{" if in_data > 0 || data_follows => {
                in_data += 1;
                data_follows = false;
            }
            "}" => in_data = in_data.saturating_sub(1),
            "+" | "-" | "*" | "/" | "|" | "&" | "=" | "<" | ">" | "!" | "^" | "{" | "(" if in_data == 0 => count += 1,
            word => data_follows |= word.eq_ignore_ascii_case("data") || word.eq_ignore_ascii_case("values"),
        }
        if count > MAX_OPERATORS {
            return Err(too_complex(text, at, format!("more than {MAX_OPERATORS} operators and groups")));
        }
    }
    Ok(())
}

fn too_complex(text: &str, at: usize, message: String) -> Error {
    let before = &text[..at];
    let line = before.matches('\n').count() as u64 + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) as u64;
    Error {
        position: Some(Position { line, column }),
        ..Error::new(ErrorKind::InvalidInput, "54001", message)
    }
}

/// Refuses what is too long or too deep. Strings, IRIs and comments are passed over.
fn check(text: &str) -> Result<()> {
    if text.len() > MAX_BYTES {
        return Err(Error::new(
            ErrorKind::InvalidInput,
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
            return Err(too_complex(
                text,
                at,
                format!("more than {MAX_DEPTH} brackets or signs within each other"),
            ));
        }
    }
    check_operators(text)
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
    fn keywords_and_tokens_are_read_as_the_standard_says() {
        for text in [
            "ASK { FILTER(TRUE) }",
            "ASK { FILTER(?x = False) } # TRUE",
            "SELECT ?TRUE { ?TRUE <urn:TRUE> ?x FILTER(?x < 3 && ?x > 2) }",
            "PREFIX True: <urn:x> SELECT * { True:False True:p ?x . ?x <?a> 'TRUE' }",
        ] {
            assert!(query(text, Some("http://example.org/")).is_ok(), "{text}");
        }
        assert_eq!(query("ASK { FILTER (?x<?a&&?b>?y) }", None).unwrap_err().code, "42601");
        assert_eq!(
            star_order("# select ?no *\nPREFIX s: <urn:?q> SELECT DISTINCT * { ?s s:?x $p ?o . ?s ?q '?no' }").unwrap(),
            ["s", "x", "p", "o", "q"]
        );
        assert_eq!(star_order("SELECT ?s { SELECT * { ?s ?p ?o } }"), None);
        assert_eq!(star_order("ASK { ?s ?p ?o }"), None);
    }

    #[test]
    fn what_is_deep_is_refused_with_its_place() {
        for (open, close) in [("{", "}"), ("(", ")"), ("[", "]"), ("!", ""), ("-", ""), ("^", ""), ("! ", "")] {
            let text = format!("SELECT *\n{}{}", open.repeat(100_000), close.repeat(100_000));
            let error = query(&text, None).unwrap_err();
            assert_eq!((error.code, error.position.unwrap().line), ("54001", 2), "{open}");
        }
        let chains = [
            format!("ASK {{ FILTER(1{} > 0) }}", "+1".repeat(100_000)),
            format!("ASK {{ FILTER(?x{}) }}", " || ?x".repeat(100_000)),
            format!("ASK {{ ?a <urn:p>{} ?b }}", "/<urn:p>".repeat(100_000)),
            format!("ASK {{ {{}}{} }}", " UNION {}".repeat(100_000)),
            format!("ASK {{ {} }}", "BIND(1 AS ?x) ".repeat(100_000)),
        ];
        for text in chains {
            assert_eq!(query(&text, None).unwrap_err().code, "54001");
        }
        let data = format!("INSERT DATA {{ {} }}", "GRAPH <urn:g> { <urn:a> <urn:b> -1 } ".repeat(5_000));
        assert!(update(&data, None).is_ok());
        let rows = format!("ASK {{ VALUES (?x ?y) {{ {} }} }}", "(1 2) ".repeat(5_000));
        assert!(query(&rows, None).is_ok());
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
