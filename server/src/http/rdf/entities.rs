//! Entities of XML, bounded before a document is parsed: a few that are made of each other can stand for more text than there is memory.

use std::collections::HashMap;

use crate::http::error::Problem;

const DECLARATION: &[u8] = b"<!ENTITY";

/// Refuses a document whose entities, written out, have more than `longest` bytes.
pub fn check(document: &[u8], longest: usize) -> Result<(), Problem> {
    let mut lengths: HashMap<&[u8], usize> = HashMap::new();
    let mut rest = document;
    while let Some(at) = find(rest, DECLARATION) {
        rest = &rest[at + DECLARATION.len()..];
        if let Some((name, value)) = declaration(rest) {
            let length = value.len().saturating_add(written(value, &lengths));
            lengths.insert(name, length);
        }
    }
    match lengths.is_empty() || written(document, &lengths) <= longest {
        true => Ok(()),
        false => {
            let message = format!("the entities of the document, written out, have more than {longest} bytes");
            Err(Problem::bad_request("22000", message))
        }
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    let first = part.first()?;
    let mut from = 0;
    loop {
        from += text[from..].iter().position(|byte| byte == first)?;
        if text[from..].starts_with(part) {
            return Some(from);
        }
        from += 1;
    }
}

/// An entity's name and its value, which stands in quotation marks.
fn declaration(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.trim_ascii_start();
    let text = text.strip_prefix(b"%").unwrap_or(text).trim_ascii_start();
    let (name, text) = text.split_at(text.iter().position(u8::is_ascii_whitespace)?);
    let text = text.trim_ascii_start().strip_prefix(b"\"")?;
    Some((name, &text[..text.iter().position(|byte| *byte == b'"')?]))
}

/// Bytes that the references of a text stand for.
fn written(text: &[u8], lengths: &HashMap<&[u8], usize>) -> usize {
    let mut references = text.split(|byte| *byte == b'&');
    references.next();
    references
        .filter_map(|text| lengths.get(&text[..text.iter().position(|byte| *byte == b';')?]))
        .fold(0, |sum, length| sum.saturating_add(*length))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn entities_of_entities_are_counted() {
        let mut document = "<!DOCTYPE rdf:RDF [<!ENTITY a0 \"0123456789\">".to_owned();
        for i in 1..30 {
            document += &format!("<!ENTITY a{i} \"{}\">", format!("&a{};", i - 1).repeat(10));
        }
        let error = check(document.as_bytes(), 1 << 30).unwrap_err();
        assert_eq!(error.status.as_u16(), 400);
        let plain = "<!DOCTYPE rdf:RDF [<!ENTITY xsd \"http://www.w3.org/2001/XMLSchema#\">]><a>&xsd;int&amp;&lt;&</a>";
        check(plain.as_bytes(), 100).unwrap();
        check(plain.as_bytes(), 10).unwrap_err();
        check(b"<a>&b;</a>", 0).unwrap();
    }
}
