//! The same answers as a plain table, whatever the physical state.

use super::store::{lines, run, states};

/// Queries over `t`; the model answers them as `m`. Those with ORDER BY are compared in order.
const QUERIES: &[&str] = &[
    "SELECT * FROM t",
    "SELECT count(*) FROM t",
    "SELECT count(*), count(name), sum(amount), min(day), max(id), min(name) FROM t",
    "SELECT name, id FROM t WHERE amount > 200",
    "SELECT seq FROM t WHERE name = 'name3' AND id < 400",
    "SELECT count(*) FROM t WHERE name IS NULL",
    "SELECT id FROM t WHERE name LIKE '%e1%' AND amount * 2 < 100 OR id = 5",
    "SELECT id, seq FROM t WHERE id BETWEEN 310 AND 330 AND seq = 1",
    "SELECT * FROM t WHERE id = 501 AND seq = 0",
    "SELECT amount FROM t WHERE id IN (1, 501, 777, 5000) AND seq IN (0, 1) AND amount > 10",
    "SELECT * FROM t WHERE id = 3 AND id = 4 AND seq = 0",
    "SELECT * FROM t WHERE false",
    "SELECT * FROM t WHERE day >= DATE '1970-03-01' AND day < DATE '1970-03-05'",
    "SELECT id, seq FROM t ORDER BY id, seq",
    "SELECT id, seq, name FROM t WHERE amount > 100 ORDER BY id, seq LIMIT 10",
    "SELECT id, seq FROM t ORDER BY id DESC, seq DESC LIMIT 7",
    "SELECT id, seq, amount FROM t ORDER BY amount DESC, id, seq LIMIT 20",
    "SELECT id, seq, day FROM t ORDER BY day DESC, id, seq LIMIT 5",
    "SELECT name, id, seq FROM t ORDER BY name NULLS FIRST, id, seq LIMIT 5 OFFSET 3",
    "SELECT id, seq FROM t ORDER BY id, seq LIMIT 5 OFFSET 1500",
    "SELECT seq FROM t WHERE id = 40 ORDER BY seq",
    "SELECT id, count(*), sum(amount) FROM t GROUP BY id",
    "SELECT name, count(*) AS n FROM t GROUP BY name ORDER BY n DESC, name LIMIT 3",
    "SELECT day, id, seq, row_number() OVER (PARTITION BY id ORDER BY seq) FROM t",
    "SELECT label, amount FROM t JOIN small ON id = sid",
    "SELECT a.id, b.seq FROM t a JOIN t b ON a.id = b.id AND a.seq = b.seq WHERE a.amount > 240",
    "SELECT count(*) FROM t WHERE id IN (SELECT sid FROM small)",
    "SELECT count(*) FROM t WHERE amount > (SELECT avg(amount) FROM t)",
    "SELECT x.id FROM (SELECT id, seq, amount FROM t ORDER BY id, seq LIMIT 5) x ORDER BY x.amount LIMIT 2",
    "SELECT count(*) FROM (SELECT id FROM t ORDER BY id, seq LIMIT 100) WHERE id > 20",
    "SELECT count(*) FROM (SELECT * FROM t LIMIT 300)",
    "SELECT id FROM t WHERE id > 2000 UNION ALL SELECT id FROM t WHERE id < 3",
    "SELECT t1.id FROM t t1 WHERE NOT EXISTS (SELECT 1 FROM t t2 WHERE t2.id = t1.id AND t2.seq > t1.seq) AND t1.id < 50",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn same_answers_in_every_state() {
    for (state, store) in states() {
        let context = store.context();
        for sql in QUERIES {
            let (plan, rows) = run(&context, sql).await;
            let model = sql.replace("FROM t", "FROM m").replace("JOIN t ", "JOIN m ");
            let (_, expected) = run(&context, &model).await;
            let (mut rows, mut expected) = (lines(&rows), lines(&expected));
            if !sql.contains("ORDER BY id") && !sql.ends_with("LIMIT 3") {
                rows.sort();
                expected.sort();
            }
            assert_eq!(rows, expected, "{state}: {sql}\n{}", super::store::explain(&plan));
        }
    }
}

#[tokio::test]
async fn works_on_a_current_thread_runtime() {
    let store = super::store::mixed(1);
    let context = store.context();
    let (_, rows) = run(&context, "SELECT id, seq FROM t WHERE amount > 3 ORDER BY id, seq LIMIT 3").await;
    assert_eq!(lines(&rows).len(), 3);
}

#[tokio::test]
async fn a_plan_can_run_twice() {
    let store = super::store::mixed(1);
    let context = store.context();
    let (plan, first) = run(&context, "SELECT id FROM t").await;
    assert!(
        super::store::explain(&plan).contains("access=queue"),
        "{}",
        super::store::explain(&plan)
    );
    let second = datafusion::physical_plan::collect(plan, context.task_ctx()).await.unwrap();
    assert_eq!(lines(&first).len(), store.model.len());
    assert_eq!(lines(&second).len(), store.model.len());
}

#[tokio::test]
async fn hidden_and_system_columns() {
    let store = super::store::flushed();
    let views = store.views();
    let timestamp = views[0].schema().timestamp_column();
    let context = datafusion::prelude::SessionContext::new();
    let table = crate::scan::RelationTable::try_new("s", views, vec![timestamp, 5, 0]).unwrap();
    context.register_table("s", std::sync::Arc::new(table)).unwrap();
    let (_, rows) = run(
        &context,
        "SELECT count(DISTINCT _ts), min(_tag), count(*) FROM s WHERE _ts > 5 AND id < 10",
    )
    .await;
    assert_eq!(lines(&rows), ["| 1 | 1 | 20 |"]);
    let error = crate::scan::RelationTable::try_new("s", store.views(), vec![99]).unwrap_err();
    assert!(error.to_string().contains("position 99"), "{error}");
    assert!(crate::scan::RelationTable::try_new("s", vec![], vec![]).is_err());
}
