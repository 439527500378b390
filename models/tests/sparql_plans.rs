//! How queries of SPARQL are planned, as `EXPLAIN` shows it.

use futures::TryStreamExt;
use pyralog_models::rdf::{SparqlJoin, SparqlQuery, SparqlResult};

use crate::fixture::Fixture;
use crate::sparql::{open, select, update};

/// What `EXPLAIN` says about the solutions of a pattern: the physical plan.
async fn plan(f: &Fixture, pattern: &str) -> String {
    let sql = format!("EXPLAIN SELECT * FROM sparql('kb', 'SELECT * {{ {pattern} }}')");
    let text = f.rows(&sql).await.join("\n").replace("\\n", "\n");
    text[text.rfind("physical_plan").unwrap()..].to_owned()
}

fn place(plan: &str, text: &str) -> usize {
    plan.find(text).unwrap_or_else(|| panic!("no {text}: {plan}"))
}

/// How many solutions a pattern has, however its triples are joined.
async fn count(f: &Fixture, pattern: &str) -> String {
    let mut counts = Vec::new();
    for join in [SparqlJoin::Auto, SparqlJoin::Lookup, SparqlJoin::Hash, SparqlJoin::Search] {
        let query = SparqlQuery {
            dataset: "kb".to_owned(),
            text: format!("SELECT * {{ {pattern} }}"),
            join,
            ..SparqlQuery::default()
        };
        let SparqlResult::Solutions(_, rows) = f.session.sparql(query).await.unwrap() else {
            panic!("no solutions of {pattern}");
        };
        let batches: Vec<_> = rows.try_collect().await.unwrap();
        counts.push(batches.iter().map(|batch| batch.num_rows()).sum::<usize>());
    }
    assert!(counts.iter().all(|count| *count == counts[0]), "{pattern}: {counts:?}");
    counts[0].to_string()
}

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
    let waiting = r#"?t a <urn:Kind0> . ?t <urn:label> ?l . FILTER(REGEX(?l, "number 1.*0$") && CONTAINS(?l, "long"))"#;
    let physical = plan(&f, waiting).await;
    let join = place(&physical, "HashJoinExec");
    assert!(place(&physical, "sparql_here") < join, "{physical}");
    assert!(!physical[join..].contains("sparql_function"), "{physical}");
    let counted = format!("SELECT (COUNT(*) AS ?n) {{ {waiting} }}");
    let expected = (0..4000)
        .filter(|i| i % 4 == 0 && i.to_string().starts_with('1') && i % 10 == 0)
        .count();
    assert_eq!(select(&f, &counted).await, [expected.to_string()]);
    // A union of few goes before triples that many have.
    let few = "?t <urn:label> ?l . { ?t <urn:label> \"a long label, number 7\" } UNION { ?t <urn:label> \"a long label, number 8\" }";
    let physical = plan(&f, few).await;
    assert!(!physical.contains("HashJoinExec"), "{physical}");
    assert!(place(&physical, "UNION {") < place(&physical, "· ?t <urn:label> ?l"), "{physical}");
    assert_eq!(count(&f, few).await, "2");
    // Without the join there is nothing to wait for.
    let alone = plan(&f, r#"?t <urn:label> ?l FILTER REGEX(?l, "number 1.*0$")"#).await;
    assert!(!alone.contains("sparql_here"), "{alone}");
    // As many solutions as rows: less is joined where the condition goes first.
    let same = plan(&f, r#"?t <urn:label> ?l . ?t <urn:label> ?m . FILTER REGEX(?m, "number 1.*0$")"#).await;
    assert!(!same.contains("sparql_here"), "{same}");
}

/// A condition is tried between lookups as soon as its variables have values; one behind an OPTIONAL, before it.
#[tokio::test(flavor = "multi_thread")]
async fn conditions_go_between_lookups() {
    let f = open().await;
    let pattern = "?s <urn:age> ?a . ?s <urn:knows> ?o . ?o <urn:age> ?b . FILTER(?a > 40) FILTER(?s != ?o && ?b < 10)";
    let physical = plan(&f, pattern).await;
    assert!(!physical.contains("FilterExec"), "{physical}");
    assert!(place(&physical, "FILTER") < place(&physical, "?o <urn:age>"), "{physical}");
    assert_eq!(count(&f, pattern).await, "1");
    let optional = "?s <urn:age> ?a . OPTIONAL { ?s <urn:name> ?n } FILTER(?a = 42 && !BOUND(?n))";
    let physical = plan(&f, optional).await;
    assert!(place(&physical, "FilterExec") < place(&physical, "OPTIONAL"), "{physical}");
    assert!(place(&physical, "FILTER") < place(&physical, "OPTIONAL"), "{physical}");
    assert_eq!(count(&f, optional).await, "1");
    // Each solution has a chance of its own, and what sees an optional variable waits for it.
    for (pattern, expected) in [
        ("?s <urn:age> ?a . FILTER(RAND() < 2 && STRLEN(STR(UUID())) = 36 + 9)", "4"),
        ("?s <urn:age> ?a . FILTER(1 = 2)", "0"),
        ("?s <urn:age> ?a . FILTER(?nobody = 2 || ?a = 7)", "1"),
        ("?s <urn:age> ?a . OPTIONAL { ?s <urn:name> ?n } FILTER(?n = \"Ann\")", "1"),
        (
            "?s <urn:age> ?a . OPTIONAL { ?s <urn:name> ?n FILTER(?a = 42) } FILTER(?a = 42 || ?a = 7)",
            "3",
        ),
        ("GRAPH ?g { ?s <urn:likes> ?o FILTER(?o = <urn:jam>) } FILTER(?g = <urn:g2>)", "1"),
        // Within GRAPH its variable has no value yet.
        ("GRAPH ?g { ?s <urn:likes> ?o FILTER(?g = <urn:g2> && ?o = <urn:jam>) }", "0"),
    ] {
        assert_eq!(count(&f, pattern).await, expected, "{pattern}");
    }
}

/// The parts of a UNION are looked up for each solution that they are joined to, and by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn unions_are_looked_up() {
    let f = open().await;
    for (pattern, expected) in [
        ("{ <urn:ann> ?p ?o } UNION { ?s ?p <urn:bob> }", "4"),
        (
            "?s <urn:age> ?a . { ?s <urn:name> ?n } UNION { ?s <urn:knows> ?o } UNION { ?o <urn:knows> ?s }",
            "9",
        ),
        (
            "{ ?s <urn:name> ?n } UNION { ?s <urn:knows> ?o FILTER(?o != ?s) } ?s <urn:age> ?a",
            "5",
        ),
        ("?s <urn:age> ?a OPTIONAL { { ?s <urn:name> ?n } UNION { ?s <urn:knows> ?s } }", "4"),
        (
            "{ SELECT (COUNT(*) AS ?n) { ?x <urn:age> ?y } } ?s <urn:age> ?a . { ?s <urn:name> ?m } UNION { ?s <urn:knows> ?m }",
            "6",
        ),
        (
            "OPTIONAL { ?s <urn:none> ?n } { ?s <urn:name> ?n } UNION { ?s <urn:knows> ?n }",
            "6",
        ),
        (
            "GRAPH ?g { ?s <urn:likes> <urn:tea> { ?s <urn:likes> ?o } UNION { ?t <urn:likes> ?o } }",
            "10",
        ),
    ] {
        let physical = plan(&f, pattern).await;
        assert!(
            physical.contains("UNION {") && !physical.contains("UnionExec"),
            "{pattern}: {physical}"
        );
        assert_eq!(count(&f, pattern).await, expected, "{pattern}");
    }
    // What is drawn is drawn once for each solution of a part, not for each that it is joined to.
    let drawn = plan(
        &f,
        "?s <urn:age> ?a . { ?x <urn:name> ?o FILTER(RAND() < 2) } UNION { ?x <urn:knows> ?o }",
    )
    .await;
    assert!(!drawn.contains("UNION {"), "{drawn}");
}

