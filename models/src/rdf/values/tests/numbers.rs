use super::super::Function;
use super::check_calls;

#[test]
fn rounding() {
    check_calls(
        Function::Round,
        &[
            (&["-2"], "-2"),
            (&["-1.6"], r#""-2"^^xsd:decimal"#),
            (&["1.1"], r#""1"^^xsd:decimal"#),
            (&["2.5"], r#""3"^^xsd:decimal"#),
            (&["-2.5"], r#""-2"^^xsd:decimal"#),
            (&[r#""-2.5"^^xsd:double"#], r#""-2"^^xsd:double"#),
            (&[r#""-0.2"^^xsd:double"#], r#""-0"^^xsd:double"#),
            (&[r#""0.49999999999999994"^^xsd:double"#], r#""0"^^xsd:double"#),
            (&[r#""2.5"^^xsd:float"#], r#""3"^^xsd:float"#),
            (&[r#""NaN"^^xsd:double"#], r#""NaN"^^xsd:double"#),
            (&[r#""1"^^xsd:byte"#], "1"),
            (&["170141183460469231731.6"], ""),
            (&[r#""1""#], ""),
            (&[], ""),
        ],
    );
    check_calls(
        Function::Ceil,
        &[
            (&["1.1"], r#""2"^^xsd:decimal"#),
            (&["-1.6"], r#""-1"^^xsd:decimal"#),
            (&["-1"], "-1"),
            (&["-0.5e0"], r#""-0"^^xsd:double"#),
        ],
    );
    check_calls(
        Function::Floor,
        &[
            (&["2.5"], r#""2"^^xsd:decimal"#),
            (&["-1.6"], r#""-2"^^xsd:decimal"#),
            (&["1", "2"], ""),
        ],
    );
    check_calls(
        Function::Abs,
        &[
            (&["-1"], "1"),
            (&["-1.6"], "1.6"),
            (&[r#""-0"^^xsd:double"#], r#""0"^^xsd:double"#),
            (&["-9223372036854775808"], ""),
            (&[r#""-INF"^^xsd:float"#], r#""INF"^^xsd:float"#),
            (&["true"], ""),
        ],
    );
}
