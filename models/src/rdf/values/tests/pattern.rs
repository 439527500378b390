use super::super::{Function, Value, effective_boolean};
use super::{call, check_calls, value};

#[test]
fn regex() {
    check_calls(
        Function::Regex,
        &[
            (&[r#""Alice""#, r#""^ali""#], "false"),
            (&[r#""Alice"@en"#, r#""^ali""#, r#""i""#], "true"),
            (&[r#""a\nb""#, r#""^b""#], "false"),
            (&[r#""a\nb""#, r#""^b""#, r#""m""#], "true"),
            (&[r#""a\nb""#, r#""a.b""#], "false"),
            (&[r#""a\nb""#, r#""a.b""#, r#""s""#], "true"),
            (&[r#""ab""#, r#""a b # c""#, r#""x""#], "false"),
            (&[r#""ab#c""#, r#""a b # c""#, r#""x""#], "true"),
            (&[r#""a b""#, r#""a[ ]b""#, r#""x""#], "true"),
            (&[r#""a.b""#, r#""A.B""#, r#""qi""#], "true"),
            (&[r#""axb""#, r#""a.b""#, r#""q""#], "false"),
            (&[r#""a""#, r#""a""#, r#""z""#], ""),
            (&[r#""a""#, r#""(""#], ""),
            (&[r#""a""#, r#""a"@en"#], ""),
            (&["1", r#""1""#], ""),
            (&[r#""aa""#, r#""(a)\\1""#], ""),
            (&[r#""a""#, r#""(?=a)""#], ""),
            (&[r#""A""#, r#""(?i)a""#], "true"),
            (&[r#""ab""#, r#""(?:a)b""#], "true"),
            // Too large a pattern is an error and not a wait.
            (&[r#""a""#, r#""((a{100}){100}){100}""#], ""),
        ],
    );
}

#[test]
fn character_classes() {
    let matches = |pattern: &str, yes: &[&str], no: &[&str]| {
        for (texts, expected) in [(yes, true), (no, false)] {
            for text in texts {
                let arguments = [Value::String((*text).to_owned()), Value::String(format!("^(?:{pattern})$"))];
                let result = call(Function::Regex, &arguments).and_then(|value| effective_boolean(&value));
                assert_eq!(result, Some(expected), "{pattern} {text}");
            }
        }
    };
    matches("[a-z-[aeiou]]", &["b", "z"], &["a", "B"]);
    matches("[^a-z-[A]]", &["B", "1"], &["a", "A"]);
    matches("[a-z-[b-y-[m]]]", &["a", "m", "z"], &["b", "n"]);
    matches("[a&&b]", &["a", "&", "b"], &["c"]);
    matches("[a~~b]", &["~", "b", "a"], &["c"]);
    matches("[+--]", &["+", ",", "-"], &["."]);
    matches("[--/]", &["-", ".", "/"], &["0"]);
    matches("[-a]", &["-", "a"], &["b"]);
    matches("[a-]", &["-", "a"], &["b"]);
    matches("[a^]", &["^", "a"], &["b"]);
    matches(r"[\[\]\\]", &["[", "]", "\\"], &["a"]);
    matches(r"[\d-x]", &["1", "-", "x"], &["a"]);
    matches(r"\i\c*", &["xml:a-1", "é"], &["1a", ""]);
    matches(r"[^\i]", &["1", "-"], &["a"]);
    matches(r"\I\C", &["1 "], &["1a"]);
    matches(r"\s", &[" ", "\t"], &["\u{a0}"]);
    matches(r"\p{Lu}\P{L}", &["A1"], &["a1", "AB"]);
    matches(r"\.\-\$\^", &[".-$^"], &["a-$^"]);
    for invalid in ["[]a]", "[^]a]", "[[a]]", "[a", r"\p{IsGreek}", r"\p{L", r"\k", "\\", "[a\\"] {
        assert!(
            call(Function::Regex, &[value(r#""a""#), Value::String(invalid.to_owned())]).is_none(),
            "{invalid}"
        );
    }
}

#[test]
fn replace() {
    check_calls(
        Function::Replace,
        &[
            (&[r#""abracadabra""#, r#""bra""#, r#""*""#], r#""a*cada*""#),
            (&[r#""Français"@fr"#, r#""[^a-z0-9]""#, r#""-""#], r#""-ran-ais"@fr"#),
            (&[r#""banana""#, r#""ana""#, r#""*""#], r#""b*na""#),
            (&[r#""abcd""#, r#""(ab)|(a)""#, r#""[1=$1][2=$2]""#], r#""[1=ab][2=]cd""#),
            (&[r#""aAbBaC""#, r#""a""#, r#""~/""#, r#""i""#], r#""~/~/bB~/C""#),
            (&[r#""abcd""#, r#""(b)""#, r#""<$12>""#], r#""a<b2>cd""#),
            (&[r#""abcd""#, r#""(b)""#, r#""<$0$7>""#], r#""a<b>cd""#),
            (&[r#""abcd""#, r#""(b)""#, r#""\\$1\\\\""#], r#""a$1\\cd""#),
            (&[r#""abcd""#, r#""(b)""#, r#""${1}""#], ""),
            (&[r#""abcd""#, r#""b""#, r#""$""#], ""),
            (&[r#""abcd""#, r#""b""#, r#""\\n""#], ""),
            (&[r#""abcd""#, r#""b""#, r#""\\""#], ""),
            (&[r#""a.c""#, r#"".""#, r#""$1\\""#, r#""q""#], r#""a$1\\c""#),
            // A pattern that matches the empty string is an error.
            (&[r#""abcd""#, r#""x*""#, r#""-""#], ""),
            (&[r#""abcd""#, r#""^""#, r#""-""#], ""),
            (&["7", r#""a""#, r#""b""#], ""),
            (&[r#""abcd""#, r#""b""#, r#""x"@en"#], ""),
        ],
    );
}

#[test]
fn many_patterns_push_each_other_out() {
    for round in 0..3 {
        for number in 0..40 {
            let arguments = [Value::String(number.to_string()), Value::String(format!("^{number}$"))];
            let result = call(Function::Regex, &arguments).and_then(|value| effective_boolean(&value));
            assert_eq!(result, Some(true), "{round} {number}");
        }
    }
    let long = "a".repeat(5000);
    assert!(call(Function::Regex, &[Value::String(long.clone()), Value::String(long)]).is_some());
}

#[test]
fn long_patterns_are_errors() {
    for long in [
        "a".repeat(1 << 20),
        "(".repeat(60_000),
        "[a-[".repeat(15_000),
        "(?i".repeat(20_000),
        "\\p{L}".repeat(10_000),
    ] {
        assert!(call(Function::Regex, &[Value::String(String::new()), Value::String(long)]).is_none());
    }
}
