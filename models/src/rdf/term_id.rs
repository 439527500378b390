//! Ids of RDF terms: 64 bits that stand for a term in every column of every plan, stable for ever.
//!
//! ```text
//! 63    60 59                                                     0
//! ┌───────┬───────────────────────────────────────────────────────┐
//! │ class │ payload                                               │
//! └───────┴───────────────────────────────────────────────────────┘
//! ```
//!
//! What the class says of the payload:
//!
//! | class | term | payload |
//! |---|---|---|
//! | 0 | the default graph | 0 |
//! | 1 | IRI | hash |
//! | 2 | blank node | hash of its label and what it came with |
//! | 3 | `xsd:string` | hash |
//! | 4 | `xsd:string` of at most 7 bytes | its length (4 bits), its bytes |
//! | 5 | literal with a language | hash |
//! | 6 | literal of a numeric datatype that fits nowhere below | hash |
//! | 7 | literal of another datatype | hash |
//! | 8 | `xsd:integer` | the number plus 2⁵⁹ |
//! | 9 | a type derived from `xsd:integer` | which (4 bits), the number plus 2⁵⁵ |
//! | 10 | `xsd:decimal` | digits behind the point (4 bits), the number without the point plus 2⁵⁵ |
//! | 11 | `xsd:boolean` | 0 or 1 |
//! | 12 | `xsd:dateTime` | milliseconds since 1970 plus 2⁴⁷ (48 bits), zone (11 bits), whether milliseconds are written |
//! | 13 | `xsd:date` | days since 1970 plus 2³¹ (32 bits), zone (11 bits) |
//!
//! A literal is inlined only if its exact lexical form follows from the id: `"01"^^xsd:integer` is another term than `"1"^^xsd:integer`, and
//! goes to the dictionary under a hash. A hash needs no look at what is stored, so ids can be computed in parallel, by any node, for terms of
//! a query as for terms of a file. Two terms of one class with one hash are told apart by the [dictionary](super::dictionary).

use std::borrow::Cow;
use std::fmt;

use oxrdf::vocab::xsd;
use oxrdf::{BlankNode, Literal, LiteralRef, NamedNode, NamedNodeRef, Term, TermRef};

use super::date_time::{Date, DateTime};
use super::term_entry::{EncodedRef, EntryRef};

/// Bits of a payload.
pub(super) const PAYLOAD_BITS: u32 = 60;
const PAYLOAD: u64 = (1 << PAYLOAD_BITS) - 1;
/// Bytes of the longest string that is inlined.
const SHORT_STRING: usize = 7;
/// Zero of an `xsd:integer`.
const INTEGER_BIAS: i64 = 1 << 59;
/// Zero of a number in 56 bits.
const SMALL_BIAS: i64 = 1 << 55;
/// Digits behind the point of an inlined decimal.
const MAX_SCALE: usize = 15;

/// The id of a term, or of the default graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TermId(pub u64);

/// What an id says of its term without a look at the dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// No term.
    DefaultGraph = 0,
    /// An IRI.
    Iri = 1,
    /// A blank node.
    Blank = 2,
    /// An `xsd:string`.
    String = 3,
    /// An `xsd:string`, inlined.
    ShortString = 4,
    /// A literal with a language tag.
    Language = 5,
    /// A literal of a numeric datatype.
    Number = 6,
    /// A literal of another datatype.
    Typed = 7,
    /// An `xsd:integer`, inlined.
    Integer = 8,
    /// A literal of a type derived from `xsd:integer`, inlined.
    DerivedInteger = 9,
    /// An `xsd:decimal`, inlined.
    Decimal = 10,
    /// An `xsd:boolean`, inlined.
    Boolean = 11,
    /// An `xsd:dateTime`, inlined.
    DateTime = 12,
    /// An `xsd:date`, inlined.
    Date = 13,
}

const CLASSES: [Class; 14] = [
    Class::DefaultGraph,
    Class::Iri,
    Class::Blank,
    Class::String,
    Class::ShortString,
    Class::Language,
    Class::Number,
    Class::Typed,
    Class::Integer,
    Class::DerivedInteger,
    Class::Decimal,
    Class::Boolean,
    Class::DateTime,
    Class::Date,
];

/// Types derived from `xsd:integer`, by their number in an id.
const DERIVED: [NamedNodeRef<'_>; 12] = [
    xsd::INT,
    xsd::LONG,
    xsd::SHORT,
    xsd::BYTE,
    xsd::NON_NEGATIVE_INTEGER,
    xsd::POSITIVE_INTEGER,
    xsd::NON_POSITIVE_INTEGER,
    xsd::NEGATIVE_INTEGER,
    xsd::UNSIGNED_INT,
    xsd::UNSIGNED_LONG,
    xsd::UNSIGNED_SHORT,
    xsd::UNSIGNED_BYTE,
];

