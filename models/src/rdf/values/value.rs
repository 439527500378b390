//! A term as expressions see it.

use super::datatype::Datatype;
use super::lexical;
use oxrdf::vocab::rdf;
use oxrdf::{BlankNode, Literal, LiteralRef, NamedNode, NamedNodeRef, Term, TermRef};
use oxsdatatypes::{
    Date, DateTime, DayTimeDuration, Decimal, Double, Duration, Float, GDay, GMonth, GMonthDay, GYear, GYearMonth, Integer, Time,
    YearMonthDuration,
};

/// An RDF term together with its place in the value space of its datatype.
#[derive(Debug, Clone)]
pub enum Value {
    /// An IRI.
    Iri(NamedNode),
    /// A blank node.
    Blank(BlankNode),
    /// A simple literal, which is the same as an `xsd:string`.
    String(String),
    /// A literal with a language tag.
    LanguageString {
        /// The lexical form.
        value: String,
        /// The language tag as written.
        language: String,
    },
    /// An `xsd:boolean`.
    Boolean(bool),
    /// An `xsd:integer`.
    Integer(Integer),
    /// An `xsd:decimal`.
    Decimal(Decimal),
    /// An `xsd:float`.
    Float(Float),
    /// An `xsd:double`.
    Double(Double),
    /// An `xsd:dateTime`.
    DateTime(DateTime),
    /// An `xsd:date`.
    Date(Date),
    /// An `xsd:time`.
    Time(Time),
    /// One of `xsd:gYear`, `xsd:gYearMonth`, `xsd:gMonth`, `xsd:gMonthDay` and `xsd:gDay`.
    Gregorian(Gregorian),
    /// An `xsd:duration`.
    Duration(Duration),
    /// An `xsd:yearMonthDuration`.
    YearMonthDuration(YearMonthDuration),
    /// An `xsd:dayTimeDuration`.
    DayTimeDuration(DayTimeDuration),
    /// A value whose literal is not the canonical one, such as `"01"^^xsd:integer` or `"1"^^xsd:byte`.
    Written(Box<Written>),
    /// A literal of an unknown datatype, of an ill-formed lexical form, or of a value outside the supported range.
    Other {
        /// The lexical form.
        lexical: String,
        /// The datatype.
        datatype: NamedNode,
    },
}

/// A value and the literal it was read from, so that `STR`, `DATATYPE` and `sameTerm` still see that literal.
#[derive(Debug, Clone)]
pub struct Written {
    /// The value, which is never itself [`Value::Written`].
    pub(super) value: Value,
    pub(super) lexical: String,
    pub(super) datatype: Datatype,
}

/// A recurring or incomplete date.
#[derive(Debug, Clone, Copy)]
pub enum Gregorian {
    /// An `xsd:gYear`.
    Year(GYear),
    /// An `xsd:gYearMonth`.
    YearMonth(GYearMonth),
    /// An `xsd:gMonth`.
    Month(GMonth),
    /// An `xsd:gMonthDay`.
    MonthDay(GMonthDay),
    /// An `xsd:gDay`.
    Day(GDay),
}

impl Value {
    /// Reads a term; the inverse of [`Value::into_term`] for every term of RDF 1.1.
    pub fn of(term: TermRef<'_>) -> Self {
        match term {
            TermRef::NamedNode(iri) => Self::Iri(iri.into_owned()),
            TermRef::BlankNode(blank) => Self::Blank(blank.into_owned()),
            TermRef::Literal(literal) => Self::of_literal(literal),
            // Another crate of the workspace may switch on the RDF 1.2 feature of oxrdf, which adds triple terms.
            // SPARQL 1.1 has no operation on them, so they are kept as something nothing is known about.
            #[allow(unreachable_patterns)]
            other => Self::Other {
                lexical: other.to_string(),
                datatype: rdf::STATEMENT.into_owned(),
            },
        }
    }

    fn of_literal(literal: LiteralRef<'_>) -> Self {
        if let Some(language) = literal.language() {
            return Self::LanguageString {
                value: literal.value().to_owned(),
                language: language.to_owned(),
            };
        }
        Self::typed(literal.value(), literal.datatype())
    }

