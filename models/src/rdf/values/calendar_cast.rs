//! Casts between dates, times and durations.

use super::datatype::Datatype;
use super::duration::Parts;
use super::value::{Gregorian, Value};
use oxsdatatypes::{Date, DateTime, DayTimeDuration, Duration, GDay, GMonth, GMonthDay, GYear, GYearMonth, Time, YearMonthDuration};

/// Casts a date, time or duration; `None` where the source lacks a part of the target.
pub(super) fn cast(value: &Value, datatype: Datatype) -> Option<Value> {
    Some(match datatype {
        Datatype::Duration | Datatype::YearMonthDuration | Datatype::DayTimeDuration => {
            let Parts { months, seconds } = Parts::of(value)?;
            match datatype {
                // The part the target does not have is dropped.
                Datatype::YearMonthDuration => Value::YearMonthDuration(YearMonthDuration::new(months)),
                Datatype::DayTimeDuration => Value::DayTimeDuration(DayTimeDuration::new(seconds)),
                _ => Value::Duration(Duration::new(months, seconds).ok()?),
            }
        }
        Datatype::DateTime => Value::DateTime(to_date_time(value)?),
        Datatype::DateTimeStamp => {
            let value = to_date_time(value)?;
            value.timezone_offset()?;
            Value::DateTime(value)
        }
        Datatype::Time => match value {
            Value::Time(value) => Value::Time(*value),
            Value::DateTime(value) => Value::Time(Time::from(*value)),
            _ => return None,
        },
        Datatype::Date => Value::Date(to_date(value)?),
        Datatype::GYear => Value::Gregorian(match value {
            Value::Gregorian(same @ Gregorian::Year(_)) => *same,
            value => Gregorian::Year(GYear::try_from(to_date(value)?).ok()?),
        }),
        Datatype::GYearMonth => Value::Gregorian(match value {
            Value::Gregorian(same @ Gregorian::YearMonth(_)) => *same,
            // The conversion from a date would panic at the end of the range of years.
            value => Gregorian::YearMonth(GYearMonth::try_from(to_date_time(value)?).ok()?),
        }),
        Datatype::GMonth => Value::Gregorian(match value {
            Value::Gregorian(same @ Gregorian::Month(_)) => *same,
            value => Gregorian::Month(GMonth::from(to_date(value)?)),
        }),
        Datatype::GMonthDay => Value::Gregorian(match value {
            Value::Gregorian(same @ Gregorian::MonthDay(_)) => *same,
            value => Gregorian::MonthDay(GMonthDay::from(to_date(value)?)),
        }),
        Datatype::GDay => Value::Gregorian(match value {
            Value::Gregorian(same @ Gregorian::Day(_)) => *same,
            value => Gregorian::Day(GDay::from(to_date(value)?)),
        }),
        _ => return None,
    })
}

fn to_date_time(value: &Value) -> Option<DateTime> {
    match value {
        Value::DateTime(value) => Some(*value),
        Value::Date(value) => DateTime::try_from(*value).ok(),
        _ => None,
    }
}

fn to_date(value: &Value) -> Option<Date> {
    match value {
        Value::Date(value) => Some(*value),
        Value::DateTime(value) => Date::try_from(*value).ok(),
        _ => None,
    }
}
