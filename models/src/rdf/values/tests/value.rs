use super::super::{Datatype, Value};
use super::{term, value};
use oxrdf::{LiteralRef, NamedNodeRef};

#[test]
fn every_term_comes_back() {
    for text in [
        "<http://a>",
        "_:b",
        r#""a""#,
        r#""a"@en"#,
        r#""食べ物""#,
        "true",
        r#""1"^^xsd:boolean"#,
        "1",
        r#""01"^^xsd:integer"#,
        r#""+1"^^xsd:integer"#,
        r#""-0"^^xsd:integer"#,
        r#""1"^^xsd:byte"#,
        r#""300"^^xsd:byte"#,
        r#""1.0"^^xsd:decimal"#,
        "1.5",
        "1e0",
        r#""1"^^xsd:double"#,
        r#""NaN"^^xsd:double"#,
        r#""INF"^^xsd:float"#,
        r#""inf"^^xsd:float"#,
        r#""-0"^^xsd:double"#,
        r#""99999999999999999999"^^xsd:integer"#,
        r#""0.1234567890123456789"^^xsd:decimal"#,
        r#""x"^^xsd:integer"#,
        r#"" 1"^^xsd:integer"#,
        r#""x"^^<http://unknown>"#,
        r#""2010-06-21T11:28:01Z"^^xsd:dateTime"#,
        r#""1999-12-31T24:00:00"^^xsd:dateTime"#,
        r#""2010-06-21+00:00"^^xsd:date"#,
        r#""24:00:00"^^xsd:time"#,
        r#""2010"^^xsd:gYear"#,
        r#""2010-01Z"^^xsd:gYearMonth"#,
        r#""--02-29"^^xsd:gMonthDay"#,
        r#""---31"^^xsd:gDay"#,
        r#""--12"^^xsd:gMonth"#,
        r#""P1M"^^xsd:duration"#,
        r#""P0Y"^^xsd:yearMonthDuration"#,
        r#""PT36H"^^xsd:dayTimeDuration"#,
        r#""P1YT"^^xsd:duration"#,
        r#""2010-06-21T11:28:01Z"^^xsd:dateTimeStamp"#,
        r#""a"^^xsd:token"#,
    ] {
        assert_eq!(value(text).into_term(), term(text), "{text}");
    }
    let upper = LiteralRef::new_language_tagged_literal_unchecked("a", "EN");
    assert_eq!(Value::of(upper.into()).into_term().to_string(), r#""a"@EN"#);
}

#[test]
fn canonical_literals_need_no_written_form() {
    for text in [
        "1",
        "-5",
        "1.5",
        "true",
        r#""1"^^xsd:double"#,
        r#""P1D"^^xsd:dayTimeDuration"#,
        r#""2010-06-21T11:28:01Z"^^xsd:dateTime"#,
    ] {
        assert!(!matches!(value(text), Value::Written(_) | Value::Other { .. }), "{text}");
    }
    for text in [r#""01"^^xsd:integer"#, "1.0", "1e0", r#""1"^^xsd:int"#, r#""1"^^xsd:boolean"#] {
        assert!(matches!(value(text), Value::Written(_)), "{text}");
    }
}

#[test]
fn ill_formed_literals_have_no_value() {
    for text in [
        r#""a"^^xsd:integer"#,
        r#""1.0"^^xsd:integer"#,
        r#"""^^xsd:integer"#,
        r#""-1"^^xsd:unsignedInt"#,
        r#""0"^^xsd:positiveInteger"#,
        r#""128"^^xsd:byte"#,
        r#""1e0"^^xsd:decimal"#,
        r#""."^^xsd:decimal"#,
        r#""nan"^^xsd:double"#,
        r#""infinity"^^xsd:double"#,
        r#""1f"^^xsd:float"#,
        r#""TRUE"^^xsd:boolean"#,
        r#""2010-02-30"^^xsd:date"#,
        r#""P"^^xsd:duration"#,
        r#""PT"^^xsd:duration"#,
        r#""P1YT"^^xsd:duration"#,
        r#""P1D"^^xsd:yearMonthDuration"#,
        r#""2010-06-21T11:28:01"^^xsd:dateTimeStamp"#,
        r#""25:00:00"^^xsd:time"#,
    ] {
        assert!(matches!(value(text), Value::Other { .. }), "{text}");
    }
}

#[test]
fn datatypes_are_known_by_their_iris() {
    assert_eq!(Datatype::of(oxrdf::vocab::xsd::BYTE), Some(Datatype::Byte));
    assert_eq!(Datatype::of(NamedNodeRef::new_unchecked("http://unknown")), None);
    assert_eq!(Datatype::GMonthDay.iri(), oxrdf::vocab::xsd::G_MONTH_DAY);
}
