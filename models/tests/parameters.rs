//! Values for a statement's parameters: as many as it has, by position or by name.

use futures::TryStreamExt;
use pyralog_models::{Error, Parameters};

use datafusion::scalar::ScalarValue;

use crate::fixture::Fixture;

async fn run(f: &Fixture, sql: &str, parameters: Parameters) -> Result<usize, Error> {
    let result = f.session.execute(sql, parameters).await?;
    let batches: Vec<_> = result.stream.try_collect().await.map_err(Error::from)?;
    Ok(batches.iter().map(|batch| batch.num_rows()).sum())
}

fn by_position(count: i64) -> Parameters {
    Parameters::Positional((1..=count).map(|value| ScalarValue::Int64(Some(value))).collect())
}

fn by_name(names: &[&str]) -> Parameters {
    Parameters::Named(names.iter().map(|name| ((*name).to_owned(), ScalarValue::Int64(Some(1)))).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_and_too_many_are_refused() {
    let f = Fixture::new().await;
    f.run("CREATE TABLE t (a BIGINT PRIMARY KEY, b BIGINT)").await;
    let statements = [
        ("SELECT $1::BIGINT + $2::BIGINT", 2),
        ("SELECT a FROM t WHERE a = ? AND b IN (SELECT ? LIMIT ?)", 3),
        ("EXPLAIN SELECT a FROM t WHERE a = $1", 1),
        ("INSERT INTO t VALUES ($1, $2)", 2),
        ("INSERT INTO t VALUES ($1, 0) ON CONFLICT (a) DO UPDATE SET b = $2", 2),
        ("UPDATE t SET b = $2 WHERE a = $1", 2),
        ("DELETE FROM t WHERE a = $1", 1),
        ("SELECT 1", 0),
        ("CREATE TABLE IF NOT EXISTS u (a BIGINT)", 0),
        ("SHOW COLLECTIONS", 0),
    ];
    for (sql, wanted) in statements {
        for given in 0..wanted + 2 {
            let outcome = run(&f, sql, by_position(given)).await;
            if given == wanted {
                outcome.unwrap_or_else(|error| panic!("{sql}: {error}"));
                continue;
            }
            let error = outcome.unwrap_err();
            assert_eq!(error.code, "07001", "{sql} with {given}: {error}");
            assert!(error.message.contains(&format!("{wanted} parameters, but {given}")), "{error}");
        }
    }
    // Nothing was written by those that were refused.
    assert_eq!(f.rows("SELECT count(*) FROM t").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_must_be_there_and_may_be_more() {
    let f = Fixture::new().await;
    let sql = "SELECT $a::BIGINT + $b::BIGINT";
    assert_eq!(run(&f, sql, by_name(&["a", "b"])).await.unwrap(), 1);
    assert_eq!(run(&f, sql, by_name(&["a", "b", "c"])).await.unwrap(), 1);
    let error = run(&f, sql, by_name(&["a"])).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), ("07001", "no value is bound to parameter $b"));
    assert_eq!(run(&f, sql, by_position(2)).await.unwrap_err().code, "07001");
    assert_eq!(run(&f, sql, Parameters::None).await.unwrap_err().code, "07001");
}
