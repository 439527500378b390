//! One group's Raft log over the node's shared log: openraft's `RaftLogStorage`.
//!
//! The store keeps what Raft sees (entries not yet durable included); [`Log`] keeps what is durable. Recent entries stay decoded in memory
//! until they are durable and applied, so that the leader applies the very write set that was proposed.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::Stream;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;
use pyralog_storage::Timestamp;
use tokio::sync::{Notify, oneshot};

use super::types::{Entry, LogId, Types, Vote};
use crate::clock::Clock;
use crate::codec;
use crate::error::{ConsensusError, Result};
use crate::log::{GroupId, Log, LogError, Record, RecordKind, Urgency};
use crate::runtime;
use crate::simulation::{self, Observation};

/// Applied entries are kept in memory up to this many bytes (for followers that lag a little).
const CACHE_BYTES: usize = 16 << 20;
/// Entries read at once when a long range is applied.
const READ_CHUNK: u64 = 64;

/// A group's log. Cheap to clone; clones share their state.
#[derive(Clone)]
pub struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    log: Log,
    group: GroupId,
    clock: Arc<Clock>,
    state: Mutex<State>,
    /// One above the highest applied index: entries below it need not stay in memory.
    applied: AtomicU64,
    /// Tells of every append that became durable, or failed to.
    appended: Notify,
}

#[derive(Default)]
struct State {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// A suffix of the log.
    cache: BTreeMap<u64, Cached>,
    cache_bytes: usize,
    /// Number of the last append call, and of the last durable one.
    appends: u64,
    durable: u64,
}

struct Cached {
    entry: Entry,
    bytes: usize,
    append: u64,
}

impl LogStore {
    /// Takes up a group's log as it was recovered. Blocking: reads the last entry.
    pub fn open(log: Log, group: GroupId, clock: Arc<Clock>) -> Result<LogStore> {
        let records = log.group(group);
        let damaged = |what: &str, error: &dyn std::fmt::Display| {
            ConsensusError::Unsupported(format!("the log's {what} of group {} cannot be read: {error}", group.0))
        };
        let mut state = State::default();
        if let Some(bytes) = &records.vote {
            state.vote = Some(codec::decode(bytes).map_err(|e| damaged("vote", &e))?);
        }
        if let Some(bytes) = &records.committed {
            state.committed = Some(codec::decode(bytes).map_err(|e| damaged("committed position", &e))?);
        }
        if let Some(bytes) = &records.purged {
            state.purged = Some(codec::decode(bytes).map_err(|e| damaged("purged position", &e))?);
        }
        state.last = state.purged;
        if let Some((_, last)) = records.entries {
            let payloads = log.read(group, last..last + 1).map_err(|e| damaged("last entry", &e))?;
            if let Some((_, payload)) = payloads.first() {
                let entry: Entry = codec::decode(payload).map_err(|e| damaged("last entry", &e))?;
                state.last = Some(entry.log_id());
            }
        }
        // A committed position rides along with later frames, so it can outlive entries that a torn write took.
        state.committed = state.committed.min(state.last);
        simulation::observe(|| Observation::Opened {
            group,
            vote: state.vote.as_ref().map(told),
        });
        Ok(LogStore {
            shared: Arc::new(Shared {
                log,
                group,
                clock,
                state: Mutex::new(state),
                applied: AtomicU64::new(0),
                appended: Notify::new(),
            }),
        })
    }

    /// Which group.
    pub fn group(&self) -> GroupId {
        self.shared.group
    }

    /// Index of the last entry (or of the last purged one).
    pub fn last_index(&self) -> Option<u64> {
        self.shared.state.lock().last.map(|id| id.index())
    }

    /// The last purged position.
    pub fn purged(&self) -> Option<LogId> {
        self.shared.state.lock().purged
    }

    /// A timestamp that came otherwise than by an entry: in a snapshot.
    pub fn observe(&self, timestamp: Timestamp) {
        self.shared.clock.observe(timestamp);
    }

