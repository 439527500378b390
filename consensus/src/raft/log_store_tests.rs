#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use openraft::storage::RaftLogStorageExt;
use openraft::testing::log::{StoreBuilder, Suite};

use super::*;
use crate::log::LogConfig;
use crate::log::disk::OsDisk;
use crate::meta::state::MetaState;
use crate::raft::meta_machine::MetaMachine;

const GROUP: GroupId = GroupId(3);

fn open_log(dir: &std::path::Path) -> Log {
    Log::open(LogConfig {
        dir: dir.join("log"),
        file_bytes: 1 << 20,
        may_create: true,
        disk: Arc::new(OsDisk),
    })
    .unwrap()
}

struct Builder;

impl StoreBuilder<Types, LogStore, MetaMachine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, MetaMachine), openraft::StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(open_log(dir.path()), GROUP, Arc::new(Clock::system())).unwrap();
        let state = Arc::new(MetaState::open(&dir.path().join("meta"), None, None).unwrap());
        let machine = MetaMachine::new(state, store.clone()).unwrap();
        Ok((dir, store, machine))
    }
}

#[tokio::test]
async fn openraft_suite() {
    Suite::test_all(Builder).await.unwrap();
}

fn id(term: u64, index: u64) -> LogId {
    let leader = openraft::impls::leader_id_adv::LeaderId { term, node_id: 1 };
    LogId::new(leader, index)
}

fn entries(term: u64, range: std::ops::Range<u64>) -> Vec<Entry> {
    range.map(|index| Entry::new_blank(id(term, index))).collect()
}

async fn indexes(store: &mut LogStore) -> Vec<(u64, u64)> {
    let entries = store.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|e| (e.log_id().committed_leader_id().term, e.index())).collect()
}

#[tokio::test]
async fn what_raft_saved_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path());
    let mut store = LogStore::open(log.clone(), GROUP, Arc::new(Clock::system())).unwrap();
    let vote = Vote::new(7, 1);
    store.save_vote(&vote).await.unwrap();
    store.blocking_append(entries(1, 0..10)).await.unwrap();
    store.save_committed(Some(id(1, 5))).await.unwrap();
    store.truncate_after(Some(id(1, 7))).await.unwrap();
    store.blocking_append(entries(2, 8..12)).await.unwrap();
    store.purge(id(1, 2)).await.unwrap();
    let expected: Vec<_> = (3..8).map(|i| (1, i)).chain((8..12).map(|i| (2, i))).collect();
    assert_eq!(indexes(&mut store).await, expected);
    log.close();
    drop(store);
    let mut store = LogStore::open(open_log(dir.path()), GROUP, Arc::new(Clock::system())).unwrap();
    assert_eq!(indexes(&mut store).await, expected);
    assert_eq!(store.read_vote().await.unwrap(), Some(vote));
    assert_eq!(store.read_committed().await.unwrap(), Some(id(1, 5)));
    let state = store.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(1, 2)), Some(id(2, 11))));
}

#[tokio::test]
async fn the_cache_is_bounded_once_entries_are_applied() {
    use crate::codec::Blob;
    use crate::raft::types::Command;
    let dir = tempfile::tempdir().unwrap();
    let mut store = LogStore::open(open_log(dir.path()), GROUP, Arc::new(Clock::system())).unwrap();
    let payload = bytes::Bytes::from(vec![1; 1 << 20]);
    for index in 0..40 {
        let entry = Entry::new_normal(id(1, index), Command::CreateRelation(Blob(payload.clone())));
        store.blocking_append([entry]).await.unwrap();
        store.applied(index);
    }
    assert!(store.shared.state.lock().cache_bytes <= CACHE_BYTES);
    assert!(store.shared.state.lock().cache.len() < 20);
    assert_eq!(indexes(&mut store).await.len(), 40, "what left the cache is read from disk");
    let streamed: Vec<_> = futures::StreamExt::collect(store.entries_stream(0..40).await).await;
    assert_eq!(
        streamed
            .into_iter()
            .map(|e: io::Result<Entry>| e.unwrap().index())
            .collect::<Vec<_>>(),
        (0..40).collect::<Vec<_>>()
    );
}
