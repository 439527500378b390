//! Random histories against a model: a map for every commit, and for every open transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use pyralog_storage::{
    ApplyOutcome, ConflictPolicy, KeySpan, PartitionCommand, RelationReads, Savepoint, Snapshot, StorageError, Timestamp, Transaction,
    TransactionId, WriteSet,
};

use crate::harness::{Rows, Store, TABLE, has, keys, range, read, rows, small_options};
use crate::replica::Replica;

/// One write of a transaction.
#[derive(Debug, Clone)]
enum Write {
    Put(Vec<i64>),
    Insert(Vec<i64>),
    Delete(Vec<i64>),
    /// Ascending rows, enough to be staged.
    Bulk(i64, i64),
    Empty,
    Savepoint,
    RollBack(usize),
}

#[derive(Debug, Clone)]
enum Step {
    Begin(bool),
    Write(usize, Write),
    /// A transaction is to be serializable, and has read these keys.
    Read(usize, Vec<i64>),
    /// The same with all keys of a range, as many as that from the first on.
    Scan(usize, i64, i64),
    Commit(usize),
    Abort(usize),
    /// Commits in two steps, as a transaction of several partitions does.
    Prepare(usize),
    /// The second step, so many seconds after the first, but not in the future.
    Decide(usize, u64),
    Undo(usize),
    /// Begin, write and commit at once.
    Quick(Vec<Write>),
    Hold,
    Release(usize),
    Flush,
    Compact,
    Everything,
    AdvanceFloor,
    Reopen,
    /// The replica goes, and another one takes over what is flushed.
    Replace,
}

fn some_keys() -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(0..120i64, 1..12)
}

fn some_write() -> impl Strategy<Value = Write> {
    prop_oneof![
        4 => some_keys().prop_map(Write::Put),
        2 => some_keys().prop_map(Write::Insert),
        3 => some_keys().prop_map(Write::Delete),
        1 => (0..100i64, 40..150i64).prop_map(|(start, count)| Write::Bulk(start, count)),
        1 => Just(Write::Empty),
        1 => Just(Write::Savepoint),
        1 => any::<usize>().prop_map(Write::RollBack),
    ]
}

fn some_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => any::<bool>().prop_map(Step::Begin),
        6 => (any::<usize>(), some_write()).prop_map(|(i, write)| Step::Write(i, write)),
        2 => (any::<usize>(), some_keys()).prop_map(|(i, ids)| Step::Read(i, ids)),
        2 => (any::<usize>(), -1..110i64, prop_oneof![0..30i64, Just(1000)]).prop_map(|(i, first, count)| Step::Scan(i, first, count)),
        2 => any::<usize>().prop_map(Step::Commit),
        1 => any::<usize>().prop_map(Step::Abort),
        3 => any::<usize>().prop_map(Step::Prepare),
        2 => (any::<usize>(), 0..40u64).prop_map(|(i, seconds)| Step::Decide(i, seconds)),
        1 => any::<usize>().prop_map(Step::Undo),
        6 => prop::collection::vec(some_write(), 1..4).prop_map(Step::Quick),
        1 => Just(Step::Hold),
        1 => any::<usize>().prop_map(Step::Release),
        3 => Just(Step::Flush),
        3 => Just(Step::Compact),
        1 => Just(Step::Everything),
        1 => Just(Step::AdvanceFloor),
        1 => Just(Step::Reopen),
        1 => Just(Step::Replace),
    ]
}

/// An open transaction and what it must see.
struct Open {
    transaction: Transaction,
    start: Timestamp,
    base: Rows,
    visible: Rows,
    written: BTreeMap<i64, ()>,
    emptied: bool,
    savepoints: Vec<(Savepoint, Rows, BTreeMap<i64, ()>, bool)>,
    last_write_wins: bool,
    read: BTreeSet<i64>,
    scanned: Vec<std::ops::Range<i64>>,
}

impl Open {
    fn has_read(&self, id: i64) -> bool {
        self.read.contains(&id) || self.scanned.iter().any(|ids| ids.contains(&id))
    }

