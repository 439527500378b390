//! Group commit: puts that come while others are on their way go together, as one write. What a write costs by itself (an entry of the log
//! on each node, messages, threads that wake) is then paid once for many. The idea is RocksDB's write groups: whoever finds nobody under way
//! goes alone and at once; whoever comes meanwhile waits, and all who wait go next.
//!
//! Only puts that depend on nothing may go together. Puts of one key do not: each has a version of its own.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, BinaryViewArray, RecordBatch, TimestampMillisecondArray};
use datafusion::arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use pyralog_consensus::Request;
use pyralog_storage::{ConflictPolicy, RelationId, RelationWrites, WriteSet};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::session::commit_write_set;

/// A group that is under way for so long does not hold up the next any more: it may wait for a new leader.
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
/// Bytes that may wait. Beyond them puts go alone, and consensus refuses what is too much.
const MAX_WAITING_BYTES: usize = 16 << 20;

/// The puts of one database.
pub(crate) struct GroupCommit {
    state: Mutex<State>,
    /// Told when as many wait as are wanted.
    gathered: Notify,
    runtime: Handle,
}

#[derive(Default)]
struct State {
    /// Whether somebody has the turn.
    is_taken: bool,
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    /// How many are waited for, where somebody waits for them.
    wanted: Option<usize>,
    /// Groups that still go without waiting, and how many that were after the last in vain.
    at_once: u32,
    in_vain: u32,
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

/// The turn to set out. Who waits gets it next, however this one ends.
struct Turn {
    engine: Arc<Engine>,
    /// Puts that it was for.
    puts: usize,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Some are under way.
    Working,
    /// On its way to a task of its own.
    PassedOn,
    /// Nobody waited.
    GivenBack,
}

enum Entered {
    Turn(Turn),
    Waits(oneshot::Receiver<Result<u64>>),
    Full,
}

impl GroupCommit {
    /// Groups run on the runtime from which this is called.
    pub(crate) fn new() -> GroupCommit {
        GroupCommit {
            state: Mutex::default(),
            gathered: Notify::new(),
            runtime: Handle::current(),
        }
    }

    fn enter(&self, engine: &Arc<Engine>, put: &Put<'_>) -> Entered {
        let mut state = self.state.lock();
        if !state.is_taken {
            state.is_taken = true;
            return Entered::Turn(Turn {
                engine: Arc::clone(engine),
                puts: 1,
                stage: Stage::Working,
            });
        }
        if state.waiting_bytes > MAX_WAITING_BYTES {
            return Entered::Full;
        }
        let (answer, answered) = oneshot::channel();
        let waiting = put.waiting(answer);
        state.waiting_bytes += waiting.bytes();
        state.waiting.push(waiting);
        if state.wanted.is_some_and(|wanted| state.waiting.len() >= wanted) {
            state.wanted = None;
            self.gathered.notify_one();
        }
        Entered::Waits(answered)
    }

    /// Waits until as many wait as were just answered, and those who wait already; for a moment, and not where that was in vain lately.
    async fn gather(&self, answered: usize) {
        let wanted = {
            let mut state = self.state.lock();
            let wanted = state.waiting.len() + answered;
            if answered == 1 || wanted > MAX_PUTS || state.at_once > 0 {
                state.at_once = state.at_once.saturating_sub(1);
                return;
            }
            state.wanted = Some(wanted);
            wanted
        };
        let gathered = timeout(GATHER, self.gathered.notified()).await.is_ok();
        let mut state = self.state.lock();
        state.wanted = None;
        if gathered || state.waiting.len() > wanted / 2 {
            state.in_vain = 0;
        } else {
            let (first, most) = IN_VAIN;
            state.in_vain = (2 * state.in_vain).clamp(first, most);
            state.at_once = state.in_vain;
        }
    }
}

impl State {
    /// Who goes next. Who has left wants nothing done.
    fn next(&mut self) -> Vec<Waiting> {
        self.waiting.retain(|waiting| !waiting.answer.is_closed());
        let mut bytes = 0;
        let fits = self.waiting.iter().take(MAX_PUTS).take_while(|waiting| {
            let before = bytes;
            bytes += waiting.bytes();
            before < MAX_BYTES
        });
        let count = fits.count();
        let next = self.waiting.drain(..count).collect();
        self.waiting_bytes = self.waiting.iter().map(Waiting::bytes).sum();
        next
    }
}

impl Turn {
    /// Takes those who wait, group by group, until nobody does.
    async fn go_on(mut self) {
        let engine = Arc::clone(&self.engine);
        loop {
            engine.puts.gather(self.puts).await;
            let next = self.next();
            if next.is_empty() {
                return;
            }
            let mut work = pin!(commit_all(&engine, next));
            if timeout(PATIENCE, &mut work).await.is_err() {
                drop(self);
                return work.await;
            }
        }
    }

