//! Puts that go together: each is still one by itself.

use std::collections::{BTreeMap, HashSet};
use std::task::Poll;
use std::time::{Duration, Instant};

use pyralog_models::{Bucket, Database, ErrorKind, KvPrecondition};

use crate::fixture::Fixture;

const WRITERS: u32 = 64;
const PUTS: u32 = 30;

/// Entries of the data group's log.
fn entries(db: &Database) -> u64 {
    db.status().node.groups.last().unwrap().applied_index
}

/// Puts by many at once, each writer in turn into `key(writer, put)`; the version that each got.
async fn put_all(bucket: &Bucket, key: impl Fn(u32, u32) -> String + Copy + Send + 'static) -> Vec<(String, String, u64)> {
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let bucket = bucket.clone();
            tokio::spawn(async move {
                let mut done = Vec::new();
                for put in 0..PUTS {
                    let (key, value) = (key(writer, put), format!("{writer} {put}"));
                    let version = bucket
                        .put(key.as_bytes(), value.as_bytes(), None, KvPrecondition::Any)
                        .await
                        .unwrap();
                    done.push((key, value, version));
                }
                done
            })
        })
        .collect();
    let mut all = Vec::new();
    for writer in writers {
        let done = writer.await.unwrap();
        assert!(done.is_sorted_by(|a, b| a.2 < b.2), "what a writer puts later is later");
        all.extend(done);
    }
    all
}

