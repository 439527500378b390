//! Odd inputs: nothing here has an expected result, only that there is one, without a panic, and that laws hold.

use super::super::compare::compare;
use super::super::{Datatype, Function, Value, add, cast, divide, effective_boolean, equals, multiply, subtract, unary_minus, unary_plus};
use super::call;
use super::samples::{FUNCTIONS, LEXICAL, NAMES, samples};
use oxrdf::{Literal, NamedNode, Term};
use std::cmp::Ordering;

#[test]
fn terms_come_back_and_have_a_boolean_value() {
    for lexical in LEXICAL {
        for name in NAMES {
            let datatype = NamedNode::new_unchecked(format!("http://www.w3.org/2001/XMLSchema#{name}"));
            let term: Term = Literal::new_typed_literal(*lexical, datatype).into();
            let value = Value::from(&term);
            effective_boolean(&value);
            assert_eq!(value.into_term(), term);
        }
    }
}

// A result must have a term, and that term must read as the same value again.
pub fn use_result(result: Option<Value>, case: &str) {
    if let Some(value) = result {
        let term = value.clone().into_term();
        let again = Value::from(&term);
        assert_eq!(again.into_term(), term, "{case}");
    }
}

// Calls what takes dates, times and durations.
pub fn take_apart(value: &Value) {
    for function in [
        Function::Year,
        Function::Month,
        Function::Day,
        Function::Hours,
        Function::Minutes,
        Function::Seconds,
        Function::Tz,
    ] {
        use_result(call(function, std::slice::from_ref(value)), "part");
    }
    for datatype in [
        Datatype::String,
        Datatype::DateTime,
        Datatype::Date,
        Datatype::Time,
        Datatype::GYear,
        Datatype::GYearMonth,
        Datatype::GMonth,
        Datatype::GMonthDay,
        Datatype::GDay,
        Datatype::Duration,
        Datatype::YearMonthDuration,
        Datatype::DayTimeDuration,
    ] {
        use_result(cast(value, datatype), "cast");
    }
}

#[test]
fn operators_take_anything() {
    let values = samples();
    for left in &values {
        use_result(unary_minus(left), "minus");
        use_result(unary_plus(left), "plus");
        for datatype in NAMES {
            let iri = format!("http://www.w3.org/2001/XMLSchema#{datatype}");
            if let Some(datatype) = Datatype::of(NamedNode::new_unchecked(iri).as_ref()) {
                use_result(cast(left, datatype), &format!("cast {left:?}"));
            }
        }
        for right in &values {
            assert_eq!(equals(left, right), equals(right, left), "{left:?} {right:?}");
            let compared = compare(left, right);
            assert_eq!(compared, compare(right, left).map(Ordering::reverse), "{left:?} {right:?}");
        }
    }
}

#[test]
fn arithmetic_takes_anything() {
    let values = samples();
    for left in &values {
        for right in &values {
            for operator in [add, subtract, multiply, divide] {
                let result = operator(left, right);
                // Far dates and long durations come only from arithmetic, so the functions must see them too.
                if let Some(value) = result.as_ref().filter(|value| !matches!(value, Value::Integer(_))) {
                    take_apart(value);
                }
                use_result(result, "arithmetic");
            }
        }
    }
}

#[test]
fn functions_take_anything() {
    let values = samples();
    for function in FUNCTIONS {
        use_result(call(*function, &[]), "none");
        for value in &values {
            use_result(call(*function, std::slice::from_ref(value)), "one");
        }
        // Functions of several arguments take strings and small integers, so the others are thinned out.
        let few: Vec<&Value> = values
            .iter()
            .enumerate()
            .filter(|(index, value)| index % 40 == 0 || matches!(value, Value::String(_)))
            .map(|(_, value)| value)
            .collect();
        for left in &few {
            for right in &few {
                use_result(call(*function, &[(*left).clone(), (*right).clone()]), "two");
            }
        }
    }
}