    /// Who goes next; nobody: the turn is given back.
    fn next(&mut self) -> Vec<Waiting> {
        let mut state = self.engine.puts.state.lock();
        let next = state.next();
        self.puts = next.len();
        self.stage = match next.is_empty() {
            true => Stage::GivenBack,
            false => Stage::Working,
        };
        state.is_taken = !next.is_empty();
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let group = &self.engine.puts;
        let mut state = group.state.lock();
        match self.stage {
            Stage::GivenBack => {}
            Stage::Working if state.waiting.is_empty() && self.puts == 1 => state.is_taken = false,
            Stage::Working => {
                drop(state);
                let turn = Turn {
                    engine: Arc::clone(&self.engine),
                    puts: self.puts,
                    stage: Stage::PassedOn,
                };
                // Not with the caller: it may be one that leaves.
                group.runtime.spawn(turn.go_on());
            }
            // The runtime ends, and with it all who wait.
            Stage::PassedOn => {
                state.is_taken = false;
                state.waiting.clear();
                state.waiting_bytes = 0;
            }
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
pub(crate) async fn put(engine: &Arc<Engine>, put: Put<'_>, part: Option<Request>) -> Result<u64> {
    if part.is_some() || put.key.len() + put.value.len() > MAX_PUT_BYTES {
        return commit(engine, &[put], part).await;
    }
    match engine.puts.enter(engine, &put) {
        Entered::Turn(_turn) => commit(engine, &[put], None).await,
        Entered::Full => commit(engine, &[put], None).await,
        Entered::Waits(answered) => answered.await.unwrap_or_else(|_| {
            Err(Error::internal(
                "the task that wrote this put with others failed; the put may be there",
            ))
        }),
    }
}

/// Commits puts together, but those alone whose key others among them have too.
async fn commit_all(engine: &Engine, puts: Vec<Waiting>) {
    let mut schemas: HashMap<RelationId, SchemaRef> = HashMap::new();
    let mut keys: HashMap<(RelationId, &[u8]), usize> = HashMap::new();
    let mut goes_alone = Vec::with_capacity(puts.len());
    for (at, put) in puts.iter().enumerate() {
        let schema = schemas.entry(put.relation).or_insert_with(|| Arc::clone(&put.schema));
        let first = *keys.entry((put.relation, &put.key)).or_insert(at);
        goes_alone.push(first != at || *schema != put.schema);
    }
    drop(keys);
    let mut together = Vec::with_capacity(puts.len());
    let alone = FuturesUnordered::new();
    for (put, is_alone) in puts.into_iter().zip(goes_alone) {
        if is_alone {
            alone.push(commit_alone(engine, put));
        } else {
            together.push(put);
        }
    }
    tokio::join!(commit_together(engine, together), alone.collect::<()>());
}

async fn commit_together(engine: &Engine, puts: Vec<Waiting>) {
    let all: Vec<Put<'_>> = puts.iter().map(Waiting::put).collect();
    let result = commit(engine, &all, None).await;
    drop(all);
    if let Err(error) = &result
        && puts.len() > 1
        && matches!(error.kind, ErrorKind::Conflict | ErrorKind::InvalidInput | ErrorKind::Constraint)
    {
        // Nothing was written. What one of them is refused for (its bucket may be gone) is not the others' fault.
        return puts
            .into_iter()
            .map(|put| commit_alone(engine, put))
            .collect::<FuturesUnordered<_>>()
            .collect()
            .await;
    }
    for put in puts {
        // Who asked may have left.
        let _ = put.answer.send(result.clone());
    }
}

async fn commit_alone(engine: &Engine, put: Waiting) {
    let result = commit(engine, &[put.put()], None).await;
    let _ = put.answer.send(result);
}

/// Commits puts of different keys as one write.
async fn commit(engine: &Engine, puts: &[Put<'_>], part: Option<Request>) -> Result<u64> {
    let mut relations: Vec<RelationId> = puts.iter().map(|put| put.relation).collect();
    relations.sort_unstable();
    relations.dedup();
    let writes = relations.into_iter().map(|relation| {
        Ok(RelationWrites {
            relation,
            puts: vec![rows(puts.iter().filter(|put| put.relation == relation))?],
            deletes: Vec::new(),
            staged: Vec::new(),
            policy: ConflictPolicy::LastWriteWins,
        })
    });
    let write_set = WriteSet {
        start: engine.node.now(),
        relations: writes.collect::<Result<_>>()?,
    };
    commit_write_set(engine, write_set, part).await
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
