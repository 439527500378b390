use super::super::{Value, sort_key};
use super::value;
use std::cmp::Ordering;

// In the order of ORDER BY, where each inner list has terms of one place.
const ORDERED: &[&[&str]] = &[
    &["_:a"],
    &["_:b"],
    &["<http://a>"],
    &["<http://b>"],
    &[r#""-INF"^^xsd:double"#],
    &["-1e300"],
    &[r#""-9223372036854775808"^^xsd:integer"#, r#""-9223372036854775808"^^xsd:double"#],
    &["-1.5"],
    &["-1e-300"],
    &["0", "0.0", r#""-0"^^xsd:double"#],
    &["5e-324"],
    &["0.000000000000000001"],
    // The nearest double is above it.
    &["1e-18"],
    &["0.1"],
    // The binary fractions beside one tenth.
    &[r#""0.1"^^xsd:double"#],
    &[r#""0.1"^^xsd:float"#],
    &["1", "1.0", "1e0", r#""01"^^xsd:byte"#],
    &["9007199254740992", "9007199254740992e0"],
    &["9007199254740993"],
    &["9007199254740994", "9007199254740994e0"],
    &["170141183460469231731.687303715884105727"],
    &["1e21"],
    &[r#""INF"^^xsd:float"#],
    &[r#""NaN"^^xsd:double"#, r#""NaN"^^xsd:float"#],
    &[r#""""#],
    &[r#""1""#],
    &[r#""a""#],
    &[r#""a"@en"#, r#""a"@EN"#],
    &[r#""a"@fr"#],
    &[r#""b"@en"#],
    &["false", r#""0"^^xsd:boolean"#],
    &["true"],
    &[r#""2010-01-01T00:00:00"^^xsd:dateTime"#],
    &[
        r#""2010-01-01T00:00:00Z"^^xsd:dateTime"#,
        r#""2010-01-01T01:00:00+01:00"^^xsd:dateTime"#,
    ],
    &[r#""2010-01-01T00:00:01"^^xsd:dateTime"#],
    &[r#""2010-01-01"^^xsd:date"#],
    &[r#""10:00:00"^^xsd:time"#],
    &[r#""-0010"^^xsd:gYear"#],
    &[r#""2010"^^xsd:gYear"#],
    &[r#""2010-01"^^xsd:gYearMonth"#],
    &[r#""--02"^^xsd:gMonth"#],
    &[r#""--02-29"^^xsd:gMonthDay"#],
    &[r#""---31"^^xsd:gDay"#],
    &[r#""-P1Y"^^xsd:yearMonthDuration"#],
    &[r#""PT0S"^^xsd:dayTimeDuration"#, r#""P0Y"^^xsd:yearMonthDuration"#],
    &[r#""P30D"^^xsd:dayTimeDuration"#],
    &[r#""P1M"^^xsd:duration"#],
    &[r#""P31D"^^xsd:duration"#],
    &[r#""a"^^<http://t1>"#],
    &[r#""b"^^<http://t1>"#],
    &[r#""a"^^<http://t2>"#],
    &[r#""x"^^xsd:integer"#],
];

fn order(left: &Value, right: &Value) -> Ordering {
    sort_key(left).cmp(&sort_key(right))
}

#[test]
fn terms_have_a_total_order() {
    let places = || {
        ORDERED
            .iter()
            .enumerate()
            .flat_map(|(place, terms)| terms.iter().map(move |term| (place, *term)))
    };
    for (place, left) in places() {
        for (other, right) in places() {
            // A duration of one month from September has thirty days, so the tie is broken by the number of months.
            assert_eq!(order(&value(left), &value(right)), place.cmp(&other), "{left} {right}");
        }
    }
    assert_eq!(order(&value("1"), &value("1")), Ordering::Equal);
}