/// Patterns that share no variable are joined by themselves before they meet.
#[tokio::test(flavor = "multi_thread")]
async fn unrelated_patterns_meet_last() {
    let f = open().await;
    let all: String = (0..300)
        .map(|i| {
            format!(
                "<urn:a{i}> <urn:x> <urn:b{i}> . <urn:b{i}> <urn:y> {} . <urn:c{i}> <urn:z> <urn:d{i}> . <urn:d{i}> <urn:w> {i} . ",
                i % 7
            )
        })
        .collect();
    update(&f, &format!("INSERT DATA {{ {all} }}")).await.unwrap();
    let apart = "?a <urn:x> ?b . ?b <urn:y> ?n . ?c <urn:z> ?d . ?d <urn:w> ?m";
    let physical = plan(&f, apart).await;
    assert!(physical.contains("CrossJoinExec"), "{physical}");
    let filtered = format!("{apart} FILTER(?n = 3 && ?m < 2) FILTER(?n + ?m = 4)");
    assert_eq!(count(&f, &filtered).await, "43");
    assert_eq!(count(&f, apart).await, "90000");
}

/// Where a product is what a NOT EXISTS is asked for, the hash table is made of the pattern within, and the product of joined triples.
#[tokio::test(flavor = "multi_thread")]
async fn products_are_not_held() {
    let f = open().await;
    let all: String = (0..400)
        .map(|i| {
            format!(
                "<urn:p{i}> <urn:f> <urn:f{i}>, <urn:f{}> . <urn:o{i}> <urn:of> <urn:p{i}> ; <urn:price> {i} . ",
                (i + 1) % 400
            )
        })
        .collect();
    update(&f, &format!("INSERT DATA {{ {all} }}")).await.unwrap();
    let pattern = "{ SELECT DISTINCT ?f { ?x <urn:f> ?f } } ?o <urn:of> ?p . ?o <urn:price> ?n FILTER NOT EXISTS { ?p <urn:f> ?f }";
    let physical = plan(&f, pattern).await;
    let anti = place(&physical, "RightAnti");
    let product = place(&physical, "CrossJoinExec");
    assert!(anti < product, "{physical}");
    assert!(place(&physical, "<urn:price>") > product, "{physical}");
    assert!(!physical[anti..product].contains("Inner"), "{physical}");
    assert_eq!(count(&f, pattern).await, (400 * 400 - 2 * 400).to_string());
    // Conditions pass through.
    assert_eq!(
        count(&f, &format!("{pattern} FILTER(?n < 10 && ?o != <urn:o3>)")).await,
        (9 * 398).to_string()
    );
}

