//! Reading the log back: every file, every frame, every checksum; a torn end is cut off, damage anywhere else refuses.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use pyralog_storage::StorageError;

use super::LogConfig;
use super::disk::DiskFile;
use super::file::{ActiveFile, PREPARED, activate, fill_zeros, next_capacity, prepare};
use super::frame::{self, FILE_HEADER_BYTES, FileHeader, FrameRead, HeaderError};
use super::index::{Index, Location};
use super::marker::{Marker, Synced};
use crate::error::{ConsensusError, Result};

/// What recovery found; the writer goes on from here.
pub struct Recovered {
    /// Durable records.
    pub index: Index,
    /// The file to append to.
    pub active: ActiveFile,
    /// Sequence number of the next frame.
    pub next_sequence: u64,
    /// The open marker file.
    pub marker: Marker,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Reads the log, or makes an empty one where that is allowed.
pub fn recover(config: &LogConfig) -> Result<Recovered> {
    let dir = config.dir.as_path();
    std::fs::create_dir_all(dir).map_err(StorageError::io(dir, "create directory"))?;
    let files = list_files(config)?;
    remove_prepared(config)?;
    let (marker, synced) = Marker::open(config.disk.as_ref(), dir).map_err(StorageError::io(dir.join("SYNCED"), "open"))?;
    if files.is_empty() {
        if !config.may_create || synced.is_some() {
            return Err(damaged(dir, 0, "the log's files are missing, but the database is not new"));
        }
        return create(config, marker);
    }
    let mut reader = Reader {
        config,
        index: Index::default(),
        next_sequence: files[0].0,
        bytes: 0,
    };
    let mut active = None;
    for (position, (first, path)) in files.iter().enumerate() {
        let last = position + 1 == files.len();
        active = Some(reader.read_file(*first, path, last, synced.filter(|s| s.file == *first))?);
    }
    let Some(active) = active else {
        return Err(damaged(dir, 0, "no log file"));
    };
    reader.check_files(dir, &files, synced)?;
    if let Some((group, index)) = reader.index.hole() {
        return Err(damaged(dir, 0, format!("entry {index} of group {} is missing", group.0)));
    }
    Ok(Recovered {
        index: reader.index,
        active,
        next_sequence: reader.next_sequence,
        marker,
        bytes: reader.bytes,
    })
}

fn create(config: &LogConfig, marker: Marker) -> Result<Recovered> {
    let (disk, dir) = (config.disk.as_ref(), config.dir.as_path());
    let made = prepare(disk, dir, next_capacity(0, config.file_bytes)).and_then(|file| activate(disk, dir, file, 1));
    let (_, active) = made.map_err(StorageError::io(dir, "create log file"))?;
    let mut index = Index {
        collected: 1,
        ..Index::default()
    };
    index.add_file(1, active.file.clone());
    let bytes = active.capacity;
    Ok(Recovered {
        index,
        active,
        next_sequence: 1,
        marker,
        bytes,
    })
}

/// Log files by first sequence number, in order.
fn list_files(config: &LogConfig) -> Result<Vec<(u64, PathBuf)>> {
    let dir = config.dir.as_path();
    let mut files = Vec::new();
    for path in config.disk.list(dir).map_err(StorageError::io(dir, "list directory"))? {
        let first = path
            .file_name()
            .and_then(|n| n.to_str())
            .and_then(|n| n.strip_suffix(".log"))
            .map(|n| u64::from_str_radix(n, 16));
        match first {
            Some(Ok(first)) => files.push((first, path)),
            Some(Err(_)) => return Err(damaged(&path, 0, "not the name of a log file")),
            None => {}
        }
    }
    files.sort();
    Ok(files)
}

fn remove_prepared(config: &LogConfig) -> Result<()> {
    let path = config.dir.join(PREPARED);
    match config.disk.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::io(path, "remove")(error).into()),
        _ => Ok(()),
    }
}

fn damaged(path: &Path, offset: u64, detail: impl Into<String>) -> ConsensusError {
    ConsensusError::DamagedLog {
        path: path.to_owned(),
        offset,
        detail: detail.into(),
    }
}

/// Where and why a file's frames stop.
struct Stop<'a> {
    path: &'a Path,
    bytes: &'a Bytes,
    at: usize,
    detail: &'a str,
}

struct Reader<'a> {
    config: &'a LogConfig,
    index: Index,
    next_sequence: u64,
    bytes: u64,
}

