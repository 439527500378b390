//! Functions on numbers. All keep the type of their argument, where a derived integer counts as an integer.

use super::value::Value;

/// `ABS`; `None` for no number and for the least integer.
pub(super) fn abs(number: &Value) -> Option<Value> {
    Some(match number.plain() {
        Value::Integer(value) => Value::Integer(value.checked_abs()?),
        Value::Decimal(value) => Value::Decimal(value.checked_abs()?),
        Value::Float(value) => Value::Float(value.abs()),
        Value::Double(value) => Value::Double(value.abs()),
        _ => return None,
    })
}

/// `ROUND`, with halves towards positive infinity; `None` for no number and on overflow.
pub(super) fn round(number: &Value) -> Option<Value> {
    Some(match number.plain() {
        Value::Integer(value) => Value::Integer(*value),
        Value::Decimal(value) => Value::Decimal(value.checked_round()?),
        Value::Float(value) => Value::Float(value.round()),
        Value::Double(value) => Value::Double(value.round()),
        _ => return None,
    })
}

/// `CEIL`; `None` for no number and on overflow.
pub(super) fn ceil(number: &Value) -> Option<Value> {
    Some(match number.plain() {
        Value::Integer(value) => Value::Integer(*value),
        Value::Decimal(value) => Value::Decimal(value.checked_ceil()?),
        Value::Float(value) => Value::Float(value.ceil()),
        Value::Double(value) => Value::Double(value.ceil()),
        _ => return None,
    })
}

/// `FLOOR`; `None` for no number and on overflow.
pub(super) fn floor(number: &Value) -> Option<Value> {
    Some(match number.plain() {
        Value::Integer(value) => Value::Integer(*value),
        Value::Decimal(value) => Value::Decimal(value.checked_floor()?),
        Value::Float(value) => Value::Float(value.floor()),
        Value::Double(value) => Value::Double(value.floor()),
        _ => return None,
    })
}