/// What functions make of terms is kept from batch to batch: for the terms that it was made of, and by the functions that made it.
#[tokio::test(flavor = "multi_thread")]
async fn functions_of_terms_that_come_again() {
    let f = open().await;
    let all: String = (0..150)
        .map(|i| format!("<urn:a{i}> <urn:n> {} . <urn:b{i}> <urn:m> \"{}.50\" . ", i, i % 10))
        .collect();
    update(&f, &format!("INSERT DATA {{ {all} <urn:b0> <urn:m> \"x\" }}"))
        .await
        .unwrap();
    let of = |value: &str, filter: &str| format!("SELECT ({value} AS ?x) {{ ?a <urn:n> ?n . ?b <urn:m> ?m {filter} }}");
    // 22,650 solutions, in each of which the price is one of eleven.
    let numbers = "FILTER(?m != \"x\")";
    let sum = "SUM(<http://www.w3.org/2001/XMLSchema#decimal>(?m))";
    assert_eq!(select(&f, &of(sum, numbers)).await, ["112500"]);
    assert_eq!(select(&f, &of(&format!("COALESCE({sum}, \"none\")"), "")).await, ["none"]);
    let both = "SUM(STRLEN(?m) + STRLEN(STR(?n)) + STRLEN(UCASE(?m)))";
    let digits: usize = (0..150).map(|i: usize| i.to_string().len()).sum();
    assert_eq!(select(&f, &of(both, numbers)).await, [(150 * 150 * 8 + 150 * digits).to_string()]);
}

