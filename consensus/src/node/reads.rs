//! Reads of all groups at one timestamp (decision 0016).
//!
//! In a cluster each group's leader is told a timestamp, this node's present: it promises that nothing more is stamped at or before it, says
//! where its log has all that was, and names the newest commit that it has acknowledged. The newest of all groups is what is read. Where one
//! lies above what was promised (this node's clock is behind), the leaders are told that. What is prepared at or before the timestamp is
//! waited for. (Readers that tell leaders their timestamp are those of hybrid logical clocks, Kulkarni et al. 2014, and of the timestamp
//! caches of CockroachDB.)

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use pyralog_storage::{PartitionId, Pinned, Snapshot, StorageError, Timestamp};
use tokio::time::{Instant, sleep, timeout};

use super::Node;
use super::cluster::Cluster;
use crate::clock::Clock;
use crate::error::{ConsensusError, Result};
use crate::partition::PartitionHandle;
use crate::partition::promise::Promised;
use crate::raft::leadership::{Leader, Search};
use crate::raft::rounds::Rounds;

/// How long a read waits for transactions that are being decided.
const READ_LIMIT: Duration = Duration::from_secs(15);
/// How long a read may wait for the leaders' answers, for the round before its own too.
const ROUND_LIMIT: Duration = Duration::from_secs(12);
/// How long one question to a leader may take.
pub const QUESTION_LIMIT: Duration = Duration::from_secs(5);
/// How often a read that came too late for its timestamp begins again.
const TRIES: usize = 5;
/// First and longest pause between two looks at what is being decided.
const PAUSES: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(5));

/// Reads of groups that other nodes may lead.
pub struct Reads {
    leaders: Arc<Leaders>,
    rounds: Rounds<Result<Moment, Arc<ConsensusError>>>,
}

/// Those who are asked.
struct Leaders {
    partitions: Vec<PartitionHandle>,
    cluster: Arc<Cluster>,
    clock: Arc<Clock>,
}

/// One state of all partitions, as any node can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// What is read: all that was committed at or before it.
    pub timestamp: Timestamp,
    /// By partition, the position in Raft's log that a replica must have applied to have all of that, or hold it as prepared.
    pub applied: Arc<[u64]>,
}

/// One group's question.
struct Question {
    search: Search,
    answer: Option<Promised>,
}

impl Reads {
    /// Reads of these partitions.
    pub fn new(partitions: Vec<PartitionHandle>, cluster: Arc<Cluster>, clock: Arc<Clock>) -> Reads {
        Reads {
            leaders: Arc::new(Leaders {
                partitions,
                cluster,
                clock,
            }),
            rounds: Rounds::default(),
        }
    }

    async fn snapshots(&self) -> Result<(Vec<Snapshot>, Moment)> {
        let partitions = &self.leaders.partitions;
        // What the round finds is not before this, so no version that it needs goes meanwhile.
        let newest = newest(partitions);
        let _pins = pins(partitions, newest)?;
        let leaders = self.leaders.clone();
        let round = self.rounds.join(async move { leaders.round().await.map_err(Arc::new) });
        let moment = timeout(ROUND_LIMIT, round)
            .await
            .unwrap_or_else(|_| {
                Err(Arc::new(ConsensusError::Unavailable(
                    "the leaders of all partitions do not answer in time; nothing was done, retry later".to_owned(),
                )))
            })
            .map_err(|error| ConsensusError::Unavailable(reason(&error)))?;
        let snapshots = partitions.iter().zip(moment.applied.iter()).map(|(partition, index)| {
            let pinned = partition.storage().pin(moment.timestamp);
            async move { snapshot_when_applied(partition, moment.timestamp, pinned?, *index, false).await }
        });
        let snapshots = try_join_all(snapshots).await?;
        Ok((snapshots, moment))
    }
}

/// The state of a partition at a timestamp, once this replica has applied an entry that all at or before the timestamp is in, and knows how
/// what is prepared there ends. `is_alone`: no other node decides it.
pub(super) async fn snapshot_when_applied(
    partition: &PartitionHandle,
    timestamp: Timestamp,
    pinned: Pinned,
    applied: u64,
    is_alone: bool,
) -> Result<Snapshot> {
    partition.applied(applied).await?;
    decided(partition, timestamp, is_alone).await?;
    Ok(partition.storage().pinned_snapshot(pinned)?)
}

fn reason(error: &ConsensusError) -> String {
    match error {
        ConsensusError::Unavailable(reason) => reason.clone(),
        other => other.to_string(),
    }
}

/// The newest timestamp that any partition has applied here.
fn newest(partitions: &[PartitionHandle]) -> Timestamp {
    let newest = partitions.iter().map(|partition| partition.storage().last_timestamp());
    newest.max().unwrap_or_default()
}