/// What the dictionary keeps of a term that its id does not tell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The class.
    pub class: Class,
    /// The IRI, the literal's lexical form, or the blank node's label.
    pub value: String,
    /// The literal's language or the IRI of its datatype; for a blank node what it came with ([`Scope`]); `None` for IRIs and strings.
    pub qualifier: Option<String>,
}

/// Where labels of blank nodes mean what they mean: one load, or one update. Labels of others are other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope(pub(super) String);

/// How a term is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoded {
    /// All of it, in an id.
    Inline(TermId),
    /// In the dictionary.
    Entry(Entry),
}

impl TermId {
    /// The graph without a name.
    pub const DEFAULT_GRAPH: TermId = TermId(0);

    pub(super) fn new(class: Class, payload: u64) -> TermId {
        TermId((class as u64) << PAYLOAD_BITS | payload & PAYLOAD)
    }

    /// What kind of term it is; `None` for numbers that are no id.
    pub fn class(self) -> Option<Class> {
        CLASSES.get((self.0 >> PAYLOAD_BITS) as usize).copied()
    }

    fn payload(self) -> u64 {
        self.0 & PAYLOAD
    }

    /// The number, if this is an inlined `xsd:integer`.
    pub fn integer(self) -> Option<i64> {
        (self.class() == Some(Class::Integer)).then(|| self.payload() as i64 - INTEGER_BIAS)
    }

    /// The number, if this is an inlined `xsd:decimal`: without the point, and how many digits are behind it.
    pub fn decimal(self) -> Option<(i64, u32)> {
        let payload = self.payload();
        let (low, high) = (payload & ((1 << 56) - 1), payload >> 56);
        match self.class()? {
            Class::Decimal => Some((low as i64 - SMALL_BIAS, high as u32)),
            _ => None,
        }
    }

    /// The id of an `xsd:integer` that is inlined, as those of 60 bits are.
    pub fn of_integer(number: i64) -> Option<TermId> {
        let in_range = (-INTEGER_BIAS..INTEGER_BIAS).contains(&number);
        in_range.then(|| TermId::new(Class::Integer, (number + INTEGER_BIAS) as u64))
    }

    /// The term, if the id tells all of it.
    pub fn inlined(self) -> Option<Term> {
        let payload = self.payload();
        let (low, high) = (payload & ((1 << 56) - 1), (payload >> 56) as usize);
        Some(match self.class()? {
            Class::ShortString => {
                let bytes = low.to_be_bytes();
                let text = std::str::from_utf8(bytes.get(1..1 + high)?).ok()?;
                Literal::new_simple_literal(text).into()
            }
            Class::Integer => Literal::new_typed_literal((payload as i64 - INTEGER_BIAS).to_string(), xsd::INTEGER).into(),
            Class::DerivedInteger => {
                let datatype = DERIVED.get(high)?;
                Literal::new_typed_literal((low as i64 - SMALL_BIAS).to_string(), *datatype).into()
            }
            Class::Decimal => Literal::new_typed_literal(decimal_text(low as i64 - SMALL_BIAS, high), xsd::DECIMAL).into(),
            Class::Boolean => Literal::new_typed_literal(if payload == 1 { "true" } else { "false" }, xsd::BOOLEAN).into(),
            Class::DateTime => Literal::new_typed_literal(DateTime::from_bits(payload).to_string(), xsd::DATE_TIME).into(),
            Class::Date => Literal::new_typed_literal(Date::from_bits(payload).to_string(), xsd::DATE).into(),
            Class::DefaultGraph | Class::Iri | Class::Blank | Class::String | Class::Language | Class::Number | Class::Typed => {
                return None;
            }
        })
    }
}

impl fmt::Display for TermId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Entry {
    /// As [`EntryRef::id`].
    pub fn id(&self, attempt: u64, bits: u32) -> (TermId, u64) {
        self.borrowed().id(attempt, bits)
    }

    /// The same, borrowed.
    pub fn borrowed(&self) -> EntryRef<'_> {
        EntryRef {
            class: self.class,
            value: &self.value,
            qualifier: self.qualifier.as_deref().map(Cow::Borrowed),
        }
    }

    /// The term, whose id is this.
    pub fn into_term(self, id: TermId) -> Term {
        match (self.class, self.qualifier) {
            // Labels of different loads may be the same; ids are not.
            (Class::Blank, _) => BlankNode::new_unchecked(format!("b{:015x}", id.payload())).into(),
            (Class::Iri, _) => NamedNode::new_unchecked(self.value).into(),
            (Class::Language, Some(language)) => Literal::new_language_tagged_literal_unchecked(self.value, language).into(),
            (_, Some(datatype)) => Literal::new_typed_literal(self.value, NamedNode::new_unchecked(datatype)).into(),
            (_, None) => Literal::new_simple_literal(self.value).into(),
        }
    }
}

