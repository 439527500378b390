use super::super::{Datatype, cast};
use super::{check, value};

fn check_casts(datatype: Datatype, table: &[(&str, &str)]) {
    for (text, expected) in table {
        let expected = Some(*expected).filter(|text| !text.is_empty());
        check(cast(&value(text), datatype), expected, &format!("{datatype:?} {text}"));
    }
}

#[test]
fn to_boolean() {
    check_casts(
        Datatype::Boolean,
        &[
            (r#""string""#, ""),
            (r#""0""#, "false"),
            (r#"" true ""#, "true"),
            (r#""0.0""#, ""),
            (r#""0"^^xsd:boolean"#, "false"),
            ("-1", "true"),
            ("0.0", "false"),
            ("1E0", "true"),
            (r#""NaN"^^xsd:double"#, "false"),
            (r#""-7.875"^^xsd:float"#, "true"),
            ("<http://a>", ""),
            (r#""2010-01-01"^^xsd:date"#, ""),
            (r#""true"@en"#, ""),
        ],
    );
}

#[test]
fn to_numbers() {
    check_casts(
        Datatype::Integer,
        &[
            (r#""13""#, "13"),
            (r#"" 007\n""#, "7"),
            (r#""1.5""#, ""),
            (r#""1E0""#, ""),
            ("true", "1"),
            ("-2.5", "-2"),
            (r#""-7.875"^^xsd:float"#, "-7"),
            (r#""NaN"^^xsd:float"#, ""),
            (r#""-INF"^^xsd:double"#, ""),
            ("1e19", ""),
            ("9223372036854774784e0", "9223372036854774784"),
            (r#""9223372036854775808""#, ""),
            (r#""1"^^xsd:byte"#, "1"),
            ("<http://a>", ""),
            ("_:a", ""),
            (r#""5"@en"#, ""),
        ],
    );
    check_casts(
        Datatype::Byte,
        &[
            ("127", r#""127"^^xsd:byte"#),
            ("128", ""),
            (r#""-5""#, r#""-5"^^xsd:byte"#),
            ("1.9", r#""1"^^xsd:byte"#),
            (r#""-129""#, ""),
        ],
    );
    check_casts(
        Datatype::UnsignedInt,
        &[("-1", ""), ("4294967295", r#""4294967295"^^xsd:unsignedInt"#)],
    );
    check_casts(
        Datatype::Decimal,
        &[
            (r#""+33.3300""#, "33.33"),
            (r#""0.0""#, r#""0"^^xsd:decimal"#),
            (r#""1E0""#, ""),
            ("1E0", r#""1"^^xsd:decimal"#),
            ("true", r#""1"^^xsd:decimal"#),
            (r#""1.25"^^xsd:float"#, "1.25"),
            ("123456.789e0", "123456.789"),
            (r#""0.1"^^xsd:float"#, "0.1"),
            ("1e-20", r#""0"^^xsd:decimal"#),
            ("1e21", ""),
            (r#""NaN"^^xsd:double"#, ""),
            ("2", r#""2"^^xsd:decimal"#),
        ],
    );
    check_casts(
        Datatype::Double,
        &[
            (r#""-10.2E3""#, r#""-10200"^^xsd:double"#),
            (r#""INF""#, r#""INF"^^xsd:double"#),
            (r#""inf""#, ""),
            ("1.5", r#""1.5"^^xsd:double"#),
            ("false", r#""0"^^xsd:double"#),
            (r#""1.5"^^xsd:float"#, r#""1.5"^^xsd:double"#),
            (r#""string""#, ""),
        ],
    );
    check_casts(
        Datatype::Float,
        &[
            ("1e300", r#""INF"^^xsd:float"#),
            ("1", r#""1"^^xsd:float"#),
            (r#""0E1""#, r#""0"^^xsd:float"#),
            ("<http://a>", ""),
        ],
    );
}

#[test]
fn to_string() {
    check_casts(
        Datatype::String,
        &[
            ("<http://a>", r#""http://a""#),
            ("_:a", ""),
            (r#"" a ""#, r#"" a ""#),
            (r#""0"^^xsd:boolean"#, r#""false""#),
            ("0.0", r#""0""#),
            ("1E0", r#""1""#),
            (r#""-7.875"^^xsd:float"#, r#""-7.875""#),
            (r#""007"^^xsd:int"#, r#""7""#),
            (r#""2010-06-21T11:28:01Z"^^xsd:dateTime"#, r#""2010-06-21T11:28:01Z""#),
            (r#""a"@en"#, r#""a""#),
            (r#""a"^^<http://u>"#, r#""a""#),
        ],
    );
}

#[test]
fn to_dates_and_durations() {
    let date_time = r#""2010-06-21T11:28:01+01:00"^^xsd:dateTime"#;
    let date = r#""2010-06-21Z"^^xsd:date"#;
    check_casts(
        Datatype::DateTime,
        &[
            (date_time, date_time),
            (date, r#""2010-06-21T00:00:00Z"^^xsd:dateTime"#),
            (r#"" 2010-06-21T11:28:01+01:00 ""#, date_time),
            (r#""2010""#, ""),
            ("1", ""),
            (r#""10:00:00"^^xsd:time"#, ""),
        ],
    );
    check_casts(
        Datatype::DateTimeStamp,
        &[
            (date_time, r#""2010-06-21T11:28:01+01:00"^^xsd:dateTimeStamp"#),
            (r#""2010-06-21T11:28:01"^^xsd:dateTime"#, ""),
        ],
    );
    check_casts(
        Datatype::Date,
        &[
            (date_time, r#""2010-06-21+01:00"^^xsd:date"#),
            (date, date),
            (r#""2010-02-29""#, ""),
        ],
    );
    check_casts(
        Datatype::Time,
        &[
            (date_time, r#""11:28:01+01:00"^^xsd:time"#),
            (date, ""),
            (r#""24:00:00""#, r#""00:00:00"^^xsd:time"#),
        ],
    );
    check_casts(
        Datatype::GYear,
        &[
            (date, r#""2010Z"^^xsd:gYear"#),
            (r#""2010"^^xsd:gYear"#, r#""2010"^^xsd:gYear"#),
            ("2010", ""),
        ],
    );
    check_casts(Datatype::GYearMonth, &[(date_time, r#""2010-06+01:00"^^xsd:gYearMonth"#)]);
    check_casts(Datatype::GMonth, &[(date, r#""--06Z"^^xsd:gMonth"#)]);
    check_casts(Datatype::GMonthDay, &[(date, r#""--06-21Z"^^xsd:gMonthDay"#)]);
    check_casts(Datatype::GDay, &[(date, r#""---21Z"^^xsd:gDay"#), (r#""2010"^^xsd:gYear"#, "")]);
    check_casts(
        Datatype::Duration,
        &[
            (r#""P1Y"^^xsd:yearMonthDuration"#, r#""P1Y"^^xsd:duration"#),
            (r#""PT36H""#, r#""P1DT12H"^^xsd:duration"#),
            ("1", ""),
        ],
    );
    check_casts(
        Datatype::YearMonthDuration,
        &[
            (r#""P1Y2DT3H"^^xsd:duration"#, r#""P1Y"^^xsd:yearMonthDuration"#),
            (r#""P1D"^^xsd:duration"#, r#""P0M"^^xsd:yearMonthDuration"#),
        ],
    );
    check_casts(
        Datatype::DayTimeDuration,
        &[(r#""P1Y2DT3H"^^xsd:duration"#, r#""P2DT3H"^^xsd:dayTimeDuration"#), (date, "")],
    );
}
