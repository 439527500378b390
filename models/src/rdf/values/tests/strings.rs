use super::super::{Function, LONGEST, TooLong, Value};
use super::check_calls;

#[test]
fn lengths_and_parts() {
    check_calls(
        Function::StrLen,
        &[
            (&[r#""食べ物""#], "3"),
            (&["\"\u{1f46a}\""], "1"),
            (&[r#""bar"@en"#], "3"),
            (&[r#""""#], "0"),
            (&["7"], ""),
            (&["<http://a>"], ""),
        ],
    );
    check_calls(
        Function::SubStr,
        &[
            (&[r#""foobar""#, "4"], r#""bar""#),
            (&[r#""foobar"@en"#, "4", "1"], r#""b"@en"#),
            (&[r#""食べ物""#, "2", "1"], r#""べ""#),
            (&["\"\u{1f46a}x\"", "2"], r#""x""#),
            (&["\"\u{1f46a}\"", "2"], r#""""#),
            (&[r#""12345""#, "0", "3"], r#""12""#),
            (&[r#""12345""#, "-3", "5"], r#""1""#),
            (&[r#""12345""#, "5", "-3"], r#""""#),
            (&[r#""12345""#, "-42"], r#""12345""#),
            (&[r#""12345""#, "9223372036854775807", "9223372036854775807"], r#""""#),
            (&[r#""12345""#, "-9223372036854775808", "9223372036854775807"], r#""""#),
            (&[r#""12345""#, "1", "-9223372036854775808"], r#""""#),
            (&[r#""12345""#, r#""2"^^xsd:byte"#], r#""2345""#),
            (&[r#""12345""#, "1.5"], ""),
            (&["12345", "1"], ""),
        ],
    );
    check_calls(
        Function::UCase,
        &[(&[r#""bar"@en"#], r#""BAR"@en"#), (&[r#""straße""#], r#""STRASSE""#), (&["1"], "")],
    );
    check_calls(Function::LCase, &[(&[r#""DEF""#], r#""def""#), (&[r#""ÄΣ"@el"#], r#""äς"@el"#)]);
}

#[test]
fn tests_of_parts() {
    check_calls(
        Function::StrStarts,
        &[
            (&[r#""foobar""#, r#""foo""#], "true"),
            (&[r#""foobar"@en"#, r#""foo"@en"#], "true"),
            (&[r#""foobar"@en"#, r#""foo"@EN"#], "true"),
            (&[r#""foobar"@en"#, r#""foo""#], "true"),
            (&[r#""foobar""#, r#""foo"@en"#], ""),
            (&[r#""foobar"@en"#, r#""foo"@fr"#], ""),
            (&["1", r#""1""#], ""),
        ],
    );
    check_calls(
        Function::StrEnds,
        &[
            (&[r#""abc""#, r#""bc""#], "true"),
            (&[r#""abc""#, r#""""#], "true"),
            (&[r#""abc""#, "1"], ""),
        ],
    );
    check_calls(
        Function::Contains,
        &[
            (&[r#""abc""#, r#""d""#], "false"),
            (&[r#""食べ物""#, r#""べ""#], "true"),
            (&[r#""a"^^<http://u>"#, r#""a""#], ""),
        ],
    );
    check_calls(
        Function::StrBefore,
        &[
            (&[r#""abc""#, r#""b""#], r#""a""#),
            (&[r#""abc"@en"#, r#""bc""#], r#""a"@en"#),
            (&[r#""abc"@en"#, r#""b"@cy"#], ""),
            (&[r#""abc""#, r#""b"@cy"#], ""),
            (&[r#""abc"@en"#, r#""""#], r#"""@en"#),
            (&[r#""abc"@en"#, r#"""@en"#], r#"""@en"#),
            (&[r#""abc"@en"#, r#""xyz""#], r#""""#),
        ],
    );
    check_calls(
        Function::StrAfter,
        &[
            (&[r#""abc""#, r#""b""#], r#""c""#),
            (&[r#""abc"@en"#, r#""ab""#], r#""c"@en"#),
            (&[r#""abc"@en"#, r#""""#], r#""abc"@en"#),
            (&[r#""abc"@en"#, r#""z"@en"#], r#""""#),
            (&[r#""abcb""#, r#""b""#], r#""cb""#),
        ],
    );
}

#[test]
fn whole_strings() {
    check_calls(
        Function::EncodeForUri,
        &[
            (&[r#""100%""#], r#""100%25""#),
            (&[r#""食べ物"@ja"#], r#""%E9%A3%9F%E3%81%B9%E7%89%A9""#),
            (&[r#""a-b_c.d~e f/""#], r#""a-b_c.d~e%20f%2F""#),
            (&["1"], ""),
        ],
    );
    check_calls(
        Function::Concat,
        &[
            (&[], r#""""#),
            (&[r#""a""#], r#""a""#),
            (&[r#""a"@en"#, r#""b"@en"#], r#""ab"@en"#),
            (&[r#""a"@en"#, r#""b"@fr"#], r#""ab""#),
            (&[r#""a""#, r#""b"@en"#, r#""c"@en"#], r#""abc""#),
            (&[r#""a"@en"#, r#""b""#, r#""c"@en"#], r#""abc""#),
            (&[r#""a""#, "7"], ""),
        ],
    );
    check_calls(
        Function::LangMatches,
        &[
            (&[r#""en-GB""#, r#""EN""#], "true"),
            (&[r#""en""#, r#""en""#], "true"),
            (&[r#""eng""#, r#""en""#], "false"),
            (&[r#""en""#, r#""en-GB""#], "false"),
            (&[r#""fr""#, r#""*""#], "true"),
            (&[r#""""#, r#""*""#], "false"),
            (&[r#""é""#, r#""a""#], "false"),
            (&[r#""en"@en"#, r#""en""#], ""),
        ],
    );
}

#[test]
fn much_of_little_is_not_made() {
    let text = |bytes: usize| Value::String("x".repeat(bytes));
    let many = vec![text(LONGEST / 1024); 1024];
    assert!(super::super::call(Function::Concat, &many).is_ok());
    let many = vec![text(LONGEST / 1024); 1025];
    assert_eq!(super::super::call(Function::Concat, &many).map(drop), Err(TooLong));
    for replacement in ["y".repeat(LONGEST / 1000 + 1), "$0".repeat(LONGEST / 1000 + 1)] {
        let arguments = [text(1000), text(1), Value::String(replacement)];
        assert_eq!(super::super::call(Function::Replace, &arguments).map(drop), Err(TooLong));
    }
}
