//! The writer thread: what waits in the queue becomes one frame, one write, one sync.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};
use pyralog_storage::StorageError;
use tokio::sync::{Notify, watch};

use super::disk::DiskFile;
use super::file::{ActiveFile, activate, next_capacity, prepare};
use super::frame;
use super::index::{Index, Location};
use super::marker::{Marker, Synced};
use super::recovery::Recovered;
use super::{Done, GroupId, LogConfig, LogError, Record, RecordKind, Urgency, file_path};
use crate::error::Result;
use crate::runtime::{self, Work};
use crate::simulation;

/// A frame takes no further submission once it holds this many bytes.
const FRAME_TARGET_BYTES: usize = 16 << 20;

/// What the writer thread and the log's users share.
pub struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// As `wake`, in a simulation.
    wake_task: Notify,
    config: LogConfig,
    /// Durable records.
    pub index: RwLock<Index>,
    /// The first failure.
    pub failure: watch::Sender<Option<String>>,
    /// Bytes of log files.
    pub bytes: AtomicU64,
    /// Syncs of frames.
    pub syncs: AtomicU64,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    /// How many items want a sync of their own.
    urgent: usize,
    closed: bool,
}

struct Item {
    records: Vec<Record>,
    urgency: Urgency,
    done: Option<Done>,
}

impl Item {
    fn bytes(&self) -> usize {
        self.records.iter().map(frame::record_bytes).sum()
    }

    fn finish(self, result: Result<(), LogError>) {
        if let Some(done) = self.done {
            done(result);
        }
    }
}

/// A writer at work.
pub enum Running {
    /// On its thread.
    Thread(JoinHandle<()>),
    /// In a simulation's task.
    Task(Arc<Mutex<Option<Writer>>>),
}

impl Running {
    /// Waits until a closed log is written. Blocking.
    pub fn end(self) {
        match self {
            Running::Thread(thread) => {
                if thread.join().is_err() {
                    tracing::error!("the log's writer thread panicked");
                }
            }
            Running::Task(writer) => {
                if let Some(writer) = writer.lock().take() {
                    writer.run();
                }
            }
        }
    }
}

/// Starts the thread.
pub fn start(config: LogConfig, recovered: Recovered) -> Result<(Arc<Shared>, Running)> {
    let shared = Arc::new(Shared {
        queue: Mutex::default(),
        wake: Condvar::new(),
        wake_task: Notify::new(),
        index: RwLock::new(recovered.index),
        failure: watch::channel(None).0,
        bytes: AtomicU64::new(recovered.bytes),
        syncs: AtomicU64::new(0),
        config,
    });
    let writer = Writer {
        shared: shared.clone(),
        active: recovered.active,
        next_sequence: recovered.next_sequence,
        marker: recovered.marker,
        preparing: None,
        buffer: Vec::new(),
    };
    if simulation::current().is_some() {
        let writer = Arc::new(Mutex::new(Some(writer)));
        runtime::spawn(run_simulated(shared.clone(), writer.clone()));
        return Ok((shared, Running::Task(writer)));
    }
    let thread = std::thread::Builder::new().name("pyralog-log".to_owned()).spawn(move || {
        let shared = writer.shared.clone();
        if std::panic::catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
            shared.stop("the log's writer thread panicked".to_owned(), Vec::new());
        }
    });
    let thread = thread.map_err(StorageError::io(&shared.config.dir, "start the log's writer thread"))?;
    Ok((shared, Running::Thread(thread)))
}

/// The thread's work as a task that sleeps for as long as a disk would take.
async fn run_simulated(shared: Arc<Shared>, writer: Arc<Mutex<Option<Writer>>>) {
    loop {
        shared.wake_task.notified().await;
        tokio::time::sleep(simulation::disk_delay()).await;
        while shared.has_work() {
            let mut place = writer.lock();
            let Some(running) = place.as_mut() else { return };
            if !shared.next_items().is_some_and(|items| running.write(items)) {
                place.take();
                return;
            }
        }
    }
}

