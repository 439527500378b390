//! `log/SYNCED`: how far the log is known to be durable.
//!
//! Written after each sync without a sync of its own, so it survives kill -9 exactly and power loss as an older, still true, lower bound.
//! Recovery uses it to tell a torn last frame (never acknowledged) from a damaged one (acknowledged).
//!
//! ```text
//! magic:4 crc32c:4 first_sequence_of_file:8 end_offset:8      = 24 bytes, within one sector
//! ```

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::frame::{u32_at, u64_at};

const NAME: &str = "SYNCED";
const MAGIC: u32 = 0x4e59_5350; // "PSYN"
const BYTES: usize = 24;

/// A durable end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced {
    /// The file, by the sequence number of its first frame.
    pub file: u64,
    /// Offset behind the last synced frame.
    pub end: u64,
}

/// The marker file.
pub struct Marker {
    file: Arc<dyn DiskFile>,
    warned: bool,
}

impl Marker {
    /// Opens the marker and reads it; `None` where there is none or it is damaged (then it bounds nothing).
    pub fn open(disk: &dyn Disk, dir: &Path) -> io::Result<(Marker, Option<Synced>)> {
        let path = dir.join(NAME);
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((
                    Marker {
                        file: disk.create(&path)?,
                        warned: false,
                    },
                    None,
                ));
            }
            Err(error) => return Err(error),
        };
        let mut bytes = [0; BYTES];
        let synced = if file.byte_len()? >= BYTES as u64 {
            file.read_at(&mut bytes, 0)?;
            decode(&bytes)
        } else {
            None
        };
        if synced.is_none() {
            tracing::warn!(path = %path.display(), "damaged or empty marker: the end of the log is taken as it is found");
        }
        Ok((Marker { file, warned: false }, synced))
    }

    /// Notes a durable end. Losing it only loosens the bound, so a failure is told once and is not fatal.
    pub fn note(&mut self, synced: Synced) {
        if let Err(error) = self.file.write_at(&encode(synced), 0)
            && !self.warned
        {
            self.warned = true;
            tracing::warn!(%error, "cannot write the log's SYNCED marker");
        }
    }
}

fn encode(synced: Synced) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[8..16].copy_from_slice(&synced.file.to_le_bytes());
    bytes[16..24].copy_from_slice(&synced.end.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; BYTES]) -> Option<Synced> {
    let sound = u32_at(bytes, 0) == MAGIC && u32_at(bytes, 4) == crc32c::crc32c(&bytes[8..]);
    sound.then(|| Synced {
        file: u64_at(bytes, 8),
        end: u64_at(bytes, 16),
    })
}
