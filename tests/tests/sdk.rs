//! The SDK against the real server: streams, bound values, prepared statements, transactions, errors.

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use pyralog_client::{Client, ErrorKind, Quad, Syntax, Term, Text, Value, params};
use pyralog_tests::runtime::block_on;
use pyralog_tests::server::{Server, free_port};

#[test]
fn values_go_and_come_back() {
    let server = Server::start();
    block_on(async {
        let table = "t (id BIGINT PRIMARY KEY, b BOOLEAN, f DOUBLE, s VARCHAR, x BYTEA, d DATE, m DECIMAL(10,2), at TIMESTAMP)";
        let db = server.client_with_table(table).await;
        let insert = db.sql("INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6, $7, $8)");
        let money = Value::Decimal {
            digits: 12345,
            precision: 10,
            scale: 2,
        };
        let insert = insert
            .bind(1)
            .bind(true)
            .bind(2.5)
            .bind("it's")
            .bind(b"\x00\xff")
            .bind(Value::Date(1))
            .bind(money)
            .bind(Value::Timestamp(1_500_000));
        assert_eq!(insert.execute().await.unwrap(), 1);
        let nulls = params![
            2,
            None::<bool>,
            None::<f64>,
            None::<&str>,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null
        ];
        assert_eq!(
            db.sql("INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
                .bind_all(nulls)
                .execute()
                .await
                .unwrap(),
            1
        );
        let rows = db.sql("SELECT * FROM t ORDER BY id").fetch_rows().await.unwrap();
        assert_eq!((rows[0].get::<bool>("b").unwrap(), rows[0].get::<f64>("f").unwrap()), (true, 2.5));
        assert_eq!(
            (rows[0].get::<String>("s").unwrap(), rows[0].get::<Vec<u8>>("x").unwrap()),
            ("it's".to_owned(), vec![0, 255])
        );
        assert_eq!(
            (rows[0].get::<String>("d").unwrap(), rows[0].get::<String>("m").unwrap()),
            ("1970-01-02".to_owned(), "123.45".to_owned())
        );
        assert!(rows[0].get::<String>("at").unwrap().starts_with("1970-01-01T00:00:01.5"));
        for column in ["b", "f", "s", "x", "d", "m", "at"] {
            assert_eq!(rows[1].get::<Option<String>>(column).unwrap(), None, "{column}");
        }
        let named = db
            .sql("SELECT s FROM t WHERE id = $id AND b = $b")
            .bind_named("id", 1)
            .bind_named("b", true);
        assert_eq!(named.fetch_scalar::<String>().await.unwrap(), "it's");
        let injected = db.sql("SELECT count(*) FROM t WHERE s = ?").bind("'; DROP TABLE t; --");
        assert_eq!(injected.fetch_scalar::<i64>().await.unwrap(), 0);
        assert_eq!(db.sql("SELECT count(*) FROM t").fetch_scalar::<i64>().await.unwrap(), 2);
    });
}

/// The text alone does not tell these columns' types; the bound values do.
#[test]
fn parameters_may_be_all_of_a_column() {
    let server = Server::start();
    block_on(async {
        let db = server.client().await;
        assert_eq!(db.sql("SELECT $1").bind(5).fetch_scalar::<i64>().await.unwrap(), 5);
        let chosen = db.sql("SELECT CASE WHEN 1 = $1 THEN $2 ELSE $3 END").bind(1).bind("a").bind("b");
        assert_eq!(chosen.fetch_scalar::<String>().await.unwrap(), "a");
    });
}

#[test]
fn wrong_bindings_are_errors() {
    let server = Server::start();
    block_on(async {
        let db = server.client_with_table("t (id BIGINT PRIMARY KEY, s VARCHAR)").await;
        for statement in [
            db.sql("SELECT * FROM t WHERE id = $1 AND s = $2").bind(1),
            db.sql("SELECT * FROM t WHERE id = $1"),
            db.sql("SELECT * FROM t WHERE id = $1").bind("not a number"),
            db.sql("SELECT * FROM t WHERE id = $id").bind_named("other", 1),
        ] {
            let shown = format!("{statement:?}");
            let error = statement.fetch_all().await.expect_err(&shown);
            assert!(
                matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound),
                "{shown}: {error:?}"
            );
            assert!(error.code().is_some(), "{shown}: {error}");
        }
    });
}

