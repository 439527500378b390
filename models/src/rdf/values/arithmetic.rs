//! The arithmetic operators.

use super::decimal;
use super::duration::{Parts, months};
use super::numeric::{Pair, promote};
use super::value::Value;
use oxsdatatypes::{Date, DateTime, DayTimeDuration, Decimal, Duration, Integer, YearMonthDuration};

/// `left + right`: two numbers, two durations, or a date or time and a duration in either order.
///
/// `None` for other types and on overflow of integers, decimals, durations and dates.
pub fn add(left: &Value, right: &Value) -> Option<Value> {
    if let Some(pair) = promote(left, right) {
        return Some(match pair {
            Pair::Integer(left, right) => Value::Integer(left.checked_add(right)?),
            Pair::Decimal(left, right) => Value::Decimal(left.checked_add(right)?),
            Pair::Float(left, right) => Value::Float(left + right),
            Pair::Double(left, right) => Value::Double(left + right),
        });
    }
    let (left, right) = (left.plain(), right.plain());
    match (Parts::of(left), Parts::of(right)) {
        (Some(_), Some(_)) => add_durations(left, right),
        (None, Some(duration)) => move_by(left, duration),
        (Some(duration), None) => move_by(right, duration),
        (None, None) => None,
    }
}

/// `left - right`: two numbers, two durations, a date or time less a duration, or the time between two of one kind.
///
/// `None` for other types, on overflow, and between two dates or times of which only one has a timezone.
pub fn subtract(left: &Value, right: &Value) -> Option<Value> {
    if let Some(pair) = promote(left, right) {
        return Some(match pair {
            Pair::Integer(left, right) => Value::Integer(left.checked_sub(right)?),
            Pair::Decimal(left, right) => Value::Decimal(left.checked_sub(right)?),
            Pair::Float(left, right) => Value::Float(left - right),
            Pair::Double(left, right) => Value::Double(left - right),
        });
    }
    match (left.plain(), right.plain()) {
        (Value::DateTime(left), Value::DateTime(right)) => Some(Value::DayTimeDuration(left.checked_sub(*right)?)),
        (Value::Date(left), Value::Date(right)) => Some(Value::DayTimeDuration(left.checked_sub(*right)?)),
        (Value::Time(left), Value::Time(right)) => Some(Value::DayTimeDuration(left.checked_sub(*right)?)),
        (left, right) => {
            let parts = Parts::of(right)?;
            if Parts::of(left).is_some() {
                return add_durations(left, &negate(right)?);
            }
            move_by(
                left,
                Parts {
                    months: parts.months.checked_neg()?,
                    seconds: parts.seconds.checked_neg()?,
                },
            )
        }
    }
}

/// `left * right`: two numbers, or a duration of one part and a number in either order.
///
/// `None` for other types and on overflow of integers, decimals and durations.
pub fn multiply(left: &Value, right: &Value) -> Option<Value> {
    if let Some(pair) = promote(left, right) {
        return Some(match pair {
            Pair::Integer(left, right) => Value::Integer(left.checked_mul(right)?),
            Pair::Decimal(left, right) => Value::Decimal(decimal::multiply(left, right)?),
            Pair::Float(left, right) => Value::Float(left * right),
            Pair::Double(left, right) => Value::Double(left * right),
        });
    }
    match (left.plain(), right.plain()) {
        (duration @ (Value::YearMonthDuration(_) | Value::DayTimeDuration(_)), number) => {
            scale(duration, |part| decimal::multiply(part, factor(number)?))
        }
        (number, duration @ (Value::YearMonthDuration(_) | Value::DayTimeDuration(_))) => {
            scale(duration, |part| decimal::multiply(part, factor(number)?))
        }
        _ => None,
    }
}

/// `left / right`: two numbers, a duration of one part and a number, or two durations of the same one part.
///
/// The quotient of two integers is a decimal. `None` for other types, on overflow of decimals and durations, and for a
/// zero divisor unless it is a float or double, which give INF or NaN.
pub fn divide(left: &Value, right: &Value) -> Option<Value> {
    if let Some(pair) = promote(left, right) {
        return Some(match pair {
            Pair::Integer(left, right) => Value::Decimal(decimal::divide(left.into(), right.into())?),
            Pair::Decimal(left, right) => Value::Decimal(decimal::divide(left, right)?),
            Pair::Float(left, right) => Value::Float(left / right),
            Pair::Double(left, right) => Value::Double(left / right),
        });
    }
    match (left.plain(), right.plain()) {
        (Value::YearMonthDuration(left), Value::YearMonthDuration(right)) => {
            Some(Value::Decimal(decimal::divide(months(*left)?.into(), months(*right)?.into())?))
        }
        (Value::DayTimeDuration(left), Value::DayTimeDuration(right)) => {
            Some(Value::Decimal(decimal::divide(left.as_seconds(), right.as_seconds())?))
        }
        (duration, number) => scale(duration, |part| decimal::divide(part, factor(number)?)),
    }
}

