//! The bytes of log files. Little-endian throughout.
//!
//! ```text
//! file    magic:8 version:4 crc32c:4 first_sequence:8 salt:8 zeros:32                      = 64 bytes, then frames, then zeros
//! frame   magic:4 crc32c:4 sequence:8 length:4 count:4 version:4 zeros:4                   = 32 bytes, then records, padded to 8
//! record  length:4 crc32c:4 group:4 kind:4 index:8                                         = 24 bytes, then the payload
//! ```
//!
//! A frame's checksum starts from its file's random salt, so that neither a stale frame nor user data that looks like one is taken for
//! a frame of this file. It covers everything behind itself, padding included.

use bytes::Bytes;

use super::{GroupId, Record, RecordKind};

/// Largest payload of one record.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 30;
/// Bytes of a file's header.
pub const FILE_HEADER_BYTES: usize = 64;
/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 32;
/// Bytes of a record's header.
pub const RECORD_HEADER_BYTES: usize = 24;
/// The version that this build writes, and the newest it reads.
pub const VERSION: u32 = 1;

const FILE_MAGIC: [u8; 8] = *b"PYRALOG\x01";
const FRAME_MAGIC: u32 = 0x4d52_4650; // "PFRM"

/// The head of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// Sequence number of the file's first frame.
    pub first_sequence: u64,
    /// Seeds the checksums of the file's frames.
    pub salt: u64,
}

/// Why a file header cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Written by newer software.
    Newer(u32),
    /// Not what was written.
    Bad(&'static str),
}

impl FileHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0; FILE_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&FILE_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.salt.to_le_bytes());
        let crc = header_crc(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header.
    pub fn decode(bytes: &[u8]) -> Result<FileHeader, HeaderError> {
        let Some(bytes) = bytes.get(..FILE_HEADER_BYTES) else {
            return Err(HeaderError::Bad("the file is shorter than its header"));
        };
        if bytes[0..8] != FILE_MAGIC {
            return Err(HeaderError::Bad("not a log file (wrong magic)"));
        }
        if u32_at(bytes, 12) != header_crc(bytes) {
            return Err(HeaderError::Bad("wrong checksum of the file header"));
        }
        let version = u32_at(bytes, 8);
        if version > VERSION {
            return Err(HeaderError::Newer(version));
        }
        Ok(FileHeader {
            first_sequence: u64_at(bytes, 16),
            salt: u64_at(bytes, 24),
        })
    }
}

fn header_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[0..12]), &bytes[16..FILE_HEADER_BYTES])
}

/// Bytes of a record on disk.
pub fn record_bytes(record: &Record) -> usize {
    RECORD_HEADER_BYTES + record.payload.len()
}

/// Bytes of a frame on disk whose records take `records` bytes.
pub fn frame_bytes(records: usize) -> usize {
    (FRAME_HEADER_BYTES + records).next_multiple_of(8)
}

/// Where a record's payload lies within its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadPlace {
    /// Offset from the frame's start.
    pub offset: usize,
    /// Length.
    pub len: u32,
    /// crc32c of the payload.
    pub crc: u32,
}

/// Writes a frame over `buffer` and says where each payload lies.
pub fn encode<'a>(buffer: &mut Vec<u8>, salt: u64, sequence: u64, records: impl Iterator<Item = &'a Record>) -> Vec<PayloadPlace> {
    buffer.clear();
    buffer.resize(FRAME_HEADER_BYTES, 0);
    let mut places = Vec::new();
    for record in records {
        let place = PayloadPlace {
            offset: buffer.len() + RECORD_HEADER_BYTES,
            len: record.payload.len() as u32,
            crc: crc32c::crc32c(&record.payload),
        };
        buffer.extend_from_slice(&place.len.to_le_bytes());
        buffer.extend_from_slice(&place.crc.to_le_bytes());
        buffer.extend_from_slice(&record.group.0.to_le_bytes());
        buffer.extend_from_slice(&kind_code(record.kind).to_le_bytes());
        buffer.extend_from_slice(&record.index.to_le_bytes());
        buffer.extend_from_slice(&record.payload);
        places.push(place);
    }
    let length = (buffer.len() - FRAME_HEADER_BYTES) as u32;
    buffer.resize(buffer.len().next_multiple_of(8), 0);
    buffer[0..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
    buffer[8..16].copy_from_slice(&sequence.to_le_bytes());
    buffer[16..20].copy_from_slice(&length.to_le_bytes());
    buffer[20..24].copy_from_slice(&(places.len() as u32).to_le_bytes());
    buffer[24..28].copy_from_slice(&VERSION.to_le_bytes());
    let crc = frame_crc(salt, buffer);
    buffer[4..8].copy_from_slice(&crc.to_le_bytes());
    places
}

fn frame_crc(salt: u64, frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &frame[8..])
}

