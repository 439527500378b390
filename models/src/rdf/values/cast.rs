//! The constructor functions of XML Schema datatypes, section 17.5.

use super::calendar_cast;
use super::datatype::Datatype;
use super::lexical;
use super::value::Value;
use oxsdatatypes::{Decimal, Double, Float};

/// Casts a value to a datatype; `None` where XPath has no such cast or the value has no counterpart.
///
/// A string is read like a literal of the datatype, with white space around it dropped.
pub fn cast(value: &Value, datatype: Datatype) -> Option<Value> {
    let value = value.plain();
    if datatype == Datatype::String {
        return to_string(value);
    }
    if let Value::String(text) = value {
        let text = text.trim_matches([' ', '\t', '\n', '\r']);
        // The value is written anew, so "007" gives 7, but a derived datatype stays.
        return derived(datatype.parse(text)?, datatype);
    }
    let result = match datatype {
        Datatype::Boolean => Value::Boolean(to_boolean(value)?),
        Datatype::Decimal => Value::Decimal(to_decimal(value)?),
        Datatype::Float => Value::Float(to_float(value)?),
        Datatype::Double => Value::Double(to_double(value)?),
        other => match other.integer_range() {
            Some((least, greatest)) => {
                let integer = to_integer(value)?;
                if integer < least || integer > greatest {
                    return None;
                }
                Value::Integer(integer.into())
            }
            None => calendar_cast::cast(value, other)?,
        },
    };
    derived(result, datatype)
}

// Keeps a derived datatype, which the bare value does not have.
fn derived(value: Value, datatype: Datatype) -> Option<Value> {
    let text = lexical::canonical(&value);
    Some(value.written_as(&text, datatype))
}

fn to_string(value: &Value) -> Option<Value> {
    Some(Value::String(match value {
        Value::Iri(iri) => iri.as_str().to_owned(),
        Value::Blank(_) => return None,
        // The casting table does not have these; everybody casts them as STR does, and BSBM's prices are such.
        Value::LanguageString { .. } | Value::Other { .. } => value.lexical()?,
        value => lexical::canonical(value),
    }))
}

fn to_boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Boolean(value) => Some(*value),
        Value::Integer(value) => Some(i64::from(*value) != 0),
        Value::Decimal(value) => Some(*value != Decimal::default()),
        Value::Float(value) => Some(!value.is_nan() && f32::from(*value) != 0.0),
        Value::Double(value) => Some(!value.is_nan() && f64::from(*value) != 0.0),
        _ => None,
    }
}

fn to_integer(value: &Value) -> Option<i64> {
    match value {
        Value::Boolean(value) => Some((*value).into()),
        Value::Integer(value) => Some((*value).into()),
        Value::Decimal(value) => oxsdatatypes::Integer::try_from(*value).ok().map(Into::into),
        Value::Float(value) => truncate(f32::from(*value).into()),
        Value::Double(value) => truncate((*value).into()),
        _ => None,
    }
}

// The integer towards zero. NaN and everything outside the range of a 64 bit integer has none.
fn truncate(value: f64) -> Option<i64> {
    // Two to the power of 63, which a double holds exactly, is the first value that is too large.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let whole = value.trunc();
    (-LIMIT..LIMIT).contains(&whole).then_some(whole as i64)
}

fn to_decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::Boolean(value) => Some((*value).into()),
        Value::Integer(value) => Some((*value).into()),
        Value::Decimal(value) => Some(*value),
        // The shortest digits that stand for the number, so that 0.1 becomes 0.1 and not the binary fraction beside it.
        // Rust displays numbers without exponent.
        Value::Float(value) if f32::from(*value).is_finite() => lexical::parse_decimal(&f32::from(*value).to_string()),
        Value::Double(value) if value.is_finite() => lexical::parse_decimal(&f64::from(*value).to_string()),
        _ => None,
    }
}

fn to_float(value: &Value) -> Option<Float> {
    match value {
        Value::Boolean(value) => Some((*value as u8).into()),
        Value::Integer(value) => Some((*value).into()),
        Value::Decimal(value) => Some((*value).into()),
        Value::Float(value) => Some(*value),
        Value::Double(value) => Some((*value).into()),
        _ => None,
    }
}

fn to_double(value: &Value) -> Option<Double> {
    match value {
        Value::Boolean(value) => Some((*value as u8).into()),
        Value::Integer(value) => Some((*value).into()),
        Value::Decimal(value) => Some((*value).into()),
        Value::Float(value) => Some((*value).into()),
        Value::Double(value) => Some(*value),
        _ => None,
    }
}
