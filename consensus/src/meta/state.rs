//! The meta group's applied state: in memory for reading, in sled for a quick restart, in dump files for safety.
//!
//! sled 0.34 promises nothing after a crash, so it is read whole at open, checked against the digest that was written in the same batch,
//! and thrown away when it is damaged, or behind what the log can still replay. The log is purged by dump files only.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use pyralog_storage::StorageError;
use tokio::sync::watch;

use super::contents::{MetaContents, MetaHead, MetaValue};
use super::{MetaChange, MetaRevision, dump};
use crate::codec;
use crate::raft::position::Position;
use crate::raft::types::Entry;

/// sled's page cache. The state is small, and read from sled only at open.
const SLED_CACHE_BYTES: u64 = 8 << 20;
const HEAD_KEY: &[u8] = b"h";
const ENTRY_PREFIX: u8 = b'e';

/// The applied state.
pub struct MetaState {
    dir: PathBuf,
    contents: RwLock<MetaContents>,
    /// `None` once closed.
    tree: Mutex<Option<sled::Db>>,
    /// The newest dump file and what it covers. Held while one is written.
    snapshot: Mutex<Option<(Position, PathBuf)>>,
    closed: AtomicBool,
    revision: watch::Sender<MetaRevision>,
}

impl MetaState {
    /// Opens the state in `dir`. The log still holds entries behind `purged` up to `last` (Raft indexes). Blocking.
    pub fn open(dir: &Path, purged: Option<u64>, last: Option<u64>) -> Result<MetaState, StorageError> {
        std::fs::create_dir_all(dir).map_err(StorageError::io(dir, "create directory"))?;
        let dump::Newest { found: snapshot, errors } = dump::newest(dir)?;
        let path = dir.join("state");
        // What a copy must have applied so that the log can bring it up to date.
        let usable = |contents: &MetaContents| {
            let applied = contents.head.position.index();
            applied >= purged && applied <= last
        };
        let stored = open_sled(&path).and_then(|db| load(&db).map(|contents| (db, contents)));
        let stored = stored
            .map_err(|reason| tracing::warn!(path = %path.display(), %reason, "the meta state is rebuilt"))
            .ok();
        let dumped = snapshot.as_ref().map(|(contents, _)| contents).filter(|contents| usable(contents));
        let behind_dump =
            |contents: &MetaContents| dumped.is_some_and(|dumped| dumped.head.position.index() > contents.head.position.index());
        let (tree, contents) = match stored {
            Some((db, contents)) if usable(&contents) && !behind_dump(&contents) => (db, contents),
            other => {
                drop(other);
                let contents = match dumped {
                    Some(contents) => contents.clone(),
                    None if purged.is_none() => MetaContents::default(),
                    None => return Err(errors.into_iter().next().unwrap_or_else(|| missing(dir, purged, last))),
                };
                (rebuild(&path, &contents)?, contents)
            }
        };
        let (revision, _) = watch::channel(contents.head.revision);
        let snapshot = snapshot.map(|(contents, path)| (contents.head.position, path));
        let state = MetaState {
            dir: dir.to_owned(),
            contents: RwLock::new(contents),
            tree: Mutex::new(Some(tree)),
            snapshot: Mutex::new(snapshot),
            closed: AtomicBool::new(false),
            revision,
        };
        if !errors.is_empty() {
            // The newest dump rotted, and the log it stood for is purged: sled alone has the state. Make a sound dump at once.
            state.write_snapshot()?;
        }
        Ok(state)
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The last applied position.
    pub fn position(&self) -> Position {
        self.contents.read().head.position.clone()
    }

    /// The revision.
    pub fn revision(&self) -> MetaRevision {
        self.contents.read().head.revision
    }

    /// One value.
    pub fn get(&self, key: &str) -> Option<(Vec<u8>, MetaRevision)> {
        self.contents
            .read()
            .entries
            .get(key)
            .map(|found| (found.value.0.to_vec(), found.revision))
    }

    /// All values under a prefix, in key order.
    pub fn scan(&self, prefix: &str) -> Vec<(String, Vec<u8>, MetaRevision)> {
        let contents = self.contents.read();
        let from = contents.entries.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let matching = from.take_while(|(key, _)| key.starts_with(prefix));
        matching
            .map(|(key, found)| (key.clone(), found.value.0.to_vec(), found.revision))
            .collect()
    }

    /// Tells of new revisions.
    pub fn watch(&self) -> watch::Receiver<MetaRevision> {
        self.revision.subscribe()
    }

    /// Moves the position over an entry that changes nothing.
    pub fn advance(&self, entry: &Entry) -> io::Result<()> {
        let head = {
            let mut contents = self.contents.write();
            contents.head.position.advance(entry);
            contents.head.clone()
        };
        self.store(&head, sled::Batch::default())
    }

    /// Applies a change, or names the key whose condition failed.
    pub fn apply(&self, entry: &Entry, change: &MetaChange) -> io::Result<Result<MetaRevision, String>> {
        let (result, head, batch) = {
            let mut contents = self.contents.write();
            let result = contents.apply(change);
            contents.head.position.advance(entry);
            let mut batch = sled::Batch::default();
            if result.is_ok() {
                for key in change.delete.iter().chain(change.put.iter().map(|(key, _)| key)) {
                    match contents.entries.get(key) {
                        Some(value) => batch.insert(entry_key(key), codec::encode(value).map_err(io::Error::other)?.as_ref()),
                        None => batch.remove(entry_key(key)),
                    }
                }
            }
            (result, contents.head.clone(), batch)
        };
        self.store(&head, batch)?;
        if result.is_ok() {
            self.revision.send_replace(head.revision);
        }
        Ok(result)
    }

    fn store(&self, head: &MetaHead, mut batch: sled::Batch) -> io::Result<()> {
        batch.insert(HEAD_KEY, codec::encode(head).map_err(io::Error::other)?.as_ref());
        match self.tree.lock().as_ref() {
            Some(tree) => tree.apply_batch(batch).map_err(io::Error::other),
            None => Err(io::Error::other("the meta state is closed")),
        }
    }

    /// The newest dump file and what it covers.
    pub fn snapshot(&self) -> Option<(Position, PathBuf)> {
        self.snapshot.lock().clone()
    }

    /// Writes a dump file. Blocking.
    pub fn write_snapshot(&self) -> Result<(Position, PathBuf), StorageError> {
        let mut newest = self.snapshot.lock();
        if self.closed.load(Ordering::Acquire) {
            return Err(StorageError::io(&self.dir, "write meta snapshot")(io::Error::other(
                "the meta state is closed",
            )));
        }
        let contents = self.contents.read().clone();
        let path = dump::write(&self.dir, &contents)?;
        let snapshot = (contents.head.position, path);
        *newest = Some(snapshot.clone());
        Ok(snapshot)
    }

    /// Takes over another node's state from its dump file. Blocking.
    pub fn install(&self, file: &Path) -> Result<(), StorageError> {
        let contents = dump::read(file)?;
        let revision = contents.head.revision;
        {
            let mut tree = self.tree.lock();
            drop(tree.take());
            *tree = Some(rebuild(&self.dir.join("state"), &contents)?);
        }
        *self.contents.write() = contents;
        self.revision.send_replace(revision);
        self.write_snapshot().map(drop)
    }

    /// Gives sled's files free and writes nothing more. Blocking.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // Waits for a dump that is being written.
        drop(self.snapshot.lock());
        let tree = self.tree.lock().take();
        if let Some(tree) = tree
            && let Err(error) = tree.flush()
        {
            tracing::warn!(%error, "the meta state is not saved; it is rebuilt at the next open");
        }
    }
}

