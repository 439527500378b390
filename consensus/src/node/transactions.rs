//! Transactions over several groups (decision 0016).
//!
//! The coordinator prepares a part in each group. The largest of the parts' timestamps becomes that of the commit, and a record of it in the
//! primary group (the lowest of them) is the commit. The others are told afterwards. Who dies in between leaves parts that are locked: the
//! groups' leaders ask the primary to end the transaction.
//!
//! (Two-phase commit with a replicated decision, as in Gray and Lamport 2006; the primary that decides, and asking it about what was left
//! locked, are Percolator's, Peng and Dabek 2010; hybrid logical timestamps in place of its oracle as in CockroachDB.)

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{join_all, try_join_all};
use futures::stream;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use pyralog_storage::{PartitionId, Timestamp, TransactionId, WriteSet};
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::task::JoinError;
use tokio::time::{Instant, sleep};

use super::Node;
use super::cluster::Cluster;
use super::opening::{blocking, stopped};
use crate::error::{ConsensusError, Result};
use crate::partition::PartitionHandle;
use crate::partition::serials::{Serial, Serials};
use crate::partition::two_phase::Ready;
use crate::raft::requests::{Done, Known, Request, RequestId, Tried};
use crate::raft::transactions::Part;
use crate::raft::types::Commit;
use crate::runtime;

/// How often the leaders look for parts that nobody decides.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a group that did not hear of a transaction's end is told again.
const TELL_AGAIN: Duration = Duration::from_millis(200);
/// How long a transaction of another node may be prepared before all are asked who sees to it, and how long that may take.
const PATIENCE: Duration = Duration::from_secs(1);
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// How many transactions that were left are ended at once.
const ENDS_AT_ONCE: usize = 32;
/// How often a node that closes looks whether transactions have ended.
const CLOSING_PAUSE: Duration = Duration::from_millis(1);

/// Who coordinates this node's transactions over several groups. Cheap to clone.
#[derive(Clone)]
pub struct Coordinator {
    partitions: Arc<Vec<PartitionHandle>>,
    /// Names for its transactions.
    pub(super) serials: Arc<Serials>,
    turns: Arc<Turns>,
    is_closed: Arc<AtomicBool>,
    cluster: Option<Arc<Cluster>>,
    /// Its own that may still be committed: until then nobody else ends them.
    undecided: Arc<Mutex<HashSet<TransactionId>>>,
    /// Transactions of others that are prepared where this node leads, and since when it has seen them.
    left: Arc<Mutex<HashMap<TransactionId, Instant>>>,
}

/// One try of a request at a time: what an earlier one came to is known before the next one begins.
#[derive(Default)]
struct Turns {
    held: Mutex<HashMap<RequestId, Arc<tokio::sync::Mutex<()>>>>,
}

struct Turn {
    turns: Arc<Turns>,
    id: RequestId,
    _held: OwnedMutexGuard<()>,
}

impl Turns {
    async fn take(self: &Arc<Self>, id: RequestId) -> Turn {
        let turn = self.held.lock().entry(id).or_default().clone();
        Turn {
            turns: self.clone(),
            id,
            _held: turn.lock_owned().await,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut held = self.turns.held.lock();
        // Its guard has one, and the table has one: nobody else waits.
        if held.get(&self.id).is_some_and(|turn| Arc::strong_count(turn) <= 2) {
            held.remove(&self.id);
        }
    }
}

/// A transaction that is being committed.
struct Open {
    coordinator: Coordinator,
    groups: Vec<PartitionId>,
    part: Part,
    /// Its end need not be remembered once this is dropped.
    _serial: Serial,
}

impl Coordinator {
    /// One that nobody else is.
    pub fn new(partitions: Vec<PartitionHandle>, cluster: Option<Arc<Cluster>>) -> Coordinator {
        Coordinator {
            partitions: Arc::new(partitions),
            serials: Serials::new(),
            turns: Arc::default(),
            is_closed: Arc::default(),
            cluster,
            undecided: Arc::default(),
            left: Arc::default(),
        }
    }

    /// Begins no more transactions over several groups, and returns once all groups know how those before have ended.
    pub async fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        while self.serials.has_open() {
            sleep(CLOSING_PAUSE).await;
        }
    }