impl Scope {
    /// The scope with this number, which no other has.
    pub fn new(number: u64) -> Scope {
        Scope(number.to_string())
    }

    /// A scope that no other is, without a number.
    pub fn random() -> Scope {
        Scope(uuid::Uuid::new_v4().to_string())
    }
}

impl Encoded {
    /// Of a term of a scope.
    pub fn of(term: TermRef<'_>, scope: &Scope) -> Encoded {
        EncodedRef::of(term, scope).into_owned()
    }

    /// What kind of term it is.
    pub fn class(&self) -> Class {
        match self {
            Encoded::Inline(id) => id.class().unwrap_or(Class::DefaultGraph),
            Encoded::Entry(entry) => entry.class,
        }
    }

    /// Of an IRI.
    pub fn iri(iri: NamedNodeRef<'_>) -> Encoded {
        EncodedRef::iri(iri).into_owned()
    }

    /// Of a literal.
    pub fn literal(literal: LiteralRef<'_>) -> Encoded {
        EncodedRef::literal(literal).into_owned()
    }
}

/// Whether a datatype is one of XML Schema's numeric ones.
pub fn is_numeric(datatype: NamedNodeRef<'_>) -> bool {
    [xsd::INTEGER, xsd::DECIMAL, xsd::DOUBLE, xsd::FLOAT].contains(&datatype) || DERIVED.contains(&datatype)
}

pub(super) fn short_string(text: &str) -> Option<TermId> {
    let mut bytes = [0; 8];
    bytes
        .get_mut(1..1 + text.len())
        .filter(|_| text.len() <= SHORT_STRING)?
        .copy_from_slice(text.as_bytes());
    Some(TermId::new(
        Class::ShortString,
        (text.len() as u64) << 56 | u64::from_be_bytes(bytes),
    ))
}

/// The id of a literal whose lexical form follows from it.
pub(super) fn inline(value: &str, datatype: NamedNodeRef<'_>) -> Option<TermId> {
    if datatype == xsd::INTEGER {
        return TermId::of_integer(canonical_integer(value)?);
    }
    if datatype == xsd::DECIMAL {
        return decimal(value);
    }
    if datatype == xsd::BOOLEAN {
        return match value {
            "true" => Some(TermId::new(Class::Boolean, 1)),
            "false" => Some(TermId::new(Class::Boolean, 0)),
            _ => None,
        };
    }
    if datatype == xsd::DATE_TIME {
        return Some(TermId::new(Class::DateTime, DateTime::parse(value)?.to_bits()));
    }
    if datatype == xsd::DATE {
        return Some(TermId::new(Class::Date, Date::parse(value)?.to_bits()));
    }
    let which = DERIVED.iter().position(|derived| *derived == datatype)?;
    let number = canonical_integer(value)?;
    with_high(Class::DerivedInteger, which as u64, number)
}

fn with_high(class: Class, high: u64, number: i64) -> Option<TermId> {
    let in_range = (-SMALL_BIAS..SMALL_BIAS).contains(&number);
    in_range.then(|| TermId::new(class, high << 56 | (number + SMALL_BIAS) as u64))
}

fn canonical_integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_canonical = match digits.as_bytes() {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    text.parse().ok().filter(|_| is_canonical)
}

/// A decimal as it stands: `1.50` is another term than `1.5`.
fn decimal(text: &str) -> Option<TermId> {
    let (whole, fraction) = text.split_once('.')?;
    if fraction.is_empty() || fraction.len() > MAX_SCALE || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    canonical_integer(digits)?;
    let number: i64 = format!("{digits}{fraction}").parse().ok()?;
    let is_negative = digits.len() < whole.len();
    // There is no minus in front of a zero that is a number.
    if is_negative && number == 0 {
        return None;
    }
    with_high(Class::Decimal, fraction.len() as u64, if is_negative { -number } else { number })
}

