//! The text of a query or an update: bounded, then parsed.

use std::borrow::Cow;

use spargebra::{Query, SparqlParser, SparqlSyntaxError, Update};

use super::guard::{check, masked};
use super::token::{Kind, tokens, unescaped};
use crate::error::{Error, Result};

/// Parses a query. `base`: against what relative IRIs are resolved.
pub fn query(text: &str, base: Option<&str>) -> Result<Query> {
    parse(text, base, SparqlParser::parse_query)
}

/// Parses an update.
pub fn update(text: &str, base: Option<&str>) -> Result<Update> {
    parse(text, base, SparqlParser::parse_update)
}

fn parse<T>(text: &str, base: Option<&str>, by: impl Fn(SparqlParser, &str) -> Result<T, SparqlSyntaxError>) -> Result<T> {
    let text = &unescaped(text);
    let has_odd_iris = check(text, base)?;
    let text = &lower_booleans(text);
    if has_odd_iris {
        // First, since what the parser took for an expression could be deeper than it may be.
        by(parser(base)?, &masked(text)).map_err(|error| syntax(text, &error))?;
    }
    by(parser(base)?, text).map_err(|error| syntax(text, &error))
}

/// The variables of a query that selects `*`, in the order in which its text mentions them; `None` for others.
pub fn star_order(text: &str) -> Option<Vec<String>> {
    let text = &unescaped(text);
    let mut tokens = tokens(text);
    tokens.find(|token| token.is_keyword("select"))?;
    let first = tokens.next()?;
    let is_star = match first.is_keyword("distinct") || first.is_keyword("reduced") {
        true => tokens.next()?.text == "*",
        false => first.text == "*",
    };
    let mut names: Vec<String> = Vec::new();
    for token in tokens.filter(|token| token.is_variable()) {
        let name = &token.text[1..];
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    is_star.then_some(names)
}

/// The text with `true` and `false` in small letters, which are keywords as others are (the parser knows them only so).
fn lower_booleans(text: &str) -> Cow<'_, str> {
    let is_boolean = |word: &str| word.eq_ignore_ascii_case("true") || word.eq_ignore_ascii_case("false");
    let mut lower = Cow::Borrowed(text);
    for token in tokens(text).filter(|token| token.kind == Kind::Name && is_boolean(token.text)) {
        if token.text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let end = token.at + token.text.len();
            lower.to_mut().replace_range(token.at..end, &token.text.to_ascii_lowercase());
        }
    }
    lower
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
fn syntax(text: &str, error: &SparqlSyntaxError) -> Error {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::guard::MAX_BYTES;
    use super::*;
    use crate::error::Position;

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