/// Every key holds what was put at its highest version, and no version of a key was told twice.
async fn check(bucket: &Bucket, all: &[(String, String, u64)]) {
    let mut versions = HashSet::new();
    let mut last: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for (key, value, version) in all {
        assert!(versions.insert((key, version)), "{key} has version {version} twice");
        let newest = last.entry(key).or_default();
        *newest = (*newest).max((*version, value));
    }
    for (key, (version, value)) in last {
        let entry = bucket.get(key.as_bytes()).await.unwrap().unwrap();
        assert_eq!((entry.version, entry.value.as_slice()), (version, value.as_bytes()), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_of_many_take_few_entries_of_the_log() {
    let f = Fixture::new().await;
    f.run("CREATE COLLECTION cache AS KV").await;
    let cache = f.db.kv("cache").await.unwrap();
    let before = entries(&f.db);
    let all = put_all(&cache, |writer, put| format!("{writer}/{put}")).await;
    let taken = entries(&f.db) - before;
    assert!(taken < u64::from(WRITERS * PUTS / 3), "{taken} entries");
    check(&cache, &all).await;
    let f = f.reopen().await;
    let cache = f.db.kv("cache").await.unwrap();
    check(&cache, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_of_one_key_each_have_their_version() {
    let f = Fixture::new().await;
    f.run("CREATE COLLECTION cache AS KV").await;
    let cache = f.db.kv("cache").await.unwrap();
    let all = put_all(&cache, |writer, put| format!("{}", (writer + put) % 3)).await;
    check(&cache, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_dropped_takes_no_other_with_it() {
    let f = Fixture::new().await;
    f.run("CREATE COLLECTION kept AS KV").await;
    let kept = f.db.kv("kept").await.unwrap();
    for round in 0..20 {
        f.run("CREATE COLLECTION gone AS KV").await;
        let gone = f.db.kv("gone").await.unwrap();
        let doomed = tokio::spawn(async move {
            let puts = (0..200u32).map(|i| {
                let gone = gone.clone();
                async move { gone.put(&i.to_be_bytes(), b"x", None, KvPrecondition::Any).await }
            });
            futures::future::join_all(puts).await
        });
        let puts = (0..200u32).map(|i| {
            let kept = kept.clone();
            async move { kept.put(format!("{round}/{i}").as_bytes(), b"x", None, KvPrecondition::Any).await }
        });
        let puts = tokio::spawn(futures::future::join_all(puts));
        tokio::time::sleep(Duration::from_micros(round * 200)).await;
        f.run("DROP COLLECTION gone").await;
        for put in puts.await.unwrap() {
            put.unwrap();
        }
        for error in doomed.await.unwrap().into_iter().filter_map(Result::err) {
            assert!(matches!(error.kind, ErrorKind::NotFound | ErrorKind::Conflict), "{error}");
        }
    }
    assert_eq!(f.rows("SELECT count(*) FROM kept").await, ["4000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_holds_nobody_up() {
    let f = Fixture::new().await;
    f.run("CREATE COLLECTION cache AS KV").await;
    let cache = f.db.kv("cache").await.unwrap();
    for round in 0..30u64 {
        let put = |i: u64| {
            let cache = cache.clone();
            async move { cache.put(&(round * 20 + i).to_be_bytes(), b"x", None, KvPrecondition::Any).await }
        };
        let mut first = Box::pin(put(0));
        // It goes alone; the others wait for it, but where this thread stood still for so long that it is answered.
        let _ = futures::poll!(&mut first);
        let puts: Vec<_> = (1..20).map(|i| tokio::spawn(put(i))).collect();
        tokio::time::sleep(Duration::from_micros(round * 30)).await;
        drop(first);
        for (i, put) in puts.into_iter().enumerate() {
            match i % 3 {
                0 => put.abort(),
                _ => drop(tokio::time::timeout(Duration::from_secs(20), put).await.unwrap().unwrap().unwrap()),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_nobody_polls_holds_nobody_up() {
    let f = Fixture::new().await;
    f.run("CREATE COLLECTION cache AS KV").await;
    let cache = f.db.kv("cache").await.unwrap();
    let mut idle = Box::pin(cache.put(b"idle", b"x", None, KvPrecondition::Any));
    // It is not polled again before the others are answered.
    let answered = futures::poll!(&mut idle);
    for i in 0..20u32 {
        let key = i.to_be_bytes();
        let put = cache.put(&key, b"x", None, KvPrecondition::Any);
        tokio::time::timeout(Duration::from_secs(20), put).await.unwrap().unwrap();
    }
    match answered {
        Poll::Pending => idle.await.unwrap(),
        Poll::Ready(answer) => answer.unwrap(),
    };
    let all = put_all(&cache, |writer, put| format!("{writer}/{put}")).await;
    check(&cache, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_whose_author_left_before_its_group_is_not_written() {
    // After so long a write is not waited for any more: then, and in the rounds after it, the second may set out before its author leaves.
    const PATIENCE: Duration = Duration::from_millis(200);
    let f = Fixture::new().await;
    f.run("CREATE COLLECTION cache AS KV").await;
    let cache = f.db.kv("cache").await.unwrap();
    let mut is_quick = true;
    for round in 0..20u32 {
        let start = Instant::now();
        let mut first = Box::pin(cache.put(b"first", b"x", None, KvPrecondition::Any));
        if futures::poll!(&mut first).is_ready() {
            // This thread stood still meanwhile.
            continue;
        }
        let key = round.to_be_bytes();
        let mut left = Box::pin(cache.put(&key, b"x", None, KvPrecondition::Any));
        let _ = futures::poll!(&mut left);
        // The first was not answered: nothing has set out after it.
        drop(left);
        first.await.unwrap();
        is_quick &= start.elapsed() < PATIENCE;
        cache.put(b"next", b"x", None, KvPrecondition::Any).await.unwrap();
        let written = cache.get(&key).await.unwrap();
        assert!(written.is_none() || !is_quick, "{written:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_of_all_sizes() {
    let f = Fixture::new().await;
    f.run("CREATE COLLECTION cache AS KV").await;
    let cache = f.db.kv("cache").await.unwrap();
    // More than one group takes, and some that go alone.
    let puts = (0..400u32).map(|i| {
        let cache = cache.clone();
        let size = [0, 10, 9_000, 40_000][i as usize % 4];
        async move { cache.put(&i.to_be_bytes(), &vec![b'x'; size], None, KvPrecondition::Any).await }
    });
    for put in futures::future::join_all(puts).await {
        put.unwrap();
    }
    assert_eq!(f.rows("SELECT count(*), sum(length(value)) FROM cache").await, ["400|4901000"]);
}