    /// Whether a transaction is one of this coordinator's that it may still commit. Where it only tells the groups how it has ended, others may
    /// find that out as well: perhaps it cannot reach them.
    pub fn may_commit(&self, transaction: TransactionId) -> bool {
        self.undecided.lock().contains(&transaction)
    }

    /// Whether a transaction is one of this coordinator's, and has not ended everywhere.
    fn coordinates(&self, transaction: TransactionId) -> bool {
        self.serials.is_open(transaction.coordinator, transaction.serial)
    }

    fn partition(&self, id: PartitionId) -> Result<&PartitionHandle> {
        let found = self.partitions.iter().find(|partition| partition.id() == id);
        found.ok_or_else(|| ConsensusError::Unsupported(format!("there is no partition {id}")))
    }

    /// Carries a request out, if no earlier try of it was, in whichever partitions.
    async fn carry_out(&self, parts: Vec<(PartitionId, WriteSet)>, request: Request) -> Result<Commit> {
        let _turn = self.turns.take(request.id).await;
        let repeated = match (&self.cluster, request.tried) {
            // The partition that it writes, or the one that decides, knows of the first try, and of its end.
            (Some(_), Tried::First) => return self.commit(parts, Some(request), None).await,
            (Some(_), Tried::Again) => match self.settle_first(request.id).await {
                Ok(None) => return self.commit_again(parts, request).await,
                Ok(Some(done)) => Ok(repeated(done)),
                Err(error) => Err(error),
            },
            // All tries come through this node.
            (None, _) => match self.known(request.id).await {
                Ok(Known::Nothing) => return self.commit(parts, Some(request), None).await,
                Ok(Known::Done(done)) => Ok(repeated(done)),
                Ok(Known::Void | Known::Settled) => Err(ConsensusError::Void),
                Err(error) => Err(error),
            },
        };
        for (partition, write_set) in parts {
            let storage = self.partition(partition)?.storage().clone();
            blocking(move || {
                storage.discard(&write_set);
                Ok(())
            })
            .await?;
        }
        repeated
    }

    /// The partition that decides a request which is tried again, so that it is carried out once.
    fn home(&self, id: RequestId) -> &PartitionHandle {
        let number = (id.client ^ id.client >> 64) as usize % self.partitions.len();
        &self.partitions[number]
    }

    /// Carries out a later try of a request, which other nodes may try at the same time: whatever they write, one partition decides.
    async fn commit_again(&self, mut parts: Vec<(PartitionId, WriteSet)>, request: Request) -> Result<Commit> {
        let partition = self.home(request.id);
        let home = partition.id();
        if parts.iter().all(|(partition, _)| *partition != home) {
            let nothing = WriteSet {
                start: parts.first().map_or(Timestamp::ZERO, |(_, write_set)| write_set.start),
                relations: Vec::new(),
                reads: Vec::new(),
            };
            parts.push((home, nothing));
        }
        let id = request.id.again();
        match self.commit(parts, Some(Request { id, ..request }), Some(home)).await {
            // Perhaps since another later try was carried out. Where that cannot be asked, this one may have been.
            Err(error) => match partition.known(id).await {
                Ok(Known::Done(done)) => Ok(repeated(done)),
                Ok(Known::Nothing | Known::Void | Known::Settled) | Err(_) => Err(error),
            },
            commit => commit,
        }
    }

    /// Sees to it that a first try of a request is not carried out any more, if it was not so far, in whichever partitions.
    async fn settle_first(&self, id: RequestId) -> Result<Option<Done>> {
        let settled = try_join_all(self.partitions.iter().map(|partition| partition.settle(id))).await?;
        Ok(settled.into_iter().flatten().next())
    }

    /// What is known of a request in any partition.
    async fn known(&self, id: RequestId) -> Result<Known> {
        let several = self.partitions.len() > 1 && self.cluster.is_none();
        if let Some(stopped) = self.partitions.iter().find(|partition| several && !partition.leads()) {
            // Its log may hold an earlier try that is not applied, which would show after a restart.
            return Err(ConsensusError::Unavailable(format!(
                "whether the request was carried out before is known once partition {} works again",
                stopped.id()
            )));
        }
        let mut known = try_join_all(self.partitions.iter().map(|partition| partition.known(id))).await?;
        if self.cluster.is_some() {
            known.push(self.home(id).known(id.again()).await?);
        }
        let (mut nothing, mut ends): (Vec<Known>, Vec<Known>) = known.into_iter().partition(|known| *known == Known::Nothing);
        // That it was carried out is known in one partition only, and more than that it is settled.
        ends.sort_by_key(|end| !matches!(end, Known::Done(_)));
        ends.append(&mut nothing);
        Ok(ends.first().copied().unwrap_or(Known::Nothing))
    }

