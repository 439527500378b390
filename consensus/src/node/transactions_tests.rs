//! A coordinator that goes away after each of its steps; its messages twice, late, and in another order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Array, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field};
use pyralog_storage::{
    ConflictPolicy, PartitionId, RelationId, RelationSchema, RelationWrites, Timestamp, TransactionId, WriteConflict, WriteSet,
};

use super::{Node, NodeConfig};
use crate::error::ConsensusError;
use crate::partition::PartitionHandle;
use crate::raft::transactions::{Part, Standing};

const TABLE: RelationId = RelationId(1);

fn schema() -> RelationSchema {
    RelationSchema::new(TABLE, [Field::new("id", DataType::Int64, false)], vec![0])
}

fn writes(id: i64) -> WriteSet {
    let ids: Arc<dyn Array> = Arc::new(Int64Array::from(vec![id]));
    let writes = RelationWrites {
        relation: TABLE,
        emptied: false,
        puts: vec![RecordBatch::try_new(schema().schema, vec![ids]).unwrap()],
        deletes: Vec::new(),
        staged: Vec::new(),
        policy: ConflictPolicy::LastWriteWins,
    };
    WriteSet {
        start: Timestamp::ZERO,
        relations: vec![writes],
        reads: Vec::new(),
    }
}

async fn open(dir: &Path) -> Arc<Node> {
    let config = NodeConfig {
        partitions: 4,
        ..NodeConfig::new(dir)
    };
    let node = Node::open(config).await.unwrap();
    for partition in node.partitions() {
        partition.create_relation(schema()).await.unwrap();
    }
    node
}

/// A transaction of a coordinator that this process is not.
fn part(serial: u64) -> Part {
    let coordinator = 7;
    Part {
        id: TransactionId { coordinator, serial },
        primary: PartitionId(0),
        settled: 0,
        request: None,
    }
}

async fn prepare(partition: &PartitionHandle, part: Part, writes: WriteSet) -> Result<Timestamp, ConsensusError> {
    partition.ready(part, writes).await?.prepare().await
}

async fn count(node: &Node) -> Vec<u64> {
    let snapshots = node.snapshots().await.unwrap();
    snapshots
        .iter()
        .map(|snapshot| snapshot.relation(TABLE).unwrap().row_count())
        .collect()
}

async fn unlocked(node: &Node) {
    for _ in 0..1000 {
        let mut partitions = node.partitions().iter();
        if partitions.all(|partition| partition.transactions().prepared().is_empty()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("locks are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_goes_after_any_step_leaves_all_or_nothing_and_no_locks() {
    let dir = tempfile::tempdir().unwrap();
    // Each round stops after so many steps: prepare in 0, 1 and 2, decide in 0, tell 1 and 2.
    for (round, crashes) in (0..7).flat_map(|steps| [(steps, false), (steps, true)]) {
        let mut node = open(dir.path()).await;
        unlocked(&node).await;
        let before = count(&node).await;
        let part = part(u64::from(crashes) + 2 * round);
        let id = part.id.serial as i64;
        let mut commit = Timestamp::ZERO;
        for step in 0..round {
            let partition = &node.partitions()[step as usize % 3];
            if step < 3 {
                commit = commit.max(prepare(partition, part, writes(id)).await.unwrap());
            } else {
                // A look for what is left may come at any time before the primary decides.
                let end = node.partitions()[0].transactions().look(part.id);
                match partition.decide(part, commit).await.unwrap() {
                    Some(told) => assert_eq!(told, commit),
                    None => assert_eq!(end, Some(Standing::Aborted), "aborted after it was committed"),
                }
            }
        }
        if crashes {
            // Parts are in the log only, or in files too.
            if round % 2 == 0 {
                node.partitions()[1].checkpoint().await.unwrap();
            }
            drop(node);
            node = open(dir.path()).await;
        }
        unlocked(&node).await;
        let after = count(&node).await;
        let ends: Vec<_> = node
            .partitions()
            .iter()
            .map(|partition| partition.transactions().look(part.id))
            .collect();
        let is_committed = matches!(ends[0], Some(Standing::Committed(_)));
        let wanted: Vec<u64> = before
            .iter()
            .zip([1, 1, 1, 0])
            .map(|(rows, more)| rows + more * u64::from(is_committed))
            .collect();
        assert_eq!(after, wanted, "after {round} steps, {crashes}: {ends:?}");
        assert!(
            is_committed || round < 4 || ends[0] == Some(Standing::Aborted),
            "after {round} steps: {ends:?}"
        );
        assert!(round > 3 || !is_committed, "after {round} steps: {ends:?}");
        node.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_come_twice_or_late_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path()).await;
    let [first, second, ..] = node.partitions() else {
        panic!("several partitions")
    };
    // Aborted before it is prepared.
    assert_eq!(second.abort(part(1)).await.unwrap(), None);
    assert!(matches!(prepare(second, part(1), writes(1)).await, Err(ConsensusError::Void)));
    assert_eq!(second.decide(part(1), node.now()).await.unwrap(), None);
    assert_eq!(second.abort(part(1)).await.unwrap(), None);
    // Prepared twice, committed twice, then aborted, then prepared again.
    let at = prepare(first, part(2), writes(2)).await.unwrap();
    assert_eq!(prepare(first, part(2), writes(2)).await.unwrap(), at);
    assert_eq!(first.decide(part(2), at).await.unwrap(), Some(at));
    assert_eq!(first.decide(part(2), at).await.unwrap(), Some(at));
    assert_eq!(first.abort(part(2)).await.unwrap(), Some(at), "it stays committed");
    assert!(prepare(first, part(2), writes(2)).await.is_err());
    assert_eq!(count(&node).await, [1, 0, 0, 0]);
    // A commit before the part was prepared is refused, and the part is still there.
    let at = prepare(first, part(3), writes(3)).await.unwrap();
    assert!(first.decide(part(3), Timestamp(at.0 - 1)).await.is_err());
    assert_eq!(first.decide(part(3), Timestamp(at.0 + 1)).await.unwrap(), Some(Timestamp(at.0 + 1)));
    // What comes later lies above it.
    assert!(first.commit(writes(4)).await.unwrap() > Timestamp(at.0 + 1));
    assert_eq!(count(&node).await, [3, 0, 0, 0]);
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_unlocks_refuses_parts_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path()).await;
    // One of this process' own: nobody ends it meanwhile.
    let serial = node.coordinator.serials.begin();
    let (coordinator, number) = (serial.request.id.client, serial.request.id.serial);
    let held = Part {
        id: TransactionId {
            coordinator,
            serial: number,
        },
        ..part(0)
    };
    let partition: &PartitionHandle = &node.partitions()[0];
    prepare(partition, held, writes(1)).await.unwrap();
    let met = prepare(partition, part(1), writes(1)).await.unwrap_err();
    assert!(
        matches!(met, ConsensusError::Conflict(WriteConflict { is_locked: true, .. })),
        "{met}"
    );
    let waits = tokio::spawn({
        let partition = partition.clone();
        async move { partition.commit(writes(1)).await }
    });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(
        !waits.is_finished() && !partition.transactions().prepared().is_empty(),
        "a write of one group waits"
    );
    // Now it has given up.
    drop(serial);
    waits.await.unwrap().unwrap();
    assert_eq!(partition.transactions().look(held.id), Some(Standing::Aborted));
    node.close().await.unwrap();
}
