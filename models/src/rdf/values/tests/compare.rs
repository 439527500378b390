use super::super::compare::compare;
use super::super::{effective_boolean, equals, less_than, less_than_or_equal};
use super::value;
use std::cmp::Ordering::{self, *};

const TRUE: Option<bool> = Some(true);
const FALSE: Option<bool> = Some(false);

#[test]
fn equality() {
    let table: &[(&str, &str, Option<bool>)] = &[
        ("1", "1", TRUE),
        (r#""01"^^xsd:integer"#, "1", TRUE),
        ("1", "1.0", TRUE),
        ("1", "1e0", TRUE),
        ("1.5", r#""1.5"^^xsd:float"#, TRUE),
        (r#""1"^^xsd:byte"#, r#""1"^^xsd:float"#, TRUE),
        // In single precision these two are the same number.
        ("16777217", r#""16777216"^^xsd:float"#, TRUE),
        (r#""NaN"^^xsd:double"#, r#""NaN"^^xsd:double"#, FALSE),
        (r#""NaN"^^xsd:float"#, "1", FALSE),
        (r#""-0"^^xsd:double"#, "0", TRUE),
        (r#""INF"^^xsd:double"#, r#""INF"^^xsd:float"#, TRUE),
        (r#""a""#, r#""a""#, TRUE),
        (r#""a""#, r#""b""#, FALSE),
        (r#""a"@en"#, r#""a""#, FALSE),
        (r#""a"@en"#, r#""a"@EN"#, TRUE),
        (r#""a"@en"#, r#""a"@fr"#, FALSE),
        (r#""a"@en"#, r#""a"^^<http://unknown>"#, FALSE),
        (r#""1""#, "1", FALSE),
        ("true", r#""1"^^xsd:boolean"#, TRUE),
        ("true", "1", FALSE),
        ("<http://a>", "<http://a>", TRUE),
        ("<http://a>", r#""http://a""#, FALSE),
        ("_:a", "_:a", TRUE),
        ("_:a", "_:b", FALSE),
        ("_:a", r#""a"^^<http://unknown>"#, FALSE),
        (r#""a"^^<http://t1>"#, r#""a"^^<http://t1>"#, TRUE),
        (r#""a"^^<http://t1>"#, r#""b"^^<http://t1>"#, None),
        (r#""a"^^<http://t1>"#, r#""a"^^<http://t2>"#, None),
        (r#""a"^^<http://t1>"#, "1", None),
        (r#""a"^^xsd:integer"#, r#""a"^^xsd:integer"#, TRUE),
        (r#""a"^^xsd:integer"#, "1", None),
        (r#""a"^^xsd:integer"#, r#""a""#, None),
        (
            r#""2002-04-02T23:00:00-04:00"^^xsd:dateTime"#,
            r#""2002-04-03T02:00:00-01:00"^^xsd:dateTime"#,
            TRUE,
        ),
        (
            r#""1999-12-31T24:00:00"^^xsd:dateTime"#,
            r#""2000-01-01T00:00:00"^^xsd:dateTime"#,
            TRUE,
        ),
        (
            r#""2002-04-02T23:00:00"^^xsd:dateTime"#,
            r#""2002-04-02T23:00:00+06:00"^^xsd:dateTime"#,
            None,
        ),
        (
            r#""2002-04-02T23:00:00"^^xsd:dateTime"#,
            r#""2001-04-02T23:00:00Z"^^xsd:dateTime"#,
            FALSE,
        ),
        (r#""2006-08-23"^^xsd:date"#, r#""2006-08-23Z"^^xsd:date"#, None),
        (r#""2006-08-23Z"^^xsd:date"#, r#""2006-08-23+00:00"^^xsd:date"#, TRUE),
        (r#""2001-01-01Z"^^xsd:date"#, r#""2006-08-23"^^xsd:date"#, FALSE),
        (r#""2006-08-23"^^xsd:date"#, r#""2006-08-23T09:00:00+01:00"^^xsd:dateTime"#, FALSE),
        (r#""2010"^^xsd:gYear"#, r#""2010"^^xsd:gYear"#, TRUE),
        (r#""2010"^^xsd:gYear"#, r#""2010-01"^^xsd:gYearMonth"#, FALSE),
        (r#""P1Y"^^xsd:duration"#, r#""P12M"^^xsd:yearMonthDuration"#, TRUE),
        (r#""PT36H"^^xsd:dayTimeDuration"#, r#""P1DT12H"^^xsd:duration"#, TRUE),
        (r#""P1M"^^xsd:duration"#, r#""P30D"^^xsd:duration"#, FALSE),
        (r#""P0M"^^xsd:yearMonthDuration"#, r#""PT0S"^^xsd:dayTimeDuration"#, TRUE),
    ];
    for (left, right, expected) in table {
        assert_eq!(equals(&value(left), &value(right)), *expected, "{left} = {right}");
        assert_eq!(equals(&value(right), &value(left)), *expected, "{right} = {left}");
    }
}

#[test]
fn comparison() {
    let table: &[(&str, &str, Option<Ordering>)] = &[
        ("1", "2", Some(Less)),
        ("1", "1.5", Some(Less)),
        ("2", "1.5e0", Some(Greater)),
        (r#""INF"^^xsd:double"#, "5", Some(Greater)),
        (r#""NaN"^^xsd:double"#, "5", None),
        (r#""a""#, r#""b""#, Some(Less)),
        (r#""Z""#, r#""a""#, Some(Less)),
        // By code point and not by UTF-16 unit.
        ("\"\u{ff5e}\"", "\"\u{1f46a}\"", Some(Less)),
        (r#""a"@en"#, r#""b"@en"#, None),
        ("false", "true", Some(Less)),
        ("false", "1", None),
        ("<http://a>", "<http://b>", None),
        (r#""a"^^<http://t1>"#, r#""a"^^<http://t1>"#, None),
        (r#""2006-08-23"^^xsd:date"#, r#""2006-08-22"^^xsd:date"#, Some(Greater)),
        (r#""2006-08-23Z"^^xsd:date"#, r#""2006-08-22"^^xsd:date"#, Some(Greater)),
        (r#""2006-08-23Z"^^xsd:date"#, r#""2006-08-23"^^xsd:date"#, None),
        (
            r#""2010-01-01T12:00:00"^^xsd:dateTime"#,
            r#""2010-01-01T13:00:00"^^xsd:dateTime"#,
            Some(Less),
        ),
        (r#""12:00:00"^^xsd:time"#, r#""13:00:00"^^xsd:time"#, Some(Less)),
        (r#""2010"^^xsd:gYear"#, r#""2011"^^xsd:gYear"#, None),
        (r#""P1Y"^^xsd:yearMonthDuration"#, r#""P13M"^^xsd:yearMonthDuration"#, Some(Less)),
        (r#""PT1H"^^xsd:dayTimeDuration"#, r#""PT59M"^^xsd:dayTimeDuration"#, Some(Greater)),
        (r#""P1M"^^xsd:duration"#, r#""P30D"^^xsd:duration"#, None),
        (r#""P1M"^^xsd:duration"#, r#""P27D"^^xsd:duration"#, Some(Greater)),
        (r#""P1M"^^xsd:duration"#, r#""P32D"^^xsd:duration"#, Some(Less)),
        (r#""P1Y"^^xsd:duration"#, r#""P365D"^^xsd:duration"#, None),
        (r#""P1Y"^^xsd:duration"#, r#""P367D"^^xsd:duration"#, Some(Less)),
        // Long mixed durations must not take long.
        (
            r#""P1M99999999999999D"^^xsd:duration"#,
            r#""P1M99999999999998D"^^xsd:duration"#,
            Some(Greater),
        ),
    ];
    for (left, right, expected) in table {
        assert_eq!(compare(&value(left), &value(right)), *expected, "{left} {right}");
        assert_eq!(
            compare(&value(right), &value(left)),
            expected.map(Ordering::reverse),
            "{right} {left}"
        );
    }
    let (nan, one) = (value(r#""NaN"^^xsd:double"#), value("1"));
    assert_eq!((less_than(&nan, &one), less_than_or_equal(&nan, &nan)), (FALSE, FALSE));
    assert_eq!((less_than(&one, &one), less_than_or_equal(&one, &one)), (FALSE, TRUE));
    assert_eq!(less_than(&one, &value(r#""1""#)), None);
}

#[test]
fn effective_boolean_values() {
    let table: &[(&str, Option<bool>)] = &[
        ("true", TRUE),
        (r#""0"^^xsd:boolean"#, FALSE),
        ("1", TRUE),
        ("0", FALSE),
        (r#""00"^^xsd:byte"#, FALSE),
        ("0.0", FALSE),
        (r#""0.01"^^xsd:double"#, TRUE),
        (r#""-0"^^xsd:double"#, FALSE),
        (r#""NaN"^^xsd:float"#, FALSE),
        (r#""foo""#, TRUE),
        (r#""""#, FALSE),
        (r#""a"@en"#, TRUE),
        (r#""abc"^^xsd:integer"#, FALSE),
        (r#""abc"^^xsd:boolean"#, FALSE),
        (r#""300"^^xsd:byte"#, FALSE),
        (r#""99999999999999999999"^^xsd:integer"#, TRUE),
        (r#""x"^^<http://unknown>"#, None),
        ("<http://a>", None),
        ("_:a", None),
        (r#""2010-01-01"^^xsd:date"#, None),
    ];
    for (text, expected) in table {
        assert_eq!(effective_boolean(&value(text)), *expected, "{text}");
    }
}
