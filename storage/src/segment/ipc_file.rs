//! A memory-mapped Arrow IPC file: its bytes, and its footer.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::{Block, MetadataVersion, convert::fb_to_schema, root_as_footer};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use memmap2::Mmap;

use super::mapped::Mapping;
use super::sidecar::{FORMAT, FORMAT_KEY, PLAIN};
use crate::error::{Result, StorageError};

/// Footer length and magic.
const TRAILER: usize = 10;
const WHAT: &str = "Arrow file";

/// A memory-mapped file. Arrays that are decoded from it keep the map alive.
#[derive(Debug, Clone)]
pub struct IpcFile {
    path: PathBuf,
    mapping: Arc<Mapping>,
    data: Bytes,
}

/// What the arrays of a file keep alive.
struct Owner(Arc<Mapping>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// A parsed footer.
#[derive(Debug)]
pub struct Footer {
    path: PathBuf,
    /// Schema of the record batches.
    pub schema: SchemaRef,
    /// Format version of the messages.
    pub version: MetadataVersion,
    /// Where the record batches lie.
    pub blocks: Vec<Block>,
    /// Key-value pairs of the writer.
    pub metadata: HashMap<String, String>,
}

impl IpcFile {
    /// Maps a file that is expected to have `bytes` bytes, where that is known.
    pub fn map(path: &Path, bytes: Option<u64>) -> Result<IpcFile> {
        let file = File::open(path).map_err(StorageError::io(path, "open"))?;
        let size = file.metadata().map_err(StorageError::io(path, "read size"))?.len();
        if let Some(expected) = bytes.filter(|expected| *expected != size) {
            return Err(StorageError::damaged(
                path,
                WHAT,
                format!("it has {size} bytes, expected {expected}"),
            ));
        }
        if size < TRAILER as u64 {
            return Err(StorageError::damaged(path, WHAT, format!("{size} bytes are too few")));
        }
        // SAFETY: the engine never changes or truncates a file after it is written (new content gets a new file), so the mapped bytes stay as
        // they are. Only tampering by another program could break that, as with every memory map.
        let map = unsafe { Mmap::map(&file) }.map_err(StorageError::io(path, "map"))?;
        let mapping = Mapping::new(map);
        Ok(IpcFile {
            path: path.to_owned(),
            data: Bytes::from_owner(Owner(Arc::clone(&mapping))),
            mapping,
        })
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// A part of the file, without copying; `None` where it does not lie within. Who asks what its arrays take is told no more than the part.
    pub fn slice(&self, offset: u64, length: u64) -> Option<Buffer> {
        let (offset, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
        let end = offset.checked_add(length).filter(|end| *end <= self.data.len())?;
        Some(Buffer::from(self.data.slice(offset..end)))
    }

    /// Says that so many bytes are about to be read, whoever holds them: the pages they lie in become the process's.
    pub fn about_to_read(&self, bytes: u64) {
        self.mapping.about_to_read(bytes);
    }

    /// Reads the footer, which lies behind `tail_offset`. The caller has checked the checksum of what lies there.
    pub fn footer(&self, tail_offset: u64) -> Result<Footer> {
        self.parse_footer(tail_offset)
            .map_err(|detail| StorageError::damaged(&self.path, WHAT, detail))
    }

    fn parse_footer(&self, tail_offset: u64) -> Result<Footer, String> {
        let (rest, trailer) = self.bytes().split_last_chunk::<TRAILER>().ok_or("it is too short")?;
        let length = read_footer_length(*trailer).map_err(|e| e.to_string())?;
        let start = rest
            .len()
            .checked_sub(length)
            .filter(|start| *start as u64 >= tail_offset)
            .ok_or("its footer is longer than its tail")?;
        let footer = root_as_footer(&rest[start..]).map_err(|e| format!("footer: {e}"))?;
        let schema = footer.schema().ok_or("its footer has no schema")?;
        if !schema.endianness().equals_to_target_endianness() {
            return Err("it was written on a machine of other byte order".to_owned());
        }
        let pairs = footer.custom_metadata().into_iter().flatten();
        Ok(Footer {
            path: self.path.clone(),
            schema: Arc::new(fb_to_schema(schema)),
            version: footer.version(),
            blocks: footer
                .recordBatches()
                .map(|blocks| blocks.iter().copied().collect())
                .unwrap_or_default(),
            metadata: pairs
                .filter_map(|pair| Some((pair.key()?.to_owned(), pair.value()?.to_owned())))
                .collect(),
        })
    }
}

impl Footer {
    /// Refuses files of a newer format.
    pub fn check_format(&self) -> Result<()> {
        let format = self.metadata.get(FORMAT_KEY).and_then(|text| text.parse::<u32>().ok());
        match format {
            Some(PLAIN..=FORMAT) => Ok(()),
            Some(found) if found > FORMAT => Err(StorageError::NewerFormat {
                path: self.path.clone(),
                found,
                supported: FORMAT,
            }),
            _ => Err(StorageError::damaged(
                &self.path,
                WHAT,
                format!("'{FORMAT_KEY}' is missing or wrong"),
            )),
        }
    }

    /// Decodes a file that has exactly one record batch, with full validation.
    pub fn only_batch(&self, file: &IpcFile) -> Result<RecordBatch> {
        let damaged = |detail: String| StorageError::damaged(&self.path, WHAT, detail);
        let [block] = self.blocks.as_slice() else {
            return Err(damaged(format!(
                "it has {} record batches where one is expected",
                self.blocks.len()
            )));
        };
        let length = u64::from(block.metaDataLength().unsigned_abs()).saturating_add(block.bodyLength().unsigned_abs());
        let data = file
            .slice(block.offset().unsigned_abs(), length)
            .ok_or_else(|| damaged("its record batch lies outside of it".into()))?;
        let decoder = FileDecoder::new(self.schema.clone(), self.version).with_require_alignment(true);
        let batch = decoder.read_record_batch(block, &data).map_err(|e| damaged(e.to_string()))?;
        batch.ok_or_else(|| damaged("its record batch is empty".into()))
    }
}
