use super::super::Function;
use super::check_calls;

const UTC: &str = r#""2010-06-21T11:28:01Z"^^xsd:dateTime"#;
const WEST: &str = r#""2010-12-21T15:38:02.5-08:00"^^xsd:dateTime"#;
const LOCAL: &str = r#""-0011-02-01T01:02:03"^^xsd:dateTime"#;
const DATE: &str = r#""2010-06-21+01:00"^^xsd:date"#;
const TIME: &str = r#""24:00:00"^^xsd:time"#;

#[test]
fn parts() {
    check_calls(
        Function::Year,
        &[(&[UTC], "2010"), (&[LOCAL], "-11"), (&[DATE], "2010"), (&[TIME], ""), (&["1"], "")],
    );
    check_calls(Function::Month, &[(&[WEST], "12"), (&[DATE], "6"), (&[TIME], "")]);
    check_calls(Function::Day, &[(&[WEST], "21"), (&[LOCAL], "1"), (&[DATE], "21")]);
    check_calls(Function::Hours, &[(&[WEST], "15"), (&[LOCAL], "1"), (&[DATE], ""), (&[TIME], "0")]);
    check_calls(Function::Minutes, &[(&[UTC], "28"), (&[WEST], "38"), (&[r#""2010""#], "")]);
    check_calls(
        Function::Seconds,
        &[(&[UTC], r#""1"^^xsd:decimal"#), (&[WEST], "2.5"), (&[DATE], "")],
    );
}

#[test]
fn timezones() {
    let half_hour = r#""10:00:00-00:30"^^xsd:time"#;
    check_calls(
        Function::Timezone,
        &[
            (&[UTC], r#""PT0S"^^xsd:dayTimeDuration"#),
            (&[WEST], r#""-PT8H"^^xsd:dayTimeDuration"#),
            (&[DATE], r#""PT1H"^^xsd:dayTimeDuration"#),
            (&[LOCAL], ""),
            (&["1"], ""),
        ],
    );
    check_calls(
        Function::Tz,
        &[
            (&[UTC], r#""Z""#),
            (&[WEST], r#""-08:00""#),
            (&[LOCAL], r#""""#),
            (&[half_hour], r#""-00:30""#),
            (&["1"], ""),
        ],
    );
}
