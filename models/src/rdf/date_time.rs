//! `xsd:dateTime` and `xsd:date` in few bits, where their lexical form follows from the value: years 1 to 6429 (a date: 9999), whole milliseconds (three
//! digits of them or none), a zone as `Z`, `±hh:mm` or none. Everything else is left to the dictionary.

use std::fmt;

/// Zones: none, `Z`, then minutes from -14:00 to +14:00.
const NO_ZONE: u64 = 0;
const UTC: u64 = 1;
const ZONES_FROM: i64 = 2;
const ZONE_BITS: u32 = 11;
const MAX_ZONE: i64 = 14 * 60;

const MS_A_DAY: i64 = 86_400_000;
const DATE_TIME_BIAS: i64 = 1 << 47;
const DATE_BIAS: i64 = 1 << 31;

/// A time of day on a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTime {
    /// Milliseconds since 1970-01-01T00:00:00 in its own zone.
    pub local_ms: i64,
    /// Minutes east of UTC; `None`: no zone.
    pub zone: Option<Zone>,
    with_ms: bool,
}

/// A date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    /// Days since 1970-01-01.
    pub days: i64,
    /// Its zone.
    pub zone: Option<Zone>,
}

/// Minutes east of UTC, between -14:00 and +14:00. Zero is written `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone(i64);

impl Zone {
    fn parse(text: &str) -> Option<Option<Zone>> {
        match text.as_bytes() {
            [] => Some(None),
            [b'Z'] => Some(Some(Zone(0))),
            [sign @ (b'+' | b'-'), ..] if text.len() == 6 => {
                let (hours, minutes) = (number(&text[1..3])?, number(text[3..].strip_prefix(':')?)?);
                let total = hours * 60 + minutes;
                // An offset of zero is written otherwise, and so is another term.
                let fits = minutes < 60 && total > 0 && total <= MAX_ZONE;
                fits.then_some(Some(Zone(if *sign == b'-' { -total } else { total })))
            }
            _ => None,
        }
    }

    fn to_bits(zone: Option<Zone>) -> u64 {
        match zone {
            None => NO_ZONE,
            Some(Zone(0)) => UTC,
            Some(Zone(minutes)) => (minutes + MAX_ZONE + ZONES_FROM) as u64,
        }
    }

    fn from_bits(bits: u64) -> Option<Zone> {
        match bits {
            NO_ZONE => None,
            UTC => Some(Zone(0)),
            bits => Some(Zone((bits as i64 - MAX_ZONE - ZONES_FROM).clamp(-MAX_ZONE, MAX_ZONE))),
        }
    }
}

fn show_zone(zone: Option<Zone>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match zone {
        None => Ok(()),
        Some(Zone(0)) => f.write_str("Z"),
        Some(Zone(minutes)) => {
            let (sign, minutes) = (if minutes < 0 { '-' } else { '+' }, minutes.abs());
            write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
        }
    }
}

impl DateTime {
    /// Reads a form that can be written again.
    pub fn parse(text: &str) -> Option<DateTime> {
        let (date, time) = text.split_once('T')?;
        let days = parse_days(date)?;
        let clock = time.get(..8)?;
        let [b1, b2] = [clock.get(2..3)?, clock.get(5..6)?];
        if b1 != ":" || b2 != ":" {
            return None;
        }
        let (hours, minutes, seconds) = (number(clock.get(..2)?)?, number(clock.get(3..5)?)?, number(clock.get(6..)?)?);
        if hours > 23 || minutes > 59 || seconds > 59 {
            return None;
        }
        let rest = time.get(8..)?;
        let (ms, rest) = match rest.strip_prefix('.') {
            None => (None, rest),
            Some(fraction) => (Some(number(fraction.get(..3)?)?), fraction.get(3..)?),
        };
        let local_ms = days * MS_A_DAY + ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms.unwrap_or(0);
        Some(DateTime {
            local_ms,
            zone: Zone::parse(rest)?,
            // `.000` and nothing are different forms; so are `.500` and `.5`, of which only the first is read.
            with_ms: ms.is_some(),
        })
        .filter(|_| (-DATE_TIME_BIAS..DATE_TIME_BIAS).contains(&local_ms))
    }

    /// 60 bits.
    pub fn to_bits(self) -> u64 {
        let ms = (self.local_ms + DATE_TIME_BIAS) as u64;
        (ms << ZONE_BITS | Zone::to_bits(self.zone)) << 1 | u64::from(self.with_ms)
    }

    /// From 60 bits.
    pub fn from_bits(bits: u64) -> DateTime {
        DateTime {
            local_ms: (bits >> (ZONE_BITS + 1)) as i64 - DATE_TIME_BIAS,
            zone: Zone::from_bits(bits >> 1 & ((1 << ZONE_BITS) - 1)),
            with_ms: bits & 1 == 1,
        }
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.local_ms.div_euclid(MS_A_DAY), self.local_ms.rem_euclid(MS_A_DAY));
        show_days(days, f)?;
        let seconds = ms / 1000;
        write!(f, "T{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
        if self.with_ms {
            write!(f, ".{:03}", ms % 1000)?;
        }
        show_zone(self.zone, f)
    }
}

impl Date {
    /// Reads a form that can be written again.
    pub fn parse(text: &str) -> Option<Date> {
        Some(Date {
            days: parse_days(text.get(..10)?)?,
            zone: Zone::parse(text.get(10..)?)?,
        })
    }

    /// 43 bits.
    pub fn to_bits(self) -> u64 {
        ((self.days + DATE_BIAS) as u64) << ZONE_BITS | Zone::to_bits(self.zone)
    }

    /// From 43 bits.
    pub fn from_bits(bits: u64) -> Date {
        Date {
            days: (bits >> ZONE_BITS & u64::from(u32::MAX)) as i64 - DATE_BIAS,
            zone: Zone::from_bits(bits & ((1 << ZONE_BITS) - 1)),
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_days(self.days, f)?;
        show_zone(self.zone, f)
    }
}

/// A number of decimal digits only.
fn number(digits: &str) -> Option<i64> {
    let only_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| only_digits)
}

/// Days since 1970-01-01 of `yyyy-mm-dd`.
fn parse_days(text: &str) -> Option<i64> {
    if text.len() != 10 || text.get(4..5)? != "-" || text.get(7..8)? != "-" {
        return None;
    }
    let (year, month, day) = (number(text.get(..4)?)?, number(text.get(5..7)?)?, number(text.get(8..)?)?);
    let is_date = year >= 1 && (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    is_date.then(|| days_from_civil(year, month, day))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn show_days(days: i64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    write!(f, "{year:04}-{month:02}-{day:02}")
}
