//! Numeric type promotion.

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
