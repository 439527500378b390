//! Commits: visible when acknowledged, ordered, refused on conflict, bounded.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pyralog_consensus::{ConsensusError, NodeConfig};
use pyralog_storage::{ConflictPolicy, RelationId, StorageError};

use crate::disk::SwitchedDisk;
use crate::table::{RELATION, blind, open, open_on, puts, rows, schema};

#[tokio::test]
async fn a_commit_is_visible_when_it_returns() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(NodeConfig::new(dir.path())).await;
    let partition = &node.partitions()[0];
    let before = node.now();
    let first = partition.commit(blind([1, 2], "a")).await.unwrap();
    let second = partition.commit(blind([2, 3], "b")).await.unwrap();
    assert!(before < first && first < second && second <= node.now());
    assert_eq!(
        rows(partition),
        [(1, "a 1".to_owned()), (2, "b 2".to_owned()), (3, "b 3".to_owned())]
    );
    let status = node.status();
    assert_eq!(
        status.groups.iter().map(|g| (g.name.as_str(), g.leader)).collect::<Vec<_>>(),
        [("meta", true), ("p0", true)]
    );
    assert!(status.log_syncs > 0 && status.log_bytes > 0 && !status.database_id.is_empty());
    node.close().await.unwrap();
    assert!(matches!(
        partition.commit(blind([9], "late")).await,
        Err(ConsensusError::Unavailable(_))
    ));
    node.close().await.unwrap();
}

#[tokio::test]
async fn the_first_committer_wins() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(NodeConfig::new(dir.path())).await;
    let partition = &node.partitions()[0];
    let start = partition.snapshot(None).unwrap().timestamp();
    partition
        .commit(puts(start, [1], "winner", ConflictPolicy::FirstCommitterWins))
        .await
        .unwrap();
    let loser = partition
        .commit(puts(start, [1, 2], "loser", ConflictPolicy::FirstCommitterWins))
        .await;
    assert!(matches!(loser, Err(ConsensusError::Conflict(conflict)) if conflict.relation == RELATION));
    assert_eq!(rows(partition), [(1, "winner 1".to_owned())]);
    node.close().await.unwrap();
}

#[tokio::test]
async fn a_write_to_a_missing_relation_is_refused_and_the_group_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(NodeConfig::new(dir.path())).await;
    let partition = &node.partitions()[0];
    let mut stray = blind([1], "stray");
    stray.relations[0].relation = RelationId(99);
    let refused = partition.commit(stray).await;
    assert!(
        matches!(refused, Err(ConsensusError::Storage(StorageError::UnknownRelation(RelationId(99))))),
        "{refused:?}"
    );
    partition.commit(blind([1], "fine")).await.unwrap();
    partition.drop_relation(RELATION).await.unwrap();
    assert!(partition.commit(blind([1], "gone")).await.is_err());
    partition.create_relation(schema()).await.unwrap();
    partition.commit(blind([1], "again")).await.unwrap();
    assert_eq!(rows(partition), [(1, "again 1".to_owned())]);
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_share_syncs_and_their_timestamps_follow_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(NodeConfig::new(dir.path())).await;
    let partition = node.partitions()[0].clone();
    let syncs = node.status().log_syncs;
    let writers: Vec<_> = (0..32)
        .map(|writer| {
            let partition = partition.clone();
            tokio::spawn(async move {
                let mut last = None;
                for round in 0..20 {
                    // All write key 0, so that the last timestamp must be the last in the log.
                    let timestamp = partition
                        .commit(blind([0, 1 + writer], &format!("{writer}/{round}")))
                        .await
                        .unwrap();
                    assert!(last < Some(timestamp));
                    last = Some(timestamp);
                }
                (last.unwrap(), writer)
            })
        })
        .collect();
    let mut ends = Vec::new();
    for writer in writers {
        ends.push(writer.await.unwrap());
    }
    ends.sort();
    let (last, winner) = ends.pop().unwrap();
    assert_eq!(partition.storage().last_timestamp(), last);
    let rows = rows(&partition);
    assert_eq!(rows.len(), 33);
    assert_eq!(rows[0], (0, format!("{winner}/19 0")));
    let spent = node.status().log_syncs - syncs;
    assert!(spent < 640 / 2, "{spent} syncs for 640 commits of 32 writers");
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_answers_overloaded_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SwitchedDisk::default();
    let config = NodeConfig {
        queue_limit: 10,
        ..NodeConfig::new(dir.path())
    };
    let node = open_on(&disk, config).await;
    let partition = node.partitions()[0].clone();
    disk.0.hold.store(true, Ordering::SeqCst);
    let commits: Vec<_> = (0..50)
        .map(|id| {
            let partition = partition.clone();
            tokio::spawn(async move { (id, partition.commit(blind([id], "x")).await) })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    disk.0.hold.store(false, Ordering::SeqCst);
    let (mut done, mut refused) = (Vec::new(), 0);
    for commit in commits {
        match commit.await.unwrap() {
            (id, Ok(_)) => done.push(id),
            (_, Err(ConsensusError::Overloaded { waiting })) => {
                assert!(waiting >= 10);
                refused += 1;
            }
            (_, Err(error)) => panic!("{error}"),
        }
    }
    assert_eq!((done.len(), refused), (10, 40));
    done.sort();
    assert_eq!(rows(&partition).into_iter().map(|(id, _)| id).collect::<Vec<_>>(), done);
    partition.commit(blind([100], "later")).await.unwrap();
    node.close().await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_undo_its_write() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(NodeConfig::new(dir.path())).await;
    let partition = &node.partitions()[0];
    let before = partition.storage().last_timestamp();
    assert!(futures::FutureExt::now_or_never(partition.commit(blind([1], "orphan"))).is_none());
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while partition.storage().last_timestamp() == before && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(rows(partition), [(1, "orphan 1".to_owned())]);
    node.close().await.unwrap();
}
