//! SERVICE that works.

use super::Place;

#[test]
fn a_service_is_joined_as_other_patterns_are() {
    let place = Place::start();
    let other = place.own("other/query");
    let both = ["Ann,30", "Bob,40"];
    for text in [
        format!("?s <urn:name> ?name SERVICE {other} {{ ?s <urn:age> ?age }}"),
        format!("SERVICE {other} {{ ?s <urn:age> ?age }} ?s <urn:name> ?name"),
        format!("?s <urn:name> ?name SERVICE SILENT {other} {{ ?s <urn:age> ?age }}"),
        format!("?s <urn:name> ?name {{ SERVICE {other} {{ ?s <urn:age> ?age }} }} UNION {{ ?s <urn:none> ?age }}"),
        format!("VALUES ?e {{ {other} }} ?s <urn:name> ?name SERVICE ?e {{ ?s <urn:age> ?age }}"),
        format!("BIND({other} AS ?e) SERVICE ?e {{ ?s <urn:age> ?age }} ?s <urn:name> ?name"),
        format!("?s <urn:name> ?name SERVICE {other} {{ ?s <urn:age> ?age FILTER((?age + 10) * 2 > 70) }}"),
        format!("?s <urn:name> ?name SERVICE {other} {{ {{ SELECT ?s ?age {{ ?s <urn:age> ?age }} ORDER BY ?age LIMIT 2 }} }}"),
        format!("?s <urn:name> ?name SERVICE {other} {{ ?s <urn:age> ?age OPTIONAL {{ ?s <urn:none> ?n }} }} FILTER(!BOUND(?n))"),
        // A service may ask another.
        format!("?s <urn:name> ?name SERVICE {other} {{ ?s <urn:age> ?age SERVICE {other} {{ ?s <urn:age> ?age }} }}"),
        format!(
            "SERVICE {other} {{ ?s <urn:age> ?age }} SERVICE {} {{ ?s <urn:name> ?name }}",
            place.own("kb/query")
        ),
    ] {
        assert_eq!(
            place.rows(&format!("SELECT ?name ?age {{ {text} }} ORDER BY ?name")),
            both,
            "{text}"
        );
    }
    let optional =
        format!("SELECT ?name ?age {{ ?s <urn:name> ?name OPTIONAL {{ SERVICE {other} {{ ?s <urn:age> ?age }} }} }} ORDER BY ?name");
    assert_eq!(place.rows(&optional), ["Ann,30", "Bob,40", "Cid,"]);
    let partial = format!(
        "SELECT ?s ?age {{ VALUES (?s ?age) {{ (<urn:a> UNDEF) (UNDEF 40) (<urn:b> 1) }} SERVICE {other} {{ ?s <urn:age> ?age }} }}"
    );
    let mut rows = place.rows(&partial);
    rows.sort();
    assert_eq!(rows, ["urn:a,30", "urn:b,40"]);
    for (text, expected) in [
        (
            format!("?s <urn:name> ?name FILTER EXISTS {{ SERVICE {other} {{ ?s <urn:age> ?age }} }}"),
            "2",
        ),
        (
            format!("?s <urn:name> ?name FILTER NOT EXISTS {{ SERVICE {other} {{ ?s <urn:age> ?age }} }}"),
            "1",
        ),
        (
            format!("BIND({other} AS ?e) FILTER EXISTS {{ SERVICE ?e {{ ?s <urn:age> ?age }} }}"),
            "1",
        ),
        (
            format!("?s <urn:name> ?name MINUS {{ SERVICE {other} {{ ?s <urn:age> ?age }} }}"),
            "1",
        ),
        (format!("SERVICE {other} {{ }}"), "1"),
        (format!("SERVICE {other} {{ <urn:a> <urn:age> 31 }}"), "0"),
        (format!("?s <urn:name> ?name SERVICE {other} {{ <urn:a> <urn:age> 30 }}"), "3"),
        (format!("SERVICE {other} {{ {{ SELECT DISTINCT ?x {{ ?x ?p ?o }} }} }}"), "3"),
    ] {
        assert_eq!(place.rows(&format!("SELECT (COUNT(*) AS ?n) {{ {text} }}")), [expected], "{text}");
    }
}

