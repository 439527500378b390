//! Terms as they go to the dictionary, borrowed from where they were read: a load looks at each term of a file, but keeps only those that are new.

use std::borrow::Cow;

use oxrdf::vocab::xsd;
use oxrdf::{LiteralRef, NamedNodeRef, TermRef};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::term_id::{Class, Encoded, Entry, PAYLOAD_BITS, Scope, TermId, inline, is_numeric, short_string};

/// Bytes of a term that are hashed without allocating.
const SMALL: usize = 256;

/// How a term is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EncodedRef<'a> {
    /// All of it, in an id.
    Inline(TermId),
    /// In the dictionary.
    Entry(EntryRef<'a>),
}

/// An [`Entry`] that belongs to somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntryRef<'a> {
    /// What kind of term it is.
    pub class: Class,
    /// IRI, label or lexical form.
    pub value: &'a str,
    /// Datatype, language or scope of a label.
    pub qualifier: Option<Cow<'a, str>>,
}

impl<'a> EncodedRef<'a> {
    /// Of a term of a scope.
    pub fn of(term: TermRef<'a>, scope: &'a Scope) -> EncodedRef<'a> {
        match term {
            TermRef::NamedNode(iri) => EncodedRef::iri(iri),
            TermRef::Literal(literal) => EncodedRef::literal(literal),
            TermRef::BlankNode(node) => EncodedRef::Entry(EntryRef {
                class: Class::Blank,
                value: node.as_str(),
                qualifier: Some(Cow::Borrowed(&scope.0)),
            }),
        }
    }

    /// Of an IRI.
    pub fn iri(iri: NamedNodeRef<'a>) -> EncodedRef<'a> {
        EncodedRef::Entry(EntryRef {
            class: Class::Iri,
            value: iri.as_str(),
            qualifier: None,
        })
    }

    /// Of a literal.
    pub fn literal(literal: LiteralRef<'a>) -> EncodedRef<'a> {
        let value = literal.value();
        let entry = |class, qualifier| EncodedRef::Entry(EntryRef { class, value, qualifier });
        if let Some(language) = literal.language() {
            // Tags are compared without regard to case.
            let language = match language.bytes().any(|byte| byte.is_ascii_uppercase()) {
                true => Cow::Owned(language.to_ascii_lowercase()),
                false => Cow::Borrowed(language),
            };
            return entry(Class::Language, Some(language));
        }
        let datatype = literal.datatype();
        if datatype == xsd::STRING {
            return short_string(value).map_or_else(|| entry(Class::String, None), EncodedRef::Inline);
        }
        if let Some(id) = inline(value, datatype) {
            return EncodedRef::Inline(id);
        }
        let class = match is_numeric(datatype) {
            true => Class::Number,
            false => Class::Typed,
        };
        entry(class, Some(Cow::Borrowed(datatype.as_str())))
    }

    /// The same, on its own.
    pub fn into_owned(self) -> Encoded {
        match self {
            EncodedRef::Inline(id) => Encoded::Inline(id),
            EncodedRef::Entry(entry) => Encoded::Entry(entry.into_owned()),
        }
    }
}

impl EntryRef<'_> {
    /// The term's id, unless another term has it already: then the one of the next `attempt`; and bits that tell terms with one id apart.
    /// `bits` is how many bits of the hash count (60; fewer where a test wants terms to meet).
    pub fn id(&self, attempt: u64, bits: u32) -> (TermId, u64) {
        let qualifier = self.qualifier.as_deref().unwrap_or_default();
        let length = (qualifier.len() as u64).to_le_bytes();
        let parts = [&length[..], qualifier.as_bytes(), self.value.as_bytes()];
        let hash = with_joined(parts, |text| xxh3_128_with_seed(text, attempt));
        let id = TermId::new(self.class, hash as u64 >> (64 - bits.min(PAYLOAD_BITS)));
        (id, (hash >> 64) as u64)
    }

    /// The same, on its own.
    pub fn into_owned(self) -> Entry {
        Entry {
            class: self.class,
            value: self.value.to_owned(),
            qualifier: self.qualifier.map(Cow::into_owned),
        }
    }
}

/// Gives the parts one behind the other; short ones from the stack.
fn with_joined<T>(parts: [&[u8]; 3], see: impl FnOnce(&[u8]) -> T) -> T {
    let mut small = [0; SMALL];
    let length = parts.iter().map(|part| part.len()).sum();
    let Some(place) = small.get_mut(..length) else {
        return see(&parts.concat());
    };
    let mut at = 0;
    for part in parts {
        place[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    see(place)
}