/// The pattern with the fewest quads is a bad one to begin with where what it leads to is much: the order is searched for.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_cheap_at_first_and_dear_then_is_not_taken() {
    let f = open().await;
    let mut data = String::new();
    for i in 0..100 {
        data += &format!("<urn:a{i}> <urn:small> <urn:hub> . ");
    }
    for i in 0..10_000 {
        data += &format!("<urn:hub> <urn:fan> <urn:c{i}> . ");
        if i % 50 == 0 {
            data += &format!("<urn:c{i}> <urn:tag> <urn:rare> . ");
        }
    }
    update(&f, &format!("INSERT DATA {{ {data} }}")).await.unwrap();
    let pattern = "?a <urn:small> ?b . ?b <urn:fan> ?c . ?c <urn:tag> <urn:rare>";
    let physical = plan(&f, pattern).await;
    place(&physical, "?c <urn:tag> <urn:rare> · ?b <urn:fan> ?c");
    assert_eq!(count(&f, pattern).await, "20000");
}

/// Two parts that have few solutions each and many in between are joined by themselves first.
#[tokio::test(flavor = "multi_thread")]
async fn parts_with_few_solutions_are_joined_before_they_meet() {
    let f = open().await;
    let mut data = String::new();
    for i in 0..60_000 {
        data += &format!("<urn:x{i}> <urn:left> <urn:y{0}> . <urn:z{i}> <urn:right> <urn:y{0}> . ", i % 30);
        if i % 600 == 0 {
            data += &format!("<urn:x{i}> <urn:is> <urn:chosen> . <urn:z{i}> <urn:was> <urn:chosen> . ");
        }
    }
    update(&f, &format!("INSERT DATA {{ {data} }}")).await.unwrap();
    f.run("CHECKPOINT").await;
    let pattern = "?x <urn:is> <urn:chosen> . ?x <urn:left> ?y . ?z <urn:right> ?y . ?z <urn:was> <urn:chosen>";
    let physical = plan(&f, pattern).await;
    let joined = place(&physical, "HashJoinExec");
    for part in ["urn:left", "urn:right"] {
        assert!(joined < place(&physical, part), "{physical}");
    }
    assert_eq!(count(&f, pattern).await, "10000");
}

