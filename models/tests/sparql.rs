//! `sparql('kb', …)` in SQL: patterns, conditions, functions, graphs; and what is refused.

use crate::fixture::Fixture;

const DATA: &str = "
    ('iri:urn:ann',  'urn:name', 'str:Ann', NULL),
    ('iri:urn:ann',  'urn:age',  'int:42', NULL),
    ('iri:urn:ann',  'urn:knows','iri:urn:bob', NULL),
    ('iri:urn:bob',  'urn:name', 'str:Bob', NULL),
    ('iri:urn:bob',  'urn:age',  'int:7', NULL),
    ('iri:urn:bob',  'urn:knows','iri:urn:cid', NULL),
    ('iri:urn:cid',  'urn:name', 'fr:Cid', NULL),
    ('iri:urn:cid',  'urn:age',  'str:unknown', NULL),
    ('iri:urn:dan',  'urn:age',  'dec:42.0', NULL),
    ('iri:urn:dan',  'urn:knows','iri:urn:dan', NULL),
    ('iri:urn:ann',  'urn:likes','iri:urn:tea', 'urn:g1'),
    ('iri:urn:bob',  'urn:likes','iri:urn:tea', 'urn:g1'),
    ('iri:urn:bob',  'urn:likes','iri:urn:tea', 'urn:g2'),
    ('iri:urn:bob',  'urn:likes','iri:urn:jam', 'urn:g2')";

/// A dataset with [`DATA`], which was brought in by an ingest of what a query of SQL gives.
pub async fn open() -> Fixture {
    let f = Fixture::new().await;
    f.run("CREATE COLLECTION kb AS RDF").await;
    f.run("CREATE TABLE source (s VARCHAR, p VARCHAR, o VARCHAR, g VARCHAR)").await;
    f.run(&format!("INSERT INTO source VALUES {DATA}")).await;
    let iri = |text: &str| format!("named_struct('kind', 'iri', 'value', {text}, 'datatype', NULL::VARCHAR, 'language', NULL::VARCHAR)");
    let xsd = "http://www.w3.org/2001/XMLSchema#";
    let object = format!(
        "named_struct('kind', CASE WHEN o LIKE 'iri:%' THEN 'iri' ELSE 'literal' END, \
         'value', substr(o, strpos(o, ':') + 1), \
         'datatype', CASE split_part(o, ':', 1) WHEN 'int' THEN '{xsd}integer' WHEN 'dec' THEN '{xsd}decimal' WHEN 'str' THEN '{xsd}string' END, \
         'language', CASE split_part(o, ':', 1) WHEN 'fr' THEN 'fr' END)"
    );
    let sql = format!(
        "SELECT {} AS subject, {} AS predicate, {object} AS object, CASE WHEN g IS NOT NULL THEN {} END AS graph FROM source",
        iri("substr(s, 5)"),
        iri("p"),
        iri("g")
    );
    let result = f.session.execute(&sql, pyralog_models::Parameters::None).await.unwrap();
    let request = pyralog_models::IngestRequest {
        schema: None,
        table: "kb".to_owned(),
        mode: pyralog_models::IngestMode::Append,
    };
    assert_eq!(f.session.ingest(request, result.stream).await.unwrap(), 14);
    f
}