    async fn settle(&self, id: RequestId) -> Result<Option<Done>> {
        let _turn = self.turns.take(id).await;
        if let Known::Done(done) = self.known(id).await? {
            return Ok(Some(done));
        }
        let first = self.settle_first(id).await?;
        match (&self.cluster, first) {
            (Some(_), None) => self.home(id).settle(id.again()).await,
            (_, first) => Ok(first),
        }
    }

    /// Commits one part or several, all or none. The primary is the lowest of their partitions, or one of them that is named.
    async fn commit(
        &self,
        mut parts: Vec<(PartitionId, WriteSet)>,
        request: Option<Request>,
        primary: Option<PartitionId>,
    ) -> Result<Commit> {
        parts.sort_by_key(|(partition, _)| *partition);
        if parts.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(ConsensusError::Unsupported(
                "a transaction with two parts in one partition".to_owned(),
            ));
        }
        match parts.as_slice() {
            [] => Err(ConsensusError::Unsupported("a transaction that writes nothing".to_owned())),
            [_] => {
                let (partition, write_set) = parts.remove(0);
                self.partition(partition)?.carry_out(write_set, request).await
            }
            [(lowest, _), ..] => {
                let primary = primary.unwrap_or(*lowest);
                for (partition, _) in &parts {
                    self.partition(*partition)?;
                }
                let serial = self.serials.begin();
                // Only now: whoever closes waits for what has a serial.
                if self.is_closed.load(Ordering::Acquire) {
                    return Err(ConsensusError::Unavailable("the node is closing".to_owned()));
                }
                let open = Open {
                    coordinator: self.clone(),
                    groups: parts.iter().map(|(partition, _)| *partition).collect(),
                    part: Part {
                        id: TransactionId {
                            coordinator: serial.request.id.client,
                            serial: serial.request.id.serial,
                        },
                        primary,
                        settled: serial.request.settled,
                        request,
                    },
                    _serial: serial,
                };
                // A task of its own: it comes to an end also when nobody waits for it.
                let task = runtime::spawn(open.run(parts));
                let timestamp = task.await.unwrap_or_else(failed)?;
                Ok(Commit { timestamp, repeated: None })
            }
        }
    }

    /// Ends what was left prepared: by coordinators that are gone, and by those that have given up.
    async fn resolve_left(&self) {
        let left = self
            .partitions
            .iter()
            .filter(|partition| partition.work().raft.is_leader())
            .flat_map(|partition| {
                let prepared = partition.transactions().prepared().into_iter();
                prepared.map(move |(id, _, primary)| (partition, id, primary))
            });
        let left: Vec<_> = left.filter(|(_, id, _)| !self.coordinates(*id)).collect();
        let due: Vec<_> = {
            let mut since = self.left.lock();
            since.retain(|known, _| left.iter().any(|(_, id, _)| id == known));
            let is_due = |(_, id, _): &(_, TransactionId, _)| since.entry(*id).or_insert_with(Instant::now).elapsed() >= self.patience(*id);
            left.into_iter().filter(is_due).collect()
        };
        let coordinated = self.coordinated_elsewhere(&due).await;
        let alone = due.into_iter().filter(|(_, id, _)| !coordinated.contains(id));
        let ends = alone.map(|(partition, id, primary)| async move {
            if let Err(error) = self.resolve(partition, id, primary).await {
                tracing::warn!(transaction = %id, partition = %partition.id(), %error, "a transaction cannot be ended yet");
            }
        });
        stream::iter(ends).for_each_concurrent(ENDS_AT_ONCE, |end| end).await;
    }

    /// How long a transaction is left to whoever coordinates it.
    fn patience(&self, id: TransactionId) -> Duration {
        match self.cluster.is_none() || self.serials.is_of(id.coordinator) {
            true => Duration::ZERO,
            false => PATIENCE,
        }
    }

    /// Those of transactions that other nodes say they see to. Who cannot be asked may as well be gone: the primary has the last word.
    async fn coordinated_elsewhere(&self, due: &[(&PartitionHandle, TransactionId, PartitionId)]) -> HashSet<TransactionId> {
        let foreign = due.iter().filter(|(_, id, _)| !self.serials.is_of(id.coordinator));
        let foreign: BTreeMap<TransactionId, &PartitionHandle> = foreign.map(|(partition, id, _)| (*id, *partition)).collect();
        let Some(cluster) = self.cluster.as_ref().filter(|_| !foreign.is_empty()) else {
            return HashSet::new();
        };
        let mut others = BTreeSet::new();
        for partition in foreign.values() {
            let metrics = partition.work().raft.metrics();
            let metrics = metrics.borrow_watched();
            others.extend(metrics.membership_config.membership().nodes().map(|(node, _)| *node));
        }
        others.remove(&cluster.node);
        let ids: Vec<TransactionId> = foreign.into_keys().collect();
        let answers = others.into_iter().map(|node| cluster.coordinates(node, &ids, ASK_LIMIT));
        join_all(answers).await.into_iter().flatten().collect()
    }

    async fn resolve(&self, partition: &PartitionHandle, id: TransactionId, primary: PartitionId) -> Result<()> {
        let part = Part {
            id,
            primary,
            settled: 0,
            request: None,
        };
        match self.partition(primary)?.abort(part).await? {
            Some(commit) => partition.decide(part, commit).await?,
            None => partition.abort(part).await?,
        };
        Ok(())
    }
}