impl Reader<'_> {
    /// Reads one file's frames into the index.
    fn read_file(&mut self, first: u64, path: &Path, last: bool, synced: Option<Synced>) -> Result<ActiveFile> {
        let (file, bytes) = self.load(path)?;
        let header = FileHeader::decode(&bytes).map_err(|error| match error {
            HeaderError::Newer(found) => StorageError::NewerFormat {
                path: path.to_owned(),
                found,
                supported: frame::VERSION,
            }
            .into(),
            HeaderError::Bad(detail) => damaged(path, 0, detail),
        })?;
        if header.first_sequence != first {
            return Err(damaged(path, 0, "the file's name and header differ: it was renamed"));
        }
        if first != self.next_sequence {
            let detail = format!(
                "frames {} to {} before this file are missing",
                self.next_sequence,
                first.wrapping_sub(1)
            );
            return Err(damaged(path, 0, detail));
        }
        self.index.add_file(first, file.clone());
        let mut at = FILE_HEADER_BYTES;
        let detail = loop {
            match frame::decode(&bytes.slice(at..), header.salt) {
                FrameRead::Valid(frame) if frame.sequence == self.next_sequence => {
                    for (record, place) in &frame.records {
                        let offset = (at + place.offset) as u64;
                        self.index.apply(
                            record,
                            Location {
                                file: first,
                                offset,
                                len: place.len,
                                crc: place.crc,
                            },
                        );
                    }
                    self.next_sequence += 1;
                    at += frame.bytes;
                }
                FrameRead::Valid(frame) => {
                    let detail = format!("frame {} stands where frame {} should", frame.sequence, self.next_sequence);
                    return Err(damaged(path, at as u64, detail));
                }
                FrameRead::Zeros => break "the frame is missing",
                FrameRead::Bad(detail) => break detail,
            }
        };
        self.check_end(
            Stop {
                path,
                bytes: &bytes,
                at,
                detail,
            },
            header.salt,
            last,
            synced,
        )?;
        if last {
            cut_off(file.as_ref(), &bytes, at).map_err(StorageError::io(path, "cut off torn frame"))?;
            // A process that was killed may have left its last frame and the file's name in the system's cache. What is read is relied upon
            // from here on, so it must not go with the power later.
            let synced = file.sync().and_then(|()| self.config.disk.sync_dir(&self.config.dir));
            synced.map_err(StorageError::io(path, "sync"))?;
        }
        self.bytes += bytes.len() as u64;
        Ok(ActiveFile {
            file,
            header,
            end: at as u64,
            capacity: bytes.len() as u64,
        })
    }

    fn load(&self, path: &Path) -> Result<(Arc<dyn DiskFile>, Bytes)> {
        let file = self.config.disk.open(path).map_err(StorageError::io(path, "open"))?;
        let len = file.byte_len().map_err(StorageError::io(path, "read length"))?;
        let mut bytes = vec![0; len as usize];
        file.read_at(&mut bytes, 0).map_err(StorageError::io(path, "read"))?;
        Ok((file, bytes.into()))
    }

    /// Frames stop at `at`: is that the log's end, or damage?
    fn check_end(&self, stop: Stop<'_>, salt: u64, last: bool, synced: Option<Synced>) -> Result<()> {
        let Stop { path, bytes, at, detail } = stop;
        if let Some(synced) = synced
            && synced.end > at as u64
        {
            return Err(damaged(
                path,
                at as u64,
                format!("{detail}, though the log was durable up to offset {}", synced.end),
            ));
        }
        // An earlier file may end anywhere: the next file's first sequence number tells whether a frame is missing.
        let zeros = bytes[at..].chunks(4096).all(is_zero);
        if !last && !zeros {
            return Err(damaged(path, at as u64, detail));
        }
        if last && !zeros && later_frame(&bytes[at..], salt, self.next_sequence) {
            return Err(damaged(path, at as u64, format!("{detail}, and valid frames follow")));
        }
        Ok(())
    }

    /// No file may be missing at either end.
    fn check_files(&self, dir: &Path, files: &[(u64, PathBuf)], synced: Option<Synced>) -> Result<()> {
        let (first, last) = (files[0].0, files[files.len() - 1].0);
        // `collected` is written durably before a file goes; a directory that never collected anything starts at 1.
        let allowed = self.index.collected.max(1);
        if first > allowed {
            return Err(damaged(
                &files[0].1,
                0,
                format!("log files before this one are missing (frames {allowed} to {})", first - 1),
            ));
        }
        if let Some(synced) = synced
            && synced.file > last
        {
            let missing = super::file_path(dir, synced.file);
            return Err(damaged(&missing, 0, "the log's last file is missing"));
        }
        Ok(())
    }
}

fn is_zero(chunk: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    chunk == &ZEROS[..chunk.len()]
}

/// Whether a valid frame with a sequence number above `torn` stands at any later place. Frames are aligned to 8 bytes.
fn later_frame(bytes: &[u8], salt: u64, torn: u64) -> bool {
    (8..bytes.len())
        .step_by(8)
        .any(|at| frame::check(&bytes[at..], salt).is_ok_and(|(sequence, _)| sequence > torn))
}

/// Zeros what a torn write left, so that it never meets a later frame.
fn cut_off(file: &dyn DiskFile, bytes: &Bytes, at: usize) -> io::Result<()> {
    let Some(last) = bytes[at..].chunks(4096).rposition(|chunk| !is_zero(chunk)) else {
        return Ok(());
    };
    fill_zeros(file, at as u64, (at + (last + 1) * 4096).min(bytes.len()) as u64)
}