/// How many quads match one triple is known without reading them, as long as all of them are in one graph.
#[tokio::test(flavor = "multi_thread")]
async fn one_triple_is_counted_without_reading() {
    let f = open().await;
    update(&f, "DROP ALL").await.unwrap();
    let data: String = (0..6000)
        .map(|i| format!("<urn:s{i}> a <urn:Kind{}> ; <urn:n> {i} . ", i % 3))
        .collect();
    update(&f, &format!("INSERT DATA {{ {data} }}")).await.unwrap();
    let counts = [
        ("(COUNT(*) AS ?n) { ?s ?p ?o }", 12_000),
        ("(COUNT(?o) AS ?n) { ?s <urn:n> ?o }", 6000),
        ("(COUNT(DISTINCT ?s) AS ?n) { ?s a <urn:Kind1> }", 2000),
        ("(COUNT(DISTINCT *) AS ?n) { <urn:s7> ?p ?o }", 2),
        ("(COUNT(*) AS ?n) { ?s a <urn:None> }", 0),
        ("(COUNT(*) AS ?n) { <urn:s9> <urn:n> 9 }", 1),
    ];
    let others = [
        ("(COUNT(DISTINCT ?p) AS ?n) { ?s ?p ?o }", 2),
        ("(COUNT(DISTINCT *) AS ?n) { [] ?p ?o }", 6003),
        ("(COUNT(*) AS ?n) { ?s ?p ?s }", 0),
        ("(COUNT(?x) AS ?n) { ?s ?p ?o }", 0),
        ("(COUNT(*) AS ?n) { ?s ?p ?o FILTER(?o = 5) }", 1),
    ];
    let reads = async |query: &str| {
        let sql = format!("EXPLAIN SELECT * FROM sparql('kb', 'SELECT {query}')");
        let text = f.rows(&sql).await.join("\n");
        text.contains("DataSourceExec") || text.contains("BindJoinExec")
    };
    let check = async |query: &str, expected: i32| {
        assert_eq!(select(&f, &format!("SELECT {query}")).await, [format!("{expected}")], "{query}");
    };
    for flushed in [false, true] {
        if flushed {
            f.run("CHECKPOINT").await;
        }
        for (query, expected) in counts {
            check(query, expected).await;
            assert!(!flushed || !reads(query).await, "{query}");
        }
        for (query, expected) in others {
            check(query, expected).await;
            assert!(reads(query).await, "{query}");
        }
    }
    update(&f, "DELETE DATA { <urn:s7> <urn:n> 7 } ; INSERT DATA { <urn:s7> <urn:n> 77, 777 }")
        .await
        .unwrap();
    check("(COUNT(*) AS ?n) { <urn:s7> ?p ?o }", 3).await;
    check("(COUNT(*) AS ?n) { ?s ?p ?o }", 12_001).await;
    f.run("BEGIN").await;
    f.run("CALL sparql_update('kb', 'INSERT DATA { <urn:own> <urn:n> 1 } ; DELETE DATA { <urn:s9> <urn:n> 9 , 10 }')")
        .await;
    check("(COUNT(*) AS ?n) { ?s <urn:n> ?o }", 6001).await;
    check("(COUNT(*) AS ?n) { <urn:s9> <urn:n> ?o }", 0).await;
    f.run("ROLLBACK").await;
    check("(COUNT(*) AS ?n) { ?s <urn:n> ?o }", 6001).await;
    check("(COUNT(*) AS ?n) FROM <urn:g> { ?s <urn:n> ?o }", 0).await;
    check("(COUNT(*) AS ?n) FROM NAMED <urn:g> { ?s <urn:n> ?o }", 0).await;
    update(&f, "INSERT DATA { GRAPH <urn:g> { <urn:s7> <urn:n> 77 } }").await.unwrap();
    check("(COUNT(*) AS ?n) FROM <urn:g> { ?s <urn:n> ?o }", 1).await;
    check("(COUNT(*) AS ?n) { ?s ?p ?o }", 12_001).await;
    check("(COUNT(*) AS ?n) { GRAPH ?g { ?s ?p ?o } }", 1).await;
    check("(COUNT(*) AS ?n) { GRAPH <urn:g> { ?s ?p ?o } }", 1).await;
}

/// What is looked up for few solutions is one operator, whichever groups of the text it comes from.
#[tokio::test(flavor = "multi_thread")]
async fn lookups_one_after_the_other_are_one_operator() {
    let f = open().await;
    let cases = [
        (
            "?s <urn:age> ?a OPTIONAL { ?s <urn:name> ?n } OPTIONAL { ?s <urn:knows> ?o OPTIONAL { ?o <urn:age> ?b } }",
            1,
        ),
        (
            "?s <urn:age> ?a { ?s <urn:name> ?n } UNION { ?s <urn:knows> ?n } OPTIONAL { ?s <urn:knows> ?o }",
            1,
        ),
        // What an OPTIONAL may have left open is bound by what follows, under another name.
        (
            "?s <urn:age> ?a OPTIONAL { ?s <urn:knows> ?o } { ?o <urn:name> ?n } UNION { ?o <urn:age> ?n }",
            2,
        ),
    ];
    for (pattern, operators) in cases {
        let physical = plan(&f, pattern).await;
        assert!(physical.matches("BindJoinExec").count() <= operators, "{physical}");
        // The same as by hash.
        assert_ne!(count(&f, pattern).await, "0", "{pattern}");
    }
}

