use super::super::{GroupConcat, Sum, Value};
use super::{check, value};

// The results of the aggregates over the same group, where an empty text is an error.
fn check_group(group: &[&str], sum: &str, avg: &str, concat: &str) {
    let (mut all_sum, mut all_concat) = (Sum::default(), GroupConcat::default());
    for text in group {
        let value: Option<Value> = Some(*text).filter(|text| !text.is_empty()).map(value);
        all_sum.add(value.as_ref());
        all_concat.add(value.as_ref());
    }
    let average = all_sum.clone().average(group.len() as i64);
    for (result, expected) in [all_sum.finish(), average, all_concat.finish()].into_iter().zip([sum, avg, concat]) {
        check(
            result,
            Some(expected).filter(|text| !text.is_empty()),
            &format!("{group:?} {expected}"),
        );
    }
}

#[test]
fn groups() {
    check_group(&[], "0", "0", r#""""#);
    check_group(&["1", "2", "3"], "6", r#""2"^^xsd:decimal"#, r#""1 2 3""#);
    check_group(&["1.0", "2.2", "3.5"], "6.7", "2.233333333333333333", r#""1.0 2.2 3.5""#);
    check_group(&["1.0", "2.2", "3.5", "2.2", "2.2"], "11.1", "2.22", r#""1.0 2.2 3.5 2.2 2.2""#);
    check_group(
        &["1.0E2", "2.0E3", "3.0E4"],
        r#""32100"^^xsd:double"#,
        r#""10700"^^xsd:double"#,
        r#""1.0E2 2.0E3 3.0E4""#,
    );
    check_group(&["2E-1", "0.2"], r#""0.4"^^xsd:double"#, r#""0.2"^^xsd:double"#, r#""2E-1 0.2""#);
    check_group(&["1", "_:b", "3"], "", "", "");
    check_group(&["1", r#""2""#, "3"], "", "", r#""1 2 3""#);
    check_group(&["1", "", "3"], "", "", "");
    check_group(&[r#""1"@en"#], "", "", r#""1""#);
    check_group(&["9223372036854775807", "1"], "", "", r#""9223372036854775807 1""#);
    check_group(&[r#""05"^^xsd:byte"#], "5", r#""5"^^xsd:decimal"#, r#""05""#);
    check_group(&["1.0", "1"], r#""2"^^xsd:decimal"#, r#""1"^^xsd:decimal"#, r#""1.0 1""#);
}

#[test]
fn separators() {
    let mut concat = GroupConcat::new("");
    for text in [r#""""#, "<http://a>", r#""""#] {
        concat.add(Some(&value(text)));
    }
    check(concat.finish(), Some(r#""http://a""#), "empty separator");
    let mut concat = GroupConcat::new("; ");
    for _ in 0..3 {
        concat.add(Some(&value(r#""""#)));
    }
    check(concat.finish(), Some(r#""; ; ""#), "empty strings count");
}
