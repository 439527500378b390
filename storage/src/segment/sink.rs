//! Where an Arrow file writer writes to: a buffered file that computes checksums of what passes through.
//!
//! A segment file is cut into stretches, each with a checksum: the head (magic and schema), each record batch's message metadata, each of its
//! columns, and the tail (end marker and footer). Nothing is kept in memory but a batch's metadata.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use arrow_schema::SchemaRef;
use crc32c::crc32c_append;

use super::body::{MESSAGE_PREFIX, layout};
use crate::file::le_u32;

/// Bytes gathered before a system call.
const BUFFER: usize = 256 << 10;

/// Place of one record batch message in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPlace {
    /// Where the message starts.
    pub offset: u64,
    /// Bytes of prefix and metadata.
    pub meta_len: u32,
    /// Bytes of the body.
    pub body_len: u64,
    /// Checksum of prefix and metadata.
    pub meta_crc: u32,
}

/// Place and checksums of one record batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchChecksums {
    /// Where it lies.
    pub place: BatchPlace,
    /// Checksum of each column's part of the body.
    pub column_crcs: Vec<u32>,
}

/// What is written at the moment.
enum Stretch {
    /// Head or tail.
    Plain { crc: u32 },
    /// A record batch's prefix and metadata, gathered until they are whole.
    Metadata { message: Vec<u8> },
    /// A record batch's body.
    Body {
        message: Vec<u8>,
        ends: Vec<u64>,
        crcs: Vec<u32>,
        position: u64,
    },
}

/// A buffered file with checksums.
pub struct ChecksumSink {
    out: BufWriter<File>,
    schema: SchemaRef,
    position: u64,
    stretch_start: u64,
    stretch: Stretch,
}

impl ChecksumSink {
    /// Starts with the head. `schema` is that of the record batches.
    pub fn new(file: File, schema: SchemaRef) -> Self {
        let out = BufWriter::with_capacity(BUFFER, file);
        ChecksumSink {
            out,
            schema,
            position: 0,
            stretch_start: 0,
            stretch: Stretch::Plain { crc: 0 },
        }
    }

    /// Bytes written so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Start and checksum of the head or tail so far.
    pub fn plain_checksum(&self) -> io::Result<(u64, u32)> {
        match self.stretch {
            Stretch::Plain { crc } => Ok((self.stretch_start, crc)),
            _ => Err(io::Error::other("a record batch is not written whole")),
        }
    }

    /// What follows is a record batch message.
    pub fn begin_batch(&mut self) {
        self.stretch = Stretch::Metadata { message: Vec::new() };
        self.stretch_start = self.position;
    }

    /// The record batch is written; what follows is the tail, or another batch.
    pub fn end_batch(&mut self) -> io::Result<BatchChecksums> {
        let stretch = std::mem::replace(&mut self.stretch, Stretch::Plain { crc: 0 });
        let offset = std::mem::replace(&mut self.stretch_start, self.position);
        match stretch {
            Stretch::Body {
                message,
                ends,
                crcs,
                position,
            } if position == ends.last().copied().unwrap_or(0) => Ok(BatchChecksums {
                place: BatchPlace {
                    offset,
                    meta_len: u32::try_from(message.len()).map_err(io::Error::other)?,
                    body_len: position,
                    meta_crc: crc32c::crc32c(&message),
                },
                column_crcs: crcs,
            }),
            _ => Err(io::Error::other("a record batch was not written whole")),
        }
    }

    /// Hands what is buffered to the operating system, and gives the file back.
    pub fn into_file(self) -> io::Result<File> {
        self.out.into_inner().map_err(|e| e.into_error())
    }

    fn observe(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = match &mut self.stretch {
                Stretch::Plain { crc } => {
                    *crc = crc32c_append(*crc, bytes);
                    bytes.len()
                }
                Stretch::Metadata { message } => {
                    let wanted = match message.get(4..MESSAGE_PREFIX) {
                        None => MESSAGE_PREFIX,
                        Some(length) => MESSAGE_PREFIX + le_u32(length) as usize,
                    };
                    let taken = bytes.len().min(wanted - message.len());
                    message.extend_from_slice(&bytes[..taken]);
                    taken
                }
                Stretch::Body { ends, crcs, position, .. } => {
                    // Empty columns take nothing; the last end is the body's.
                    let column = ends.partition_point(|end| *end <= *position);
                    let end = ends
                        .get(column)
                        .ok_or_else(|| io::Error::other("a record batch is longer than its metadata says"))?;
                    let taken = usize::try_from(end - *position).unwrap_or(usize::MAX).min(bytes.len());
                    crcs[column] = crc32c_append(crcs[column], &bytes[..taken]);
                    *position += taken as u64;
                    taken
                }
            };
            bytes = &bytes[taken..];
            self.enter_body()?;
        }
        Ok(())
    }

    /// Once a message's metadata is whole, its body follows.
    fn enter_body(&mut self) -> io::Result<()> {
        let Stretch::Metadata { message } = &mut self.stretch else {
            return Ok(());
        };
        let whole = message
            .get(4..MESSAGE_PREFIX)
            .is_some_and(|length| message.len() == MESSAGE_PREFIX + le_u32(length) as usize);
        if whole {
            let message = std::mem::take(message);
            let ends = layout(&message, &self.schema).map_err(io::Error::other)?.ends;
            let crcs = vec![0; ends.len()];
            self.stretch = Stretch::Body {
                message,
                ends,
                crcs,
                position: 0,
            };
        }
        Ok(())
    }
}

impl Write for ChecksumSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.position += bytes.len() as u64;
        self.observe(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