impl Shared {
    pub fn submit(&self, records: Vec<Record>, urgency: Urgency, done: Option<Done>) {
        let item = Item { records, urgency, done };
        if let Some(failure) = self.failure.borrow().clone() {
            return item.finish(Err(LogError::Failed(failure)));
        }
        let mut queue = self.queue.lock();
        if queue.closed {
            drop(queue);
            return item.finish(Err(LogError::Closed));
        }
        if urgency == Urgency::Now {
            queue.urgent += 1;
        }
        queue.items.push_back(item);
        drop(queue);
        if urgency == Urgency::Now {
            self.wake();
        }
    }

    pub fn close(&self) {
        self.queue.lock().closed = true;
        self.wake();
    }

    fn wake(&self) {
        self.wake.notify_one();
        self.wake_task.notify_one();
    }

    fn has_work(&self) -> bool {
        let queue = self.queue.lock();
        queue.urgent > 0 || queue.closed
    }

    /// Refuses everything from now on, and fails what waits.
    fn stop(&self, failure: String, items: Vec<Item>) {
        self.failure.send_replace(Some(failure.clone()));
        let waiting = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.items)
        };
        for item in items.into_iter().chain(waiting) {
            item.finish(Err(LogError::Failed(failure.clone())));
        }
    }

    /// Waits for work: the next items, at most about [`FRAME_TARGET_BYTES`] of them. `None` when closed and empty.
    fn next_items(&self) -> Option<Vec<Item>> {
        let mut queue = self.queue.lock();
        while queue.urgent == 0 && !queue.closed {
            self.wake.wait(&mut queue);
        }
        let mut items = Vec::new();
        let mut bytes = 0;
        while let Some(item) = queue.items.front() {
            bytes += item.bytes();
            if !items.is_empty() && bytes > FRAME_TARGET_BYTES {
                break;
            }
            if item.urgency == Urgency::Now {
                queue.urgent -= 1;
            }
            items.extend(queue.items.pop_front());
        }
        (!items.is_empty()).then_some(items)
    }

    pub fn read(&self, group: GroupId, range: Range<u64>) -> Result<Vec<(u64, Bytes)>, LogError> {
        let mut places: Vec<(u64, Location, Arc<dyn DiskFile>)> = Vec::new();
        {
            let index = self.index.read();
            let Some(entries) = index.groups.get(&group).map(|g| &g.entries) else {
                return Ok(Vec::new());
            };
            for (&at, location) in entries.range(range) {
                let expected = places.last().map_or(at, |(last, _, _)| last + 1);
                let Some(file) = index.files.get(&location.file).filter(|_| at == expected) else {
                    break;
                };
                places.push((at, *location, file.file.clone()));
            }
        }
        let read = |(at, location, file): &(u64, Location, Arc<dyn DiskFile>)| Ok((*at, self.read_payload(*location, file.as_ref())?));
        places.iter().map(read).collect()
    }

    /// Reads one payload and checks it.
    pub fn read_payload(&self, location: Location, file: &dyn DiskFile) -> Result<Bytes, LogError> {
        let unreadable = |detail: String| LogError::Unreadable {
            path: file_path(&self.config.dir, location.file),
            detail,
        };
        let mut payload = vec![0; location.len as usize];
        file.read_at(&mut payload, location.offset)
            .map_err(|e| unreadable(format!("cannot read at offset {}: {e}", location.offset)))?;
        if crc32c::crc32c(&payload) != location.crc {
            return Err(unreadable(format!("damaged record at offset {}: wrong checksum", location.offset)));
        }
        Ok(payload.into())
    }
}

/// The state of the writer thread.
pub struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) active: ActiveFile,
    pub(super) next_sequence: u64,
    marker: Marker,
    /// The next file, while it is filled with zeros.
    preparing: Option<Work<io::Result<Arc<dyn DiskFile>>>>,
    buffer: Vec<u8>,
}

impl Writer {
    fn run(mut self) {
        while let Some(items) = self.shared.next_items() {
            if !self.write(items) {
                return;
            }
        }
        if let Some(preparing) = self.preparing.take() {
            // Only so that no thread outlives the log; the file is removed at the next open.
            let _ = preparing.join();
        }
    }

    /// Writes items and tells who waits for them. `false`: the log has failed.
    fn write(&mut self, items: Vec<Item>) -> bool {
        let records: Vec<&Record> = items.iter().flat_map(|item| &item.records).collect();
        let collect = records.iter().any(|r| matches!(r.kind, RecordKind::Purge | RecordKind::Truncate));
        let written = self.write_frame(&records);
        if let Err(error) = written {
            self.fail(&error, items);
            return false;
        }
        for item in items {
            item.finish(Ok(()));
        }
        if collect && let Err(error) = self.collect() {
            self.fail(&error, Vec::new());
            return false;
        }
        self.prepare_next();
        true
    }