/// An unbound variable agrees with any value, which no hash table answers: sides that share no other variables are cut by whether they bind it.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_unbound_is_joined_by_hash_where_it_is_bound() {
    const THINGS: usize = 600;
    let f = open().await;
    let name_of = |i: usize, unless: usize| (!i.is_multiple_of(unless)).then_some(i % 200);
    let mut data = String::new();
    for i in 0..THINGS {
        data += &format!("<urn:a{i}> <urn:p> {i} . <urn:b{i}> <urn:q> {i} . ");
        if let Some(name) = name_of(i, 50) {
            data += &format!("<urn:a{i}> <urn:n> \"name {name}\" . ");
        }
        if let Some(name) = name_of(i, 40).filter(|name| *name < 150) {
            data += &format!("<urn:b{i}> <urn:m> \"name {name}\" . ");
        }
    }
    update(&f, &format!("INSERT DATA {{ {data} }}")).await.unwrap();
    let left: Vec<(usize, Option<usize>)> = (0..THINGS).map(|i| (i, name_of(i, 50))).collect();
    let right: Vec<(usize, Option<usize>)> = (0..THINGS).map(|i| (i, name_of(i, 40).filter(|name| *name < 150))).collect();
    let agree = |a: &Option<usize>, b: &Option<usize>| a.is_none() || b.is_none() || a == b;
    let pairs_of = |condition: &dyn Fn(usize, usize) -> bool| -> (usize, usize) {
        let partners = |(i, a): &(usize, Option<usize>)| right.iter().filter(|(j, b)| agree(a, b) && condition(*i, *j)).count();
        let counts: Vec<usize> = left.iter().map(partners).collect();
        (counts.iter().sum(), counts.iter().filter(|count| **count == 0).count())
    };
    let a = "?a <urn:p> ?x OPTIONAL { ?a <urn:n> ?n }";
    let b = "?b <urn:q> ?y OPTIONAL { ?b <urn:m> ?n }";
    let (pairs, _) = pairs_of(&|_, _| true);
    assert_eq!(count(&f, &format!("{{ {a} }} {{ {b} }}")).await, pairs.to_string());
    // Only one side may leave it unbound.
    let named = right.iter().filter(|(_, b)| b.is_some());
    let some: usize = named.map(|(_, b)| left.iter().filter(|(_, a)| agree(a, b)).count()).sum();
    assert_eq!(count(&f, &format!("{{ {a} }} {{ ?b <urn:m> ?n }}")).await, some.to_string());
    assert_eq!(count(&f, &format!("{{ ?b <urn:m> ?n }} {{ {a} }}")).await, some.to_string());
    let (pairs, alone) = pairs_of(&|x, y| x + 590 < y);
    let optional = format!("{{ {a} }} OPTIONAL {{ {{ {b} }} FILTER(?x + 590 < ?y) }}");
    assert_eq!(count(&f, &optional).await, (pairs + alone).to_string());
    // Nobody is taken who shares nothing that both bind.
    let is_taken = |a: &Option<usize>| a.is_some() && right.iter().any(|(_, b)| b == a);
    let rest = left.iter().filter(|(_, a)| !is_taken(a)).count();
    assert_eq!(count(&f, &format!("{{ {a} }} MINUS {{ {b} }}")).await, rest.to_string());
    // What one of both leaves unbound agrees with any.
    let has_partner = |a: &Option<usize>, b_of: &dyn Fn(usize) -> Option<usize>| (0..THINGS).any(|j| agree(a, &b_of(j)));
    let m_of = |j: usize| right[j].1.or(Some(usize::MAX));
    let some = left.iter().filter(|(_, a)| has_partner(a, &m_of)).count();
    let any = format!("{a} FILTER EXISTS {{ ?b <urn:m> ?n }}");
    assert_eq!(count(&f, &any).await, some.to_string());
    let none = format!("{a} FILTER NOT EXISTS {{ ?b <urn:m> ?n }}");
    assert_eq!(count(&f, &none).await, (THINGS - some).to_string());
    let all = format!("{a} FILTER EXISTS {{ {{ ?b <urn:m> ?n }} UNION {{ ?b <urn:q> 7 }} }}");
    assert_eq!(count(&f, &all).await, THINGS.to_string());
    let all = format!("{a} FILTER NOT EXISTS {{ {{ ?b <urn:m> ?n }} UNION {{ ?b <urn:q> 7 }} }}");
    assert_eq!(count(&f, &all).await, "0");
    for pattern in [format!("{{ {a} }} {{ {b} }}"), optional, format!("{{ {a} }} MINUS {{ {b} }}"), none] {
        let physical = plan(&f, &pattern).await;
        assert!(
            physical.contains("SharedExec") && physical.contains("HashJoinExec"),
            "{pattern}: {physical}"
        );
    }
}