/// What stands at some offset of a log file.
#[derive(Debug)]
pub enum FrameRead {
    /// A frame whose checksum is right.
    Valid(Frame),
    /// Zeros where a header would be.
    Zeros,
    /// Anything else.
    Bad(&'static str),
}

/// A decoded frame.
#[derive(Debug)]
pub struct Frame {
    /// Its number in the log.
    pub sequence: u64,
    /// Bytes on disk, header and padding included.
    pub bytes: usize,
    /// Its records and where their payloads lie.
    pub records: Vec<(Record, PayloadPlace)>,
}

/// Reads the frame at the start of `bytes` (which go on to the end of the file).
pub fn decode(bytes: &Bytes, salt: u64) -> FrameRead {
    let (sequence, total) = match check(bytes, salt) {
        Ok(found) => found,
        Err(Some(detail)) => return FrameRead::Bad(detail),
        Err(None) => return FrameRead::Zeros,
    };
    let (length, count) = (u32_at(bytes, 16) as usize, u32_at(bytes, 20) as usize);
    let mut records = Vec::new();
    let (mut at, end) = (FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + length);
    while at < end {
        if end - at < RECORD_HEADER_BYTES {
            return FrameRead::Bad("a record header crosses the frame's end");
        }
        let place = PayloadPlace {
            offset: at + RECORD_HEADER_BYTES,
            len: u32_at(bytes, at),
            crc: u32_at(bytes, at + 4),
        };
        let Some(kind) = kind_of(u32_at(bytes, at + 12)) else {
            return FrameRead::Bad("unknown record kind");
        };
        let next = place.offset + place.len as usize;
        if next > end {
            return FrameRead::Bad("a record crosses the frame's end");
        }
        let record = Record {
            group: GroupId(u32_at(bytes, at + 8)),
            kind,
            index: u64_at(bytes, at + 16),
            payload: bytes.slice(place.offset..next),
        };
        records.push((record, place));
        at = next;
    }
    if records.len() != count {
        return FrameRead::Bad("wrong number of records");
    }
    FrameRead::Valid(Frame {
        sequence,
        bytes: total,
        records,
    })
}

/// Checks a frame's header and checksum: sequence and bytes on disk, or what is wrong (`None`: zeros).
pub fn check(bytes: &[u8], salt: u64) -> Result<(u64, usize), Option<&'static str>> {
    let Some(header) = bytes.get(..FRAME_HEADER_BYTES) else {
        return Err(if bytes.iter().all(|&b| b == 0) {
            None
        } else {
            Some("cut off within a frame header")
        });
    };
    if header.iter().all(|&b| b == 0) {
        return Err(None);
    }
    if u32_at(header, 0) != FRAME_MAGIC {
        return Err(Some("not a frame (wrong magic)"));
    }
    let total = frame_bytes(u32_at(header, 16) as usize);
    let Some(frame) = bytes.get(..total) else {
        return Err(Some("the frame crosses the file's end"));
    };
    if u32_at(header, 4) != frame_crc(salt, frame) {
        return Err(Some("wrong checksum of the frame"));
    }
    if u32_at(header, 24) != VERSION {
        return Err(Some("unknown frame version"));
    }
    Ok((u64_at(header, 8), total))
}

fn kind_code(kind: RecordKind) -> u32 {
    match kind {
        RecordKind::Entry => 1,
        RecordKind::Vote => 2,
        RecordKind::Committed => 3,
        RecordKind::Truncate => 4,
        RecordKind::Purge => 5,
        RecordKind::Moved => 6,
        RecordKind::Collected => 7,
    }
}

fn kind_of(code: u32) -> Option<RecordKind> {
    Some(match code {
        1 => RecordKind::Entry,
        2 => RecordKind::Vote,
        3 => RecordKind::Committed,
        4 => RecordKind::Truncate,
        5 => RecordKind::Purge,
        6 => RecordKind::Moved,
        7 => RecordKind::Collected,
        _ => return None,
    })
}

/// The little-endian `u32` at `at`; the caller has checked the length.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// The little-endian `u64` at `at`; the caller has checked the length.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