#[test]
fn prepared_statements_run_often_and_see_changes() {
    let server = Server::start();
    block_on(async {
        let db = server.client_with_table("t (id BIGINT PRIMARY KEY, n INT)").await;
        let mut insert = db.prepare("INSERT INTO t VALUES ($1, $2)").await.unwrap();
        assert_eq!(insert.parameters().fields().len(), 2);
        assert_eq!(insert.schema().fields().len(), 0);
        for i in 0..20_i64 {
            assert_eq!(insert.execute(params![i, i * 2]).await.unwrap(), 1);
        }
        let mut select = db.prepare("SELECT n FROM t WHERE id >= $1 ORDER BY id").await.unwrap();
        assert_eq!(select.schema().field(0).name(), "n");
        for (from, expected) in [(0, 20), (15, 5), (99, 0)] {
            let batches = select.fetch(params![from]).await.unwrap().collect_batches().await.unwrap();
            assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), expected);
        }
        assert_eq!(insert.execute(params![0, 0]).await.unwrap_err().code(), Some("23505"));
        assert_eq!(insert.execute(params![100, 0]).await.unwrap(), 1);
        assert_eq!(db.prepare("SELECT * FROM nowhere").await.unwrap_err().code(), Some("42P01"));
    });
}

#[test]
fn transactions_isolate_conflict_and_roll_back() {
    let server = Server::start();
    block_on(async {
        let db = server.client_with_table("t (id BIGINT PRIMARY KEY, n INT)").await;
        db.sql("INSERT INTO t VALUES (1, 0), (2, 0)").execute().await.unwrap();
        let sum = async |of: &Client| of.sql("SELECT sum(n) FROM t").fetch_scalar::<i64>().await.unwrap();
        let (first, second) = (db.begin().await.unwrap(), db.begin().await.unwrap());
        assert_eq!(first.sql("UPDATE t SET n = 10 WHERE id = 1").execute().await.unwrap(), 1);
        assert_eq!(first.sql("SELECT sum(n) FROM t").fetch_scalar::<i64>().await.unwrap(), 10);
        assert_eq!(second.sql("SELECT sum(n) FROM t").fetch_scalar::<i64>().await.unwrap(), 0);
        assert_eq!(sum(&db).await, 0);
        first.commit().await.unwrap();
        assert_eq!(sum(&db).await, 10);
        assert_eq!(
            second.sql("SELECT sum(n) FROM t").fetch_scalar::<i64>().await.unwrap(),
            0,
            "a snapshot does not move"
        );
        let late = async {
            second.sql("UPDATE t SET n = 99 WHERE id = 1").execute().await?;
            second.commit().await
        };
        let error = late.await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code(), error.is_retryable()),
            (ErrorKind::Conflict, Some("40001"), true)
        );
        assert_eq!(sum(&db).await, 10);
        let dropped = db.begin().await.unwrap();
        dropped.sql("DELETE FROM t").execute().await.unwrap();
        drop(dropped);
        assert_eq!(sum(&db).await, 10);
        let tx = db.begin().await.unwrap();
        let mut insert = tx.prepare("INSERT INTO t VALUES ($1, 1)").await.unwrap();
        insert.execute(params![3]).await.unwrap();
        tx.rollback().await.unwrap();
        assert_eq!(sum(&db).await, 10);
    });
}

#[test]
fn serializable_transactions_keep_what_they_have_read() {
    let server = Server::start();
    block_on(async {
        let db = server.client_with_table("t (id BIGINT PRIMARY KEY, n BIGINT)").await;
        db.sql("INSERT INTO t VALUES (1, 1), (2, 1)").execute().await.unwrap();
        let swap = async |tx: &pyralog_client::Tx, read: i64, write: i64| {
            let n = tx
                .sql("SELECT n FROM t WHERE id = $1")
                .bind(read)
                .fetch_scalar::<i64>()
                .await
                .unwrap();
            tx.sql("UPDATE t SET n = $1 WHERE id = $2")
                .bind(n - 1)
                .bind(write)
                .execute()
                .await
                .unwrap();
        };
        let (first, second) = (db.begin_serializable().await.unwrap(), db.begin_serializable().await.unwrap());
        swap(&first, 1, 2).await;
        swap(&second, 2, 1).await;
        first.commit().await.unwrap();
        let error = second.commit().await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Conflict, true), "write skew");
        let apart = db.begin_serializable().await.unwrap();
        swap(&apart, 1, 3).await;
        db.sql("UPDATE t SET n = 5 WHERE id = 2").execute().await.unwrap();
        apart.commit().await.unwrap();
        // By the session's setting, through a Flight transaction as well.
        let set = server.client().await;
        set.sql("SET transaction_isolation = 'serializable'").execute().await.unwrap();
        let third = set.begin().await.unwrap();
        swap(&third, 1, 2).await;
        db.sql("UPDATE t SET n = 7 WHERE id = 1").execute().await.unwrap();
        assert_eq!(third.commit().await.unwrap_err().kind(), ErrorKind::Conflict);
    });
}