fn missing(dir: &Path, purged: Option<u64>, last: Option<u64>) -> StorageError {
    let detail = format!("no copy covers log index {purged:?} to {last:?}, and the log before it was purged");
    StorageError::damaged(dir, "meta state", detail)
}

fn entry_key(key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + 1);
    bytes.push(ENTRY_PREFIX);
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

/// sled answers some damage with a panic, so its open and its reads are caught.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("sled panicked".to_owned()))
}

fn open_sled(path: &Path) -> Result<sled::Db, String> {
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(SLED_CACHE_BYTES)
        .flush_every_ms(Some(1_000))
        .print_profile_on_drop(false);
    guarded(|| config.open().map_err(|e| e.to_string()))
}

fn load(db: &sled::Db) -> Result<MetaContents, String> {
    guarded(|| {
        let mut contents = MetaContents {
            head: MetaHead::default(),
            entries: BTreeMap::new(),
        };
        for item in db.iter() {
            let (key, value) = item.map_err(|e| e.to_string())?;
            if key.as_ref() == HEAD_KEY {
                contents.head = codec::decode(&value).map_err(|e| e.to_string())?;
            } else {
                let name = key
                    .strip_prefix(&[ENTRY_PREFIX])
                    .and_then(|name| std::str::from_utf8(name).ok())
                    .ok_or("unknown key")?;
                let value: MetaValue = codec::decode(&value).map_err(|e| e.to_string())?;
                contents.entries.insert(name.to_owned(), value);
            }
        }
        if contents.is_sound() {
            Ok(contents)
        } else {
            Err("keys or values are missing or changed".to_owned())
        }
    })
}

/// Throws sled's files away and writes them anew.
fn rebuild(path: &Path, contents: &MetaContents) -> Result<sled::Db, StorageError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StorageError::io(path, "remove")(error)),
        _ => {}
    }
    let failed = |reason: String| StorageError::io(path, "rebuild meta state")(io::Error::other(reason));
    let db = open_sled(path).map_err(failed)?;
    let mut batch = sled::Batch::default();
    for (key, value) in &contents.entries {
        let value = codec::encode(value).map_err(|e| failed(e.to_string()))?;
        batch.insert(entry_key(key), value.as_ref());
    }
    let head = codec::encode(&contents.head).map_err(|e| failed(e.to_string()))?;
    batch.insert(HEAD_KEY, head.as_ref());
    db.apply_batch(batch).map_err(|e| failed(e.to_string()))?;
    Ok(db)
}
