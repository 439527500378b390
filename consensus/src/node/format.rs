//! `FORMAT`: what a data directory is, readable by people and by every later version.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use pyralog_storage::StorageError;
use serde::{Deserialize, Serialize};

use crate::error::{ConsensusError, Result};
use crate::runtime;

const NAME: &str = "FORMAT";
const MAGIC: &str = "pyralog";
/// The version that this build writes, and the newest it reads.
const VERSION: u32 = 1;
/// The node that makes a new database.
pub const FOUNDER: u64 = 1;
/// A FORMAT file is never near this long; a longer one is not read.
const LIMIT_BYTES: u64 = 64 << 10;

/// The directory's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// Always `pyralog`.
    magic: String,
    /// Version of the directory's layout.
    format: u32,
    /// The database's id, made at initialisation.
    pub database: String,
    /// This node's id.
    pub node: u64,
    /// Data partitions.
    pub partitions: u32,
    /// crc32c over the other fields.
    checksum: u32,
}

/// The fields that every version has.
#[derive(Deserialize)]
struct AnyFormat {
    magic: String,
    format: u32,
}

impl Format {
    /// Reads the file; `None` where the directory is to be initialised. `partitions` is the number asked for (0: any).
    pub fn open(dir: &Path, partitions: u32) -> Result<Option<Format>> {
        let path = dir.join(NAME);
        if !path.exists() {
            refuse_foreign(dir)?;
            return Ok(None);
        }
        let format = Self::read(&path)?;
        if partitions != 0 && partitions != format.partitions {
            return Err(ConsensusError::Unsupported(format!(
                "{} was initialised with {} data partitions, and the configuration asks for {partitions}; the number is fixed",
                dir.display(),
                format.partitions
            )));
        }
        Ok(Some(format))
    }

    /// Initialises a directory as the first node of a new database.
    pub fn found(dir: &Path, partitions: u32) -> Result<Format> {
        Self::create(dir, runtime::random_uuid().to_string(), FOUNDER, partitions.max(1))
    }

    /// Initialises a directory.
    pub fn create(dir: &Path, database: String, node: u64, partitions: u32) -> Result<Format> {
        let mut format = Format {
            magic: MAGIC.to_owned(),
            format: VERSION,
            database,
            node,
            partitions,
            checksum: 0,
        };
        format.checksum = format.crc();
        let (path, temporary) = (dir.join(NAME), dir.join("FORMAT.tmp"));
        let text = serde_json::to_vec_pretty(&format).map_err(|e| StorageError::io(&path, "encode")(e.into()))?;
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| File::open(dir)?.sync_all());
        written.map_err(StorageError::io(&path, "write"))?;
        Ok(format)
    }

    fn read(path: &Path) -> Result<Format> {
        let damaged = |detail: String| StorageError::damaged(path, "database format", detail);
        let len = fs::metadata(path).map_err(StorageError::io(path, "read"))?.len();
        if len > LIMIT_BYTES {
            return Err(damaged(format!("{len} bytes long")).into());
        }
        let text = fs::read(path).map_err(StorageError::io(path, "read"))?;
        let any: AnyFormat = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if any.magic != MAGIC {
            return Err(damaged("not a pyralog database".to_owned()).into());
        }
        if any.format > VERSION {
            return Err(StorageError::NewerFormat {
                path: path.to_owned(),
                found: any.format,
                supported: VERSION,
            }
            .into());
        }
        let format: Format = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if format.checksum != format.crc() {
            return Err(damaged("wrong checksum".to_owned()).into());
        }
        Ok(format)
    }

    fn crc(&self) -> u32 {
        crc32c::crc32c(format!("{} {} {} {} {}", self.magic, self.format, self.database, self.node, self.partitions).as_bytes())
    }
}

/// A directory without FORMAT is initialised only where nothing of a database is in it.
fn refuse_foreign(dir: &Path) -> Result<()> {
    match ["log", "meta", "partitions"].into_iter().find(|name| dir.join(name).exists()) {
        None => Ok(()),
        Some(found) => Err(StorageError::damaged(dir.join(NAME), "database format", format!("missing, though {found} is there")).into()),
    }
}
