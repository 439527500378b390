//! Whole files with a checked header, and the two ways to make a file durable.
//!
//! Manifests and delete vectors are small files that are written once and read whole:
//!
//! ```text
//! 0        8         12        16          24        28
//! | magic  | version | crc32c  | length    | zero    | body, `length` bytes ...
//! ```
//!
//! The checksum covers `length`, the zero word and the body. A length is compared with the file's size before anything is allocated.

use std::path::Path;

use crate::error::Result;

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

/// Writes `body` with a checked header, and syncs the file (not its directory). An existing file is replaced.
pub fn write_checked(_path: &Path, _kind: FileKind, _body: &[u8]) -> Result<CheckedFile> {
    todo!()
}

/// Reads a file written by [`write_checked`]; the body and what [`write_checked`] had returned.
pub fn read_checked(_path: &Path, _kind: FileKind) -> Result<(Vec<u8>, CheckedFile)> {
    todo!()
}

/// Replaces the file at `path` atomically and durably: temporary file, sync, rename, sync of the directory.
pub fn write_atomic(_path: &Path, _bytes: &[u8]) -> Result<()> {
    todo!()
}

/// Makes creations, renames and removals within `dir` durable.
pub fn sync_dir(_dir: &Path) -> Result<()> {
    todo!()
}

/// Removes a file; no error if it is gone.
pub fn remove_file(_path: &Path) -> Result<()> {
    todo!()
}
