//! Comparison of durations.

use super::order::ordered;
use super::value::Value;
use oxsdatatypes::{DayTimeDuration, Decimal, Duration, YearMonthDuration};
use std::cmp::Ordering;

/// A duration as its two parts, which have no fixed ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) months: i64,
    pub(super) seconds: Decimal,
}

impl Parts {
    /// The parts of a duration of any kind, or `None` for any other value.
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Duration(value) => Self::of_duration(*value),
            Value::YearMonthDuration(value) => Some(Self {
                months: months(*value)?,
                seconds: Decimal::default(),
            }),
            Value::DayTimeDuration(value) => Some(Self {
                months: 0,
                seconds: value.as_seconds(),
            }),
            _ => None,
        }
    }

    fn of_duration(value: Duration) -> Option<Self> {
        let months = value.years().checked_mul(12)?.checked_add(value.months())?;
        let rest = value.checked_sub(YearMonthDuration::new(months))?;
        let seconds = DayTimeDuration::try_from(rest).ok()?.as_seconds();
        Some(Self { months, seconds })
    }

    /// The partial order of XML Schema: a duration is less when adding it gives less from each of four dates.
    ///
    /// oxsdatatypes has this order too, but walks month by month over the days of a mixed duration,
    /// so that "P1M99999999999999D" would keep it busy for hours. Here each end is one formula.
    pub(super) fn compare(self, other: Self) -> Option<Ordering> {
        let [first, others @ ..] = STARTS.map(|start| self.end_from(start).cmp(&other.end_from(start)));
        others.iter().all(|order| *order == first).then_some(first)
    }

    /// Bytes in a total order that agrees with the partial one wherever that one decides.
    pub(super) fn sort_key(self) -> Vec<u8> {
        let [start, ..] = STARTS;
        let (seconds, parts) = self.end_from(start);
        [seconds, parts, i128::from(self.months)].into_iter().flat_map(ordered).collect()
    }

    // Whole seconds and parts of a second from the start of year 0 to the end of a duration that begins at a month.
    fn end_from(self, (year, month): (i128, i128)) -> (i128, i128) {
        let months = year * 12 + (month - 1) + i128::from(self.months);
        let days = days_before(months.div_euclid(12), months.rem_euclid(12));
        // The seconds of a decimal are counted in units of ten to the power of minus eighteen.
        const UNIT: i128 = 1_000_000_000_000_000_000;
        let units = i128::from_be_bytes(self.seconds.to_be_bytes());
        (days * 86_400 + units.div_euclid(UNIT), units.rem_euclid(UNIT))
    }
}

// The four months XML Schema names, since between them they have every pattern of month lengths.
const STARTS: [(i128, i128); 4] = [(1696, 9), (1697, 2), (1903, 3), (1903, 7)];

// The days from the start of year 0 to the first of a month, which is counted from zero.
fn days_before(year: i128, month: i128) -> i128 {
    const BEFORE: [i128; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap_days = |years: i128| years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
    let is_leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    let before = usize::try_from(month)
        .ok()
        .and_then(|month| BEFORE.get(month))
        .copied()
        .unwrap_or(0);
    year * 365 + leap_days(year - 1) + before + i128::from(is_leap && month > 1)
}

/// All months of a duration, or `None` on overflow, which no value of the type reaches.
pub(super) fn months(value: YearMonthDuration) -> Option<i64> {
    value.years().checked_mul(12)?.checked_add(value.months())
}
