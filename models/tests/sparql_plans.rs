//! How queries of SPARQL are planned, as `EXPLAIN` shows it.

use crate::sparql::{open, select, update};

/// A condition on what many have is tried on the few that are asked for, once they are joined; one on what few have goes to its scan.
#[tokio::test(flavor = "multi_thread")]
async fn conditions_wait_for_joins_that_leave_less() {
    let f = open().await;
    let things: String = (0..4000)
        .map(|i| {
            let kind = if i % 4 == 0 { "<urn:t0> a <urn:Kind0> . " } else { "" };
            let kind = kind.replace("t0", &format!("t{i}"));
            format!("{kind}<urn:t{i}> <urn:label> \"a long label, number {i}\" . ")
        })
        .collect();
    update(&f, &format!("INSERT DATA {{ {things} }}")).await.unwrap();
    f.run("CHECKPOINT").await;
    let plan = async |pattern: &str| {
        let sql = format!("EXPLAIN SELECT * FROM sparql('kb', 'SELECT * {{ {pattern} }}')");
        f.rows(&sql).await.join("\n").replace("\\n", "\n")
    };
    let number = |text: &str, line: &str| {
        let found = text.lines().position(|it| it.contains(line));
        found.unwrap_or_else(|| panic!("no {line}: {text}"))
    };
    let waiting = r#"?t a <urn:Kind0> . ?t <urn:label> ?l . FILTER(REGEX(?l, "number 1.*0$") && CONTAINS(?l, "long"))"#;
    let physical = plan(waiting).await;
    let physical = &physical[physical.rfind("physical_plan").unwrap()..];
    assert!(number(physical, "sparql_here") < number(physical, "HashJoinExec"), "{physical}");
    assert!(
        !physical[physical.find("HashJoinExec").unwrap()..].contains("sparql_function"),
        "{physical}"
    );
    let counted = format!("SELECT (COUNT(*) AS ?n) {{ {waiting} }}");
    let expected = (0..4000)
        .filter(|i| i % 4 == 0 && i.to_string().starts_with('1') && i % 10 == 0)
        .count();
    assert_eq!(select(&f, &counted).await, [expected.to_string()]);
    // Without the join there is nothing to wait for.
    let alone = plan(r#"?t <urn:label> ?l FILTER REGEX(?l, "number 1.*0$")"#).await;
    assert!(!alone.contains("sparql_here"), "{alone}");
    // As many solutions as rows: less is joined where the condition goes first.
    let same = plan(r#"?t <urn:label> ?l . ?t <urn:label> ?m . FILTER REGEX(?m, "number 1.*0$")"#).await;
    assert!(!same.contains("sparql_here"), "{same}");
}