/// That a transaction may still be committed, until this is dropped.
struct Undecided {
    all: Arc<Mutex<HashSet<TransactionId>>>,
    id: TransactionId,
}

impl Undecided {
    fn new(open: &Open) -> Undecided {
        let all = open.coordinator.undecided.clone();
        all.lock().insert(open.part.id);
        Undecided { all, id: open.part.id }
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
    }
}

impl Open {
    async fn run(self, parts: Vec<(PartitionId, WriteSet)>) -> Result<Timestamp> {
        let _undecided = Undecided::new(&self);
        // All that may take a while comes before the first part is locked.
        let ready = parts.into_iter().map(|(partition, write_set)| {
            let partition = self.coordinator.partition(partition);
            async move { partition?.ready(self.part, write_set).await }
        });
        // All of them, so that each takes care of its files.
        let ready = join_all(ready).await.into_iter().collect::<Result<Vec<_>>>()?;
        let prepared = join_all(ready.into_iter().map(Ready::prepare)).await;
        let commit = match prepared.into_iter().collect::<Result<Vec<Timestamp>>>() {
            Ok(timestamps) => timestamps.into_iter().max().unwrap_or_default(),
            Err(error) => {
                // Nobody has decided it, and nobody will.
                let has_name = self.part.request.is_some();
                runtime::spawn(self.tell(None));
                return Err(match error {
                    // Another node took this one for dead, and ended it before all parts were prepared.
                    ConsensusError::Void if !has_name => given_up(),
                    ConsensusError::Unknown(reason) => ConsensusError::Unavailable(format!("{reason}; nothing was written, retry")),
                    error => error,
                });
            }
        };
        match self.decide(commit).await {
            Ok(Some(commit)) => {
                runtime::spawn(self.tell(Some(commit)));
                Ok(commit)
            }
            Ok(None) => {
                runtime::spawn(self.tell(None));
                Err(given_up())
            }
            Err(error @ ConsensusError::Unknown(_)) => {
                runtime::spawn(self.find_out());
                Err(error)
            }
            // It was not proposed, and will not be.
            Err(error) => {
                runtime::spawn(self.tell(None));
                Err(error)
            }
        }
    }

    /// Ends what nobody knows the end of. Its end must be remembered until all groups know it, and so this is not dropped before.
    async fn find_out(self) {
        let Ok(primary) = self.coordinator.partition(self.part.primary) else {
            return;
        };
        let end = loop {
            match primary.abort(self.part).await {
                Ok(end) => break end,
                // Nothing is proposed under this coordinator's name any more.
                Err(_) if primary.admission().is_closed() || self.is_hopeless(primary) => return,
                Err(error) => tracing::debug!(transaction = %self.part.id, %error, "its end is not known yet"),
            }
            sleep(TELL_AGAIN).await;
        };
        self.tell(end).await;
    }

