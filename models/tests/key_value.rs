//! Buckets: the verbs, conditions, expiry, and SQL over them.

use std::time::Duration;

use pyralog_models::{ErrorKind, KvPrecondition, KvScan};

use crate::fixture::Fixture;

#[tokio::test(flavor = "multi_thread")]
async fn put_get_delete_scan() {
    let f = Fixture::new().await;
    f.run("CREATE COLLECTION cache AS KV").await;
    let cache = f.db.kv("cache").await.unwrap();
    for i in 0..20 {
        cache
            .put(format!("user:{i:03}").as_bytes(), &[i], None, KvPrecondition::Any)
            .await
            .unwrap();
    }
    cache.put(b"\x00\xff/a b", b"v", None, KvPrecondition::Any).await.unwrap();
    assert_eq!(cache.get(b"user:007").await.unwrap().unwrap().value, [7]);
    assert_eq!(cache.get(b"nope").await.unwrap(), None);
    let (page, next) = cache
        .scan(KvScan {
            prefix: b"user:".to_vec(),
            limit: 15,
            ..KvScan::default()
        })
        .await
        .unwrap();
    assert_eq!((page.len(), next.as_deref()), (15, Some(b"user:015".as_slice())));
    let rest = KvScan {
        prefix: b"user:".to_vec(),
        start: next,
        limit: 15,
        ..KvScan::default()
    };
    let (page, next) = cache.scan(rest).await.unwrap();
    assert_eq!((page.len(), next), (5, None));
    assert!(cache.delete(b"user:007", KvPrecondition::Any).await.unwrap());
    assert!(!cache.delete(b"user:007", KvPrecondition::Any).await.unwrap());
    assert_eq!(f.rows("SELECT count(*) FROM cache WHERE key LIKE 'user:%'").await, ["19"]);
    assert_eq!(f.rows("SELECT count(*) FROM kv_scan('cache', prefix => 'user:01')").await, ["10"]);
    assert_eq!(f.rows("SELECT count(*) FROM cache WHERE key = 'user:001'").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn compare_and_set() {
    let f = Fixture::new().await;
    f.run("CREATE COLLECTION cache AS KV").await;
    let cache = f.db.kv("cache").await.unwrap();
    let first = cache.put(b"k", b"1", None, KvPrecondition::Absent).await.unwrap();
    let error = cache.put(b"k", b"2", None, KvPrecondition::Absent).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PreconditionFailed);
    let writers: Vec<_> = (0..16u8)
        .map(|i| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.put(b"k", &[i], None, KvPrecondition::Version(first)).await })
        })
        .collect();
    let mut won = 0;
    for writer in writers {
        match writer.await.unwrap() {
            Ok(version) => {
                assert!(version > first);
                won += 1;
            }
            Err(error) => assert_eq!(error.kind, ErrorKind::PreconditionFailed, "{error}"),
        }
    }
    assert_eq!(won, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_entries_are_not_there() {
    let f = Fixture::new().await;
    f.run("CREATE COLLECTION cache AS KV").await;
    let cache = f.db.kv("cache").await.unwrap();
    cache.put(b"t", b"x", Some(50), KvPrecondition::Any).await.unwrap();
    cache.put(b"u", b"x", None, KvPrecondition::Any).await.unwrap();
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert_eq!(cache.get(b"t").await.unwrap(), None);
    assert_eq!(f.rows("SELECT count(*) FROM cache").await, ["1"]);
    cache.put(b"t", b"y", None, KvPrecondition::Absent).await.unwrap();
    cache.put(b"s", b"x", Some(20), KvPrecondition::Any).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    f.run("INSERT INTO cache (key, value) VALUES ('s', 'again')").await;
    assert_eq!(f.fails("INSERT INTO cache (key, value) VALUES ('s', 'twice')").await.code, "23505");
    let version = f.rows("SELECT version FROM cache WHERE key = 's'").await.remove(0);
    assert_eq!(
        f.run(&format!("UPDATE cache SET value = 'new' WHERE key = 's' AND version = {version}"))
            .await,
        1
    );
    assert_eq!(
        f.run(&format!("UPDATE cache SET value = 'new' WHERE key = 's' AND version = {version}"))
            .await,
        0
    );
}
