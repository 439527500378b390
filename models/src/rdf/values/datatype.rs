//! The datatypes whose values are known.

use oxrdf::NamedNodeRef;
use oxrdf::vocab::xsd;

/// A datatype of XML Schema whose literals have a known value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Datatype {
    String,
    Boolean,
    Integer,
    Long,
    Int,
    Short,
    Byte,
    NonNegativeInteger,
    PositiveInteger,
    NonPositiveInteger,
    NegativeInteger,
    UnsignedLong,
    UnsignedInt,
    UnsignedShort,
    UnsignedByte,
    Decimal,
    Float,
    Double,
    DateTime,
    DateTimeStamp,
    Date,
    Time,
    GYear,
    GYearMonth,
    GMonth,
    GMonthDay,
    GDay,
    Duration,
    YearMonthDuration,
    DayTimeDuration,
}

use Datatype as D;

// Pairs of the datatype and its IRI, the commonest first since the table is searched from its start.
const DATATYPES: [(Datatype, NamedNodeRef<'static>); 30] = [
    (D::String, xsd::STRING),
    (D::Integer, xsd::INTEGER),
    (D::Decimal, xsd::DECIMAL),
    (D::Double, xsd::DOUBLE),
    (D::Boolean, xsd::BOOLEAN),
    (D::DateTime, xsd::DATE_TIME),
    (D::Date, xsd::DATE),
    (D::Float, xsd::FLOAT),
    (D::Int, xsd::INT),
    (D::Long, xsd::LONG),
    (D::GYear, xsd::G_YEAR),
    (D::NonNegativeInteger, xsd::NON_NEGATIVE_INTEGER),
    (D::PositiveInteger, xsd::POSITIVE_INTEGER),
    (D::NonPositiveInteger, xsd::NON_POSITIVE_INTEGER),
    (D::NegativeInteger, xsd::NEGATIVE_INTEGER),
    (D::Short, xsd::SHORT),
    (D::Byte, xsd::BYTE),
    (D::UnsignedLong, xsd::UNSIGNED_LONG),
    (D::UnsignedInt, xsd::UNSIGNED_INT),
    (D::UnsignedShort, xsd::UNSIGNED_SHORT),
    (D::UnsignedByte, xsd::UNSIGNED_BYTE),
    (D::DateTimeStamp, xsd::DATE_TIME_STAMP),
    (D::Time, xsd::TIME),
    (D::GYearMonth, xsd::G_YEAR_MONTH),
    (D::GMonth, xsd::G_MONTH),
    (D::GMonthDay, xsd::G_MONTH_DAY),
    (D::GDay, xsd::G_DAY),
    (D::Duration, xsd::DURATION),
    (D::YearMonthDuration, xsd::YEAR_MONTH_DURATION),
    (D::DayTimeDuration, xsd::DAY_TIME_DURATION),
];

impl Datatype {
    /// The datatype an IRI names, or `None` when its values are not known.
    pub fn of(iri: NamedNodeRef<'_>) -> Option<Self> {
        DATATYPES.iter().find(|(_, known)| *known == iri).map(|(datatype, _)| *datatype)
    }

    /// The IRI of the datatype.
    pub fn iri(self) -> NamedNodeRef<'static> {
        DATATYPES
            .iter()
            .find(|(datatype, _)| *datatype == self)
            .map_or(xsd::STRING, |(_, iri)| *iri)
    }

    /// The smallest and the largest value of an integer datatype, or `None` for any other datatype.
    ///
    /// The unbounded types end where the 64 bit integer ends.
    pub(super) fn integer_range(self) -> Option<(i64, i64)> {
        Some(match self {
            Self::Integer | Self::Long => (i64::MIN, i64::MAX),
            Self::Int => (i32::MIN.into(), i32::MAX.into()),
            Self::Short => (i16::MIN.into(), i16::MAX.into()),
            Self::Byte => (i8::MIN.into(), i8::MAX.into()),
            Self::NonNegativeInteger | Self::UnsignedLong => (0, i64::MAX),
            Self::PositiveInteger => (1, i64::MAX),
            Self::NonPositiveInteger => (i64::MIN, 0),
            Self::NegativeInteger => (i64::MIN, -1),
            Self::UnsignedInt => (0, u32::MAX.into()),
            Self::UnsignedShort => (0, u16::MAX.into()),
            Self::UnsignedByte => (0, u8::MAX.into()),
            _ => return None,
        })
    }

    /// Whether the datatype is xsd:integer, one derived from it, xsd:decimal, xsd:float or xsd:double.
    pub fn is_numeric(self) -> bool {
        matches!(self, Self::Decimal | Self::Float | Self::Double) || self.integer_range().is_some()
    }
}
