//! The total order of `ORDER BY`, as bytes.

use super::calendar::Moment;
use super::compare::kind;
use super::duration::Parts;
use super::numeric;
use super::value::Value;

/// Bytes whose order is that of the terms: a total one, which agrees with `<` wherever that one decides. An unbound variable has no bytes, and
/// so comes first.
///
/// Blank nodes come before IRIs and these before literals. Literals are in groups of comparable datatypes: numbers, strings,
/// language strings, booleans, dateTimes, dates, times, incomplete dates, durations, and last the unknown ones.
/// Terms with the same value, such as `1` and `1.0`, have the same bytes, so that the next sort key decides.
pub fn sort_key(value: &Value) -> Vec<u8> {
    let value = value.plain();
    let mut key = vec![group(value)];
    match value {
        Value::Blank(node) => key.extend_from_slice(node.as_str().as_bytes()),
        Value::Iri(iri) => key.extend_from_slice(iri.as_str().as_bytes()),
        Value::String(text) => key.extend_from_slice(text.as_bytes()),
        Value::LanguageString { value, language } => pair(&mut key, value, &language.to_ascii_lowercase()),
        Value::Boolean(value) => key.push(u8::from(*value)),
        Value::Other { lexical, datatype } => pair(&mut key, datatype.as_str(), lexical),
        value => {
            if let Some(number) = numeric::sort_key(value) {
                key.extend_from_slice(&number);
            } else if let Some(moment) = Moment::of(value) {
                key.extend_from_slice(&moment.sort_key());
            } else if let Some(parts) = Parts::of(value) {
                key.extend_from_slice(&parts.sort_key());
            }
        }
    }
    key
}

/// Bytes in the order of the numbers.
pub(super) fn ordered(number: i128) -> [u8; 16] {
    (number ^ i128::MIN).to_be_bytes()
}

/// Two texts, so that the first decides: what ends it sorts before all that it may have.
fn pair(key: &mut Vec<u8>, first: &str, second: &str) {
    for byte in first.bytes() {
        key.push(byte);
        if byte == 0 {
            key.push(0xff);
        }
    }
    key.extend_from_slice(&[0, 0]);
    key.extend_from_slice(second.as_bytes());
}

fn group(value: &Value) -> u8 {
    match value {
        Value::Blank(_) => 0,
        Value::Iri(_) => 1,
        Value::Integer(_) | Value::Decimal(_) | Value::Float(_) | Value::Double(_) => 2,
        Value::String(_) => 3,
        Value::LanguageString { .. } => 4,
        Value::Boolean(_) => 5,
        Value::DateTime(_) => 6,
        Value::Date(_) => 7,
        Value::Time(_) => 8,
        Value::Gregorian(value) => 9 + kind(value),
        Value::Duration(_) | Value::YearMonthDuration(_) | Value::DayTimeDuration(_) => 20,
        // A written value has been unwrapped by the caller.
        Value::Written(_) | Value::Other { .. } => 21,
    }
}
