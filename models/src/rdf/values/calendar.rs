//! Comparison of dates and times, with and without a timezone.

use super::order::ordered;
use super::value::{Gregorian, Value};
use oxsdatatypes::Decimal;
use std::cmp::Ordering;

/// A place on the time line: seconds, and whether a timezone fixes them.
///
/// The derived order is total. It takes a value without timezone as one in UTC, which agrees with the partial order of
/// XML Schema wherever that one decides, and puts the value without timezone first among equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    seconds: Decimal,
    has_timezone: bool,
}

impl Moment {
    // The first 16 bytes of every date and time of oxsdatatypes are its seconds, the last two its timezone.
    fn new(bytes: [u8; 18], has_timezone: bool) -> Option<Self> {
        let seconds = Decimal::from_be_bytes(*bytes.first_chunk::<16>()?);
        Some(Self { seconds, has_timezone })
    }

    /// The moment of a date or time of any kind, or `None` for any other value.
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::DateTime(value) => Self::new(value.to_be_bytes(), value.timezone_offset().is_some()),
            Value::Date(value) => Self::new(value.to_be_bytes(), value.timezone_offset().is_some()),
            Value::Time(value) => Self::new(value.to_be_bytes(), value.timezone_offset().is_some()),
            Value::Gregorian(Gregorian::Year(value)) => Self::new(value.to_be_bytes(), value.timezone_offset().is_some()),
            Value::Gregorian(Gregorian::YearMonth(value)) => Self::new(value.to_be_bytes(), value.timezone_offset().is_some()),
            Value::Gregorian(Gregorian::Month(value)) => Self::new(value.to_be_bytes(), value.timezone_offset().is_some()),
            Value::Gregorian(Gregorian::MonthDay(value)) => Self::new(value.to_be_bytes(), value.timezone_offset().is_some()),
            Value::Gregorian(Gregorian::Day(value)) => Self::new(value.to_be_bytes(), value.timezone_offset().is_some()),
            _ => None,
        }
    }

    /// Bytes in the derived order.
    pub(super) fn sort_key(self) -> [u8; 17] {
        let mut key = [u8::from(self.has_timezone); 17];
        key[..16].copy_from_slice(&ordered(i128::from_be_bytes(self.seconds.to_be_bytes())));
        key
    }

    /// The partial order of XML Schema.
    ///
    /// `None` when one value has a timezone, the other has not, and some timezone could turn the order round.
    pub(super) fn compare(self, other: Self) -> Option<Ordering> {
        if self.has_timezone == other.has_timezone {
            return Some(self.seconds.cmp(&other.seconds));
        }
        // Timezones reach 14 hours to either side.
        let least = self.seconds.checked_sub(14 * 3600)?.cmp(&other.seconds);
        let greatest = self.seconds.checked_add(14 * 3600)?.cmp(&other.seconds);
        (least == greatest).then_some(least)
    }
}
