//! Whole files with a checked header, and the ways to make files durable.
//!
//! Manifests and delete vectors are written once and read whole:
//!
//! ```text
//! 0        8         12       16       24         32
//! | magic  | version | crc32c | length | reserved | body, `length` bytes |
//! ```
//!
//! All numbers are little-endian. The checksum covers everything but itself. The length is compared with the file's size before anything is
//! allocated by it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use crc32c::{crc32c, crc32c_append};

use crate::error::{Result, StorageError};

const HEADER: usize = 32;

/// Size and checksum of a written file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedFile {
    /// Bytes of the whole file.
    pub bytes: u64,
    /// The checksum in its header.
    pub crc: u32,
}

/// What kind of file is expected.
#[derive(Debug, Clone, Copy)]
pub struct FileKind {
    /// First eight bytes.
    pub magic: [u8; 8],
    /// The newest format version this build reads, and the one it writes.
    pub version: u32,
    /// For error messages.
    pub name: &'static str,
}

/// Writes `body` with a checked header, and syncs the file (not its directory). An existing file is replaced; a failed one is removed.
pub fn write_checked(path: &Path, kind: FileKind, body: &[u8]) -> Result<CheckedFile> {
    let mut header = [0u8; HEADER];
    header[..8].copy_from_slice(&kind.magic);
    header[8..12].copy_from_slice(&kind.version.to_le_bytes());
    header[16..24].copy_from_slice(&(body.len() as u64).to_le_bytes());
    let crc = checksum(&header, body);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    write_synced(path, &[&header, body])?;
    Ok(CheckedFile {
        bytes: (HEADER + body.len()) as u64,
        crc,
    })
}

/// Reads a file written by [`write_checked`]: its body, and what [`write_checked`] had returned.
pub fn read_checked(path: &Path, kind: FileKind) -> Result<(Vec<u8>, CheckedFile)> {
    let (body, file, _) = read_versioned(path, kind)?;
    Ok((body, file))
}

/// As [`read_checked`], with the format version in the file's header.
pub fn read_versioned(path: &Path, kind: FileKind) -> Result<(Vec<u8>, CheckedFile, u32)> {
    let damaged = |detail: String| StorageError::damaged(path, kind.name, detail);
    let mut file = File::open(path).map_err(StorageError::io(path, "open"))?;
    let size = file.metadata().map_err(StorageError::io(path, "read size"))?.len();
    if size < HEADER as u64 {
        return Err(damaged(format!("{size} bytes are fewer than its header has")));
    }
    let mut header = [0u8; HEADER];
    file.read_exact(&mut header).map_err(StorageError::io(path, "read"))?;
    if header[..8] != kind.magic {
        return Err(damaged("it does not start with the magic of its kind".to_owned()));
    }
    let version = le_u32(&header[8..12]);
    if version > kind.version {
        return Err(StorageError::NewerFormat {
            path: path.to_owned(),
            found: version,
            supported: kind.version,
        });
    }
    let length = le_u64(&header[16..24]);
    if length != size - HEADER as u64 {
        return Err(damaged(format!("its header says {length} bytes, it has {}", size - HEADER as u64)));
    }
    let mut body = Vec::new();
    let wanted = usize::try_from(length).map_err(|_| damaged(format!("{length} bytes do not fit in memory")))?;
    body.try_reserve_exact(wanted)
        .map_err(|e| StorageError::io(path, "read")(std::io::Error::new(ErrorKind::OutOfMemory, e)))?;
    file.take(length).read_to_end(&mut body).map_err(StorageError::io(path, "read"))?;
    let stored = le_u32(&header[12..16]);
    let found = checksum(&header, &body);
    if stored != found {
        return Err(damaged(format!("checksum is {found:08x}, its header says {stored:08x}")));
    }
    Ok((body, CheckedFile { bytes: size, crc: stored }, version))
}

/// Replaces the file at `path` atomically and durably: temporary file, sync, rename, sync of the directory.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    write_synced(&temporary, &[bytes])?;
    fs::rename(&temporary, path).map_err(StorageError::io(path, "rename"))?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Makes creations, renames and removals within `dir` durable.
pub fn sync_dir(dir: &Path) -> Result<()> {
    let handle = File::open(dir).map_err(StorageError::io(dir, "open directory"))?;
    handle.sync_all().map_err(StorageError::io(dir, "sync directory"))
}

/// Makes a directory, durably; no error if it exists.
pub fn create_dir(dir: &Path) -> Result<()> {
    match fs::create_dir(dir) {
        Ok(()) => sync_dir(dir.parent().unwrap_or(Path::new("."))),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(StorageError::io(dir, "create directory")(e)),
    }
}

/// Removes a file; no error if it is gone.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(StorageError::io(path, "remove")(e)),
        _ => Ok(()),
    }
}

/// Creates or truncates a file, writes `parts` and syncs it; a file that could not be written whole is removed.
fn write_synced(path: &Path, parts: &[&[u8]]) -> Result<()> {
    let write = || {
        let mut file = File::create(path).map_err(StorageError::io(path, "create"))?;
        for part in parts {
            file.write_all(part).map_err(StorageError::io(path, "write"))?;
        }
        file.sync_data().map_err(StorageError::io(path, "sync"))
    };
    write().inspect_err(|_| {
        if let Err(e) = remove_file(path) {
            tracing::warn!("could not remove a half-written file: {e}");
        }
    })
}

fn checksum(header: &[u8; HEADER], body: &[u8]) -> u32 {
    crc32c_append(crc32c_append(crc32c(&header[..12]), &header[16..]), body)
}

/// A little-endian number from exactly four bytes.
pub(crate) fn le_u32(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b))
}

/// A little-endian number from exactly eight bytes.
pub(crate) fn le_u64(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KIND: FileKind = FileKind {
        magic: *b"TESTFILE",
        version: 3,
        name: "test file",
    };

    #[test]
    fn reads_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        for body in [&b""[..], b"x", &[7u8; 5000]] {
            let written = write_checked(&dir.path().join("f"), KIND, body).unwrap();
            let (back, read) = read_checked(&dir.path().join("f"), KIND).unwrap();
            assert_eq!((back.as_slice(), read), (body, written));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_checked(&path, KIND, b"some bytes").unwrap();
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                fs::write(&path, &bad).unwrap();
                let error = read_checked(&path, KIND).unwrap_err();
                assert!(
                    matches!(error, StorageError::Damaged { .. } | StorageError::NewerFormat { .. }),
                    "{at}.{bit}: {error}"
                );
            }
            fs::write(&path, &good[..at]).unwrap();
            assert!(matches!(read_checked(&path, KIND), Err(StorageError::Damaged { .. })));
        }
        fs::write(&path, [good.as_slice(), b"tail"].concat()).unwrap();
        assert!(matches!(read_checked(&path, KIND), Err(StorageError::Damaged { .. })));
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_checked(&path, FileKind { version: 4, ..KIND }, b"later").unwrap();
        assert!(matches!(
            read_checked(&path, KIND),
            Err(StorageError::NewerFormat {
                found: 4,
                supported: 3,
                ..
            })
        ));
    }

    #[test]
    fn atomic_writes_replace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("CURRENT");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