/// Each EXISTS that sees outer variables is joined to what is outside it; that is made once, however deep they nest.
#[tokio::test(flavor = "multi_thread")]
async fn plans_of_nested_exists_do_not_grow_by_a_factor_each() {
    let f = open().await;
    let chain: String = (0..40).map(|i| format!("<urn:c{i}> <urn:next> <urn:c{}> . ", i + 1)).collect();
    update(&f, &format!("INSERT DATA {{ {chain} }}")).await.unwrap();
    for depth in 1..=6 {
        // `?v0` is seen at every depth, so that it has to be brought there.
        let mut inner = "FILTER(?v0 != ?w)".to_owned();
        for level in (1..=depth).rev() {
            let before = level - 1;
            inner = format!(
                "OPTIONAL {{ ?w{level} <urn:next> ?v0 }} OPTIONAL {{ ?v{before} <urn:next> ?v{level} }} FILTER(BOUND(?v{level}) && ?v0 != ?v{level} \
                 && EXISTS {{ {{}} {inner} }})"
            );
        }
        let query = format!("?v0 <urn:next> ?w {inner}");
        let found = select(&f, &format!("SELECT (COUNT(*) AS ?n) {{ {query} }}")).await;
        // The chain has 40 edges; so many further ones must follow.
        assert_eq!(found, [(41 - depth).to_string()], "{query}");
    }
}

/// However many OPTIONALs are cut one after the other, by what may be unbound: each holds the one before.
#[tokio::test(flavor = "multi_thread")]
async fn many_solutions_that_are_held_within_each_other() {
    let f = open().await;
    let data: String = (0..40)
        .map(|i| format!("<urn:a{i}> <urn:p> {i} . <urn:b{i}> <urn:m> \"name {i}\" . "))
        .collect();
    update(&f, &format!("INSERT DATA {{ {data} <urn:a1> <urn:n> \"name 7\" }}"))
        .await
        .unwrap();
    for depth in [1, 10, 60] {
        let more: String = (0..depth)
            .map(|i| format!("OPTIONAL {{ {{ ?b{i} <urn:m> ?n FILTER(?n = \"name 7\") }} UNION {{ ?b{i} <urn:none> ?n }} }} "))
            .collect();
        let query = format!("SELECT (COUNT(*) AS ?n) {{ {{ ?a <urn:p> ?x OPTIONAL {{ ?a <urn:n> ?n }} }} {more} }}");
        let found = crate::fixture::rows(&f.session, &format!("SELECT * FROM sparql('kb', '{query}')")).await;
        match found {
            Ok(rows) => assert_eq!(rows, ["40"], "{depth}"),
            Err(error) => assert!(depth > 10 && error.code == "54001", "{depth}: {error:?}"),
        }
    }
}