    /// What it has read, as a write set tells it.
    fn reads(&self, store: &Store) -> Vec<RelationReads> {
        if self.read.is_empty() && self.scanned.is_empty() {
            return Vec::new();
        }
        let view = store.view(None);
        let key = |id: i64| range(&view, Some(id), None).start.unwrap().into_boxed_slice();
        let span = |ids: &std::ops::Range<i64>| match ids.end >= 1000 {
            true => KeySpan {
                from: key(ids.start),
                to: None,
            },
            false => KeySpan {
                from: key(ids.start),
                to: Some(key(ids.end)),
            },
        };
        vec![RelationReads {
            relation: TABLE,
            keys: self.read.iter().map(|id| key(*id)).collect(),
            spans: self.scanned.iter().map(span).collect(),
        }]
    }
}

/// A part that is prepared and not decided.
struct Pending {
    transaction: TransactionId,
    timestamp: Timestamp,
    changes: BTreeMap<i64, Option<String>>,
    emptied: bool,
    /// Whether it writes nothing at all.
    empty: bool,
    read: BTreeSet<i64>,
    scanned: Vec<std::ops::Range<i64>>,
}

impl Pending {
    fn has_read(&self, id: i64) -> bool {
        self.read.contains(&id) || self.scanned.iter().any(|ids| ids.contains(&id))
    }

    fn has_read_anything(&self) -> bool {
        !self.read.is_empty() || !self.scanned.is_empty()
    }
}

struct World {
    store: Store,
    replica: Replica,
    now: Rows,
    /// What each commit changed.
    commits: BTreeMap<Timestamp, BTreeMap<i64, Option<String>>>,
    pending: Vec<Pending>,
    modified: BTreeMap<i64, Timestamp>,
    floor: Timestamp,
    held: Vec<(Snapshot, Rows)>,
    open: Vec<Open>,
    counter: u64,
}

impl World {
    fn new() -> Self {
        let store = Store::new(small_options());
        let floor = Timestamp::ZERO;
        World {
            store,
            replica: Replica::new(),
            now: Rows::new(),
            commits: BTreeMap::new(),
            pending: Vec::new(),
            modified: BTreeMap::new(),
            floor,
            held: Vec::new(),
            open: Vec::new(),
            counter: 0,
        }
    }

    fn begin(&self, last_write_wins: bool) -> Open {
        let mut transaction = self.store.begin();
        if last_write_wins {
            transaction.set_policy(TABLE, ConflictPolicy::LastWriteWins);
        }
        let start = transaction.snapshot().timestamp();
        let base = self.state_at(start);
        let visible = base.clone();
        Open {
            transaction,
            start,
            base,
            visible,
            written: BTreeMap::new(),
            emptied: false,
            savepoints: Vec::new(),
            last_write_wins,
            read: BTreeSet::new(),
            scanned: Vec::new(),
        }
    }

    /// All rows as of a timestamp.
    fn state_at(&self, at: Timestamp) -> Rows {
        let mut rows = Rows::new();
        for (id, value) in self.commits.range(..=at).flat_map(|(_, changes)| changes) {
            match value {
                Some(value) => drop(rows.insert(*id, value.clone())),
                None => drop(rows.remove(id)),
            }
        }
        rows
    }

    fn value(&mut self) -> String {
        self.counter += 1;
        format!("value {}", self.counter)
    }

