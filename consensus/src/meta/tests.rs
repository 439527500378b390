#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use openraft::SnapshotPolicy;

use super::*;
use crate::clock::Clock;
use crate::log::disk::OsDisk;
use crate::log::{GroupId, LogConfig};
use crate::raft::group::{self, Start};
use crate::raft::log_store::LogStore;

/// A meta group without the rest of a node.
async fn open(dir: &Path, snapshot_every: u64) -> Result<Meta> {
    let config = LogConfig {
        dir: dir.join("log"),
        file_bytes: 256 << 10,
        may_create: true,
        disk: Arc::new(OsDisk),
    };
    let log = Log::open(config)?;
    let store = LogStore::open(log.clone(), GroupId::META, Arc::new(Clock::system()))?;
    let state = match MetaState::open(&dir.join("meta"), store.purged().map(|id| id.index()), store.last_index()) {
        Ok(state) => Arc::new(state),
        Err(error) => {
            log.close();
            return Err(error.into());
        }
    };
    let machine = MetaMachine::new(state.clone(), store.clone()).unwrap();
    let start = Start {
        group: GroupId::META,
        name: "meta".to_owned(),
        node: 1,
        cluster: None,
        founder: true,
        policy: SnapshotPolicy::LogsSinceLast(snapshot_every),
    };
    let raft = group::start(start, store, machine).await?;
    Ok(Meta::new(state, raft, log, None))
}

async fn close(meta: Meta) {
    meta.raft().shutdown().await.unwrap();
    meta.state().close();
    meta.inner.log.close();
}

fn put(key: &str, value: &str) -> MetaChange {
    MetaChange {
        put: vec![(key.to_owned(), value.as_bytes().to_vec())],
        ..MetaChange::default()
    }
}

async fn fill(meta: &Meta, count: usize) {
    for i in 0..count {
        meta.change(put(&format!("key/{i:04}"), &format!("value {i}"))).await.unwrap();
    }
}

fn assert_filled(meta: &Meta, count: usize) {
    let found = meta.scan("key/").unwrap();
    assert_eq!(found.len(), count);
    for (i, (key, value, revision)) in found.iter().enumerate() {
        assert_eq!(
            (key.as_str(), value.as_slice()),
            (format!("key/{i:04}").as_str(), format!("value {i}").as_bytes())
        );
        assert_eq!(*revision, MetaRevision(i as u64 + 1));
    }
    assert_eq!(meta.revision(), MetaRevision(count as u64));
}

#[tokio::test]
async fn conditions_hold_or_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path(), 1000).await.unwrap();
    let mut watch = meta.watch();
    let first = meta.change(put("a", "1")).await.unwrap();
    assert_eq!(first, MetaRevision(1));
    watch.changed().await.unwrap();
    assert_eq!(*watch.borrow(), first);
    let absent = MetaExpect {
        key: "a".to_owned(),
        revision: None,
    };
    let wrong = MetaChange {
        expect: vec![absent],
        put: vec![("b".to_owned(), vec![2])],
        delete: vec!["a".to_owned()],
    };
    assert!(matches!(meta.change(wrong).await, Err(ConsensusError::MetaConflict { key }) if key == "a"));
    assert_eq!(meta.get("b").unwrap(), None);
    assert_eq!(meta.revision(), first);
    let right = MetaExpect {
        key: "a".to_owned(),
        revision: Some(first),
    };
    let change = MetaChange {
        expect: vec![right],
        put: vec![("b".to_owned(), vec![2])],
        delete: vec!["a".to_owned()],
    };
    assert_eq!(meta.change(change).await.unwrap(), MetaRevision(2));
    assert_eq!(meta.get("a").unwrap(), None);
    assert_eq!(meta.get("b").unwrap(), Some((vec![2], MetaRevision(2))));
    close(meta).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn allocations_never_overlap() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path(), 1000).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let meta = meta.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                for _ in 0..10 {
                    let first = meta.allocate("ids", 3).await.unwrap();
                    mine.extend(first..first + 3);
                }
                mine
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (1..=240).collect::<Vec<u64>>());
    close(meta).await;
    let meta = open(dir.path(), 1000).await.unwrap();
    assert_eq!(meta.allocate("ids", 1).await.unwrap(), 241);
    assert_eq!(meta.allocate("other", 1).await.unwrap(), 1);
    close(meta).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_is_rebuilt_when_sled_is_gone_or_damaged() {
    for snapshot_every in [5, 1000] {
        for damage in ["none", "gone", "flipped", "garbage"] {
            let dir = tempfile::tempdir().unwrap();
            let meta = open(dir.path(), snapshot_every).await.unwrap();
            fill(&meta, 40).await;
            close(meta).await;
            let sled = dir.path().join("meta/state");
            match damage {
                "gone" => fs::remove_dir_all(&sled).unwrap(),
                "flipped" => {
                    let db = sled.join("db");
                    let mut bytes = fs::read(&db).unwrap();
                    let places: Vec<usize> = bytes.iter().enumerate().filter(|(_, b)| **b != 0).map(|(i, _)| i).collect();
                    for place in places.iter().step_by(7) {
                        bytes[*place] ^= 0x10;
                    }
                    fs::write(&db, bytes).unwrap();
                }
                "garbage" => {
                    for entry in fs::read_dir(&sled).unwrap() {
                        let path = entry.unwrap().path();
                        if path.is_file() {
                            fs::write(path, b"garbage").unwrap();
                        }
                    }
                }
                _ => {}
            }
            let meta = open(dir.path(), snapshot_every).await.unwrap();
            assert_filled(&meta, 40);
            meta.change(put("key/0040", "value 40")).await.unwrap();
            close(meta).await;
            let meta = open(dir.path(), snapshot_every).await.unwrap();
            assert_filled(&meta, 41);
            close(meta).await;
        }
    }
}