    /// Entries up to `index` are applied: they need not stay in memory.
    pub fn applied(&self, index: u64) {
        self.shared.applied.fetch_max(index + 1, Ordering::Relaxed);
        self.shared.state.lock().evict(index + 1);
    }

    /// Returns once the entry at `index`, which this log has, is durable in it.
    pub async fn durable(&self, index: u64) -> io::Result<()> {
        loop {
            let appended = self.shared.appended.notified();
            {
                let state = self.shared.state.lock();
                // What is not in memory came from the disk.
                if state.cache.get(&index).is_none_or(|cached| cached.append <= state.durable) {
                    return Ok(());
                }
            }
            if let Some(failure) = self.shared.log.failure() {
                return Err(io_error(LogError::Failed(failure)));
            }
            appended.await;
        }
    }

    fn submit(&self, kind: RecordKind, index: u64, payload: bytes::Bytes, urgency: Urgency, done: Option<crate::log::Done>) {
        let record = Record {
            group: self.shared.group,
            kind,
            index,
            payload,
        };
        self.shared.log.submit(vec![record], urgency, done);
    }

    /// Entries of `[start, end)` that the log has, in order, from memory or disk.
    async fn entries(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let (start, cached_from, cached) = {
            let state = self.shared.state.lock();
            let start = start.max(state.purged.map_or(0, |id| id.index() + 1));
            let end = end.min(state.last.map_or(0, |id| id.index() + 1));
            if start >= end {
                return Ok(Vec::new());
            }
            let cached: Vec<Entry> = state.cache.range(start..end).map(|(_, cached)| cached.entry.clone()).collect();
            (start, cached.first().map_or(end, |entry| entry.index()), cached)
        };
        if start == cached_from {
            return Ok(cached);
        }
        let (log, group) = (self.shared.log.clone(), self.shared.group);
        let read = runtime::blocking(move || -> io::Result<Vec<Entry>> {
            let payloads = log.read(group, start..cached_from).map_err(io::Error::other)?;
            payloads
                .iter()
                .map(|(_, bytes)| codec::decode(bytes).map_err(io::Error::other))
                .collect()
        });
        let mut entries = read.await??;
        // Entries may lack at the beginning (the log starts later, or a purge ran in between), never in the middle.
        match entries.last() {
            Some(last) if last.index() + 1 != cached_from => {
                let missing = last.index() + 1;
                return Err(io::Error::other(format!(
                    "entries {missing}..{cached_from} of group {} are not in the log",
                    group.0
                )));
            }
            _ => entries.extend(cached),
        }
        Ok(entries)
    }
}

impl State {
    /// Drops what is durable and applied from the cache's front while it is too large.
    fn evict(&mut self, applied: u64) {
        while self.cache_bytes > CACHE_BYTES
            && let Some(first) = self.cache.first_entry()
            && *first.key() < applied
            && first.get().append <= self.durable
        {
            self.cache_bytes -= first.remove().bytes;
        }
    }

    fn drop_cached(&mut self, gone: BTreeMap<u64, Cached>) {
        self.cache_bytes -= gone.values().map(|cached| cached.bytes).sum::<usize>();
    }
}

/// A vote as a simulation is told of it.
fn told(vote: &Vote) -> (u64, u64, bool) {
    (vote.leader_id.term, vote.leader_id.node_id, vote.committed)
}