/// The rows of a query, sorted; columns as text, parted by `|`.
pub async fn select(f: &Fixture, query: &str) -> Vec<String> {
    let query = query.replace('\'', "''");
    let mut rows = f.rows(&format!("SELECT * FROM sparql('kb', '{query}')")).await;
    rows.sort();
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns() {
    let f = open().await;
    let cases: &[(&str, &[&str])] = &[
        ("SELECT ?n { <urn:ann> <urn:name> ?n }", &["Ann"]),
        ("SELECT ?s { ?s <urn:age> 42 }", &["urn:ann"]),
        (
            "SELECT ?s ?o { ?s <urn:knows> ?o . ?o <urn:knows> ?x }",
            &["urn:ann|urn:bob", "urn:dan|urn:dan"],
        ),
        ("SELECT ?s { ?s <urn:knows> ?s }", &["urn:dan"]),
        ("SELECT ?n { ?s <urn:knows> [ <urn:name> ?n ] }", &["Bob", "Cid"]),
        (
            "SELECT ?s ?n { ?s <urn:age> ?a OPTIONAL { ?s <urn:name> ?n } }",
            &["urn:ann|Ann", "urn:bob|Bob", "urn:cid|Cid", "urn:dan|NULL"],
        ),
        (
            "SELECT ?s ?n { ?s <urn:age> ?a OPTIONAL { ?s <urn:name> ?n FILTER(?a > 10) } }",
            &["urn:ann|Ann", "urn:bob|NULL", "urn:cid|NULL", "urn:dan|NULL"],
        ),
        (
            "SELECT ?s ?n ?k { ?s <urn:age> ?a OPTIONAL { ?s <urn:name> ?n } OPTIONAL { ?x <urn:name> ?n ; <urn:knows> ?k } }",
            &[
                "urn:ann|Ann|urn:bob",
                "urn:bob|Bob|urn:cid",
                "urn:cid|Cid|NULL",
                // What is unbound agrees with everything.
                "urn:dan|Ann|urn:bob",
                "urn:dan|Bob|urn:cid",
            ],
        ),
        (
            "SELECT ?x { { ?x <urn:name> ?n } UNION { ?x <urn:knows> <urn:dan> } }",
            &["urn:ann", "urn:bob", "urn:cid", "urn:dan"],
        ),
        ("SELECT ?x ?y { { BIND(1 AS ?x) } UNION { BIND(2 AS ?y) } }", &["1|NULL", "NULL|2"]),
        ("SELECT ?s { ?s <urn:age> ?a MINUS { ?s <urn:name> ?n } }", &["urn:dan"]),
        (
            "SELECT ?s { ?s <urn:name> ?a MINUS { ?x <urn:age> ?y } }",
            &["urn:ann", "urn:bob", "urn:cid"],
        ),
        (
            "SELECT ?n ?v { VALUES (?n ?v) { (\"Ann\" 1) (UNDEF 2) } ?s <urn:name> ?n }",
            &["Ann|1", "Ann|2", "Bob|2", "Cid|2"],
        ),
        ("SELECT DISTINCT ?p { ?s ?p ?o }", &["urn:age", "urn:knows", "urn:name"]),
        (
            "SELECT ?s { { SELECT ?s { ?s <urn:name> ?n } } ?s <urn:age> ?n }",
            &["urn:ann", "urn:bob", "urn:cid"],
        ),
        ("SELECT ?missing ?s { ?s <urn:age> 7 }", &["NULL|urn:bob"]),
        ("SELECT ?s { ?s <urn:nothing> ?o }", &[]),
        ("SELECT ?s { <urn:ann> <urn:age> 42 . ?s <urn:age> 7 }", &["urn:bob"]),
        ("SELECT ?s { <urn:ann> <urn:age> 43 . ?s <urn:age> 7 }", &[]),
        ("SELECT ?s { ?s <urn:age> 7 MINUS { <urn:ann> <urn:age> 42 } }", &["urn:bob"]),
        ("SELECT ?s { ?s <urn:age> 7 OPTIONAL { <urn:ann> <urn:age> 42 } }", &["urn:bob"]),
    ];
    for (query, expected) in cases {
        assert_eq!(select(&f, query).await, *expected, "{query}");
    }
    assert_eq!(
        f.rows("SELECT count(*) FROM sparql('kb', 'SELECT ?s { ?s ?p ?o } LIMIT 3')").await,
        ["3"]
    );
    assert_eq!(
        f.rows("SELECT count(*) FROM sparql('kb', 'SELECT ?s { ?s ?p ?o } OFFSET 4 LIMIT 100')")
            .await,
        ["6"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn graphs() {
    let f = open().await;
    let cases: &[(&str, &[&str])] = &[
        ("SELECT ?s { ?s <urn:likes> ?o }", &[]),
        ("SELECT ?s { GRAPH <urn:g1> { ?s <urn:likes> <urn:tea> } }", &["urn:ann", "urn:bob"]),
        (
            "SELECT ?g ?s ?o { GRAPH ?g { ?s <urn:likes> ?o } }",
            &[
                "urn:g1|urn:ann|urn:tea",
                "urn:g1|urn:bob|urn:tea",
                "urn:g2|urn:bob|urn:jam",
                "urn:g2|urn:bob|urn:tea",
            ],
        ),
        // Both patterns in one graph.
        (
            "SELECT ?g { GRAPH ?g { <urn:bob> <urn:likes> ?x . <urn:ann> <urn:likes> ?x } }",
            &["urn:g1"],
        ),
        ("SELECT ?g { GRAPH ?g { } }", &["urn:g1", "urn:g2"]),
        (
            "SELECT ?n { ?s <urn:name> ?n GRAPH <urn:g2> { ?s <urn:likes> <urn:jam> } }",
            &["Bob"],
        ),
        (
            "SELECT ?s ?o FROM <urn:g1> FROM <urn:g2> { ?s <urn:likes> ?o }",
            &["urn:ann|urn:tea", "urn:bob|urn:jam", "urn:bob|urn:tea"],
        ),
        ("SELECT ?s FROM <urn:g2> { ?s ?p <urn:tea> }", &["urn:bob"]),
        (
            "SELECT ?g ?s FROM NAMED <urn:g2> { GRAPH ?g { ?s <urn:likes> <urn:tea> } }",
            &["urn:g2|urn:bob"],
        ),
        ("SELECT ?s FROM NAMED <urn:g2> { GRAPH <urn:g1> { ?s ?p ?o } }", &[]),
        ("SELECT ?s FROM NAMED <urn:g2> { ?s ?p ?o }", &[]),
    ];
    for (query, expected) in cases {
        assert_eq!(select(&f, query).await, *expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_and_values() {
    let f = open().await;
    // A condition about ?a, the ages 42, 7, "unknown" and 42.0; who is left.
    let conditions = [
        ("?a = 42", "ann dan"),
        ("?a != 42", "bob cid"),
        ("?a < 42", "bob"),
        ("?a >= 42.0e0", "ann dan"),
        ("!(?a < 42)", "ann dan"),
        ("?a < 10 || ?s = <urn:cid>", "bob cid"),
        ("?a < 10 && ?s = <urn:cid>", ""),
        ("sameTerm(?a, 42)", "ann"),
        ("?a IN (7, \"unknown\")", "bob cid"),
        ("?a NOT IN (7, 42)", "cid"),
        ("isNumeric(?a)", "ann bob dan"),
        ("?a", "ann bob cid dan"),
        ("?a - 7", "ann dan"),
        ("BOUND(?nobody)", ""),
        ("!BOUND(?nobody)", "ann bob cid dan"),
        ("IF(?a > 10, false, true)", "bob"),
        ("COALESCE(?a / 0 > 1, ?s = <urn:ann>)", "ann"),
        ("datatype(?a) = <http://www.w3.org/2001/XMLSchema#decimal>", "dan"),
        ("regex(str(?s), \"^URN:[ab]\", \"i\")", "ann bob"),
        ("strlen(str(?a)) = 7", "cid"),
        ("<http://www.w3.org/2001/XMLSchema#integer>(?a) = 42", "ann dan"),
        ("?s > 1", ""),
    ];
    for (condition, expected) in conditions {
        let rows = select(&f, &format!("SELECT ?s {{ ?s <urn:age> ?a FILTER({condition}) }}")).await;
        let names: Vec<&str> = rows.iter().map(|row| row.trim_start_matches("urn:")).collect();
        assert_eq!(names.join(" "), expected, "{condition}");
    }
    let values = [
        ("1 + 2", "3"),
        ("1 / 2", "0.5"),
        ("\"a\" + 1", "NULL"),
        ("concat(\"a\", \"b\", str(1))", "ab1"),
        ("lang(\"x\"@en)", "en"),
        ("1 = 1.0", "true"),
        ("1 = \"x\"", "false"),
        ("if(1 < \"x\", 1, 2)", "NULL"),
        ("coalesce(?none, 1/0, \"last\")", "last"),
        (
            "year(\"2011-01-10T14:45:13Z\"^^<http://www.w3.org/2001/XMLSchema#dateTime>)",
            "2011",
        ),
        ("ucase(\"café with a long text\")", "CAFÉ WITH A LONG TEXT"),
        ("sha1(\"abc\")", "a9993e364706816aba3e25717850c26c9cd0d89d"),
    ];
    for (expression, expected) in values {
        assert_eq!(
            select(&f, &format!("SELECT ?x {{ BIND({expression} AS ?x) }}")).await,
            [expected],
            "{expression}"
        );
    }
    // What a query computes meets what is stored.
    assert_eq!(
        select(&f, "SELECT ?s { BIND(concat(\"A\", \"nn\") AS ?n) ?s <urn:name> ?n }").await,
        ["urn:ann"]
    );
    assert_eq!(
        select(&f, "SELECT ?s { BIND(iri(\"urn:bob\") AS ?s) ?s <urn:age> ?a }").await,
        ["urn:bob"]
    );
    let different = f
        .rows("SELECT count(DISTINCT x) FROM sparql('kb', 'SELECT ?x { ?s <urn:age> ?a BIND(struuid() AS ?x) }')")
        .await;
    assert_eq!(different, ["4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_a_plan_within_sql() {
    let f = open().await;
    f.run("CREATE TABLE phone (who VARCHAR PRIMARY KEY, number VARCHAR)").await;
    f.run("INSERT INTO phone VALUES ('Ann', '1'), ('Bob', '2')").await;
    assert_eq!(
        f.rows(
            "SELECT p.number, q.n, count(*) OVER () FROM sparql('kb', 'SELECT ?n ?k { ?s <urn:name> ?n ; <urn:knows> ?k }') q \
             JOIN phone p ON p.who = q.n WHERE q.k = 'urn:cid'"
        )
        .await,
        ["2|Bob|1"]
    );
    let plan = f
        .rows("EXPLAIN SELECT * FROM sparql('kb', 'SELECT ?s ?n { ?s <urn:name> ?n ; <urn:age> ?a }') WHERE n = 'Ann'")
        .await
        .join("\n");
    assert!(plan.contains("?s <urn:name> ?n") && plan.contains("?s <urn:age> ?a"), "{plan}");
    assert!(plan.contains("BindJoin") && !plan.contains("HashJoin"), "{plan}");
    f.run("BEGIN").await;
    assert_eq!(f.rows("SELECT count(*) FROM sparql('kb', 'SELECT ?s { ?s ?p ?o }')").await, ["10"]);
    f.run("COMMIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths() {
    let f = open().await;
    let cases: &[(&str, &[&str])] = &[
        ("SELECT ?o { <urn:ann> <urn:knows>+ ?o }", &["urn:bob", "urn:cid"]),
        ("SELECT ?o { <urn:ann> <urn:knows>* ?o }", &["urn:ann", "urn:bob", "urn:cid"]),
        ("SELECT ?s { ?s <urn:knows>* <urn:cid> }", &["urn:ann", "urn:bob", "urn:cid"]),
        (
            "SELECT ?s ?o { ?s <urn:name> 'Ann' . ?s <urn:knows>* ?o }",
            &["urn:ann|urn:ann", "urn:ann|urn:bob", "urn:ann|urn:cid"],
        ),
        ("SELECT ?s ?o { ?o <urn:name> 'Bob' . ?s <urn:knows>+ ?o }", &["urn:ann|urn:bob"]),
        ("SELECT ?s { ?s <urn:knows>+ ?s }", &["urn:dan"]),
        ("SELECT ?o { <urn:nobody> <urn:knows>* ?o }", &["urn:nobody"]),
        ("SELECT ?o { <urn:nobody> <urn:knows>+ ?o }", &[]),
        ("SELECT ?n { <urn:ann> <urn:knows>/<urn:name> ?n }", &["Bob"]),
        ("SELECT ?n { <urn:bob> ^<urn:knows>/<urn:name> ?n }", &["Ann"]),
        ("SELECT ?o { <urn:ann> <urn:knows>|<urn:age> ?o }", &["42", "urn:bob"]),
        ("SELECT ?o { <urn:ann> !(<urn:knows>|<urn:age>) ?o }", &["Ann"]),
        ("SELECT ?o { <urn:ann> <urn:knows>? ?o }", &["urn:ann", "urn:bob"]),
        ("SELECT ?o { <urn:ann> (<urn:knows>/<urn:knows>)+ ?o }", &["urn:cid"]),
        (
            "SELECT ?g ?o { GRAPH ?g { <urn:bob> <urn:likes>+ ?o } }",
            &["urn:g1|urn:tea", "urn:g2|urn:jam", "urn:g2|urn:tea"],
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(select(&f, query).await, *expected, "{query}");
    }
}

/// Conditions that are looked up with what they are about.
#[tokio::test(flavor = "multi_thread")]
async fn coalesce_in_conditions() {
    let f = open().await;
    for (query, expected) in [
        (
            "SELECT ?n ?b { ?s <urn:name> ?n OPTIONAL { ?s <urn:knows> ?b FILTER(COALESCE(?nothing, ?b) = <urn:bob>) } }",
            &["Ann|urn:bob", "Bob|NULL", "Cid|NULL"][..],
        ),
        (
            "SELECT ?n { ?s <urn:name> ?n . ?s <urn:knows> ?b FILTER(COALESCE(?b) = <urn:bob> && COALESCE(1/0, ?x, true)) }",
            &["Ann"],
        ),
    ] {
        assert_eq!(select(&f, query).await, expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_and_order() {
    let f = open().await;
    let cases: &[(&str, &[&str])] = &[
        ("SELECT (COUNT(*) AS ?n) { ?s ?p ?o }", &["10"]),
        ("SELECT (COUNT(*) AS ?n) (SUM(?x) AS ?sum) { ?s <urn:nothing> ?x }", &["0|0"]),
        (
            "SELECT ?p (COUNT(?o) AS ?n) { ?s ?p ?o } GROUP BY ?p HAVING (COUNT(?o) > 3)",
            &["urn:age|4"],
        ),
        (
            "SELECT (COUNT(DISTINCT ?p) AS ?n) (COUNT(DISTINCT *) AS ?m) { ?s ?p ?o }",
            &["3|10"],
        ),
        (
            "SELECT (SUM(?a) AS ?n) (AVG(?a) AS ?m) { ?s <urn:age> ?a FILTER(isNumeric(?a)) }",
            &["91|30.333333333333333333"],
        ),
        ("SELECT (SUM(?a) AS ?n) { ?s <urn:age> ?a }", &["NULL"]),
        (
            "SELECT (SUM(DISTINCT ?l) AS ?n) { ?s <urn:age> ?a BIND(STRLEN(STR(?a)) AS ?l) }",
            &["14"],
        ),
        ("SELECT (MIN(?a) AS ?n) (MAX(?a) AS ?m) { ?s <urn:age> ?a }", &["7|unknown"]),
        (
            "SELECT (GROUP_CONCAT(?n; separator=',') AS ?all) { SELECT ?n { ?s <urn:name> ?n } ORDER BY ?n LIMIT 1 }",
            &["Ann"],
        ),
        (
            "SELECT ?g (COUNT(*) AS ?n) { GRAPH ?g { ?s ?p ?o } } GROUP BY ?g",
            &["urn:g1|2", "urn:g2|2"],
        ),
        (
            "SELECT ?g ?n { GRAPH ?g { SELECT (COUNT(*) AS ?n) { ?s ?p <urn:jam> } } }",
            &["urn:g1|0", "urn:g2|1"],
        ),
        (
            "SELECT ?g ?o { GRAPH ?g { SELECT ?o { ?s ?p ?o } ORDER BY ?o LIMIT 1 } }",
            &["urn:g1|urn:tea", "urn:g2|urn:jam"],
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(select(&f, query).await, *expected, "{query}");
    }
    // Without a limit SQL may give the rows of a subquery in any order.
    let in_order = async |query: &str| f.rows(&format!("SELECT * FROM sparql('kb', '{query}')")).await;
    assert_eq!(
        in_order("SELECT ?s ?a { ?s <urn:age> ?a } ORDER BY DESC(?a) ?s LIMIT 9").await,
        ["urn:cid|unknown", "urn:ann|42", "urn:dan|42.0", "urn:bob|7"]
    );
    assert_eq!(
        in_order("SELECT ?s { ?s <urn:age> ?a OPTIONAL { ?s <urn:name> ?n } } ORDER BY ?n OFFSET 1 LIMIT 2").await,
        ["urn:ann", "urn:bob"]
    );
    assert_eq!(
        in_order("SELECT DISTINCT ?p { ?s ?p ?o } ORDER BY DESC(?p) LIMIT 9").await,
        ["urn:name", "urn:knows", "urn:age"]
    );
    // No variable: one solution at most, and none where there is none.
    for (pattern, count) in [("?s <urn:nothing> ?o", "0"), ("?s <urn:age> ?o", "1")] {
        let query = format!(
            "SELECT DISTINCT ?nothing {{ {{ SELECT DISTINCT * {{ {pattern} FILTER NOT EXISTS {{ ?s <urn:no> ?x }} }} ORDER BY ?w }} }}"
        );
        assert_eq!(
            f.rows(&format!("SELECT count(*) FROM sparql('kb', '{query}')")).await,
            [count],
            "{query}"
        );
        let query = format!("SELECT (COUNT(*) AS ?n) {{ {{ SELECT DISTINCT ?w {{ {pattern} }} ORDER BY ?w }} }}");
        assert_eq!(select(&f, &query).await, [count], "{query}");
    }
    let constant = "SELECT (COUNT(*) AS ?n) { { SELECT DISTINCT * { <urn:ann> <urn:nothing> 1 } ORDER BY ?w } }";
    assert_eq!(select(&f, constant).await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn exists() {
    let f = open().await;
    let cases: &[(&str, &[&str])] = &[
        (
            "SELECT ?s { ?s <urn:age> ?a FILTER EXISTS { ?s <urn:knows> ?o } }",
            &["urn:ann", "urn:bob", "urn:dan"],
        ),
        ("SELECT ?s { ?s <urn:age> ?a FILTER NOT EXISTS { ?s <urn:name> ?n } }", &["urn:dan"]),
        (
            "SELECT ?s { ?s <urn:age> ?a FILTER(?a = 7 || EXISTS { ?s <urn:knows> ?s }) }",
            &["urn:bob", "urn:dan"],
        ),
        // The condition within sees the value outside.
        (
            "SELECT ?s { ?s <urn:age> ?a FILTER EXISTS { ?t <urn:age> ?b FILTER(?t != ?s && ?a = ?b) } }",
            &["urn:ann", "urn:dan"],
        ),
        (
            "SELECT ?s { ?s <urn:age> ?a FILTER EXISTS { {} OPTIONAL { ?s <urn:name> ?n } FILTER(!BOUND(?n)) } }",
            &["urn:dan"],
        ),
        (
            "SELECT ?s ?e { ?s <urn:age> ?a BIND(EXISTS { ?s <urn:name> ?n } AS ?e) }",
            &["urn:ann|true", "urn:bob|true", "urn:cid|true", "urn:dan|false"],
        ),
        (
            "SELECT ?s ?n { ?s <urn:age> ?a OPTIONAL { ?s <urn:name> ?n FILTER EXISTS { ?s <urn:knows> ?k } } }",
            &["urn:ann|Ann", "urn:bob|Bob", "urn:cid|NULL", "urn:dan|NULL"],
        ),
        (
            "SELECT ?s ?g { ?s <urn:age> 7 . GRAPH ?g { ?s <urn:likes> <urn:tea> FILTER NOT EXISTS { ?s <urn:likes> <urn:jam> } } }",
            &["urn:bob|urn:g1"],
        ),
        // Within, a value from outside is a term, which MINUS does not take for shared; what is unbound outside is a variable.
        (
            "SELECT ?s { ?s <urn:age> ?a OPTIONAL { ?s <urn:knows> ?w } FILTER EXISTS { ?w <urn:age> 7 MINUS { ?w <urn:name> ?n } } }",
            &["urn:ann"],
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(select(&f, query).await, *expected, "{query}");
    }
}

/// A chain of nodes, longer than edges are looked up one by one.
#[tokio::test(flavor = "multi_thread")]
async fn long_paths() {
    let f = open().await;
    let edges = |from: usize, to: usize| -> String {
        let quads = (from..to).map(|i| format!("<urn:n{i}> <urn:next> <urn:n{}> . <urn:n{}> <urn:back> <urn:n{i}> . ", i + 1, i + 1));
        quads.collect()
    };
    update(
        &f,
        &format!("INSERT DATA {{ {} GRAPH <urn:g> {{ {} }} }}", edges(0, 600), edges(600, 900)),
    )
    .await
    .unwrap();
    let count = async |pattern: &str| {
        let found = select(&f, &format!("SELECT (COUNT(*) AS ?n) {{ {pattern} }}")).await;
        found.join(" ")
    };
    let edges_of_600 = (600 * 601 / 2).to_string();
    for (pattern, expected) in [
        ("<urn:n0> <urn:next>+ ?x", "600"),
        ("<urn:n0> <urn:next>* ?x", "601"),
        ("<urn:n590> <urn:next>+ ?x", "10"),
        ("?x <urn:next>+ <urn:n600>", "600"),
        ("?x <urn:next>+ <urn:n5>", "5"),
        ("<urn:n5> ^<urn:next>+ ?x", "5"),
        ("<urn:n5> (<urn:next>|^<urn:back>)+ ?x", "595"),
        ("<urn:n5> (<urn:next>|<urn:back>)+ ?x", "601"),
        ("<urn:n5> (<urn:next>|<urn:back>)+ <urn:n5>", "1"),
        ("<urn:n5> <urn:next>+ <urn:n5>", "0"),
        ("?x <urn:next>+ ?x", "0"),
        ("?x (<urn:next>|<urn:back>)+ ?x", "601"),
        ("?x <urn:next>+ ?y", edges_of_600.as_str()),
        ("?x ^(<urn:back>|^<urn:next>)+ ?y", edges_of_600.as_str()),
        ("VALUES ?x { <urn:n595> <urn:n598> <urn:none> } ?x <urn:next>+ ?y", "7"),
        ("?x <urn:next> <urn:n2> . ?x <urn:next>+ ?y", "599"),
        ("GRAPH <urn:g> { <urn:n600> <urn:next>+ ?x }", "300"),
        ("GRAPH ?g { <urn:n600> <urn:next>+ ?x }", "300"),
        ("<urn:none> <urn:next>+ ?x", "0"),
        ("?x <urn:none>+ ?y", "0"),
        ("?x (<urn:next>/<urn:next>)+ <urn:n600>", "300"),
    ] {
        assert_eq!(count(pattern).await, expected, "{pattern}");
    }
    // So many that more lookups are made than are made anyway, before all edges are read.
    let far: String = (0..5000).map(|i| format!("<urn:m{i}> <urn:far> <urn:m{}> . ", i + 1)).collect();
    update(&f, &format!("INSERT DATA {{ {far} }}")).await.unwrap();
    f.run("CHECKPOINT").await;
    for (pattern, expected) in [
        ("<urn:m4710> <urn:far>+ ?x", "290"),
        ("?x <urn:far>+ <urn:m290>", "290"),
        ("<urn:m0> <urn:far>+ ?x", "5000"),
        (
            "VALUES ?x { <urn:m4710> <urn:m4990> <urn:m0> <urn:m4999> } ?x <urn:far>+ ?y",
            "5301",
        ),
    ] {
        assert_eq!(count(pattern).await, expected, "{pattern}");
    }
    // Edges of all graphs together, and what a transaction has written and nobody else sees.
    let merged = "SELECT (COUNT(*) AS ?n) FROM <urn:g> { <urn:n600> <urn:next>+ ?x }";
    assert_eq!(select(&f, merged).await, ["300"]);
    f.run("BEGIN").await;
    update(&f, "INSERT DATA { <urn:n600> <urn:next> <urn:n0> }").await.unwrap();
    assert_eq!(count("<urn:n590> <urn:next>+ ?x").await, "601");
    assert_eq!(count("?x <urn:next>+ ?y").await, (601 * 601).to_string());
    f.run("ROLLBACK").await;
    assert_eq!(count("<urn:n590> <urn:next>+ ?x").await, "10");
}

/// Changes the dataset.
pub async fn update(f: &Fixture, text: &str) -> pyralog_models::Result<()> {
    let query = pyralog_models::rdf::SparqlQuery {
        dataset: "kb".to_owned(),
        text: text.to_owned(),
        ..Default::default()
    };
    f.session.sparql_update(query).await
}

#[tokio::test(flavor = "multi_thread")]
async fn updates() {
    let f = open().await;
    let ages = "SELECT ?s ?a { ?s <urn:age> ?a FILTER(isNumeric(?a)) }";
    update(
        &f,
        "DELETE { ?s <urn:age> ?a } INSERT { ?s <urn:age> ?b } WHERE { ?s <urn:age> ?a BIND(?a + 1 AS ?b) FILTER(isNumeric(?a)) }",
    )
    .await
    .unwrap();
    assert_eq!(select(&f, ages).await, ["urn:ann|43", "urn:bob|8", "urn:dan|43"]);
    // All of a request, or nothing of it.
    let error = update(&f, "DELETE DATA { <urn:ann> <urn:age> 43 } ; DROP GRAPH <urn:nowhere>")
        .await
        .unwrap_err();
    assert_eq!(error.code, "42P01");
    assert_eq!(select(&f, ages).await.len(), 3);
    // Later operations see what earlier ones did; and a transaction of SQL holds them together.
    f.run("BEGIN").await;
    update(
        &f,
        "INSERT DATA { GRAPH <urn:g3> { <urn:x> <urn:p> [] } } ; INSERT { ?s <urn:q> ?o } WHERE { GRAPH <urn:g3> { ?s <urn:p> ?o } }",
    )
    .await
    .unwrap();
    assert_eq!(
        select(
            &f,
            "SELECT ?s { ?s <urn:q> ?o . GRAPH <urn:g3> { ?s <urn:p> ?o } FILTER isBlank(?o) }"
        )
        .await,
        ["urn:x"]
    );
    f.run("ROLLBACK").await;
    assert!(select(&f, "SELECT ?s { ?s <urn:q> ?o }").await.is_empty());
    // Graphs without quads are there until they are dropped.
    update(&f, "CLEAR GRAPH <urn:g1>").await.unwrap();
    assert_eq!(select(&f, "SELECT ?g { GRAPH ?g {} }").await, ["urn:g1", "urn:g2"]);
    update(&f, "DROP GRAPH <urn:g1> ; COPY <urn:g2> TO <urn:g4>").await.unwrap();
    assert_eq!(select(&f, "SELECT ?g { GRAPH ?g {} }").await, ["urn:g2", "urn:g4"]);
    assert_eq!(
        select(&f, "SELECT ?o { GRAPH <urn:g4> { ?s ?p ?o } }").await,
        ["urn:jam", "urn:tea"]
    );
    f.run("CALL sparql_update('kb', 'INSERT DATA { <urn:y> <urn:p> \"it''s\" }')").await;
    assert_eq!(select(&f, "SELECT ?o { <urn:y> <urn:p> ?o }").await, ["it's"]);
    let error = f.fails("CALL sparql_update('kb', 'INSERT DATA { <urn:y> }')").await;
    assert!(error.message.starts_with("line 1, column "), "{error}");
    assert_eq!(f.fails("CALL sparql_update('kb')").await.code, "42601");
    assert_eq!(f.fails("CALL nothing('kb')").await.code, "42883");
    assert_eq!(update(&f, "LOAD <http://127.0.0.1/x.ttl>").await.unwrap_err().code, "42501");
    update(&f, "LOAD SILENT <http://127.0.0.1/x.ttl> ; DROP ALL").await.unwrap();
    assert_eq!(f.rows("SELECT count(*) FROM kb.quads").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_refused() {
    let f = open().await;
    let fails = async |query: &str| {
        let query = query.replace('\'', "''");
        f.fails(&format!("SELECT * FROM sparql('kb', '{query}')")).await
    };
    let error = fails("SELECT ?s { ?s ?p ").await;
    assert_eq!(error.code, "42601");
    assert!(
        error.message.starts_with("line 1, column 19 of the SPARQL query: syntax error"),
        "{error}"
    );
    assert_eq!(fails("ASK { ?s ?p ?o }").await.code, "42601");
    assert_eq!(fails("SELECT ?s { SERVICE <http://127.0.0.1/> { ?s ?p ?o } }").await.code, "42501");
    assert_eq!(fails("SELECT ?s { ?s ?p ?o FILTER(<urn:no-function>(?s)) }").await.code, "42883");
    let deep = format!("SELECT * {}{}", "{".repeat(20_000), "}".repeat(20_000));
    assert_eq!(fails(&deep).await.code, "54001");
    assert_eq!(f.fails("SELECT * FROM sparql('source', 'SELECT * {}')").await.code, "42809");
    assert_eq!(f.fails("SELECT * FROM sparql('nowhere', 'SELECT * {}')").await.code, "42P01");
    assert_eq!(f.fails("SELECT * FROM sparql('kb')").await.code, "42601");
}