#[test]
fn concurrent_increments_are_all_counted() {
    let server = Server::start();
    block_on(async {
        let db = server.client_with_table("t (id BIGINT PRIMARY KEY, n BIGINT)").await;
        db.sql("INSERT INTO t VALUES (1, 0)").execute().await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let db = server.client().await;
            tasks.spawn(async move {
                let mut sure = 0;
                for _ in 0..25 {
                    match db.sql("UPDATE t SET n = n + 1 WHERE id = 1").execute().await {
                        Ok(count) => sure += count as i64,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
                    }
                }
                sure
            });
        }
        let sure: i64 = tasks.join_all().await.into_iter().sum();
        assert!(sure > 0);
        assert_eq!(
            db.sql("SELECT n FROM t").fetch_scalar::<i64>().await.unwrap(),
            sure,
            "an update was lost or counted twice"
        );
    });
}

#[test]
fn a_dropped_stream_and_a_timeout_stop_the_work() {
    let server = Server::start();
    block_on(async {
        let db = server.client().await;
        let heavy = "SELECT count(*) FROM generate_series(1, 500) a, generate_series(1, 10000000000) b WHERE a.value + b.value < 0";
        let started = Instant::now();
        let error = db.sql(heavy).timeout(Duration::from_secs(1)).fetch_all().await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::DeadlineExceeded | ErrorKind::Cancelled),
            "{error:?}"
        );
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        let mut rows = db.sql("SELECT * FROM generate_series(1, 10000000000)").fetch().await.unwrap();
        assert!(rows.next_batch().await.unwrap().is_some());
        drop(rows);
        // Nothing of either runs on: the process comes to rest.
        // Work stops between two steps of an operator: a batch of the one side with all of the other.
        let limit = Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 10 });
        let ended = Instant::now();
        loop {
            let before = cpu_ticks(server.pid());
            tokio::time::sleep(Duration::from_millis(200)).await;
            if cpu_ticks(server.pid()) - before <= 4 {
                break;
            }
            assert!(
                ended.elapsed() < limit,
                "the server still works {limit:?} after its clients went away"
            );
        }
    });
}

/// Processor time of a process so far, in ticks of 10 ms.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_slow_reader_slows_the_server_and_not_its_memory() {
    let server = Server::start();
    block_on(async {
        let db = server.client().await;
        let mut rows = db
            .sql("SELECT value, repeat('x', 1000) FROM generate_series(1, 10000000)")
            .fetch()
            .await
            .unwrap();
        rows.next_batch().await.unwrap();
        let before = server.resident_memory_bytes();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let grown = server.resident_memory_bytes().saturating_sub(before);
        assert!(grown < 128 << 20, "{} MB pile up for a reader that does not read", grown >> 20);
    });
}

#[test]
fn several_addresses_and_sessions() {
    let server = Server::start();
    block_on(async {
        let db = Client::connect(format!("grpc://127.0.0.1:{},{}", free_port(), server.flight_url()))
            .await
            .unwrap();
        db.sql("CREATE TABLE t (id BIGINT PRIMARY KEY)").execute().await.unwrap();
        // A transaction opened with a statement belongs to its session.
        let other = server.client().await;
        db.sql("BEGIN").execute().await.unwrap();
        db.sql("INSERT INTO t VALUES (1)").execute().await.unwrap();
        assert_eq!(db.sql("SELECT count(*) FROM t").fetch_scalar::<i64>().await.unwrap(), 1);
        assert_eq!(other.sql("SELECT count(*) FROM t").fetch_scalar::<i64>().await.unwrap(), 0);
        db.clone().close().await.unwrap();
        assert_eq!(
            other.sql("SELECT count(*) FROM t").fetch_scalar::<i64>().await.unwrap(),
            0,
            "closing a session rolls back"
        );
        drop(db);
        other.close().await.unwrap();
    });
}

