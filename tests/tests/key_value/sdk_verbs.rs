//! The SDK: the same bucket, alone and in transactions.

use std::time::Duration;

use futures::TryStreamExt;
use pyralog_client::ErrorKind;
use pyralog_tests::runtime::block_on;

use super::with_bucket;

#[test]
fn put_get_delete() {
    let server = with_bucket();
    block_on(async {
        let cache = server.client().await.kv("cache");
        assert!(cache.get("k").await.unwrap().is_none());
        assert!(cache.put("k", b"1").await.unwrap());
        let first = cache.get("k").await.unwrap().unwrap();
        assert_eq!(
            (first.key.as_slice(), first.value.as_slice(), first.expires_at_ms),
            (b"k".as_slice(), b"1".as_slice(), None)
        );
        assert!(cache.put("k", b"2").await.unwrap());
        let second = cache.get("k").await.unwrap().unwrap();
        assert!(second.version > first.version && second.value == b"2");
        assert!(cache.delete("k").await.unwrap());
        assert!(!cache.delete("k").await.unwrap());
        assert!(cache.put([0, 255, 7], [0, 1, 2]).await.unwrap());
        assert_eq!(cache.get([0, 255, 7]).await.unwrap().unwrap().value, [0, 1, 2]);
        // What HTTP wrote, the SDK reads, and the other way round.
        assert!(server.http("PUT", "/kv/cache/shared", &[], b"http").status < 300);
        assert_eq!(cache.get("shared").await.unwrap().unwrap().value, b"http");
        assert!(cache.put("shared", b"sdk").await.unwrap());
        assert_eq!(server.http("GET", "/kv/cache/shared", &[], b"").body, b"sdk");
    });
}

#[test]
fn conditions_hold_and_have_one_winner() {
    let server = with_bucket();
    block_on(async {
        let db = server.client().await;
        let cache = db.kv("cache");
        assert!(cache.put("k", b"0").if_absent().await.unwrap());
        assert!(!cache.put("k", b"1").if_absent().await.unwrap());
        let version = cache.get("k").await.unwrap().unwrap().version;
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..16 {
            let cache = server.client().await.kv("cache");
            tasks.spawn(async move { cache.put("k", i.to_string()).if_version(version).await.unwrap() });
        }
        let won = tasks.join_all().await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
        assert!(!cache.delete_if_version("k", version).await.unwrap());
        let version = cache.get("k").await.unwrap().unwrap().version;
        assert!(cache.delete_if_version("k", version).await.unwrap());
        assert!(!cache.put("k", b"x").if_version(version).await.unwrap());
    });
}

#[test]
fn time_to_live_is_kept_and_cleared() {
    let server = with_bucket();
    block_on(async {
        let cache = server.client().await.kv("cache");
        assert!(cache.put("short", b"x").ttl_duration(Duration::from_millis(700)).await.unwrap());
        assert!(cache.put("long", b"x").ttl(3600).await.unwrap());
        let now_ms = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_millis() as i64;
        let expires = cache.get("long").await.unwrap().unwrap().expires_at_ms.expect("expiry");
        assert!(
            (now_ms + 3_500_000..=now_ms + 3_700_000).contains(&expires),
            "{expires} at {now_ms}"
        );
        assert!(cache.get("short").await.unwrap().is_some());
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(cache.get("short").await.unwrap().is_none());
        assert!(cache.put("long", b"y").await.unwrap());
        assert_eq!(
            cache.get("long").await.unwrap().unwrap().expires_at_ms,
            None,
            "a put without time to live clears it"
        );
    });
}

#[test]
fn scans_page_and_stream() {
    let server = with_bucket();
    block_on(async {
        let cache = server.client().await.kv("cache");
        for i in 0..25 {
            cache.put(format!("user:{i:02}"), format!("{i}")).await.unwrap();
        }
        cache.put("zebra", b"z").await.unwrap();
        let first = cache.scan().prefix("user:").limit(10).await.unwrap();
        assert_eq!((first.entries.len(), first.next.as_deref()), (10, Some(b"user:10".as_slice())));
        let last = cache.scan().prefix("user:").start("user:20").limit(10).await.unwrap();
        assert_eq!((last.entries.len(), last.next), (5, None));
        let all: Vec<_> = cache
            .scan()
            .start("user:05")
            .end("user:08")
            .stream()
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        assert_eq!(all.iter().map(|entry| entry.value.clone()).collect::<Vec<_>>(), [b"5", b"6", b"7"]);
    });
}

#[test]
fn a_transaction_covers_bucket_and_table() {
    let server = with_bucket();
    block_on(async {
        let db = server.client_with_table("t (id BIGINT PRIMARY KEY)").await;
        let tx = db.begin().await.unwrap();
        tx.kv("cache").put("k", b"v").await.unwrap();
        tx.sql("INSERT INTO t VALUES (1)").execute().await.unwrap();
        assert!(tx.kv("cache").get("k").await.unwrap().is_some());
        assert!(db.kv("cache").get("k").await.unwrap().is_none());
        tx.rollback().await.unwrap();
        assert!(db.kv("cache").get("k").await.unwrap().is_none());
        let tx = db.begin().await.unwrap();
        tx.kv("cache").put("k", b"v").await.unwrap();
        tx.sql("INSERT INTO t VALUES (1)").execute().await.unwrap();
        tx.commit().await.unwrap();
        let joined = "SELECT count(*) FROM t, cache WHERE cache.key = 'k' AND t.id = 1";
        assert_eq!(db.sql(joined).fetch_scalar::<i64>().await.unwrap(), 1);
        let error = db.kv("nowhere").put("k", b"v").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    });
}