fn pins(partitions: &[PartitionHandle], timestamp: Timestamp) -> Result<Vec<Pinned>> {
    let pins = partitions.iter().map(|partition| Ok(partition.storage().pin(timestamp)?));
    pins.collect()
}

impl Leaders {
    async fn round(&self) -> Result<Moment> {
        let here = newest(&self.partitions);
        let (mut timestamp, mut is_given) = (self.clock.now(), false);
        loop {
            let promised = self.ask(timestamp, is_given).await?;
            let newest = promised.iter().map(|promised| promised.newest).fold(here, Timestamp::max);
            let applied: Option<Vec<u64>> = promised.iter().map(|promised| promised.index).collect();
            match applied {
                // What was acknowledged before is not above it. What came since may be, and the next round is told more.
                Some(applied) if is_given || newest <= timestamp => {
                    return Ok(Moment {
                        timestamp: newest.min(timestamp),
                        applied: applied.into(),
                    });
                }
                _ => (timestamp, is_given) = (newest, true),
            }
        }
    }

    /// Asks the leader of each group until it has answered.
    async fn ask(&self, timestamp: Timestamp, is_given: bool) -> Result<Vec<Promised>> {
        let mut questions: Vec<Question> = self.partitions.iter().map(Question::new).collect();
        loop {
            let mut by_leader: BTreeMap<Option<u64>, Vec<usize>> = BTreeMap::new();
            for (number, question) in questions.iter_mut().enumerate() {
                if question.answer.is_none() {
                    let leader = match question.search.find().await? {
                        Leader::Here => None,
                        Leader::There(node) => Some(node),
                    };
                    by_leader.entry(leader).or_default().push(number);
                }
            }
            let answers = by_leader.into_iter().map(|(leader, numbers)| async move {
                let answers = self.ask_one(leader, &numbers, timestamp, is_given).await;
                (numbers, answers)
            });
            let mut refused = BTreeMap::new();
            for (numbers, answers) in join_all(answers).await {
                match answers {
                    Ok(answers) => numbers.into_iter().zip(answers).for_each(|(number, answer)| {
                        questions[number].answer = answer;
                        if answer.is_none() {
                            refused.insert(number, None);
                        }
                    }),
                    Err(reason) => refused.extend(numbers.into_iter().map(|number| (number, Some(reason.clone())))),
                }
            }
            if refused.is_empty() {
                return Ok(questions.into_iter().filter_map(|question| question.answer).collect());
            }
            let pauses = questions.iter_mut().enumerate().filter_map(|(number, question)| {
                let reason = refused.remove(&number)?;
                Some(question.search.refused(reason))
            });
            try_join_all(pauses).await?;
        }
    }

    /// Asks one leader (`None`: this node) about partitions by number.
    async fn ask_one(
        &self,
        leader: Option<u64>,
        numbers: &[usize],
        timestamp: Timestamp,
        is_given: bool,
    ) -> Result<Vec<Option<Promised>>, String> {
        let partitions = numbers.iter().map(|number| &self.partitions[*number]);
        match leader {
            Some(node) => {
                let groups = partitions.map(PartitionHandle::group).collect();
                self.cluster.read_at(node, groups, timestamp, is_given, QUESTION_LIMIT).await
            }
            None => {
                let promises = try_join_all(partitions.map(|partition| partition.promise(timestamp, is_given)));
                let late = |_| Err("this node has no majority, or is busy".to_owned());
                timeout(QUESTION_LIMIT, promises).await.unwrap_or_else(late)
            }
        }
    }
}

impl Question {
    fn new(partition: &PartitionHandle) -> Question {
        Question {
            search: Search::new(partition.id().to_string(), &partition.work().raft),
            answer: None,
        }
    }
}

impl Node {
    /// The newest state of all partitions, at one timestamp: all that was acknowledged, by any node, before the call. (Of one partition: by
    /// this node; see [`PartitionHandle::barrier`].)
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>> {
        match self.partitions() {
            [one] => Ok(vec![one.snapshot(None)?]),
            _ => Ok(self.newest_of_all().await?.0),
        }
    }

    /// As [`Node::snapshots`], and what other nodes need to read the same (see [`Node::pin`]). `None`: this node is alone, and there is nobody
    /// else to read.
    ///
    /// # Errors
    /// As of [`Node::snapshots`]: `Unavailable` where leaders do not answer or transactions are not decided in time.
    pub async fn snapshots_and_moment(&self) -> Result<(Vec<Snapshot>, Option<Moment>)> {
        let [one] = self.partitions() else {
            return self.newest_of_all().await;
        };
        let snapshot = one.snapshot(None)?;
        let moment = self.is_among_others().then(|| Moment {
            timestamp: snapshot.timestamp(),
            // Asked for after the snapshot was taken: what comes later in the log of one group has a later timestamp. Storage counts from 1.
            applied: [one.storage().applied().index.saturating_sub(1)].into(),
        });
        Ok((vec![snapshot], moment))
    }

