//! Equality, comparison and the effective boolean value.

use super::calendar::Moment;
use super::datatype::Datatype;
use super::duration::Parts;
use super::numeric::{Pair, promote};
use super::value::{Gregorian, Value};
use std::cmp::Ordering;

/// The operator `=`; `None` when the two may be the same value or not.
pub fn equals(left: &Value, right: &Value) -> Option<bool> {
    if let Some(pair) = promote(left, right) {
        return Some(match pair {
            Pair::Integer(left, right) => left == right,
            Pair::Decimal(left, right) => left == right,
            Pair::Float(left, right) => left == right,
            Pair::Double(left, right) => left == right,
        });
    }
    match (left.plain(), right.plain()) {
        (Value::Iri(left), Value::Iri(right)) => Some(left == right),
        (Value::Blank(left), Value::Blank(right)) => Some(left == right),
        (Value::Iri(_) | Value::Blank(_), _) | (_, Value::Iri(_) | Value::Blank(_)) => Some(false),
        (
            Value::LanguageString { value, language },
            Value::LanguageString {
                value: other,
                language: other_language,
            },
        ) => Some(value == other && language.eq_ignore_ascii_case(other_language)),
        // No other datatype has a language-tagged string as a value, so this is decided even for unknown datatypes.
        (Value::LanguageString { .. }, _) | (_, Value::LanguageString { .. }) => Some(false),
        (
            Value::Other { lexical, datatype },
            Value::Other {
                lexical: other,
                datatype: other_datatype,
            },
        ) => {
            // Two lexical forms or two unknown datatypes may stand for one value.
            (lexical == other && datatype == other_datatype).then_some(true)
        }
        (Value::Other { .. }, _) | (_, Value::Other { .. }) => None,
        (Value::String(left), Value::String(right)) => Some(left == right),
        (Value::Boolean(left), Value::Boolean(right)) => Some(left == right),
        (left, right) if same_calendar(left, right) => Some(Moment::of(left)?.compare(Moment::of(right)?)? == Ordering::Equal),
        (left, right) => match (Parts::of(left), Parts::of(right)) {
            (Some(left), Some(right)) => Some(left == right),
            // The value spaces of the known datatypes that are left do not meet.
            _ => Some(false),
        },
    }
}

/// The order behind `<`, `>`, `<=` and `>=`; `None` for values without an order and also for NaN.
///
/// Since NaN is not a type error, filters should ask [`less_than`] and [`less_than_or_equal`] instead.
pub fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    if let Some(pair) = promote(left, right) {
        return match pair {
            Pair::Integer(left, right) => left.partial_cmp(&right),
            Pair::Decimal(left, right) => left.partial_cmp(&right),
            Pair::Float(left, right) => left.partial_cmp(&right),
            Pair::Double(left, right) => left.partial_cmp(&right),
        };
    }
    match (left.plain(), right.plain()) {
        // The byte order of UTF-8 is the order of code points.
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Boolean(left), Value::Boolean(right)) => Some(left.cmp(right)),
        // XPath has equality but no order for these.
        (Value::Gregorian(_), _) => None,
        (left, right) if same_calendar(left, right) => Moment::of(left)?.compare(Moment::of(right)?),
        (left, right) => Parts::of(left)?.compare(Parts::of(right)?),
    }
}

/// The operator `<`, and with swapped arguments `>`; `None` for values without an order. Nothing is less than NaN.
pub fn less_than(left: &Value, right: &Value) -> Option<bool> {
    holds(left, right, Ordering::is_lt)
}

/// The operator `<=`, and with swapped arguments `>=`; `None` for values without an order. Nothing is at most NaN.
pub fn less_than_or_equal(left: &Value, right: &Value) -> Option<bool> {
    holds(left, right, Ordering::is_le)
}

fn holds(left: &Value, right: &Value, test: fn(Ordering) -> bool) -> Option<bool> {
    match compare(left, right) {
        Some(order) => Some(test(order)),
        // Two numbers have no order only when one is NaN, and then every comparison is false.
        None => promote(left, right).map(|_| false),
    }
}

// Whether both are dates or times of the same kind.
fn same_calendar(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::DateTime(_), Value::DateTime(_)) | (Value::Date(_), Value::Date(_)) | (Value::Time(_), Value::Time(_)) => true,
        (Value::Gregorian(left), Value::Gregorian(right)) => kind(left) == kind(right),
        _ => false,
    }
}

/// The kind of a recurring or incomplete date as a number, the same for two values of one datatype.
pub(super) fn kind(value: &Gregorian) -> u8 {
    match value {
        Gregorian::Year(_) => 0,
        Gregorian::YearMonth(_) => 1,
        Gregorian::Month(_) => 2,
        Gregorian::MonthDay(_) => 3,
        Gregorian::Day(_) => 4,
    }
}

/// The effective boolean value; `None` for anything but booleans, numbers and strings.
pub fn effective_boolean(value: &Value) -> Option<bool> {
    match value.plain() {
        Value::Boolean(value) => Some(*value),
        Value::String(value) | Value::LanguageString { value, .. } => Some(!value.is_empty()),
        Value::Integer(value) => Some(i64::from(*value) != 0),
        Value::Decimal(value) => Some(value.is_negative() || value.is_positive()),
        Value::Float(value) => Some(!value.is_nan() && f32::from(*value) != 0.0),
        Value::Double(value) => Some(!value.is_nan() && f64::from(*value) != 0.0),
        Value::Other { lexical, datatype } => {
            let datatype = Datatype::of(datatype.as_ref())?;
            // An ill-formed boolean or number is false. A number too large for this implementation is not ill-formed.
            (datatype == Datatype::Boolean || datatype.is_numeric())
                .then(|| datatype.is_wide_number(lexical) && lexical.bytes().any(|byte| matches!(byte, b'1'..=b'9')))
        }
        _ => None,
    }
}