#[test]
fn many_solutions_agree_whether_their_values_go_along_or_not() {
    let place = Place::start();
    let other = place.own("other/query");
    for (count, expected) in [(500, "250"), (4000, "2000")] {
        let triples = |of: &dyn Fn(usize) -> Option<String>| (0..count).filter_map(of).collect::<String>();
        let left = triples(&|i| Some(format!("<urn:{count}:{i}> <urn:left{count}> {i} .")));
        let right = triples(&|i| (i % 2 == 0).then(|| format!("<urn:{count}:{i}> <urn:right{count}> {i} .")));
        place.update("kb", &format!("INSERT DATA {{ {left} }}"));
        place.update("other", &format!("INSERT DATA {{ {right} }}"));
        let text =
            format!("SELECT (COUNT(*) AS ?n) {{ ?s <urn:left{count}> ?l SERVICE {other} {{ ?s <urn:right{count}> ?r }} FILTER(?l = ?r) }}");
        assert_eq!(place.rows(&text), [expected]);
    }
    // The text that goes out has the values that are known, and brackets where they count.
    let text = place.mock.url("/open/text");
    let asked = place.rows(&format!(
        "SELECT ?s {{ VALUES ?n {{ 1 2 }} SERVICE SILENT <{text}> {{ ?s ?p ?n OPTIONAL {{ ?n ?q ?s }} }} }}"
    ));
    assert_eq!(asked.len(), 2);
    assert!(
        asked[0].contains("%3E%0ASELECT+%3Fn+%3Fp+%3Fq+%3Fs+WHERE+%7B+VALUES+%28%3Fn%29+%7B+%28%221%22"),
        "{asked:?}"
    );
}

#[test]
fn blank_nodes_of_answers_are_new_ones() {
    let place = Place::start();
    let other = place.own("other/query");
    for dataset in ["kb", "other"] {
        place.update(
            dataset,
            "INSERT DATA { _:n <urn:label> 'n' . _:n <urn:part> _:m . _:m <urn:label> 'm' }",
        );
    }
    // Those of one answer are what they are.
    let one = format!("SELECT ?l {{ SERVICE {other} {{ ?x <urn:part> ?y . ?y <urn:label> ?l }} }}");
    assert_eq!(place.rows(&one), ["m"]);
    let two = format!("SELECT ?x {{ SERVICE {other} {{ ?x <urn:part> ?y }} SERVICE {other} {{ ?y <urn:label> ?l }} }}");
    assert!(place.rows(&two).is_empty());
    let here = format!("SELECT ?x {{ ?x <urn:part> ?y SERVICE {other} {{ ?x <urn:label> ?l }} }}");
    assert!(place.rows(&here).is_empty());
    place.update(
        "kb",
        &format!("INSERT {{ ?x <urn:copy> ?y }} WHERE {{ SERVICE {other} {{ ?x <urn:part> ?y }} }}"),
    );
    assert_eq!(
        place.rows("SELECT (COUNT(*) AS ?n) { ?x <urn:copy> ?y FILTER(isBlank(?x) && isBlank(?y) && ?x != ?y) }"),
        ["1"]
    );
    assert!(place.rows("SELECT ?x { ?x <urn:copy> ?y . ?x <urn:part> ?z }").is_empty());
}

#[test]
fn a_service_stands_in_sql_too_and_is_not_asked_by_explain() {
    let place = Place::start();
    let text = format!(
        "SELECT ?name ?age {{ ?s <urn:name> ?name SERVICE {} {{ ?s <urn:age> ?age }} }}",
        place.own("other/query")
    );
    let answer = place.server.http_sql(&format!(
        "SELECT sum(CAST(age AS INT)) FROM sparql('kb', '{text}') WHERE name = 'Ann'"
    ));
    assert_eq!(answer["rows"], serde_json::json!([[30]]));
    let text = format!("SELECT ?s {{ SERVICE <{}> {{ ?s ?p ?o }} }}", place.mock.url("/open/never"));
    let plan = place
        .server
        .http_sql(&format!("EXPLAIN SELECT * FROM sparql('kb', '{text}')"))
        .to_string();
    assert!(plan.contains("Service: <http://"), "{plan}");
    assert_eq!(place.mock.open(), 0);
}
