//! Terms of RDF 1.1, and how N-Triples writes them.

use std::fmt;

const XSD_STRING: &str = "http://www.w3.org/2001/XMLSchema#string";
const LANG_STRING: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#langString";

/// A term: `Display` writes it as N-Triples does.
///
/// ```
/// use pyralog_client::Term;
/// assert_eq!(Term::iri("urn:a").to_string(), "<urn:a>");
/// assert_eq!(Term::tagged("thé \"vert\"", "fr").to_string(), r#""thé \"vert\""@fr"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Term {
    /// An IRI, without its brackets.
    Iri(String),
    /// A blank node's label, without `_:`.
    BlankNode(String),
    /// A literal.
    Literal(Literal),
}

/// A literal: its lexical form, its datatype, and its language if that is `rdf:langString`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Literal {
    value: String,
    datatype: String,
    language: Option<String>,
}

impl Term {
    /// An IRI.
    pub fn iri(iri: impl Into<String>) -> Term {
        Term::Iri(iri.into())
    }

    /// A blank node.
    pub fn blank(label: impl Into<String>) -> Term {
        Term::BlankNode(label.into())
    }

    /// A literal of `xsd:string`.
    pub fn literal(value: impl Into<String>) -> Term {
        Term::typed(value, XSD_STRING)
    }

    /// A literal of a datatype, which is an IRI.
    pub fn typed(value: impl Into<String>, datatype: impl Into<String>) -> Term {
        Term::Literal(Literal {
            value: value.into(),
            datatype: datatype.into(),
            language: None,
        })
    }

    /// A literal in a language, which is a tag such as `en`.
    pub fn tagged(value: impl Into<String>, language: impl Into<String>) -> Term {
        Term::Literal(Literal {
            value: value.into(),
            datatype: LANG_STRING.to_owned(),
            language: Some(language.into()),
        })
    }

    /// The IRI, the label, or the literal's lexical form.
    pub fn value(&self) -> &str {
        match self {
            Term::Iri(value) | Term::BlankNode(value) => value,
            Term::Literal(literal) => &literal.value,
        }
    }

    /// The literal, if it is one.
    pub fn as_literal(&self) -> Option<&Literal> {
        match self {
            Term::Literal(literal) => Some(literal),
            _ => None,
        }
    }
}

impl Literal {
    /// The lexical form.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The datatype's IRI.
    pub fn datatype(&self) -> &str {
        &self.datatype
    }

    /// The language.
    pub fn language(&self) -> Option<&str> {
        self.language.as_deref()
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Term::Iri(iri) => write_iri(iri, f),
            Term::BlankNode(label) => write!(f, "_:{label}"),
            Term::Literal(literal) => literal.fmt(f),
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_string(&self.value, f)?;
        match &self.language {
            Some(language) => write!(f, "@{language}"),
            None if self.datatype == XSD_STRING => Ok(()),
            None => {
                f.write_str("^^")?;
                write_iri(&self.datatype, f)
            }
        }
    }
}

/// Whether a character may not stand in an IRI as it is (production `IRIREF`).
pub(super) fn is_foreign_to_iris(c: char) -> bool {
    c <= ' ' || matches!(c, '<' | '>' | '"' | '{' | '}' | '|' | '^' | '`' | '\\')
}

fn write_iri(iri: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("<")?;
    for c in iri.chars() {
        match is_foreign_to_iris(c) {
            true => write!(f, "\\u{:04X}", u32::from(c))?,
            false => fmt::Write::write_char(f, c)?,
        }
    }
    f.write_str(">")
}

fn write_string(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\u{8}' => f.write_str("\\b")?,
            '\u{c}' => f.write_str("\\f")?,
            c if c.is_ascii_control() => write!(f, "\\u{:04X}", u32::from(c))?,
            c => fmt::Write::write_char(f, c)?,
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_written_as_n_triples() {
        for (term, text) in [
            (Term::iri("http://example.org/é"), "<http://example.org/é>"),
            (Term::iri("urn:a> <urn:b"), "<urn:a\\u003E\\u0020\\u003Curn:b>"),
            (Term::blank("b1"), "_:b1"),
            (Term::literal("a\"\\\n\r\t\u{7f}é"), "\"a\\\"\\\\\\n\\r\\t\\u007Fé\""),
            (Term::tagged("Ann", "en-GB"), "\"Ann\"@en-GB"),
            (
                Term::typed("01", "http://www.w3.org/2001/XMLSchema#integer"),
                "\"01\"^^<http://www.w3.org/2001/XMLSchema#integer>",
            ),
        ] {
            assert_eq!(term.to_string(), text);
        }
    }
}