    /// Writes and syncs one frame, then takes its records into the index.
    pub(super) fn write_frame(&mut self, records: &[&Record]) -> io::Result<()> {
        let bytes = frame::frame_bytes(records.iter().map(|r| frame::record_bytes(r)).sum());
        if self.active.end + bytes as u64 > self.active.capacity && self.active.end > frame::FILE_HEADER_BYTES as u64 {
            self.rotate()?;
        }
        let places = frame::encode(
            &mut self.buffer,
            self.active.header.salt,
            self.next_sequence,
            records.iter().copied(),
        );
        self.active.file.write_at(&self.buffer, self.active.end)?;
        self.active.file.sync()?;
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        let (file, start) = (self.active.header.first_sequence, self.active.end);
        self.next_sequence += 1;
        self.active.end += bytes as u64;
        if self.active.end > self.active.capacity {
            // A frame larger than a whole file extends its file.
            self.shared
                .bytes
                .fetch_add(self.active.end - self.active.capacity, Ordering::Relaxed);
            self.active.capacity = self.active.end;
        }
        self.marker.note(Synced {
            file,
            end: self.active.end,
        });
        let mut index = self.shared.index.write();
        for (record, place) in records.iter().zip(places) {
            index.apply(
                record,
                Location {
                    file,
                    offset: start + place.offset as u64,
                    len: place.len,
                    crc: place.crc,
                },
            );
        }
        drop(index);
        if self.buffer.capacity() > 2 * FRAME_TARGET_BYTES {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let (disk, dir) = (self.shared.config.disk.clone(), self.shared.config.dir.clone());
        let prepared = match self.preparing.take().map(Work::join) {
            Some(Ok(prepared)) => prepared?,
            Some(Err(_)) => return Err(io::Error::other("the thread that prepares log files panicked")),
            None => prepare(
                disk.as_ref(),
                &dir,
                next_capacity(self.active.capacity, self.shared.config.file_bytes),
            )?,
        };
        // Gives the unused zeros back; recovery does not depend on it.
        if let Err(error) = self.active.file.set_len(self.active.end) {
            tracing::warn!(%error, "cannot shorten a finished log file");
        } else {
            self.shared
                .bytes
                .fetch_sub(self.active.capacity - self.active.end, Ordering::Relaxed);
        }
        let (_, active) = activate(disk.as_ref(), &dir, prepared, self.next_sequence)?;
        self.shared.bytes.fetch_add(active.capacity, Ordering::Relaxed);
        self.shared
            .index
            .write()
            .add_file(active.header.first_sequence, active.file.clone());
        self.active = active;
        Ok(())
    }

    /// Starts filling the next file once this one is half full.
    fn prepare_next(&mut self) {
        if self.preparing.is_some() || self.active.end < self.active.capacity / 2 {
            return;
        }
        let (disk, dir) = (self.shared.config.disk.clone(), self.shared.config.dir.clone());
        let capacity = next_capacity(self.active.capacity, self.shared.config.file_bytes);
        match Work::start("pyralog-log-file", move || prepare(disk.as_ref(), &dir, capacity)) {
            Ok(preparing) => self.preparing = Some(preparing),
            // Then rotation prepares it itself.
            Err(error) => tracing::warn!(%error, "cannot start a thread to prepare the next log file"),
        }
    }

    /// Ends the log for good: nothing is written after an unknown state on disk.
    fn fail(&mut self, error: &io::Error, items: Vec<Item>) {
        let full = error.kind() == io::ErrorKind::StorageFull;
        let failure = if full {
            format!("disk full: {error}")
        } else {
            format!("write or sync failed: {error}")
        };
        tracing::error!(dir = %self.shared.config.dir.display(), %failure, "the log stops");
        self.shared.stop(failure, items);
        if let Some(preparing) = self.preparing.take() {
            let _ = preparing.join();
        }
    }

    pub(super) fn config(&self) -> &LogConfig {
        &self.shared.config
    }
}