fn decimal_text(number: i64, scale: usize) -> String {
    let digits = format!("{:0width$}", number.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{}{whole}.{fraction}", if number < 0 { "-" } else { "" })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn inlined(literal: &Literal) -> Option<TermId> {
        match Encoded::literal(literal.as_ref()) {
            Encoded::Inline(id) => Some(id),
            Encoded::Entry(entry) => {
                assert_eq!(entry.into_term(TermId(0)), Term::from(literal.clone()));
                None
            }
        }
    }

    #[test]
    fn an_inlined_term_is_what_it_was() {
        let in_ids = [
            (xsd::INTEGER, "0 1 -1 42 576460752303423487 -576460752303423488"),
            (xsd::DECIMAL, "0.0 1.5 1.50 -0.05 0.000000000000001 36028797018963.967 12.0"),
            (xsd::BOOLEAN, "true false"),
            (xsd::STRING, "a abcdefg é"),
            (xsd::INT, "7 -7"),
            (xsd::UNSIGNED_BYTE, "255"),
            (
                xsd::DATE,
                "2008-06-20 2008-06-20Z 0001-01-01 9999-12-31 2000-02-29-05:00 2000-02-29+14:00",
            ),
            (
                xsd::DATE_TIME,
                "2008-06-20T00:00:00 2008-06-20T23:59:59Z 2008-06-20T01:02:03.004Z 1969-12-31T23:59:59.999-05:30 0001-01-01T00:00:00",
            ),
        ];
        for (datatype, texts) in in_ids {
            for text in texts.split(' ') {
                let literal = Literal::new_typed_literal(text, datatype);
                let id = inlined(&literal).unwrap_or_else(|| panic!("{literal} is not inlined"));
                assert_eq!(id.inlined(), Some(literal.into()));
            }
        }
        assert_eq!(
            inlined(&Literal::new_simple_literal("")).unwrap().inlined(),
            Some(Literal::new_simple_literal("").into())
        );
    }

    #[test]
    fn what_has_another_form_goes_to_the_dictionary() {
        let in_dictionary = [
            (
                xsd::INTEGER,
                "01 +1 -0 1.0 576460752303423488 -576460752303423489 99999999999999999999 x",
            ),
            (
                xsd::DECIMAL,
                "1 .5 1. -0.0 +1.5 01.5 0.0000000000000001 36028797018963968.0 1.5x 1.+5",
            ),
            (xsd::BOOLEAN, "1 0 TRUE"),
            (xsd::STRING, "abcdefgh ééééé"),
            (xsd::INT, "+7 36028797018963968"),
            (
                xsd::DATE,
                "2008-6-20 2008-02-30 -0001-01-01 10000-01-01 2008-06-20+00:00 2008-06-20+14:01 2008-06-20-00:00",
            ),
            (
                xsd::DATE_TIME,
                "2008-06-20T24:00:00 2008-06-20T01:02:03.0Z 2008-06-20T01:02:03.0041Z 2008-06-20T01:02:60 2008-06-20 2008-06-20T01:02:03+00:00",
            ),
            (xsd::DOUBLE, "1.5E0 NaN"),
        ];
        for (datatype, texts) in in_dictionary {
            for text in texts.split(' ') {
                let literal = Literal::new_typed_literal(text, datatype);
                assert_eq!(inlined(&literal), None, "{literal}");
            }
        }
        assert_eq!(inlined(&Literal::new_language_tagged_literal("a", "en").unwrap()), None);
    }

    #[test]
    fn ids_of_integers_are_in_their_order() {
        let numbers = [-576_460_752_303_423_488, -5, -1, 0, 1, 7, 576_460_752_303_423_487_i64];
        let ids = numbers.map(|number| inlined(&Literal::from(number)).unwrap());
        assert!(ids.is_sorted());
    }

    #[test]
    fn classes_are_told_apart() {
        let iri = Encoded::iri(xsd::STRING);
        let text = Encoded::literal(LiteralRef::new_simple_literal(xsd::STRING.as_str()));
        let (Encoded::Entry(iri), Encoded::Entry(text)) = (iri, text) else {
            panic!()
        };
        assert_eq!(iri.id(0, 60).0.class(), Some(Class::Iri));
        assert_eq!(text.id(0, 60).0.class(), Some(Class::String));
        assert_ne!(iri.id(0, 60), iri.id(1, 60));
        assert_eq!(TermId(u64::MAX).class(), None);
        assert_eq!(TermId(u64::MAX).inlined(), None);
    }

    #[test]
    fn no_number_makes_a_term_that_is_not_its_own() {
        // Whatever a damaged file holds: a term or none, never a panic; and what comes out goes in again.
        let mut state = 7_u64;
        for _ in 0..200_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let id = TermId(state);
            if let Some(Term::Literal(literal)) = id.inlined()
                && let Some(again) = inlined(&literal)
            {
                assert_eq!(again.inlined(), Some(literal.into()));
            }
        }
    }
}