#[test]
fn a_dataset_is_asked_and_changed() {
    let server = Server::start();
    block_on(async {
        let db = server.client().await;
        db.sql("CREATE COLLECTION kb AS RDF").execute().await.unwrap();
        let kb = db.rdf("kb");
        kb.update("INSERT DATA { <urn:ann> <urn:name> \"Ann's\" ; <urn:age> 42 }")
            .await
            .unwrap();
        let names = async |query: &str| {
            let batches: Vec<_> = kb.sparql(query).await.unwrap().try_collect().await.unwrap();
            batches
                .iter()
                .map(|batch: &arrow::array::RecordBatch| batch.num_rows())
                .sum::<usize>()
        };
        assert_eq!(names("SELECT ?s ?n { ?s <urn:name> ?n }").await, 1);
        // A transaction holds an update together with what else it does.
        let tx = db.begin().await.unwrap();
        tx.rdf("kb").update("DELETE WHERE { <urn:ann> ?p ?o }").await.unwrap();
        tx.rollback().await.unwrap();
        assert_eq!(names("SELECT ?p { <urn:ann> ?p ?o }").await, 2);
        let error = kb.update("INSERT DATA { <urn:ann> }").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    });
}

#[test]
fn answers_of_sparql_are_terms_in_order() {
    let server = Server::start();
    block_on(async {
        let db = server.client().await;
        db.sql("CREATE COLLECTION kb AS RDF").execute().await.unwrap();
        let kb = db.rdf("kb");
        let age = |name: &str, age: i64| {
            let years = Term::typed(age.to_string(), "http://www.w3.org/2001/XMLSchema#integer");
            Quad::new(Term::iri(format!("urn:{name}")), Term::iri("urn:age"), years)
        };
        let tea = Quad::new(Term::iri("urn:ann"), Term::iri("urn:likes"), Term::tagged("thé \"vert\"\n", "fr"));
        let quads = [
            age("ann", 42),
            age("bob", 7),
            age("cid", 100),
            tea.clone().in_graph(Term::iri("urn:g")),
        ];
        assert_eq!(kb.insert(quads.clone()).await.unwrap(), 4);

        let people = kb.query("SELECT ?s ?a ?no { ?s <urn:age> ?a } ORDER BY DESC(?a)").await.unwrap();
        assert_eq!(people.variables(), ["s", "a", "no"]);
        let people: Vec<_> = people.try_collect().await.unwrap();
        let ages: Vec<&str> = people.iter().map(|person| person.term("a").unwrap().value()).collect();
        assert_eq!(ages, ["100", "42", "7"]);
        assert_eq!((people[2].get("s"), people[2].get("no")), (Some(&Term::iri("urn:bob")), None));
        assert_eq!(people[0].iter().count(), 2);
        let rows = db
            .sql("SELECT object FROM kb.quads WHERE graph IS NOT NULL")
            .fetch_rows()
            .await
            .unwrap();
        assert_eq!(rows[0].get::<Term>("object").unwrap(), tea.object);

        assert!(kb.ask("ASK { GRAPH ?g { ?s <urn:likes> ?o } }").await.unwrap());
        assert!(!kb.ask("ASK { ?s <urn:likes> ?o }").timeout(Duration::from_secs(30)).await.unwrap());
        let triples = kb
            .construct("CONSTRUCT { ?s <urn:is> 'old' } WHERE { ?s <urn:age> 100 }")
            .await
            .unwrap();
        assert_eq!(triples.to_nquads().await.unwrap(), "<urn:cid> <urn:is> \"old\" .\n");
        let described: Vec<Quad> = kb.construct("DESCRIBE <urn:bob>").await.unwrap().try_collect().await.unwrap();
        assert_eq!(described, [age("bob", 7)]);

        // Each way to ask takes its own forms.
        for error in [
            kb.ask("SELECT ?s { ?s ?p ?o }").await.map(drop).unwrap_err(),
            kb.query("ASK {}").await.map(drop).unwrap_err(),
            kb.construct("SELECT ?s { ?s ?p ?o }").await.map(drop).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        }
        let error = kb.query("SELECT ?s { ?s ?p ").await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidInput, Some("42601")));
        let wrong = Quad::new(Term::literal("x"), Term::iri("urn:p"), Term::iri("urn:o"));
        assert_eq!(kb.insert([wrong]).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_dataset_is_dumped_and_loaded_in_a_transaction() {
    let server = Server::start();
    block_on(async {
        let db = server.client().await;
        db.sql("CREATE COLLECTION kb AS RDF").execute().await.unwrap();
        db.sql("CREATE COLLECTION copy AS RDF").execute().await.unwrap();
        let kb = db.rdf("kb");
        kb.update("INSERT DATA { <urn:a> <urn:p> 1 GRAPH <urn:g> { <urn:a> <urn:p> 'x\\n'@en . _:b <urn:p> 2.50 } GRAPH <urn:h> { <urn:h> <urn:p> 3 } }")
            .await
            .unwrap();
        let lines = async |dump: pyralog_client::Dump| {
            let mut lines: Vec<String> = dump.await.unwrap().to_nquads().await.unwrap().lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let integer = "http://www.w3.org/2001/XMLSchema#integer";
        assert_eq!(
            lines(kb.dump().default_graph()).await,
            [format!("<urn:a> <urn:p> \"1\"^^<{integer}> .")]
        );
        assert_eq!(
            lines(kb.dump().graph("urn:h")).await,
            [format!("<urn:h> <urn:p> \"3\"^^<{integer}> <urn:h> .")]
        );
        assert_eq!(lines(kb.dump().graph("urn:none")).await, Vec::<String>::new());
        let named = lines(kb.dump().graph("urn:g")).await;
        assert!(named.contains(&"<urn:a> <urn:p> \"x\\n\"@en <urn:g> .".to_owned()), "{named:?}");
        let mut file = Vec::new();
        assert_eq!(kb.dump().await.unwrap().write_nquads(&mut file).await.unwrap(), 4);
        assert_eq!(lines(kb.dump()).await.len(), 4);

        // All verbs run inside a transaction, and see what it wrote.
        let tx = db.begin().await.unwrap();
        let copy = tx.rdf("copy");
        let rows = tx.rdf("kb").dump().graph("urn:h").await.unwrap().into_rows();
        assert_eq!(copy.load_quads(rows).await.unwrap(), 1);
        copy.insert([Quad::new(Term::iri("urn:n"), Term::iri("urn:p"), Term::literal("n"))])
            .await
            .unwrap();
        assert!(copy.ask("ASK { GRAPH <urn:h> { ?s ?p 3 } }").await.unwrap());
        assert_eq!(lines(copy.dump()).await.len(), 2);
        assert_eq!(
            copy.query("SELECT ?o { ?s ?p ?o }")
                .await
                .unwrap()
                .next_solution()
                .await
                .unwrap()
                .unwrap()
                .term("o")
                .unwrap(),
            &Term::literal("n")
        );
        assert!(!db.rdf("copy").ask("ASK { ?s ?p ?o }").await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(lines(db.rdf("copy").dump()).await.len(), 2);
    });
}

#[test]
fn a_dataset_is_loaded_from_text() {
    let server = Server::start();
    block_on(async {
        let db = server.client().await;
        db.sql("CREATE COLLECTION kb AS RDF").execute().await.unwrap();
        let kb = db.rdf("kb");
        let count = async || kb.dump().await.unwrap().to_nquads().await.unwrap().lines().count();
        let turtle = "@base <urn:base:> . <ann> <urn:name> 'Ann' ; <urn:knows> [ <urn:name> 'Bea' ] .";
        assert_eq!(kb.load(Syntax::Turtle, turtle).await.unwrap().quads, 3);
        assert_eq!(count().await, 3);
        let error = kb
            .load(Syntax::NTriples, "<urn:a> <urn:b> <urn:c> .\n<urn:a> oops .")
            .await
            .unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
        let lines: String = (0..100_000).map(|i| format!("<urn:s> <urn:p> \"text {i}\" .\n")).collect();
        let text = std::io::Cursor::new(format!("{lines}oops\n{lines}").into_bytes());
        let loaded = kb.load(Syntax::NQuads, Text::from_reader(text)).lenient().await.unwrap();
        assert_eq!((loaded.quads, loaded.faults), (200_000, 1));
        assert_eq!(loaded.told[0].place.unwrap().0, 100_001);
        assert_eq!(count().await, 100_003);
        let failing = futures::stream::iter([
            Ok(bytes::Bytes::from_static(b"<urn:x> <urn:y> <urn:z> .\n")),
            Err(std::io::Error::other("the disk is gone")),
        ]);
        let error = kb.load(Syntax::NTriples, Text::from_stream(failing)).await.unwrap_err();
        assert!(error.to_string().contains("the disk is gone"), "{error}");
        let tx = db.begin().await.unwrap();
        tx.rdf("kb").load(Syntax::NTriples, "<urn:x> <urn:y> <urn:z> .").await.unwrap();
        tx.rollback().await.unwrap();
        assert_eq!(count().await, 100_003);
        let elsewhere = db.rdf("missing").load(Syntax::NTriples, "").await.unwrap_err();
        assert_eq!(elsewhere.kind(), ErrorKind::NotFound, "{elsewhere}");
    });
}
