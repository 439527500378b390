//! Functions on dates and times.
//!
//! SPARQL defines them for `xsd:dateTime`. A date or time answers for the parts it has.

use super::value::Value;
use oxsdatatypes::TimezoneOffset;

fn integer(value: impl Into<oxsdatatypes::Integer>) -> Option<Value> {
    Some(Value::Integer(value.into()))
}

/// `YEAR`; `None` for a value without year.
pub(super) fn year(value: &Value) -> Option<Value> {
    match value.plain() {
        Value::DateTime(value) => integer(value.year()),
        Value::Date(value) => integer(value.year()),
        _ => None,
    }
}

/// `MONTH`; `None` for a value without month.
pub(super) fn month(value: &Value) -> Option<Value> {
    match value.plain() {
        Value::DateTime(value) => integer(value.month()),
        Value::Date(value) => integer(value.month()),
        _ => None,
    }
}

/// `DAY`; `None` for a value without day.
pub(super) fn day(value: &Value) -> Option<Value> {
    match value.plain() {
        Value::DateTime(value) => integer(value.day()),
        Value::Date(value) => integer(value.day()),
        _ => None,
    }
}

/// `HOURS`; `None` for a value without hours.
pub(super) fn hours(value: &Value) -> Option<Value> {
    match value.plain() {
        Value::DateTime(value) => integer(value.hour()),
        Value::Time(value) => integer(value.hour()),
        _ => None,
    }
}

/// `MINUTES`; `None` for a value without minutes.
pub(super) fn minutes(value: &Value) -> Option<Value> {
    match value.plain() {
        Value::DateTime(value) => integer(value.minute()),
        Value::Time(value) => integer(value.minute()),
        _ => None,
    }
}

/// `SECONDS`, a decimal; `None` for a value without seconds.
pub(super) fn seconds(value: &Value) -> Option<Value> {
    match value.plain() {
        Value::DateTime(value) => Some(Value::Decimal(value.second())),
        Value::Time(value) => Some(Value::Decimal(value.second())),
        _ => None,
    }
}

// The timezone of a date or time, or `None` for other values.
fn offset(value: &Value) -> Option<Option<TimezoneOffset>> {
    match value.plain() {
        Value::DateTime(value) => Some(value.timezone_offset()),
        Value::Date(value) => Some(value.timezone_offset()),
        Value::Time(value) => Some(value.timezone_offset()),
        _ => None,
    }
}

/// `TIMEZONE`, a dayTimeDuration; `None` without timezone.
pub(super) fn timezone(value: &Value) -> Option<Value> {
    Some(Value::DayTimeDuration(offset(value)??.into()))
}

/// `TZ`, which is empty without timezone; `None` for a value that is no date or time.
pub(super) fn tz(value: &Value) -> Option<Value> {
    Some(Value::String(offset(value)?.map(|offset| offset.to_string()).unwrap_or_default()))
}
