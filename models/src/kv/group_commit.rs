//! Group commit: puts that come while others are on their way go together, as one write. What a write costs by itself (an entry of the log
//! on each node, messages, threads that wake) is then paid once for many. The idea is RocksDB's write groups: whoever finds nobody under way
//! goes alone and at once; whoever comes meanwhile waits, and all who wait go next.
//!
//! Who was just answered often comes again at once. If the next group set out with the first of them, the others would wait for a whole
//! group more. So the next group waits for as many for a moment, as long as waiting has paid off.
//!
//! Only puts that depend on nothing may go together. Puts of one key do not: each has a version of its own.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, BinaryViewArray, RecordBatch, TimestampMillisecondArray};
use datafusion::arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use pyralog_consensus::Request;
use pyralog_storage::{ConflictPolicy, PartitionId, RelationId, RelationSchema, RelationWrites, WriteSet};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::session::commit_parts;

/// A write that is under way for so long does not hold up the next any more: it may wait for a new leader, or for its caller.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long those who were just answered are waited for, at most.
const GATHER: Duration = Duration::from_millis(1);
/// Groups that go without waiting after one that has waited in vain; each further one in a row doubles that, up to the second.
const IN_VAIN: (u32, u32) = (1, 64);
/// Most puts of one group.
const MAX_PUTS: usize = 512;
/// Bytes of keys and values beyond which a group takes no more.
const MAX_BYTES: usize = 256 << 10;
/// A larger put goes alone. Bytes.
const MAX_PUT_BYTES: usize = 16 << 10;
/// Puts that may wait, and their bytes. Beyond them puts go alone, and consensus refuses what is too much.
const MAX_WAITING: (usize, usize) = (4096, 16 << 20);

/// The puts of one database.
pub(crate) struct GroupCommit {
    queue: Arc<Queue>,
    task: AbortHandle,
}

struct Queue {
    state: Mutex<State>,
    /// Held by what is under way.
    turn: Arc<Semaphore>,
    /// Told when somebody waits.
    work: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// How many are to wait before whom is told.
    wanted: Option<(usize, oneshot::Sender<()>)>,
    /// Nobody takes those who wait any more.
    is_closed: bool,
}

/// A put without conditions.
pub(crate) struct Put<'a> {
    /// The bucket's relation.
    pub(crate) relation: RelationId,
    /// Of its rows.
    pub(crate) schema: &'a SchemaRef,
    /// The key.
    pub(crate) key: &'a [u8],
    /// The value.
    pub(crate) value: &'a [u8],
    /// When it goes, in milliseconds since the Unix epoch.
    pub(crate) expires: Option<i64>,
}

struct Waiting {
    relation: RelationId,
    schema: SchemaRef,
    key: Vec<u8>,
    value: Vec<u8>,
    expires: Option<i64>,
    answer: oneshot::Sender<Result<u64>>,
}

