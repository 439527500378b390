//! What the parser of RDF/XML does not look at: a document that ends within its elements, which was cut off; and entities, of which a few that
//! are made of each other can stand for more text than there is memory.

use std::collections::HashMap;

use pyralog_models::Position;

use crate::http::error::Problem;

const DECLARATION: &[u8] = b"<!ENTITY";

/// Refuses a document that was cut off, or whose entities, written out, have more than `longest` bytes.
pub fn check(document: &[u8], longest: usize) -> Result<(), Problem> {
    check_entities(document, longest)?;
    let what = match elements(document) {
        Some((true, 0)) | None => return Ok(()),
        Some((false, _)) => "without an element".to_owned(),
        Some((true, open)) => format!("within {open} elements that are not closed"),
    };
    let line = document.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
    let last = document.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut problem = Problem::bad_request("22000", format!("the document ends {what}"));
    problem.position = Some(Position {
        line,
        column: String::from_utf8_lossy(last).chars().count() as u64 + 1,
    });
    Err(problem)
}

/// Whether there is an element, and how many are open at the end; `None` where the end is within a tag or the like, which the parser will say.
fn elements(document: &[u8]) -> Option<(bool, usize)> {
    let (mut rest, mut any, mut open) = (document, false, 0_usize);
    while let Some(at) = find(rest, b"<") {
        rest = &rest[at..];
        let end = if rest.starts_with(b"<!--") {
            4 + find(&rest[4..], b"-->")? + 3
        } else if rest.starts_with(b"<![CDATA[") {
            find(rest, b"]]>")? + 3
        } else if rest.starts_with(b"<?") {
            find(rest, b"?>")? + 2
        } else if rest.starts_with(b"<!") {
            end_of_doctype(rest)?
        } else {
            let end = end_of_tag(rest)?;
            match (rest.starts_with(b"</"), rest[..end].ends_with(b"/>")) {
                (true, _) => open = open.checked_sub(1)?,
                (false, true) => any = true,
                (false, false) => (any, open) = (true, open + 1),
            }
            end
        };
        rest = &rest[end..];
    }
    Some((any, open))
}

/// Behind the `>` that is in no quotation marks.
fn end_of_tag(text: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in text.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(mark), byte) if mark == *byte => quote = None,
            _ => {}
        }
    }
    None
}

/// Behind a document type and the declarations in it.
fn end_of_doctype(text: &[u8]) -> Option<usize> {
    let mut depth = 0;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'<' => depth += 1,
            b'>' if depth == 1 => return Some(at + 1),
            b'>' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn check_entities(document: &[u8], longest: usize) -> Result<(), Problem> {
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

    #[test]
    fn a_document_that_was_cut_off_is_none() {
        let whole = "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY e \"<b>\">]><!-- <x> --><a b='>'><c/>\n<![CDATA[<y>]]></a>";
        check(whole.as_bytes(), 100).unwrap();
        let inside = whole.find("<c/>").unwrap() + 5;
        let error = check(&whole.as_bytes()[..inside], 100).unwrap_err();
        assert_eq!(error.position, Some(Position { line: 2, column: 1 }));
        assert!(error.message.contains("within 1 elements"), "{error}");
        check(b"<?xml version='1.0'?>", 100).unwrap_err();
    }
}