/// `-value` for a number; `None` for other types and for the least integer.
pub fn unary_minus(value: &Value) -> Option<Value> {
    Some(match value.plain() {
        Value::Integer(value) => Value::Integer(value.checked_neg()?),
        Value::Decimal(value) => Value::Decimal(value.checked_neg()?),
        Value::Float(value) => Value::Float(-*value),
        Value::Double(value) => Value::Double(-*value),
        _ => return None,
    })
}

/// `+value` for a number; `None` for other types.
pub fn unary_plus(value: &Value) -> Option<Value> {
    match value.plain() {
        number @ (Value::Integer(_) | Value::Decimal(_) | Value::Float(_) | Value::Double(_)) => Some(number.clone()),
        _ => None,
    }
}

fn add_durations(left: &Value, right: &Value) -> Option<Value> {
    Some(match (left, right) {
        (Value::YearMonthDuration(left), Value::YearMonthDuration(right)) => Value::YearMonthDuration(left.checked_add(*right)?),
        (Value::DayTimeDuration(left), Value::DayTimeDuration(right)) => Value::DayTimeDuration(left.checked_add(*right)?),
        (left, right) => {
            let (left, right) = (Parts::of(left)?, Parts::of(right)?);
            let months = left.months.checked_add(right.months)?;
            // A duration has one sign for both parts, so "P1M" less "P1D" is no duration.
            Value::Duration(Duration::new(months, left.seconds.checked_add(right.seconds)?).ok()?)
        }
    })
}

fn negate(duration: &Value) -> Option<Value> {
    Some(match duration {
        Value::Duration(value) => Value::Duration(value.checked_neg()?),
        Value::YearMonthDuration(value) => Value::YearMonthDuration(value.checked_neg()?),
        Value::DayTimeDuration(value) => Value::DayTimeDuration(value.checked_neg()?),
        _ => return None,
    })
}

// Moves a date or time by a duration.
fn move_by(value: &Value, by: Parts) -> Option<Value> {
    Some(match value {
        Value::DateTime(value) => Value::DateTime(move_date_time(*value, by)?),
        Value::Date(value) => {
            let moved = move_date_time(DateTime::try_from(*value).ok()?, by)?;
            Value::Date(Date::try_from(moved).ok()?)
        }
        // A time has no month to move.
        Value::Time(value) if by.months == 0 => Value::Time(value.checked_add_duration(DayTimeDuration::new(by.seconds))?),
        _ => return None,
    })
}

// Months first, then seconds, which is what XML Schema does. oxsdatatypes would take both at once, but walks month by month
// over the days of such a mixed duration.
fn move_date_time(value: DateTime, by: Parts) -> Option<DateTime> {
    value
        .checked_add_year_month_duration(YearMonthDuration::new(by.months))?
        .checked_add_day_time_duration(DayTimeDuration::new(by.seconds))
}

// The number a duration is multiplied with or divided by. XPath takes a double; decimals are exact where a double is not.
fn factor(number: &Value) -> Option<Decimal> {
    match number {
        Value::Integer(value) => Some((*value).into()),
        Value::Decimal(value) => Some(*value),
        Value::Float(value) => Decimal::try_from(*value).ok(),
        Value::Double(value) => Decimal::try_from(*value).ok(),
        _ => None,
    }
}

// Applies an operation to a duration of one part. Months are rounded to a whole number.
fn scale(duration: &Value, operation: impl Fn(Decimal) -> Option<Decimal>) -> Option<Value> {
    match duration {
        Value::YearMonthDuration(value) => {
            let scaled = operation(months(*value)?.into())?.checked_round()?;
            let months = Integer::try_from(scaled).ok()?;
            Some(Value::YearMonthDuration(YearMonthDuration::new(months)))
        }
        Value::DayTimeDuration(value) => Some(Value::DayTimeDuration(DayTimeDuration::new(operation(value.as_seconds())?))),
        _ => None,
    }
}