impl GroupCommit {
    /// To be called within a tokio runtime; groups run there.
    pub(crate) fn start(engine: Weak<Engine>) -> GroupCommit {
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
            work: Notify::new(),
        });
        let groups = Groups {
            engine,
            queue: Arc::clone(&queue),
            at_once: 0,
            in_vain: 0,
        };
        let task = tokio::spawn(groups.run()).abort_handle();
        GroupCommit { queue, task }
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Queue {
    /// Waits for the next group; `None`: it is not to be waited for.
    fn wait(&self, put: &Put<'_>) -> Option<oneshot::Receiver<Result<u64>>> {
        let mut state = self.state.lock();
        let (most, most_bytes) = MAX_WAITING;
        if state.is_closed || state.waiting.len() >= most || state.waiting_bytes >= most_bytes {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        let waiting = put.waiting(answer);
        state.waiting_bytes += waiting.bytes();
        state.waiting.push_back(waiting);
        let gathered = match &state.wanted {
            Some((wanted, _)) if state.waiting.len() >= *wanted => state.wanted.take(),
            _ => None,
        };
        let is_first = state.waiting.len() == 1;
        drop(state);
        if let Some((_, gathered)) = gathered {
            // Who waited may have stopped just now.
            let _ = gathered.send(());
        }
        if is_first {
            self.work.notify_one();
        }
        Some(answered)
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_PUTS || self.waiting_bytes >= MAX_BYTES
    }

    /// Who goes next; nobody only where nobody waits any more.
    fn next(&mut self) -> Vec<Waiting> {
        let (mut next, mut bytes) = (Vec::new(), 0);
        while next.len() < MAX_PUTS
            && bytes < MAX_BYTES
            && let Some(waiting) = self.waiting.pop_front()
        {
            self.waiting_bytes -= waiting.bytes();
            // Who has left wants nothing done.
            if !waiting.answer.is_closed() {
                bytes += waiting.bytes();
                next.push(waiting);
            }
        }
        next
    }
}

/// The task that takes those who wait, group by group.
struct Groups {
    engine: Weak<Engine>,
    queue: Arc<Queue>,
    /// Groups that still go without waiting, and how many that were after the last in vain.
    at_once: u32,
    in_vain: u32,
}

impl Groups {
    async fn run(mut self) {
        let mut patience = PATIENCE;
        loop {
            self.queue.work.notified().await;
            let turn = timeout(patience, Arc::clone(&self.queue.turn).acquire_owned()).await;
            // Who holds it for so long is passed by, until it comes back.
            let turn = turn.ok().and_then(std::result::Result::ok);
            patience = if turn.is_some() { PATIENCE } else { Duration::ZERO };
            self.take_all(turn).await;
        }
    }

    /// Takes those who wait until nobody does.
    async fn take_all(&mut self, turn: Option<OwnedSemaphorePermit>) {
        // One has gone alone before.
        let mut answered = usize::from(turn.is_some());
        loop {
            self.gather(answered).await;
            let next = self.queue.state.lock().next();
            let Some(engine) = self.engine.upgrade().filter(|_| !next.is_empty()) else {
                return;
            };
            answered = next.len();
            // A task of its own: it goes on when patience is at its end, and a defect in it is not the end of this one.
            let work = tokio::spawn(commit_all(engine, next));
            match timeout(PATIENCE, work).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a task that wrote puts together failed"),
                Err(_) => answered = 0,
            }
        }
    }

    /// Waits until as many have come as were just answered; for a moment, and not where that was in vain lately.
    async fn gather(&mut self, answered: usize) {
        let (before, gathered) = {
            let mut state = self.queue.state.lock();
            let before = state.waiting.len();
            if answered == 0 || state.is_full() || before + answered < 2 || self.at_once > 0 {
                self.at_once = self.at_once.saturating_sub(1);
                return;
            }
            let (sender, gathered) = oneshot::channel();
            state.wanted = Some((before + answered, sender));
            (before, gathered)
        };
        let gathered = timeout(GATHER, gathered).await.is_ok();
        let mut state = self.queue.state.lock();
        state.wanted = None;
        if gathered || 2 * (state.waiting.len() - before) > answered {
            self.in_vain = 0;
        } else {
            let (first, most) = IN_VAIN;
            self.in_vain = (2 * self.in_vain).clamp(first, most);
            self.at_once = self.in_vain;
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.queue.state.lock();
            state.is_closed = true;
            state.waiting_bytes = 0;
            std::mem::take(&mut state.waiting)
        };
        for put in waiting {
            let _ = put.answer.send(Err(Error::new(
                ErrorKind::Unavailable,
                "57P03",
                "the database is closing; nothing was written",
            )));
        }
    }
}

impl Put<'_> {
    /// The row that it writes.
    pub(crate) fn row(&self) -> Result<RecordBatch> {
        rows(std::iter::once(self))
    }

    fn waiting(&self, answer: oneshot::Sender<Result<u64>>) -> Waiting {
        Waiting {
            relation: self.relation,
            schema: Arc::clone(self.schema),
            key: self.key.to_vec(),
            value: self.value.to_vec(),
            expires: self.expires,
            answer,
        }
    }
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }

    fn tell(self, result: Result<u64>) {
        // Who asked may have left.
        let _ = self.answer.send(result);
    }

    fn put(&self) -> Put<'_> {
        Put {
            relation: self.relation,
            schema: &self.schema,
            key: &self.key,
            value: &self.value,
            expires: self.expires,
        }
    }
}

