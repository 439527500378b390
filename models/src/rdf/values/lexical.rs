//! From lexical forms to values and back.

use super::datatype::Datatype;
use super::value::{Gregorian, Value};
use oxsdatatypes::{Date, Decimal, Duration, GMonthDay};
use std::fmt::{self, Display, Write};
use std::str::FromStr;

impl Datatype {
    /// The value of a lexical form, or `None` when it is ill-formed or outside the supported range.
    pub(super) fn parse(self, lexical: &str) -> Option<Value> {
        Some(match self {
            Self::String => Value::String(lexical.to_owned()),
            Self::Boolean => match lexical {
                "true" | "1" => Value::Boolean(true),
                "false" | "0" => Value::Boolean(false),
                _ => return None,
            },
            Self::Decimal => Value::Decimal(parse_decimal(lexical)?),
            Self::Float => Value::Float(parse_float::<f32>(lexical)?.into()),
            Self::Double => Value::Double(parse_float::<f64>(lexical)?.into()),
            Self::DateTime => Value::DateTime(lexical.parse().ok()?),
            Self::DateTimeStamp => {
                let value: oxsdatatypes::DateTime = lexical.parse().ok()?;
                // A time stamp is a dateTime that must have a timezone.
                value.timezone_offset()?;
                Value::DateTime(value)
            }
            Self::Date => Value::Date(lexical.parse().ok()?),
            Self::Time => Value::Time(lexical.parse().ok()?),
            Self::GYear => Value::Gregorian(Gregorian::Year(lexical.parse().ok()?)),
            Self::GYearMonth => Value::Gregorian(Gregorian::YearMonth(lexical.parse().ok()?)),
            Self::GMonth => Value::Gregorian(Gregorian::Month(lexical.parse().ok()?)),
            Self::GMonthDay => Value::Gregorian(Gregorian::MonthDay(parse_month_day(lexical)?)),
            Self::GDay => Value::Gregorian(Gregorian::Day(lexical.parse().ok()?)),
            Self::Duration => Value::Duration(parse_duration::<Duration>(lexical)?),
            Self::YearMonthDuration => Value::YearMonthDuration(parse_duration(lexical)?),
            Self::DayTimeDuration => Value::DayTimeDuration(parse_duration(lexical)?),
            integer => {
                let (least, greatest) = integer.integer_range()?;
                let value = i64::from_str(lexical).ok()?;
                if value < least || value > greatest {
                    return None;
                }
                Value::Integer(value.into())
            }
        })
    }

    /// Whether a lexical form is a number of an integer or decimal datatype, however many digits it has.
    ///
    /// This tells a number that is too large for this implementation from an ill-formed one.
    pub(super) fn is_wide_number(self, lexical: &str) -> bool {
        let negative = lexical.starts_with('-');
        let digits = lexical.strip_prefix(['+', '-']).unwrap_or(lexical);
        let only_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        let is_integer = !digits.is_empty() && only_digits(digits);
        match self {
            Self::Integer => is_integer,
            Self::NonNegativeInteger | Self::PositiveInteger => is_integer && !negative,
            Self::NonPositiveInteger | Self::NegativeInteger => is_integer && negative,
            Self::UnsignedLong => u64::from_str(lexical).is_ok(),
            Self::Decimal => {
                let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
                only_digits(whole) && only_digits(fraction) && !(whole.is_empty() && fraction.is_empty())
            }
            _ => false,
        }
    }
}

/// A decimal, with the fraction digits beyond the eighteenth cut off as XML Schema lets a processor do.
pub(super) fn parse_decimal(lexical: &str) -> Option<Decimal> {
    if let Ok(value) = Decimal::from_str(lexical) {
        return Some(value);
    }
    let (whole, fraction) = lexical.split_once('.')?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let kept = fraction.get(..18)?;
    // An empty whole part is allowed before a fraction, and the sign is part of it.
    Decimal::from_str(&format!("{whole}.{kept}")).ok()
}

// Rust also reads "inf", "infinity" and "nan" in any case, which XML Schema does not.
fn parse_float<F: FromStr>(lexical: &str) -> Option<F> {
    let special = matches!(lexical, "INF" | "+INF" | "-INF" | "NaN");
    let digits = || {
        lexical
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'))
    };
    if special || digits() { lexical.parse().ok() } else { None }
}

// The parser of oxsdatatypes takes "P1YT", but a "T" must have a time after it.
fn parse_duration<D: FromStr>(lexical: &str) -> Option<D> {
    if lexical.ends_with('T') {
        return None;
    }
    lexical.parse().ok()
}

// The parser of oxsdatatypes refuses the 29th of February, which needs no year to be a day. It is taken from a leap year.
fn parse_month_day(lexical: &str) -> Option<GMonthDay> {
    match lexical.strip_prefix("--02-29") {
        Some(timezone) => Some(GMonthDay::from(Date::from_str(&format!("1972-02-29{timezone}")).ok()?)),
        None => lexical.parse().ok(),
    }
}

/// The canonical lexical form of a value; the string itself for a string and an empty one for an IRI or blank node.
pub(super) fn canonical(value: &Value) -> String {
    let mut text = String::new();
    // Writing to a string fails only when a value has no lexical form, which the parsers and operators rule out.
    let _ = write_canonical(value, &mut text);
    text
}

/// Whether a lexical form is the canonical one of a value. Nothing is allocated.
pub(super) fn is_canonical(value: &Value, lexical: &str) -> bool {
    let mut rest = Rest(lexical);
    write_canonical(value, &mut rest).is_ok() && rest.0.is_empty()
}

// What of the expected text is still to be written.
struct Rest<'a>(&'a str);

impl Write for Rest<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(text).ok_or(fmt::Error)?;
        Ok(())
    }
}

fn write_canonical(value: &Value, out: &mut dyn Write) -> fmt::Result {
    let shown: &dyn Display = match value {
        Value::Iri(_) | Value::Blank(_) => return Ok(()),
        Value::String(value) | Value::LanguageString { value, .. } => value,
        Value::Other { lexical, .. } => lexical,
        Value::Boolean(value) => value,
        Value::Integer(value) => value,
        Value::Decimal(value) => value,
        Value::Float(value) => value,
        Value::Double(value) => value,
        Value::DateTime(value) => value,
        Value::Date(value) => value,
        Value::Time(value) => value,
        Value::Gregorian(Gregorian::Year(value)) => value,
        Value::Gregorian(Gregorian::YearMonth(value)) => value,
        Value::Gregorian(Gregorian::Month(value)) => value,
        Value::Gregorian(Gregorian::MonthDay(value)) => value,
        Value::Gregorian(Gregorian::Day(value)) => value,
        Value::Duration(value) => value,
        Value::YearMonthDuration(value) => value,
        Value::DayTimeDuration(value) => value,
        // The value inside is never written itself, so this goes one level deep.
        Value::Written(written) => return write_canonical(written.value.plain(), out),
    };
    write!(out, "{shown}")
}