    /// The newest state of several partitions.
    async fn newest_of_all(&self) -> Result<(Vec<Snapshot>, Option<Moment>)> {
        let mut tries = 0;
        loop {
            let found = match &self.reads {
                Some(reads) => reads.snapshots().await.map(|(snapshots, moment)| (snapshots, Some(moment))),
                None => self
                    .snapshots_at(newest(self.partitions()))
                    .await
                    .map(|snapshots| (snapshots, None)),
            };
            if !is_late(&found, &mut tries) {
                return found;
            }
        }
    }

    /// The newest state of one partition: all in it that was acknowledged, by any node, before the call. Asks nobody but the partition's leader,
    /// so it is no part of a state of several partitions.
    pub async fn snapshot_of(&self, partition: PartitionId) -> Result<Snapshot> {
        let found = self.partitions().iter().find(|known| known.id() == partition);
        let partition = found.ok_or_else(|| ConsensusError::Unsupported(format!("there is no partition {partition}")))?;
        let mut tries = 0;
        loop {
            let snapshot = self.newest_of(partition).await;
            if !is_late(&snapshot, &mut tries) {
                return snapshot;
            }
        }
    }

    async fn newest_of(&self, partition: &PartitionHandle) -> Result<Snapshot> {
        partition.barrier().await?;
        let storage = partition.storage();
        // Any of these may be committed and acknowledged by now, in another group.
        let prepared = || storage.undecided_writes(Timestamp::MAX);
        let mut unknown = prepared();
        let is_alone = self.reads.is_none();
        wait_for(partition, is_alone, || {
            let left = prepared();
            unknown.retain(|transaction| left.contains(transaction));
            unknown.is_empty()
        })
        .await?;
        // What was prepared meanwhile may come before what has just been decided.
        let timestamp = storage.last_timestamp();
        let pinned = storage.pin(timestamp)?;
        decided(partition, timestamp, is_alone).await?;
        Ok(storage.pinned_snapshot(pinned)?)
    }

    /// The state of all partitions of a node that is alone, at a timestamp that none has forgotten, at most the newest.
    pub async fn snapshots_at(&self, timestamp: Timestamp) -> Result<Vec<Snapshot>> {
        if self.reads.is_some() {
            return Err(ConsensusError::Unsupported(
                "in a cluster several partitions are read at the newest timestamp".to_owned(),
            ));
        }
        let timestamp = timestamp.min(newest(self.partitions()));
        let all = self.partitions().iter().map(|partition| async move {
            // First of all, so that no version goes while others are waited for.
            let pinned = partition.storage().pin(timestamp)?;
            partition.in_flight().landed(timestamp).await;
            decided(partition, timestamp, true).await?;
            Ok(partition.storage().pinned_snapshot(pinned)?)
        });
        let all = timeout(READ_LIMIT, try_join_all(all)).await;
        all.unwrap_or_else(|_| {
            Err(ConsensusError::Unavailable(
                "writes before this read take too long; retry later".to_owned(),
            ))
        })
    }
}

/// Whether to read again: a compaction has let versions go since the timestamp was taken.
fn is_late<T>(result: &Result<T>, tries: &mut usize) -> bool {
    *tries += 1;
    matches!(result, Err(ConsensusError::Storage(StorageError::SnapshotTooOld { .. }))) && *tries <= TRIES
}

/// Waits until nothing of a partition that is prepared at or before a timestamp is undecided. `is_alone`: no other node decides it.
async fn decided(partition: &PartitionHandle, timestamp: Timestamp, is_alone: bool) -> Result<()> {
    wait_for(partition, is_alone, || partition.storage().undecided_writes(timestamp).is_empty()).await
}

/// Waits for transactions to be decided.
async fn wait_for(partition: &PartitionHandle, is_alone: bool, mut is_decided: impl FnMut() -> bool) -> Result<()> {
    let (mut pause, longest) = PAUSES;
    let begun = Instant::now();
    while !is_decided() {
        if is_alone && !partition.leads() {
            return Err(ConsensusError::Unavailable(format!(
                "partition {} has stopped while transactions were being decided, and cannot be read: free the cause and restart",
                partition.id()
            )));
        }
        if begun.elapsed() >= READ_LIMIT {
            return Err(ConsensusError::Unavailable(format!(
                "partition {} has transactions that were not decided within {READ_LIMIT:?}; retry later",
                partition.id(),
            )));
        }
        sleep(pause).await;
        pause = longest.min(2 * pause);
    }
    Ok(())
}
