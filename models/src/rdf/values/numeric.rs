//! Numeric type promotion.

use super::order::ordered;
use super::value::Value;
use oxsdatatypes::{Decimal, Double, Float, Integer};

/// Two numbers of the same type.
pub(super) enum Pair {
    Integer(Integer, Integer),
    Decimal(Decimal, Decimal),
    Float(Float, Float),
    Double(Double, Double),
}

// The types in the order of promotion.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Type {
    Integer,
    Decimal,
    Float,
    Double,
}

fn numeric_type(value: &Value) -> Option<Type> {
    match value {
        Value::Integer(_) => Some(Type::Integer),
        Value::Decimal(_) => Some(Type::Decimal),
        Value::Float(_) => Some(Type::Float),
        Value::Double(_) => Some(Type::Double),
        _ => None,
    }
}

/// Promotes two numbers to the wider of their types, integer to decimal to float to double; `None` when one is no number.
pub(super) fn promote(left: &Value, right: &Value) -> Option<Pair> {
    let (left, right) = (left.plain(), right.plain());
    Some(match numeric_type(left)?.max(numeric_type(right)?) {
        Type::Integer => match (left, right) {
            (Value::Integer(left), Value::Integer(right)) => Pair::Integer(*left, *right),
            _ => return None,
        },
        Type::Decimal => Pair::Decimal(to_decimal(left)?, to_decimal(right)?),
        Type::Float => Pair::Float(to_float(left)?, to_float(right)?),
        Type::Double => Pair::Double(to_double(left)?, to_double(right)?),
    })
}

fn to_decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::Integer(value) => Some((*value).into()),
        Value::Decimal(value) => Some(*value),
        _ => None,
    }
}

fn to_float(value: &Value) -> Option<Float> {
    match value {
        Value::Integer(value) => Some((*value).into()),
        Value::Decimal(value) => Some((*value).into()),
        Value::Float(value) => Some(*value),
        _ => None,
    }
}

/// A number as a double, or `None` for a value that is no number.
pub(super) fn to_double(value: &Value) -> Option<Double> {
    match value {
        Value::Integer(value) => Some((*value).into()),
        Value::Decimal(value) => Some((*value).into()),
        Value::Float(value) => Some((*value).into()),
        Value::Double(value) => Some(*value),
        _ => None,
    }
}

/// Bytes in the order of the numbers by their exact value, with NaN after everything; `None` for what is no number.
///
/// Comparing after promotion is no order: two integers that differ may both equal the same float. So the key is the nearest double, and then
/// how far the number is from that one, in a unit that follows from the double.
pub(super) fn sort_key(value: &Value) -> Option<[u8; 24]> {
    const UNIT: i128 = 1_000_000_000_000_000_000;
    let (nearest, rest) = match to_decimal(value) {
        None => (f64::from(to_double(value)?), 0),
        Some(decimal) => {
            let units = i128::from_be_bytes(decimal.to_be_bytes());
            let nearest: f64 = match i64::try_from(units / UNIT) {
                Ok(whole) if units % UNIT == 0 => whole as f64,
                // The conversion from text rounds once; a division of what was rounded would round twice.
                _ => format!("{units}e-18").parse().ok()?,
            };
            (nearest, rest(units, nearest))
        }
    };
    // The two zeros are equal, and so are all that are no number.
    let bits = match nearest {
        nearest if nearest.is_nan() => f64::NAN.to_bits() & (u64::MAX >> 1),
        0.0 => 0,
        nearest => nearest.to_bits(),
    };
    let bits = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    let mut key = [0; 24];
    key[..8].copy_from_slice(&bits.to_be_bytes());
    key[8..].copy_from_slice(&ordered(rest));
    Some(key)
}

/// A number of units of ten to the power of minus eighteen less its nearest double, in parts of a unit that only the double decides.
fn rest(units: i128, nearest: f64) -> i128 {
    const UNIT: i128 = 1_000_000_000_000_000_000;
    // A double is an integer below 2^53 times a power of two.
    let bits = nearest.abs().to_bits();
    let exponent = (bits >> 52) as i32;
    let mantissa = i128::from((bits & ((1 << 52) - 1)) | if exponent == 0 { 0 } else { 1 << 52 });
    let power = exponent.max(1) - 1075;
    let mantissa = if nearest.is_sign_negative() { -mantissa } else { mantissa };
    // No decimal is nearer to zero than 10^-18 or farther than 2^67; the difference is small even where a product wraps.
    match u32::try_from(power) {
        Ok(power) => units.wrapping_sub((mantissa << power.min(126)).wrapping_mul(UNIT)),
        Err(_) => (units << power.unsigned_abs().min(126)).wrapping_sub(mantissa.wrapping_mul(UNIT)),
    }
}
