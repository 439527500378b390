//! Random inputs from pieces of valid ones, the same in every run.

use super::super::{Function, Value, add, equals, subtract};
use super::call;
use super::odd::{take_apart, use_result};
use super::samples::NAMES;
use oxrdf::{Literal, NamedNode, Term};

// A small generator of numbers, always the same, so that a failure comes back.
fn generator() -> impl FnMut(usize) -> usize {
    let mut state = 1_u64;
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    }
}

#[test]
fn random_lexical_forms() {
    let mut random = generator();
    let pieces = [
        "0",
        "1",
        "9",
        "12",
        "31",
        "59",
        "99",
        "2010",
        "-",
        "-",
        "+",
        ".",
        ":",
        ":",
        "T",
        "Z",
        "P",
        "Y",
        "M",
        "D",
        "H",
        "S",
        "e",
        "E",
        "INF",
        "NaN",
        "2010-01-01",
        "00:00:00",
        "--",
        "14:00",
        "999999999999",
        "é",
        " ",
    ];
    let mut known = 0;
    for _ in 0..10_000 {
        let lexical: String = (0..random(7)).map(|_| pieces[random(pieces.len())]).collect();
        for name in &NAMES[1..21] {
            let datatype = NamedNode::new_unchecked(format!("http://www.w3.org/2001/XMLSchema#{name}"));
            let term: Term = Literal::new_typed_literal(lexical.as_str(), datatype).into();
            let value = Value::from(&term);
            if !matches!(value, Value::Other { .. }) {
                known += 1;
                take_apart(&value);
                use_result(add(&value, &value), "add");
                use_result(subtract(&value, &value), "subtract");
                assert_ne!(equals(&value, &value), None, "{term}");
            }
            assert_eq!(value.into_term(), term);
        }
    }
    assert!(known > 3_000, "{known}");
}

#[test]
fn random_patterns() {
    let mut random = generator();
    let pieces = [
        "a", "b", "[", "]", "[^", "-", "-[", "(", ")", "(?:", "(?", "|", "*", "+", "?", "{2}", "{", "}", "\\", "\\d", "\\i", "\\C",
        "\\p{L}", "\\p{", "^", "$", ".", "&&", "~~", "--", " ", "#", "é", "\n", "\\1", "$1", "\\$",
    ];
    let mut valid = 0;
    for _ in 0..4_000 {
        let mut text = |longest: usize| (0..random(longest)).map(|_| pieces[random(pieces.len())]).collect::<String>();
        let arguments = [text(8), text(9), text(4), ["", "i", "x", "q", "smx"][random(5)].to_owned()].map(Value::String);
        valid += usize::from(call(Function::Replace, &arguments).is_some());
        let [text, pattern, _, flags] = arguments;
        call(Function::Regex, &[text, pattern, flags]);
    }
    assert!(valid > 100, "{valid}");
}
