//! Terms as text: for eyes as Turtle writes them, for CSV as the CSV of SPARQL 1.1 has them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use oxrdf::vocab::xsd;
use oxrdf::{LiteralRef, TermRef};
use pyralog_models::rdf::TermColumn;

const XSD: &str = "http://www.w3.org/2001/XMLSchema#";

/// How terms are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// `<urn:a>`, `"text"@en`, `42`, `"2026-01-01"^^xsd:date`.
    Turtle,
    /// The IRI, `_:label` or lexical form alone.
    Plain,
}

/// The columns of terms as columns of text.
pub fn schema(terms: &Schema) -> SchemaRef {
    let text = |field: &Arc<Field>| Field::new(field.name(), DataType::Utf8, true);
    Arc::new(Schema::new(terms.fields().iter().map(text).collect::<Vec<_>>()))
}

/// A batch of terms as text. `schema` is that of the text.
pub fn batch(terms: &RecordBatch, schema: &SchemaRef, face: Face) -> Result<RecordBatch, ArrowError> {
    let columns: Result<Vec<ArrayRef>, ArrowError> = terms.columns().iter().map(|terms| column(terms, face)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(terms.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns?, &options)
}

fn column(terms: &ArrayRef, face: Face) -> Result<ArrayRef, ArrowError> {
    let external = |error| ArrowError::ExternalError(Box::new(error));
    let rows = terms.len();
    let terms = TermColumn::new(terms).map_err(external)?;
    let mut texts = StringBuilder::new();
    for row in 0..rows {
        texts.append_option(terms.get(row).map_err(external)?.map(|term| text(term, face)));
    }
    Ok(Arc::new(texts.finish()))
}

fn text(term: TermRef<'_>, face: Face) -> String {
    match (term, face) {
        (TermRef::NamedNode(iri), Face::Plain) => iri.as_str().to_owned(),
        (TermRef::Literal(literal), Face::Plain) => literal.value().to_owned(),
        (TermRef::Literal(literal), Face::Turtle) => turtle(literal),
        (term, _) => term.to_string(),
    }
}

/// A literal as Turtle writes it: numbers and truth values without quotes where that is their lexical form, datatypes of XML Schema by a prefix.
fn turtle(literal: LiteralRef<'_>) -> String {
    let (value, datatype) = (literal.value(), literal.datatype());
    let is_bare = match datatype {
        xsd::BOOLEAN => matches!(value, "true" | "false"),
        xsd::INTEGER => is_number(value, false, false),
        xsd::DECIMAL => is_number(value, true, false),
        xsd::DOUBLE => is_number(value, value.contains('.'), true),
        _ => false,
    };
    match datatype.as_str().strip_prefix(XSD) {
        _ if is_bare => value.to_owned(),
        Some(name) if datatype != xsd::STRING => format!("{}^^xsd:{name}", LiteralRef::new_simple_literal(value)),
        _ => literal.to_string(),
    }
}

/// Whether a text is a number with or without a point and an exponent, digits being on the right side of the point.
fn is_number(text: &str, point: bool, exponent: bool) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = |text: &str| text.strip_prefix(['+', '-']).unwrap_or(text).to_owned();
    let (mantissa, power) = match text.split_once(['e', 'E']) {
        Some((mantissa, power)) => (mantissa, Some(unsigned(power))),
        None => (text, None),
    };
    let mantissa = unsigned(mantissa);
    let is_mantissa = match mantissa.split_once('.') {
        Some((whole, part)) => point && (whole.is_empty() || is_digits(whole)) && is_digits(part),
        None => !point && is_digits(&mantissa),
    };
    is_mantissa && power.is_some() == exponent && power.is_none_or(|power| is_digits(&power))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxrdf::{BlankNodeRef, NamedNodeRef};

    #[test]
    fn literals_are_as_short_as_turtle_allows() {
        for (value, datatype, expected) in [
            ("a\"b\n", xsd::STRING, "\"a\\\"b\\n\""),
            ("-42", xsd::INTEGER, "-42"),
            ("4 2", xsd::INTEGER, "\"4 2\"^^xsd:integer"),
            ("", xsd::INTEGER, "\"\"^^xsd:integer"),
            (".5", xsd::DECIMAL, ".5"),
            ("5", xsd::DECIMAL, "\"5\"^^xsd:decimal"),
            ("5.", xsd::DECIMAL, "\"5.\"^^xsd:decimal"),
            ("1.5e-3", xsd::DOUBLE, "1.5e-3"),
            ("1E3", xsd::DOUBLE, "1E3"),
            ("1.5", xsd::DOUBLE, "\"1.5\"^^xsd:double"),
            ("INF", xsd::DOUBLE, "\"INF\"^^xsd:double"),
            ("true", xsd::BOOLEAN, "true"),
            ("1", xsd::BOOLEAN, "\"1\"^^xsd:boolean"),
            ("2026-01-01", xsd::DATE, "\"2026-01-01\"^^xsd:date"),
            ("x", NamedNodeRef::new_unchecked("urn:t"), "\"x\"^^<urn:t>"),
        ] {
            let literal = LiteralRef::new_typed_literal(value, datatype);
            assert_eq!(text(literal.into(), Face::Turtle), expected);
            assert_eq!(text(literal.into(), Face::Plain), value);
        }
    }

    #[test]
    fn other_terms() {
        let french = LiteralRef::new_language_tagged_literal_unchecked("thé", "fr");
        assert_eq!(text(french.into(), Face::Turtle), "\"thé\"@fr");
        assert_eq!(text(french.into(), Face::Plain), "thé");
        let (iri, node) = (NamedNodeRef::new_unchecked("urn:a"), BlankNodeRef::new_unchecked("b"));
        assert_eq!(
            (text(iri.into(), Face::Turtle), text(iri.into(), Face::Plain)),
            ("<urn:a>".to_owned(), "urn:a".to_owned())
        );
        assert_eq!(
            (text(node.into(), Face::Turtle), text(node.into(), Face::Plain)),
            ("_:b".to_owned(), "_:b".to_owned())
        );
    }
}
