//! Functions on terms.

use super::value::Value;
use oxiri::Iri;
use oxrdf::vocab::rdf;
use oxrdf::{Literal, NamedNode};

/// Whether a value is a number; an ill-formed literal of a numeric datatype is none.
pub(super) fn is_numeric(value: &Value) -> bool {
    matches!(
        value.plain(),
        Value::Integer(_) | Value::Decimal(_) | Value::Float(_) | Value::Double(_)
    )
}

/// `STR`; `None` for a blank node.
pub(super) fn str(value: &Value) -> Option<Value> {
    Some(Value::String(match value {
        Value::Iri(iri) => iri.as_str().to_owned(),
        value => value.lexical()?,
    }))
}

/// `LANG`, which is empty without language tag; `None` for an IRI or a blank node.
pub(super) fn lang(value: &Value) -> Option<Value> {
    Some(Value::String(match value {
        Value::Iri(_) | Value::Blank(_) => return None,
        Value::LanguageString { language, .. } => language.clone(),
        _ => String::new(),
    }))
}

/// `IRI`; `None` unless given an IRI or a simple literal that is an IRI, if need be after resolving it against the base.
pub(super) fn iri(value: &Value, base: Option<&Value>) -> Option<Value> {
    let text = match value {
        Value::Iri(_) => return Some(value.clone()),
        Value::String(text) => text,
        _ => return None,
    };
    let Some(base) = base else {
        return Some(Value::Iri(NamedNode::new(text.as_str()).ok()?));
    };
    let (Value::Iri(_) | Value::String(_)) = base else {
        return None;
    };
    let Value::String(base) = str(base)? else {
        return None;
    };
    let resolved = Iri::parse(base).ok()?.resolve(text).ok()?;
    Some(Value::Iri(NamedNode::new_unchecked(resolved.into_inner())))
}

/// `STRDT`; `None` unless given a simple literal and an IRI that is no datatype of language strings.
pub(super) fn str_dt(string: &Value, datatype: &Value) -> Option<Value> {
    let (Value::String(lexical), Value::Iri(datatype)) = (string, datatype) else {
        return None;
    };
    // Literals of these datatypes need a language tag.
    if *datatype == rdf::LANG_STRING || datatype.as_str() == "http://www.w3.org/1999/02/22-rdf-syntax-ns#dirLangString" {
        return None;
    }
    Some(Value::typed(lexical, datatype.as_ref()))
}

/// `STRLANG`; `None` unless given a simple literal and a well-formed language tag, which is put in lower case.
pub(super) fn str_lang(string: &Value, language: &Value) -> Option<Value> {
    let (Value::String(value), Value::String(language)) = (string, language) else {
        return None;
    };
    let literal = Literal::new_language_tagged_literal(value.as_str(), language.as_str()).ok()?;
    Some(Value::of(literal.as_ref().into()))
}

/// `UUID`, a new IRI each time; `None` when the system gives no random bytes.
pub(super) fn uuid() -> Option<Value> {
    Some(Value::Iri(NamedNode::new_unchecked(format!("urn:uuid:{}", new_uuid()?))))
}

/// `STRUUID`, a new string each time; `None` when the system gives no random bytes.
pub(super) fn str_uuid() -> Option<Value> {
    Some(Value::String(new_uuid()?.to_string()))
}

// The generators of the uuid and rand crates panic without random bytes, so they are fetched here.
fn new_uuid() -> Option<uuid::Uuid> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(uuid::Builder::from_random_bytes(bytes).into_uuid())
}
