//! `meta/SNAPSHOT-<n>`: the whole meta state in one file, written atomically; `n` is the log index it covers (hexadecimal).
//!
//! ```text
//! magic:8 version:4 crc32c:4 length:8, then the encoded state; the checksum covers everything but itself
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pyralog_storage::StorageError;

use super::contents::MetaContents;
use crate::codec;

const MAGIC: [u8; 8] = *b"PYRAMETA";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 24;
const PREFIX: &str = "SNAPSHOT-";
/// Dump files that are kept: the newest, and one more in case that one rots.
const KEPT: usize = 2;

/// Writes the state durably, then removes dumps that are too old.
pub fn write(dir: &Path, contents: &MetaContents) -> Result<PathBuf, StorageError> {
    let index = contents.head.position.index().map_or(0, |index| index + 1);
    let path = dir.join(format!("{PREFIX}{index:016x}"));
    let temporary = dir.join("SNAPSHOT.tmp");
    let body = codec::encode(contents).map_err(|e| StorageError::io(&path, "encode")(io::Error::other(e)))?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&body);
    let crc = checksum(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, &path))
        .and_then(|()| File::open(dir)?.sync_all());
    written.map_err(StorageError::io(&path, "write"))?;
    for (_, old) in list(dir)?.into_iter().rev().skip(KEPT) {
        fs::remove_file(&old).map_err(StorageError::io(&old, "remove"))?;
    }
    Ok(path)
}

/// What [`newest`] found.
#[derive(Default)]
pub struct Newest {
    /// The newest dump that can be read, and its file.
    pub found: Option<(MetaContents, PathBuf)>,
    /// What is wrong with still newer ones.
    pub errors: Vec<StorageError>,
}

/// Looks for the newest dump that can be read.
pub fn newest(dir: &Path) -> Result<Newest, StorageError> {
    let mut newest = Newest::default();
    for (_, path) in list(dir)?.into_iter().rev() {
        match read(&path) {
            Ok(contents) => {
                newest.found = Some((contents, path));
                break;
            }
            Err(error @ StorageError::NewerFormat { .. }) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "a meta snapshot cannot be used");
                newest.errors.push(error);
            }
        }
    }
    Ok(newest)
}

/// Dump files by index, oldest first.
fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, StorageError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(StorageError::io(dir, "list directory"))? {
        let path = entry.map_err(StorageError::io(dir, "list directory"))?.path();
        let index = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(PREFIX));
        if let Some(Ok(index)) = index.map(|n| u64::from_str_radix(n, 16)) {
            found.push((index, path));
        }
    }
    found.sort();
    Ok(found)
}

/// The checksum of a whole file of at least a header.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}

/// Reads and checks one dump.
pub fn read(path: &Path) -> Result<MetaContents, StorageError> {
    let damaged = |detail: String| StorageError::damaged(path, "meta snapshot", detail);
    let bytes = fs::read(path).map_err(StorageError::io(path, "read"))?;
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(damaged("shorter than its header".to_owned()));
    };
    if header[0..8] != MAGIC {
        return Err(damaged("wrong magic".to_owned()));
    }
    let word = |at: usize| {
        header[at..at + 4]
            .iter()
            .rev()
            .fold(0u32, |word, &byte| word << 8 | u32::from(byte))
    };
    if word(12) != checksum(&bytes) {
        return Err(damaged("wrong checksum".to_owned()));
    }
    if word(8) > VERSION {
        return Err(StorageError::NewerFormat {
            path: path.to_owned(),
            found: word(8),
            supported: VERSION,
        });
    }
    if word(16) as usize != body.len() || word(20) != 0 {
        return Err(damaged(format!("{} bytes where {} were written", body.len(), word(16))));
    }
    let contents: MetaContents = codec::decode(body).map_err(|e| damaged(e.to_string()))?;
    if !contents.is_sound() {
        return Err(damaged("wrong digest of keys and values".to_owned()));
    }
    Ok(contents)
}
