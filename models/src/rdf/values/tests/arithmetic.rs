use super::super::{add, divide, multiply, subtract, unary_minus, unary_plus};
use super::{check, check_operator, value};

#[test]
fn numbers() {
    check_operator(
        add,
        &[
            ("1", "2", "3"),
            (r#""01"^^xsd:byte"#, r#""2"^^xsd:int"#, "3"),
            ("1.0", "2", r#""3"^^xsd:decimal"#),
            ("1.5", r#""1"^^xsd:float"#, r#""2.5"^^xsd:float"#),
            ("1e0", r#""1"^^xsd:float"#, r#""2"^^xsd:double"#),
            ("9223372036854775807", "1", ""),
            (
                r#""170141183460469231731"^^xsd:decimal"#,
                r#""170141183460469231731"^^xsd:decimal"#,
                "",
            ),
            (r#""1""#, r#""2""#, ""),
            ("1", r#""2""#, ""),
            ("1", "<http://a>", ""),
            ("1", "true", ""),
            ("1", r#""x"^^xsd:integer"#, ""),
        ],
    );
    check_operator(
        subtract,
        &[
            ("1", "2", "-1"),
            ("0.3", "0.1", "0.2"),
            ("-9223372036854775808", "1", ""),
            (r#""INF"^^xsd:double"#, r#""INF"^^xsd:double"#, r#""NaN"^^xsd:double"#),
        ],
    );
    check_operator(
        multiply,
        &[
            ("3", "4", "12"),
            ("1.5", "1.5", "2.25"),
            ("-0.1234567891", "0.1234567891", "-0.015241578774881878"),
            ("100000000000000000000.0", "2", ""),
            ("3037000500", "3037000500", ""),
            ("0.000000000000000001", "0.1", r#""0"^^xsd:decimal"#),
        ],
    );
    check_operator(
        divide,
        &[
            ("6", "3", r#""2"^^xsd:decimal"#),
            ("1", "3", "0.333333333333333333"),
            ("-2", "3", "-0.666666666666666666"),
            ("1", "0", ""),
            ("1.0", "0.0", ""),
            ("1", "0e0", r#""INF"^^xsd:double"#),
            ("-1e0", "0", r#""-INF"^^xsd:double"#),
            ("0e0", "0", r#""NaN"^^xsd:double"#),
            ("1", r#""-0"^^xsd:float"#, r#""-INF"^^xsd:float"#),
            (
                "1234567890123456789",
                "7.000000000000000001",
                "176366841446208112.689090451221970269",
            ),
            ("170141183460469231731.0", "170141183460469231731.5", "0.999999999999999999"),
            ("100000000000000000000.0", "0.1", ""),
        ],
    );
    check(unary_minus(&value("1")), Some("-1"), "-1");
    check(unary_minus(&value("-9223372036854775808")), None, "the least integer");
    check(unary_minus(&value("0e0")), Some(r#""-0"^^xsd:double"#), "-0e0");
    check(unary_minus(&value(r#""1""#)), None, "a string");
    check(unary_plus(&value(r#""01"^^xsd:int"#)), Some("1"), "+01");
    check(unary_plus(&value("true")), None, "a boolean");
}

#[test]
fn dates_and_durations() {
    check_operator(
        add,
        &[
            (
                r#""2010-01-31T00:00:00"^^xsd:dateTime"#,
                r#""P1M"^^xsd:yearMonthDuration"#,
                r#""2010-02-28T00:00:00"^^xsd:dateTime"#,
            ),
            (
                r#""P1M"^^xsd:yearMonthDuration"#,
                r#""2012-01-31T00:00:00Z"^^xsd:dateTime"#,
                r#""2012-02-29T00:00:00Z"^^xsd:dateTime"#,
            ),
            (
                r#""2010-01-01T00:00:00"^^xsd:dateTime"#,
                r#""P1MT1S"^^xsd:duration"#,
                r#""2010-02-01T00:00:01"^^xsd:dateTime"#,
            ),
            (
                r#""2010-01-01"^^xsd:date"#,
                r#""PT36H"^^xsd:dayTimeDuration"#,
                r#""2010-01-02"^^xsd:date"#,
            ),
            (
                r#""23:00:00"^^xsd:time"#,
                r#""PT2H"^^xsd:dayTimeDuration"#,
                r#""01:00:00"^^xsd:time"#,
            ),
            (r#""23:00:00"^^xsd:time"#, r#""P1M"^^xsd:yearMonthDuration"#, ""),
            (
                r#""P1Y"^^xsd:yearMonthDuration"#,
                r#""P1M"^^xsd:yearMonthDuration"#,
                r#""P1Y1M"^^xsd:yearMonthDuration"#,
            ),
            (
                r#""P1Y"^^xsd:yearMonthDuration"#,
                r#""P1D"^^xsd:dayTimeDuration"#,
                r#""P1Y1D"^^xsd:duration"#,
            ),
            (r#""P1D"^^xsd:dayTimeDuration"#, "1", ""),
            (r#""2010"^^xsd:gYear"#, r#""P1Y"^^xsd:yearMonthDuration"#, ""),
            (
                r#""2010-01-01T00:00:00"^^xsd:dateTime"#,
                r#""P9223372036854775807M"^^xsd:yearMonthDuration"#,
                "",
            ),
        ],
    );
    check_operator(
        subtract,
        &[
            (
                r#""2010-01-02T00:00:00Z"^^xsd:dateTime"#,
                r#""2010-01-01T00:00:00+01:00"^^xsd:dateTime"#,
                r#""P1DT1H"^^xsd:dayTimeDuration"#,
            ),
            (
                r#""2010-01-02T00:00:00Z"^^xsd:dateTime"#,
                r#""2010-01-01T00:00:00"^^xsd:dateTime"#,
                "",
            ),
            (
                r#""2010-01-02"^^xsd:date"#,
                r#""2010-01-01"^^xsd:date"#,
                r#""P1D"^^xsd:dayTimeDuration"#,
            ),
            (
                r#""10:00:00"^^xsd:time"#,
                r#""11:30:00"^^xsd:time"#,
                r#""-PT1H30M"^^xsd:dayTimeDuration"#,
            ),
            (
                r#""2010-03-31"^^xsd:date"#,
                r#""P1M"^^xsd:yearMonthDuration"#,
                r#""2010-02-28"^^xsd:date"#,
            ),
            (
                r#""2010-01-01"^^xsd:date"#,
                r#""PT1S"^^xsd:dayTimeDuration"#,
                r#""2009-12-31"^^xsd:date"#,
            ),
            (r#""P1M"^^xsd:duration"#, r#""P1D"^^xsd:duration"#, ""),
            (r#""P1D"^^xsd:dayTimeDuration"#, r#""2010-01-01"^^xsd:date"#, ""),
            (
                r#""PT1H"^^xsd:dayTimeDuration"#,
                r#""PT90M"^^xsd:dayTimeDuration"#,
                r#""-PT30M"^^xsd:dayTimeDuration"#,
            ),
        ],
    );
    check_operator(
        multiply,
        &[
            (r#""P2Y11M"^^xsd:yearMonthDuration"#, "2.3", r#""P6Y9M"^^xsd:yearMonthDuration"#),
            ("2.1", r#""PT2H10M"^^xsd:dayTimeDuration"#, r#""PT4H33M"^^xsd:dayTimeDuration"#),
            (r#""P1D"^^xsd:dayTimeDuration"#, r#""NaN"^^xsd:double"#, ""),
            (r#""P1M1D"^^xsd:duration"#, "2", ""),
        ],
    );
    check_operator(
        divide,
        &[
            (r#""P2Y11M"^^xsd:yearMonthDuration"#, "1.5", r#""P1Y11M"^^xsd:yearMonthDuration"#),
            (r#""P3Y4M"^^xsd:yearMonthDuration"#, r#""-P1Y4M"^^xsd:yearMonthDuration"#, "-2.5"),
            (
                r#""P1D"^^xsd:dayTimeDuration"#,
                r#""PT12H"^^xsd:dayTimeDuration"#,
                r#""2"^^xsd:decimal"#,
            ),
            (r#""P1D"^^xsd:dayTimeDuration"#, "0", ""),
            (r#""P1D"^^xsd:dayTimeDuration"#, "0e0", ""),
        ],
    );
}
