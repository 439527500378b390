use super::super::Function;
use super::check_calls;

#[test]
fn digests() {
    let table: &[(Function, &str, &str)] = &[
        (Function::Md5, "foo", "acbd18db4cc2f85cedef654fccc4a4d8"),
        (Function::Md5, "食べ物", "e7ada485d13b1decf628c9211bc3a97b"),
        (Function::Sha1, "foo", "0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33"),
        (
            Function::Sha256,
            "foo",
            "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
        ),
        (
            Function::Sha384,
            "foo",
            "98c11ffdfdd540676b1a137cb1a22b2a70350c9a44171d6b1180c6be5cbb2ee3f79d532c8a1dd9ef2e8e08e752a3babb",
        ),
        (
            Function::Sha512,
            "foo",
            "f7fbba6e0636f890e56fbbf3283e524c6fa3204ae298382d624741d0dc6638326e282c41be5e4254d8820772c5518a2c5a8c0c7f7eda19594a7eb539453e1ed7",
        ),
    ];
    for (function, text, digest) in table {
        check_calls(
            *function,
            &[
                (&[&format!("\"{text}\"")], &format!("\"{digest}\"")),
                (&[r#""foo"@en"#], ""),
                (&["1"], ""),
            ],
        );
    }
}