/// Sets a key whatever it is now; its version. A put that has a name goes alone.
pub(crate) async fn put(engine: &Engine, put: Put<'_>, part: Option<Request>) -> Result<u64> {
    let queue = &engine.puts.queue;
    if part.is_some() || put.key.len() + put.value.len() > MAX_PUT_BYTES {
        return commit(engine, &[put], part).await;
    }
    if let Ok(_turn) = queue.turn.try_acquire() {
        return commit(engine, &[put], None).await;
    }
    match queue.wait(&put) {
        None => commit(engine, &[put], None).await,
        Some(answered) => answered.await.unwrap_or_else(|_| {
            let error = Error::new(ErrorKind::Unavailable, "40003", "the task that wrote this put with others failed");
            Err(error.with_hint("read before writing again: the write may be there"))
        }),
    }
}

/// Commits puts together, but those alone whose key others among them have too.
async fn commit_all(engine: Arc<Engine>, puts: Vec<Waiting>) {
    let engine = engine.as_ref();
    let mut schemas: HashMap<RelationId, SchemaRef> = HashMap::new();
    let mut keys: HashSet<(RelationId, &[u8])> = HashSet::new();
    let mut goes_alone = Vec::with_capacity(puts.len());
    for put in &puts {
        let schema = schemas.entry(put.relation).or_insert_with(|| Arc::clone(&put.schema));
        goes_alone.push(*schema != put.schema || !keys.insert((put.relation, &put.key)));
    }
    drop(keys);
    let mut together = Vec::with_capacity(puts.len());
    let alone = FuturesUnordered::new();
    for (put, is_alone) in puts.into_iter().zip(goes_alone) {
        if is_alone {
            alone.push(commit_group(engine, vec![put]));
        } else {
            together.push(put);
        }
    }
    let together = by_partition(engine, together).into_iter().map(|puts| commit_together(engine, puts));
    tokio::join!(together.collect::<FuturesUnordered<_>>().collect::<()>(), alone.collect::<()>());
}

/// Puts of one partition go together; those of several would have to be prepared first.
fn by_partition(engine: &Engine, puts: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    if engine.placement.is_trivial() {
        return vec![puts];
    }
    let mut by_home: BTreeMap<Option<PartitionId>, Vec<Waiting>> = BTreeMap::new();
    for put in puts {
        let keys: ArrayRef = Arc::new(BinaryViewArray::from_iter_values([&put.key]));
        let homes = engine.placement.of_keys(&bucket_schema(put.relation, &put.schema), &[keys]);
        // One that cannot be placed is refused when it is committed.
        by_home
            .entry(homes.ok().and_then(|homes| homes.first().copied()))
            .or_default()
            .push(put);
    }
    by_home.into_values().collect()
}

/// Commits puts of different keys as one write; if that is refused, each bucket's as one: perhaps only one of them is gone.
async fn commit_together(engine: &Engine, puts: Vec<Waiting>) {
    let Err((puts, error)) = commit_puts(engine, puts).await else {
        return;
    };
    let mut buckets: BTreeMap<RelationId, Vec<Waiting>> = BTreeMap::new();
    for put in puts {
        buckets.entry(put.relation).or_default().push(put);
    }
    let is_refusal = matches!(error.kind, ErrorKind::Conflict | ErrorKind::InvalidInput | ErrorKind::Constraint);
    if !is_refusal || buckets.len() == 1 {
        return buckets.into_values().flatten().for_each(|put| put.tell(Err(error.clone())));
    }
    // Nothing was written.
    let buckets = buckets.into_values().map(|puts| commit_group(engine, puts));
    buckets.collect::<FuturesUnordered<_>>().collect().await
}