    /// The value of a literal without language tag.
    pub(super) fn typed(lexical: &str, datatype: NamedNodeRef<'_>) -> Self {
        let known = Datatype::of(datatype);
        match known.and_then(|known| Some((known, known.parse(lexical)?))) {
            Some((_, Self::String(value))) => Self::String(value),
            Some((known, value)) => value.written_as(lexical, known),
            None => Self::Other {
                lexical: lexical.to_owned(),
                datatype: datatype.into_owned(),
            },
        }
    }

    /// Remembers the literal this value stands in, unless it is the canonical one.
    pub(super) fn written_as(self, lexical: &str, datatype: Datatype) -> Self {
        if self.known_datatype() == Some(datatype) && lexical::is_canonical(&self, lexical) {
            return self;
        }
        Self::Written(Box::new(Written {
            value: self,
            lexical: lexical.to_owned(),
            datatype,
        }))
    }

    /// The term: the literal that was read, or the canonical literal of a computed value.
    pub fn into_term(self) -> Term {
        match self {
            Self::Iri(iri) => iri.into(),
            Self::Blank(blank) => blank.into(),
            Self::String(value) => Literal::new_simple_literal(value).into(),
            Self::LanguageString { value, language } => Literal::new_language_tagged_literal_unchecked(value, language).into(),
            Self::Written(written) => Literal::new_typed_literal(written.lexical, written.datatype.iri()).into(),
            Self::Other { lexical, datatype } => Literal::new_typed_literal(lexical, datatype).into(),
            value => {
                let text = lexical::canonical(&value);
                // Every variant that is left has a known datatype; xsd:string is only what the types ask for.
                let datatype = value.known_datatype().unwrap_or(Datatype::String);
                Literal::new_typed_literal(text, datatype.iri()).into()
            }
        }
    }

    /// The value alone, without the literal it was read from. Operators match on this.
    pub(super) fn plain(&self) -> &Self {
        match self {
            Self::Written(written) => &written.value,
            value => value,
        }
    }

    /// The lexical form of a literal, or `None` for an IRI or a blank node.
    pub fn lexical(&self) -> Option<String> {
        match self {
            Self::Iri(_) | Self::Blank(_) => None,
            Self::String(value) | Self::LanguageString { value, .. } => Some(value.clone()),
            Self::Written(written) => Some(written.lexical.clone()),
            Self::Other { lexical, .. } => Some(lexical.clone()),
            value => Some(lexical::canonical(value)),
        }
    }

    /// The datatype of a literal, or `None` for an IRI or a blank node.
    pub fn datatype(&self) -> Option<NamedNodeRef<'_>> {
        match self {
            Self::LanguageString { .. } => Some(rdf::LANG_STRING),
            Self::Other { datatype, .. } => Some(datatype.as_ref()),
            value => Some(value.known_datatype()?.iri()),
        }
    }

    /// The datatype this crate computes with, or `None` for an IRI, a blank node, a language string or an unknown literal.
    pub(super) fn known_datatype(&self) -> Option<Datatype> {
        Some(match self {
            Self::Iri(_) | Self::Blank(_) | Self::LanguageString { .. } | Self::Other { .. } => return None,
            Self::String(_) => Datatype::String,
            Self::Boolean(_) => Datatype::Boolean,
            Self::Integer(_) => Datatype::Integer,
            Self::Decimal(_) => Datatype::Decimal,
            Self::Float(_) => Datatype::Float,
            Self::Double(_) => Datatype::Double,
            Self::DateTime(_) => Datatype::DateTime,
            Self::Date(_) => Datatype::Date,
            Self::Time(_) => Datatype::Time,
            Self::Gregorian(Gregorian::Year(_)) => Datatype::GYear,
            Self::Gregorian(Gregorian::YearMonth(_)) => Datatype::GYearMonth,
            Self::Gregorian(Gregorian::Month(_)) => Datatype::GMonth,
            Self::Gregorian(Gregorian::MonthDay(_)) => Datatype::GMonthDay,
            Self::Gregorian(Gregorian::Day(_)) => Datatype::GDay,
            Self::Duration(_) => Datatype::Duration,
            Self::YearMonthDuration(_) => Datatype::YearMonthDuration,
            Self::DayTimeDuration(_) => Datatype::DayTimeDuration,
            Self::Written(written) => written.datatype,
        })
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<&Term> for Value {
    fn from(term: &Term) -> Self {
        Self::of(term.as_ref())
    }
}

impl From<Value> for Term {
    fn from(value: Value) -> Self {
        value.into_term()
    }
}
