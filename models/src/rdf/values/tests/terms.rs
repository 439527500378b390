use super::super::{Function, Value};
use super::{call, check_calls, value};

#[test]
fn kinds() {
    check_calls(
        Function::IsIri,
        &[
            (&["<http://a>"], "true"),
            (&[r#""http://a""#], "false"),
            (&["_:a"], "false"),
            (&[], ""),
        ],
    );
    check_calls(Function::IsBlank, &[(&["_:a"], "true"), (&["1"], "false")]);
    check_calls(
        Function::IsLiteral,
        &[
            (&["1"], "true"),
            (&[r#""01"^^xsd:int"#], "true"),
            (&[r#""a"^^<http://u>"#], "true"),
            (&["_:a"], "false"),
        ],
    );
    check_calls(
        Function::IsNumeric,
        &[
            (&["1"], "true"),
            (&[r#""01"^^xsd:byte"#], "true"),
            (&[r#""1200"^^xsd:byte"#], "false"),
            (&[r#""NaN"^^xsd:double"#], "true"),
            (&[r#""abc"^^xsd:integer"#], "false"),
            (&[r#""12""#], "false"),
            (&["<http://a>"], "false"),
        ],
    );
}

#[test]
fn accessors() {
    check_calls(
        Function::Str,
        &[
            (&["<http://a>"], r#""http://a""#),
            (&[r#""01"^^xsd:integer"#], r#""01""#),
            (&["1.0"], r#""1.0""#),
            (&["1E0"], r#""1E0""#),
            (&[r#""a"@en"#], r#""a""#),
            (&[r#""x"^^<http://u>"#], r#""x""#),
            (&["_:a"], ""),
        ],
    );
    check_calls(
        Function::Lang,
        &[
            (&[r#""a"@en"#], r#""en""#),
            (&["1"], r#""""#),
            (&[r#""a""#], r#""""#),
            (&["<http://a>"], ""),
            (&["_:a"], ""),
        ],
    );
    check_calls(
        Function::Datatype,
        &[
            (&[r#""a""#], "<http://www.w3.org/2001/XMLSchema#string>"),
            (&[r#""1"^^xsd:byte"#], "<http://www.w3.org/2001/XMLSchema#byte>"),
            (&[r#""a"@en"#], "<http://www.w3.org/1999/02/22-rdf-syntax-ns#langString>"),
            (&[r#""x"^^<http://u>"#], "<http://u>"),
            (&[r#""x"^^xsd:date"#], "<http://www.w3.org/2001/XMLSchema#date>"),
            (&["<http://a>"], ""),
        ],
    );
}

#[test]
fn constructors() {
    check_calls(
        Function::Iri,
        &[
            (&[r#""http://a""#], "<http://a>"),
            (&["<http://a>"], "<http://a>"),
            (&[r#""uri""#], ""),
            (&[r#""uri""#, "<http://example.org/>"], "<http://example.org/uri>"),
            (&[r#""../b?c""#, "<http://example.org/a/d/>"], "<http://example.org/a/b?c>"),
            (&[r#""a b""#, "<http://example.org/>"], ""),
            (&[r#""a"@en"#, "<http://example.org/>"], ""),
            (&["_:a"], ""),
            (&["1"], ""),
        ],
    );
    check_calls(
        Function::StrDt,
        &[
            (&[r#""123""#, "<http://www.w3.org/2001/XMLSchema#integer>"], "123"),
            (&[r#""iiii""#, "<http://u>"], r#""iiii"^^<http://u>"#),
            (&[r#""bar""#, "<http://www.w3.org/2001/XMLSchema#string>"], r#""bar""#),
            (&[r#""bar"@en"#, "<http://www.w3.org/2001/XMLSchema#string>"], ""),
            (&["1", "<http://www.w3.org/2001/XMLSchema#string>"], ""),
            (&[r#""bar""#, "<http://www.w3.org/1999/02/22-rdf-syntax-ns#langString>"], ""),
            (&[r#""bar""#, r#""http://u""#], ""),
        ],
    );
    check_calls(
        Function::StrLang,
        &[
            (&[r#""foo""#, r#""en-US""#], r#""foo"@en-us"#),
            (&[r#""foo"@en"#, r#""en""#], ""),
            (&["1", r#""en""#], ""),
            (&[r#""foo""#, r#""""#], ""),
            (&[r#""foo""#, r#""no tag""#], ""),
        ],
    );
}

#[test]
fn uuids() {
    let iri = call(Function::Uuid, &[]).unwrap();
    assert!(matches!(&iri, Value::Iri(iri) if iri.as_str().starts_with("urn:uuid:") && iri.as_str().len() == 45));
    let pattern = value(r#""^[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}$""#);
    let string = call(Function::StrUuid, &[]).unwrap();
    let matches = call(Function::Regex, &[string.clone(), pattern, value(r#""i""#)]);
    assert!(matches!(matches, Some(Value::Boolean(true))));
    assert_ne!(string.into_term(), call(Function::StrUuid, &[]).unwrap().into_term());
}