async fn commit_group(engine: &Engine, puts: Vec<Waiting>) {
    if let Err((puts, error)) = commit_puts(engine, puts).await {
        puts.into_iter().for_each(|put| put.tell(Err(error.clone())));
    }
}

/// Commits puts of different keys and tells them; gives them back where that fails.
async fn commit_puts(engine: &Engine, puts: Vec<Waiting>) -> Result<(), (Vec<Waiting>, Error)> {
    let all: Vec<Put<'_>> = puts.iter().map(Waiting::put).collect();
    let result = commit(engine, &all, None).await;
    drop(all);
    match result {
        Ok(version) => {
            puts.into_iter().for_each(|put| put.tell(Ok(version)));
            Ok(())
        }
        Err(error) => Err((puts, error)),
    }
}

/// Commits puts of different keys as one write.
async fn commit(engine: &Engine, puts: &[Put<'_>], part: Option<Request>) -> Result<u64> {
    let mut relations: Vec<RelationId> = puts.iter().map(|put| put.relation).collect();
    relations.sort_unstable();
    relations.dedup();
    let start = engine.node.now();
    let mut parts: BTreeMap<PartitionId, WriteSet> = BTreeMap::new();
    for relation in relations {
        let rows = rows(puts.iter().filter(|put| put.relation == relation))?;
        for (home, rows) in engine.placement.split_rows(&bucket_schema(relation, &rows.schema()), &rows)? {
            let relations = Vec::new();
            parts
                .entry(home)
                .or_insert(WriteSet {
                    start,
                    relations,
                    reads: Vec::new(),
                })
                .relations
                .push(RelationWrites {
                    relation,
                    emptied: false,
                    puts: vec![rows],
                    deletes: Vec::new(),
                    staged: Vec::new(),
                    policy: ConflictPolicy::LastWriteWins,
                });
        }
    }
    commit_parts(engine, parts.into_iter().collect(), part).await
}

/// As far as it says where rows belong: by their key, the first column.
fn bucket_schema(relation: RelationId, schema: &SchemaRef) -> RelationSchema {
    RelationSchema {
        id: relation,
        version: 1,
        schema: Arc::clone(schema),
        key: vec![0],
    }
}

/// The rows of puts into one bucket.
fn rows<'a>(puts: impl Iterator<Item = &'a Put<'a>> + Clone) -> Result<RecordBatch> {
    let Some(first) = puts.clone().next() else {
        return Err(Error::internal("a write without rows"));
    };
    let expires: Vec<Option<i64>> = puts.clone().map(|put| put.expires).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(BinaryViewArray::from_iter_values(puts.clone().map(|put| put.key))),
        Arc::new(BinaryViewArray::from_iter_values(puts.map(|put| put.value))),
        Arc::new(TimestampMillisecondArray::from(expires).with_timezone("UTC")),
    ];
    Ok(RecordBatch::try_new(Arc::clone(first.schema), columns)?)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Schema;

    use super::*;

    fn waiting(key: u8) -> (Waiting, oneshot::Receiver<Result<u64>>) {
        let (answer, answered) = oneshot::channel();
        let schema = Arc::new(Schema::empty());
        let put = Put {
            relation: RelationId(1),
            schema: &schema,
            key: &[key],
            value: b"value",
            expires: None,
        };
        (put.waiting(answer), answered)
    }

    #[test]
    fn who_has_left_does_not_go_along() {
        let mut state = State::default();
        let mut authors = Vec::new();
        for key in 0..4 {
            let (waiting, author) = waiting(key);
            state.waiting_bytes += waiting.bytes();
            state.waiting.push_back(waiting);
            authors.push(author);
        }
        authors.remove(2);
        authors.remove(0);
        let keys: Vec<_> = state.next().into_iter().map(|put| put.key).collect();
        assert_eq!(keys, [[1], [3]]);
        assert_eq!((state.waiting.len(), state.waiting_bytes), (0, 0));
    }
}