    fn write(&mut self, open: &mut Open, write: &Write) {
        match write {
            Write::Put(ids) => {
                let values: Vec<String> = ids.iter().map(|_| self.value()).collect();
                open.transaction
                    .put(TABLE, &rows(ids.iter().copied().zip(values.iter().map(String::as_str))))
                    .unwrap();
                open.visible.extend(ids.iter().copied().zip(values));
                open.written.extend(ids.iter().map(|id| (*id, ())));
            }
            Write::Bulk(start, count) => {
                let value = self.value();
                for ids in (*start..start + count).collect::<Vec<_>>().chunks(50) {
                    open.transaction
                        .put(TABLE, &rows(ids.iter().map(|id| (*id, value.as_str()))))
                        .unwrap();
                }
                open.visible.extend((*start..start + count).map(|id| (id, value.clone())));
                open.written.extend((*start..start + count).map(|id| (id, ())));
            }
            Write::Insert(ids) => {
                let value = self.value();
                let twice = (1..ids.len()).any(|i| ids[..i].contains(&ids[i]));
                let savepoint = open.transaction.savepoint();
                match open.transaction.insert(TABLE, &rows(ids.iter().map(|id| (*id, value.as_str())))) {
                    Ok(()) => {
                        assert!(!twice && ids.iter().all(|id| !open.visible.contains_key(id)), "{ids:?} are not new");
                        open.visible.extend(ids.iter().map(|id| (*id, value.clone())));
                        open.written.extend(ids.iter().map(|id| (*id, ())));
                    }
                    Err(StorageError::DuplicateKey { .. }) => {
                        assert!(twice || ids.iter().any(|id| open.visible.contains_key(id)), "{ids:?} are new");
                        open.transaction.rollback_to(savepoint).unwrap();
                        open.savepoints.retain(|(earlier, ..)| *earlier <= savepoint);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Write::Delete(ids) => {
                let known = ids.iter().filter(|id| open.visible.remove(id).is_some()).count();
                assert_eq!(open.transaction.delete(TABLE, &keys(ids.iter().copied())).unwrap(), known as u64);
                open.written.extend(ids.iter().map(|id| (*id, ())));
            }
            Write::Empty => {
                assert_eq!(open.transaction.empty(TABLE).unwrap(), open.visible.len() as u64);
                open.visible.clear();
                open.emptied = true;
            }
            Write::Savepoint => {
                let savepoint = open.transaction.savepoint();
                open.savepoints
                    .push((savepoint, open.visible.clone(), open.written.clone(), open.emptied));
            }
            Write::RollBack(i) => {
                if !open.savepoints.is_empty() {
                    let i = i % open.savepoints.len();
                    open.savepoints.truncate(i + 1);
                    let (savepoint, visible, written, emptied) = &open.savepoints[i];
                    open.transaction.rollback_to(*savepoint).unwrap();
                    (open.visible, open.written, open.emptied) = (visible.clone(), written.clone(), *emptied);
                }
            }
        }
        assert_eq!(read(&open.transaction.view(TABLE).unwrap()), open.visible, "after {write:?}");
    }

    /// A transaction's write set, what it changes, and whether it is refused now.
    fn finish(&mut self, open: Open) -> (WriteSet, Pending, bool) {
        // A key counts as written if a row of it is there at the end, or was there before and is not any more.
        let written = open
            .written
            .keys()
            .copied()
            .filter(|id| open.visible.contains_key(id) || open.base.contains_key(id));
        let gone = self.now.keys().copied().filter(|_| open.emptied);
        let changed: BTreeSet<i64> = written.chain(gone).collect();
        let reads = open.reads(&self.store);
        let has_read = |id: &i64| open.has_read(*id);
        let read_locked = self
            .pending
            .iter()
            .any(|pending| !reads.is_empty() && (pending.emptied || pending.changes.keys().any(has_read)));
        let read_stale = self
            .modified
            .iter()
            .any(|(id, modified)| *modified > open.start && open.has_read(*id));
        let unserializable = read_locked || read_stale || (!reads.is_empty() && open.start < self.floor);
        let (read, scanned) = (open.read, open.scanned);
        let mut set = open.transaction.into_write_set().unwrap();
        set.reads = reads;
        let stale = |id: &&i64| self.modified.get(id).is_some_and(|modified| *modified > open.start);
        // Who empties a relation conflicts with every change of it.
        let is_stale = match open.emptied {
            true => self.modified.keys().any(|id| stale(&id)),
            false => changed.iter().any(|id| stale(&id)),
        };
        let empty = set.relations.is_empty();
        assert_eq!(empty, changed.is_empty() && !open.emptied);
        let locks = |pending: &&Pending| !pending.empty || pending.has_read_anything();
        let is_locked = self.pending.iter().filter(locks).any(|pending| {
            let overlaps = || changed.iter().any(|id| pending.changes.contains_key(id) || pending.has_read(*id));
            open.emptied || pending.emptied || overlaps()
        });
        let is_late = !open.last_write_wins && (open.start < self.floor || is_stale);
        self.replica.receive(&self.store, &set);
        let pending = Pending {
            transaction: TransactionId {
                coordinator: 5,
                serial: self.store.log.len() as u64,
            },
            timestamp: self.store.tick(),
            changes: changed.into_iter().map(|id| (id, open.visible.get(&id).cloned())).collect(),
            emptied: open.emptied,
            empty,
            read,
            scanned,
        };
        (set, pending, unserializable || !empty && (is_late || is_locked))
    }

    /// Has the store carry out a command; whether it did.
    fn apply(&mut self, command: PartitionCommand, refused: bool) -> bool {
        let outcome = self.store.apply(command).unwrap();
        self.follow();
        assert_eq!(matches!(outcome, ApplyOutcome::Conflict(_)), refused, "{outcome:?}");
        !refused
    }

    fn committed(&mut self, changes: BTreeMap<i64, Option<String>>, at: Timestamp) {
        for (id, value) in &changes {
            self.modified.insert(*id, at);
            match value {
                Some(value) => drop(self.now.insert(*id, value.clone())),
                None => drop(self.now.remove(id)),
            }
        }
        self.commits.entry(at).or_default().extend(changes);
    }

    fn commit(&mut self, open: Open) {
        let (set, pending, refused) = self.finish(open);
        if self.apply(PartitionCommand::Write(pending.timestamp, Arc::new(set)), refused) {
            self.committed(pending.changes, pending.timestamp);
        }
    }

    fn prepare(&mut self, open: Open) {
        let (set, pending, refused) = self.finish(open);
        let command = PartitionCommand::Prepare(pending.transaction, pending.timestamp, Arc::new(set));
        if self.apply(command.clone(), refused) {
            // It may come again.
            self.apply(command, false);
            self.pending.push(pending);
        }
    }

    fn decide(&mut self, pending: Pending, seconds: u64) {
        let after = Timestamp::from_millis(pending.timestamp.millis() + seconds * 1000);
        let commit = after.min(self.store.clock);
        self.apply(PartitionCommand::Decide(pending.transaction, commit), false);
        self.committed(pending.changes, commit);
    }

    /// Another replica begins with what the store has flushed.
    fn replace(&mut self) {
        self.store.partition.flush().unwrap();
        let replica = Replica::bare();
        let export = replica.partition.exchange_dir().join("arriving");
        std::fs::create_dir_all(replica.partition.exchange_dir()).unwrap();
        let (files, state) = self.store.partition.export(&export).unwrap();
        assert_eq!(replica.partition.reuse(&files, &export).unwrap().len(), files.len());
        assert_eq!(replica.partition.install(&export).unwrap(), state);
        assert_eq!(state.index, self.store.log.len() as u64);
        std::fs::remove_dir_all(export).unwrap();
        self.replica = replica;
    }

    /// The replica applies the last entry of the log.
    fn follow(&mut self) {
        let (command, outcome) = self.store.log.last().unwrap();
        self.replica.apply(self.store.log.len() - 1, command, outcome);
        self.replica.rest();
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Begin(last_write_wins) => {
                let open = self.begin(*last_write_wins);
                self.open.push(open);
            }
            Step::Write(i, write) if !self.open.is_empty() => {
                let mut open = self.open.remove(i % self.open.len());
                self.write(&mut open, write);
                self.open.push(open);
            }
            Step::Read(i, ids) if !self.open.is_empty() => {
                let i = i % self.open.len();
                self.open[i].read.extend(ids);
            }
            Step::Scan(i, first, count) if !self.open.is_empty() => {
                let i = i % self.open.len();
                self.open[i].scanned.push(*first..first + count);
            }
            Step::Commit(i) if !self.open.is_empty() => {
                let open = self.open.remove(i % self.open.len());
                self.commit(open);
            }
            Step::Abort(i) if !self.open.is_empty() => {
                self.open.remove(i % self.open.len());
            }
            Step::Prepare(i) if !self.open.is_empty() => {
                let open = self.open.remove(i % self.open.len());
                self.prepare(open);
            }
            Step::Decide(i, seconds) if !self.pending.is_empty() => {
                let pending = self.pending.remove(i % self.pending.len());
                self.decide(pending, *seconds);
            }
            Step::Undo(i) if !self.pending.is_empty() => {
                let pending = self.pending.remove(i % self.pending.len());
                self.apply(PartitionCommand::Abort(pending.transaction), false);
            }
            Step::Quick(writes) => {
                let mut open = self.begin(false);
                writes.iter().for_each(|write| self.write(&mut open, write));
                self.commit(open);
            }
            Step::Hold => {
                let snapshot = self.store.partition.snapshot(None).unwrap();
                let rows = self.state_at(snapshot.timestamp());
                self.held.push((snapshot, rows));
            }
            Step::Release(i) if !self.held.is_empty() => {
                self.held.remove(i % self.held.len());
            }
            Step::Flush => {
                self.store.partition.flush().unwrap();
            }
            Step::Compact => {
                self.store.partition.compact_step().unwrap();
            }
            Step::Everything => self.store.partition.compact_all(None).unwrap(),
            Step::AdvanceFloor => {
                self.floor = self.floor.max(self.store.partition.last_timestamp());
                self.store.apply(PartitionCommand::AdvanceConflictFloor(self.floor)).unwrap();
                self.follow();
            }
            Step::Reopen => {
                (self.open, self.held) = (Vec::new(), Vec::new());
                self.store.reopen();
            }
            Step::Replace => self.replace(),
            Step::Write(..)
            | Step::Read(..)
            | Step::Scan(..)
            | Step::Commit(_)
            | Step::Abort(_)
            | Step::Prepare(_)
            | Step::Decide(..)
            | Step::Undo(_)
            | Step::Release(_) => {}
        }
    }

    fn check(&self) {
        let snapshot = self.store.partition.snapshot(None).unwrap();
        let earliest = self.pending.iter().map(|pending| pending.timestamp).min();
        assert!(earliest.is_none_or(|earliest| snapshot.timestamp() < earliest));
        let undecided = self.store.partition.undecided(Timestamp::MAX);
        assert_eq!(undecided.len(), self.pending.len());
        let (view, wanted) = (snapshot.relation(TABLE).unwrap(), self.state_at(snapshot.timestamp()));
        assert!(!self.pending.is_empty() || wanted == self.now);
        assert_eq!(read(&view), wanted);
        assert_eq!(self.replica.read(), wanted, "the replica");
        for id in [-1, 0, 17, 60, 119, 250] {
            assert_eq!(has(&view, id), wanted.contains_key(&id), "{id}");
        }
        for (snapshot, wanted) in &self.held {
            assert_eq!(&read(&snapshot.relation(TABLE).unwrap()), wanted, "a snapshot changed");
        }
        for open in &self.open {
            assert_eq!(
                read(&open.transaction.view(TABLE).unwrap()),
                open.visible,
                "a transaction's view changed"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn a_partition_behaves_as_a_map_of_every_commit(steps in prop::collection::vec(some_step(), 1..50)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        while let Some(pending) = world.pending.pop() {
            world.decide(pending, 3);
            world.check();
        }
        drop((std::mem::take(&mut world.open), std::mem::take(&mut world.held)));
        world.store.partition.flush().unwrap();
        prop_assert!(world.store.partition.verify().unwrap().is_empty());
        world.store.reopen();
        world.check();
        world.store.partition.compact_all(None).unwrap();
        world.check();
    }
}

/// `PROPTEST_CASES`, or few.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(64)
}