    /// Has the primary decide; where the answer is lost, asks how it has ended.
    async fn decide(&self, commit: Timestamp) -> Result<Option<Timestamp>> {
        let primary = self.coordinator.partition(self.part.primary)?;
        match primary.decide(self.part, commit).await {
            Err(ConsensusError::Unknown(reason)) => match primary.abort(self.part).await {
                Err(error) => Err(ConsensusError::Unknown(format!("{reason}; {error}"))),
                end => end,
            },
            answer => answer,
        }
    }

    /// Whether nothing comes of telling a group once more: the node closes, so that nothing more is proposed in the coordinator's name, and the
    /// group has stopped, or others see to what is left.
    fn is_hopeless(&self, partition: &PartitionHandle) -> bool {
        self.coordinator.is_closed.load(Ordering::Acquire) && (self.coordinator.cluster.is_some() || !partition.leads())
    }

    /// Tells all groups how it has ended, until they know.
    async fn tell(self, commit: Option<Timestamp>) {
        let told = self.groups.iter().map(|group| self.tell_one(*group, commit));
        join_all(told).await;
    }

    async fn tell_one(&self, group: PartitionId, commit: Option<Timestamp>) {
        let Ok(partition) = self.coordinator.partition(group) else { return };
        loop {
            let told = match commit {
                Some(commit) => partition.decide(self.part, commit).await,
                None => partition.abort(self.part).await,
            };
            match told {
                Ok(end) if end == commit => return,
                Ok(end) => {
                    tracing::error!(transaction = %self.part.id, partition = %group, ?commit, ?end, "a group knows another end of a transaction");
                    return;
                }
                Err(error) if partition.admission().is_closed() || self.is_hopeless(partition) => {
                    tracing::debug!(%error, "whoever opens the partition again ends the transaction");
                    return;
                }
                Err(error) => tracing::debug!(transaction = %self.part.id, partition = %group, %error, "told again"),
            }
            sleep(TELL_AGAIN).await;
        }
    }
}

/// Ends what is left prepared, until the node stops.
pub async fn resolve(coordinator: Coordinator, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = coordinator.resolve_left() => {}
        }
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

impl Node {
    /// Commits one write set a partition, all or none; the commit timestamp. Each began at one of [`Self::snapshots`].
    ///
    /// When the returned future is dropped, the transaction comes to its end all the same.
    pub async fn commit(&self, parts: Vec<(PartitionId, WriteSet)>) -> Result<Timestamp> {
        Ok(self.carry_out(parts, None).await?.timestamp)
    }

    /// As [`Self::commit`], for a request that has a name: one that was carried out before is not carried out again.
    pub async fn carry_out(&self, mut parts: Vec<(PartitionId, WriteSet)>, request: Option<Request>) -> Result<Commit> {
        if let ([only], 1) = (self.partitions(), parts.len())
            && only.id() == parts[0].0
        {
            return only.carry_out(parts.remove(0).1, request).await;
        }
        let coordinator = self.coordinator.clone();
        let Some(request) = request else {
            return coordinator.commit(parts, None, None).await;
        };
        // A task of its own: the next try waits for the end of this one, though its author has left.
        let task = runtime::spawn(async move { coordinator.carry_out(parts, request).await });
        task.await.unwrap_or_else(failed)
    }

    /// What is known of a request, among all that was acknowledged before the call.
    pub async fn known(&self, request: RequestId) -> Result<Known> {
        self.coordinator.known(request).await
    }

    /// Settles a request whose outcome its author does not know: it was carried out (`Some`), or it never will be.
    pub async fn settle(&self, request: RequestId) -> Result<Option<Done>> {
        match self.partitions() {
            [only] => only.settle(request).await,
            _ => self.coordinator.settle(request).await,
        }
    }
}

fn given_up() -> ConsensusError {
    ConsensusError::Unavailable("the transaction was given up, since it took too long to commit; nothing was written, retry".to_owned())
}

fn repeated(done: Done) -> Commit {
    Commit {
        timestamp: done.timestamp,
        repeated: Some(done.rows),
    }
}

fn failed<T>(error: JoinError) -> Result<T> {
    Err(ConsensusError::Unknown(format!("the task that committed it failed: {error}")))
}
