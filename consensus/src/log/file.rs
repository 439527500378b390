//! Making log files: zero-filled and synced ahead of use, so that a later fdatasync writes data and no metadata.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::file_path;
use super::frame::{FILE_HEADER_BYTES, FileHeader};
use crate::runtime;

/// Name of the file that is being prepared.
pub const PREPARED: &str = "next.tmp";
/// Size of a new directory's first file; each later one is four times as large, up to the configured size.
const FIRST_FILE_BYTES: u64 = 4 << 20;
const ZEROS: &[u8] = &[0; 256 << 10];

/// The file that frames are appended to.
pub struct ActiveFile {
    /// The open file.
    pub file: Arc<dyn DiskFile>,
    /// Its header.
    pub header: FileHeader,
    /// Where the next frame goes.
    pub end: u64,
    /// Bytes that are allocated.
    pub capacity: u64,
}

/// Size of the file after one of `capacity` bytes (0: none).
pub fn next_capacity(capacity: u64, limit: u64) -> u64 {
    (capacity * 4).max(FIRST_FILE_BYTES).min(limit).max(4096)
}

/// Makes a zero-filled, synced file under the temporary name. Long for a large file.
pub fn prepare(disk: &dyn Disk, dir: &Path, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.create(&dir.join(PREPARED))?;
    fill_zeros(file.as_ref(), 0, capacity)?;
    file.sync()?;
    Ok(file)
}

/// Writes zeros over a range.
pub fn fill_zeros(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let len = (to - at).min(ZEROS.len() as u64);
        file.write_at(&ZEROS[..len as usize], at)?;
        at += len;
    }
    Ok(())
}

/// Gives a prepared file its header and its name, durably.
pub fn activate(disk: &dyn Disk, dir: &Path, file: Arc<dyn DiskFile>, first_sequence: u64) -> io::Result<(PathBuf, ActiveFile)> {
    let header = FileHeader {
        first_sequence,
        salt: runtime::random(),
    };
    file.write_at(&header.encode(), 0)?;
    file.sync()?;
    let path = file_path(dir, first_sequence);
    disk.rename(&dir.join(PREPARED), &path)?;
    disk.sync_dir(dir)?;
    let capacity = file.byte_len()?;
    Ok((
        path,
        ActiveFile {
            file,
            header,
            end: FILE_HEADER_BYTES as u64,
            capacity,
        },
    ))
}