fn dumps(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir.join("meta"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| !p.ends_with("state"))
        .collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_dump_is_named_when_nothing_else_has_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path(), 5).await.unwrap();
    fill(&meta, 40).await;
    // Until a dump is written and the log behind it purged.
    let purged = |m: &openraft::RaftMetrics<Types>| m.purged.is_some_and(|id| id.index() > 20);
    meta.raft()
        .wait(Some(std::time::Duration::from_secs(10)))
        .metrics(purged, "purge")
        .await
        .unwrap();
    close(meta).await;
    let newest = dumps(dir.path()).pop().unwrap();
    let whole = fs::read(&newest).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(&newest, &flipped).unwrap();
        let read = dump::newest(&dir.path().join("meta")).unwrap();
        assert!(!read.errors.is_empty(), "a flip at {at} must be found");
        assert!(read.found.is_none_or(|(_, path)| path != newest));
    }
    // sled still has the state: it is used, and a sound dump is made at once.
    fs::write(&newest, &whole[..whole.len() - 1]).unwrap();
    let meta = open(dir.path(), 1000).await.unwrap();
    assert_filled(&meta, 40);
    close(meta).await;
    fs::remove_dir_all(dir.path().join("meta/state")).unwrap();
    let meta = open(dir.path(), 1000).await.unwrap();
    assert_filled(&meta, 40);
    close(meta).await;
    // Neither sled nor any dump.
    fs::remove_dir_all(dir.path().join("meta/state")).unwrap();
    for path in dumps(dir.path()) {
        fs::write(path, b"rotten").unwrap();
    }
    let error = open(dir.path(), 1000).await.err().unwrap().to_string();
    assert!(error.contains("SNAPSHOT-"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_busy_meta_group_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path(), 50).await.unwrap();
    for round in 0..60 {
        let changes = (0..20).map(|i| {
            let meta = meta.clone();
            async move {
                meta.change(put(&format!("k{i}"), &format!("{round} {}", "x".repeat(1000))))
                    .await
                    .unwrap()
            }
        });
        futures::future::join_all(changes).await;
    }
    // 1,200 changes of a kilobyte each, in files of 256 KiB.
    let bytes = meta.inner.log.bytes();
    assert!(bytes < 800 << 10, "{bytes} bytes of log");
    // Two are kept, and one may be in the making.
    assert!(dumps(dir.path()).len() <= 3);
    close(meta).await;
    let meta = open(dir.path(), 50).await.unwrap();
    assert_eq!(meta.revision(), MetaRevision(1200));
    close(meta).await;
}

#[tokio::test]
async fn a_dropped_client_does_not_undo_its_change() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path(), 1000).await.unwrap();
    let mut watch = meta.watch();
    {
        let change = meta.change(put("a", "1"));
        tokio::pin!(change);
        // One poll hands the change over.
        assert!(futures::FutureExt::now_or_never(change).is_none());
    }
    watch.changed().await.unwrap();
    assert_eq!(meta.get("a").unwrap().unwrap().0, b"1");
    close(meta).await;
}
