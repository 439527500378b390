//! Letting old log files go, oldest first.
//!
//! A file can go when no entry in it lives. Where only a few entries of slow groups do, they (and the votes and positions that stand in
//! the file) are written once more at the log's end, together with a `Collected` record that says which files may be missing from now on.
//! Only after that frame is durable is the file removed, so a file that is missing for any other reason is noticed.

use std::io;
use std::sync::Arc;

use super::disk::DiskFile;
use super::index::{Index, Location, Standing};
use super::writer::Writer;
use super::{GroupId, Record, RecordKind, file_path};

/// A file is rewritten rather than kept when at most this share of it lives.
const LIVE_SHARE: u64 = 8;

/// What keeps a set of files from being removed.
struct Tail {
    /// Votes and positions, ready to write.
    standing: Vec<Record>,
    /// Entries to move.
    entries: Vec<(GroupId, u64, Location, Arc<dyn DiskFile>)>,
}

impl Writer {
    /// Removes the oldest files that (almost) nothing lives in.
    pub(super) fn collect(&mut self) -> io::Result<()> {
        let (victims, tail) = {
            let index = self.shared.index.read();
            let victims = self.victims(&index);
            let Some(&newest) = victims.last() else {
                return Ok(());
            };
            (victims, live_tail(&index, newest))
        };
        let mut records = tail.standing;
        for (group, index, location, file) in tail.entries {
            let payload = self.shared.read_payload(location, file.as_ref()).map_err(io::Error::other)?;
            records.push(Record {
                group,
                kind: RecordKind::Moved,
                index,
                payload,
            });
        }
        let keep = self.first_kept(&victims);
        records.push(Record {
            group: GroupId::LOG,
            kind: RecordKind::Collected,
            index: keep,
            payload: bytes::Bytes::new(),
        });
        self.write_frame(&records.iter().collect::<Vec<_>>())?;
        for victim in victims {
            self.remove(victim)?;
        }
        Ok(())
    }

    /// The oldest files, up to the first one that is worth keeping. Never the active file.
    fn victims(&self, index: &Index) -> Vec<u64> {
        let active = self.active.header.first_sequence;
        let budget = self.config().file_bytes / LIVE_SHARE;
        let mut live = 0;
        let files = index.files.iter().take_while(|&(&first, file)| {
            live += file.bytes;
            first < active && live <= budget
        });
        files.map(|(&first, _)| first).collect()
    }

    fn first_kept(&self, victims: &[u64]) -> u64 {
        let newest = victims.last().copied().unwrap_or(0);
        let index = self.shared.index.read();
        index
            .files
            .range(newest + 1..)
            .next()
            .map_or(self.active.header.first_sequence, |(&first, _)| first)
    }

    fn remove(&mut self, first: u64) -> io::Result<()> {
        let Some(file) = self.shared.index.write().files.remove(&first) else {
            return Ok(());
        };
        let bytes = file.file.byte_len().unwrap_or(0);
        self.config().disk.remove(&file_path(&self.config().dir, first))?;
        self.shared.bytes.fetch_sub(bytes, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }
}

/// Everything that lives in files up to `newest`.
fn live_tail(index: &Index, newest: u64) -> Tail {
    let mut tail = Tail {
        standing: Vec::new(),
        entries: Vec::new(),
    };
    let mut wanted: u64 = index.files.range(..=newest).map(|(_, file)| file.entries).sum();
    for (&group, records) in &index.groups {
        let mut stand = |kind, standing: &Option<Standing>| {
            if let Some(standing) = standing.as_ref().filter(|s| s.file <= newest) {
                tail.standing.push(Record {
                    group,
                    kind,
                    index: standing.index,
                    payload: standing.payload.clone(),
                });
            }
        };
        stand(RecordKind::Vote, &records.vote);
        stand(RecordKind::Purge, &records.purged);
        stand(RecordKind::Committed, &records.committed);
        for (&at, location) in &records.entries {
            if wanted == 0 {
                break;
            }
            if location.file <= newest
                && let Some(file) = index.files.get(&location.file)
            {
                tail.entries.push((group, at, *location, file.file.clone()));
                wanted -= 1;
            }
        }
    }
    tail
}
