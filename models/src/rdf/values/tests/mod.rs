//! Tables in the spirit of the W3C test suite. Terms are written as in Turtle, with the prefix `xsd:`.

mod aggregate;
mod arithmetic;
mod cast;
mod compare;
mod dates;
mod hashes;
mod numbers;
mod odd;
mod order;
mod pattern;
mod random;
mod samples;
mod strings;
mod terms;
mod value;

use super::{Function, Value};
use oxrdf::Term;

/// The term behind a text such as `"01"^^xsd:integer`, `"a"@en`, `<http://a>`, `_:b`, `1`, `1.5`, `1e0` or `true`.
pub fn term(text: &str) -> Term {
    let text = match text.rsplit_once("^^xsd:") {
        Some((literal, name)) => format!("{literal}^^<http://www.w3.org/2001/XMLSchema#{name}>"),
        None => text.to_owned(),
    };
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub fn value(text: &str) -> Value {
    Value::from(&term(text))
}

/// Compares a result with the term it should be, or with an error.
pub fn check(result: Option<Value>, expected: Option<&str>, case: &str) {
    assert_eq!(result.map(Value::into_term), expected.map(term), "{case}");
}

/// Calls a function that makes no string that is too long.
pub fn call(function: Function, arguments: &[Value]) -> Option<Value> {
    super::call(function, arguments).unwrap()
}

/// Checks a table of arguments, separated by `, `, and results, where an empty result is an error.
pub fn check_calls(function: Function, table: &[(&[&str], &str)]) {
    for (arguments, expected) in table {
        let values: Vec<Value> = arguments.iter().map(|argument| value(argument)).collect();
        check(
            call(function, &values),
            Some(*expected).filter(|text| !text.is_empty()),
            &format!("{function:?} {arguments:?}"),
        );
    }
}

/// Checks a table of a binary operator, where an empty result is an error.
pub fn check_operator(operator: fn(&Value, &Value) -> Option<Value>, table: &[(&str, &str, &str)]) {
    for (left, right, expected) in table {
        let result = operator(&value(left), &value(right));
        check(result, Some(*expected).filter(|text| !text.is_empty()), &format!("{left} {right}"));
    }
}