fn io_error(error: LogError) -> io::Error {
    io::Error::other(error)
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&end) => end.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(&mut self, range: RB) -> io::Result<Vec<Entry>> {
        let (start, end) = bounds(&range);
        self.entries(start, end).await
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        // In chunks, so that replaying a long log does not hold all of it.
        let (start, end) = bounds(&range);
        let store = self.clone();
        let chunks = futures::stream::try_unfold(start, move |start| {
            let store = store.clone();
            async move {
                let entries = store.entries(start, end.min(start.saturating_add(READ_CHUNK))).await?;
                let next = entries.last().map(|entry| entry.index() + 1);
                Ok::<_, io::Error>(next.map(|next| (futures::stream::iter(entries.into_iter().map(Ok)), next)))
            }
        });
        Box::pin(futures::TryStreamExt::try_flatten(chunks))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.state.lock().vote)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.shared.state.lock();
        Ok(LogState {
            last_purged_log_id: state.purged,
            last_log_id: state.last,
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let payload = codec::encode(vote).map_err(io::Error::other)?;
        let (sender, saved) = oneshot::channel();
        let done = Box::new(move |result| {
            // The receiver is gone only when Raft itself is.
            let _ = sender.send(result);
        });
        self.submit(RecordKind::Vote, 0, payload, Urgency::Now, Some(done));
        saved.await.map_err(io::Error::other)?.map_err(io_error)?;
        self.shared.state.lock().vote = Some(*vote);
        simulation::observe(|| Observation::Voted {
            group: self.shared.group,
            vote: told(vote),
        });
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.shared.state.lock().committed = committed;
        if let Some(id) = committed {
            // Only a hint for a quick restart, so it waits for the next frame rather than cost a sync.
            let payload = codec::encode(&id).map_err(io::Error::other)?;
            self.submit(RecordKind::Committed, id.index(), payload, Urgency::WithNext, None);
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.state.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let number = {
            let mut state = self.shared.state.lock();
            state.appends += 1;
            let append = state.appends;
            for entry in entries {
                // Should this node lead one day, its timestamps must lie above those of entries that it got and did not apply yet.
                if let EntryPayload::Normal(command) = &entry.payload
                    && let Some(timestamp) = command.timestamp()
                {
                    self.shared.clock.observe(timestamp);
                }
                let (id, payload) = (entry.log_id(), codec::encode(&entry).map_err(io::Error::other)?);
                let bytes = payload.len();
                state.cache_bytes += bytes;
                if let Some(old) = state.cache.insert(id.index(), Cached { entry, bytes, append }) {
                    state.cache_bytes -= old.bytes;
                }
                state.last = Some(id);
                records.push(Record {
                    group: self.shared.group,
                    kind: RecordKind::Entry,
                    index: id.index(),
                    payload,
                });
            }
            append
        };
        let shared = Arc::downgrade(&self.shared);
        let done = Box::new(move |result: Result<(), LogError>| {
            if let Some(shared) = shared.upgrade() {
                if result.is_ok() {
                    let mut state = shared.state.lock();
                    state.durable = state.durable.max(number);
                    state.evict(shared.applied.load(Ordering::Relaxed));
                }
                shared.appended.notify_waiters();
            }
            callback.io_completed(result.map_err(io_error));
        });
        self.shared.log.submit(records, Urgency::Now, Some(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let from = last_log_id.map_or(0, |id| id.index() + 1);
        {
            let mut state = self.shared.state.lock();
            let gone = state.cache.split_off(&from);
            state.drop_cached(gone);
            if state.last.map(|id| id.index()) >= last_log_id.map(|id| id.index()) {
                state.last = last_log_id;
            }
        }
        self.submit(RecordKind::Truncate, from, bytes::Bytes::new(), Urgency::Now, None);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        {
            let mut state = self.shared.state.lock();
            let kept = state.cache.split_off(&(log_id.index() + 1));
            let gone = std::mem::replace(&mut state.cache, kept);
            state.drop_cached(gone);
            state.purged = state.purged.max(Some(log_id));
            state.last = state.last.max(Some(log_id));
        }
        let payload = codec::encode(&log_id).map_err(io::Error::other)?;
        self.submit(RecordKind::Purge, log_id.index(), payload, Urgency::Now, None);
        Ok(())
    }
}

#[cfg(test)]
#[path = "log_store_tests.rs"]
mod tests;
