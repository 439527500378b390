//! The bytes of everything that consensus stores: Raft entries, votes, positions, write sets, the meta group's snapshot.
//!
//! Each value is a version byte, then bincode. Arrow batches and schemas inside are Arrow IPC streams, which bound their nesting depth; a
//! few rows of plain types have a shorter form (`rows`).
//! Decoding never allocates by a length that the bytes claim: bincode runs under a limit, byte strings are borrowed from the input, and
//! the IPC decoder takes slices of it.

mod rows;

use std::fmt;
use std::panic::catch_unwind;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::MetadataVersion;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;
use pyralog_storage::{ConflictPolicy, RelationId, RelationReads, RelationSchema, RelationWrites, StagedSegment, Timestamp, WriteSet};
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::log::MAX_PAYLOAD_BYTES;

const VERSION: u8 = 1;
/// Byte alignment of buffers inside an IPC message: as small as the format allows, since most write sets hold a few short rows.
const IPC_ALIGNMENT: usize = 8;

/// Why bytes cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Written by a newer version of the software.
    #[error("encoding version {0} is newer than the supported version {VERSION}")]
    Newer(u8),
    /// No bytes at all.
    #[error("empty value")]
    Empty,
    /// Bytes behind the value's end.
    #[error("{0} bytes behind the end of the value")]
    Trailing(usize),
    /// Larger than one log record may be.
    #[error("{bytes} bytes, more than the {MAX_PAYLOAD_BYTES} of one log record")]
    TooLarge {
        /// Encoded size.
        bytes: usize,
    },
    /// Batches of one relation with different schemas.
    #[error("batches of relation {0} have different schemas")]
    MixedSchemas(RelationId),
    /// An IPC stream ends too early.
    #[error("truncated Arrow stream")]
    TruncatedStream,
    /// An IPC stream that Arrow cannot make sense of.
    #[error("damaged Arrow stream")]
    DamagedStream,
    /// bincode cannot write it.
    #[error(transparent)]
    Encode(#[from] bincode::error::EncodeError),
    /// bincode cannot read it.
    #[error(transparent)]
    Decode(#[from] bincode::error::DecodeError),
    /// Arrow IPC failed.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// Encodes a value.
pub fn encode<T: Serialize>(value: &T) -> Result<Bytes, CodecError> {
    // Most values are short, and those that are not grow it in large steps.
    let mut bytes = Vec::with_capacity(512);
    bytes.push(VERSION);
    bincode::serde::encode_into_std_write(value, &mut bytes, config())?;
    if bytes.len() > MAX_PAYLOAD_BYTES {
        return Err(CodecError::TooLarge { bytes: bytes.len() });
    }
    Ok(bytes.into())
}

/// Decodes a value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    decode_borrowed(bytes)
}

fn decode_borrowed<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    match decode_first(bytes)? {
        (value, []) => Ok(value),
        (_, rest) => Err(CodecError::Trailing(rest.len())),
    }
}

/// Decodes the value that the bytes begin with; also the bytes behind it.
pub fn decode_first<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Empty),
        Some((&version, _)) if version > VERSION => Err(CodecError::Newer(version)),
        Some((_, rest)) => {
            let (value, used) = bincode::serde::borrow_decode_from_slice(rest, config())?;
            Ok((value, &rest[used..]))
        }
    }
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_PAYLOAD_BYTES>()
}

/// Bytes that serde treats as one byte string.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob(pub Bytes);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BlobVisitor;
        impl Visitor<'_> for BlobVisitor {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(Bytes::copy_from_slice(bytes)))
            }
            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes.into()))
            }
        }
        deserializer.deserialize_bytes(BlobVisitor)
    }
}

/// A byte string borrowed from the value that it is part of.
struct Slice<'a>(&'a [u8]);

impl Serialize for Slice<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Slice<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&'de [u8]>::deserialize(deserializer).map(Slice)
    }
}

#[derive(Serialize, Deserialize)]
struct WireWriteSet<'a> {
    start: Timestamp,
    #[serde(borrow)]
    relations: Vec<WireRelationWrites<'a>>,
}

#[derive(Serialize, Deserialize)]
struct WireRelationWrites<'a> {
    relation: RelationId,
    policy: WirePolicy,
    staged: Vec<StagedSegment>,
    /// IPC streams or [`rows`]; empty for no batches.
    #[serde(borrow)]
    puts: Slice<'a>,
    #[serde(borrow)]
    deletes: Slice<'a>,
}

/// [`ConflictPolicy`], and whether the relation is emptied: what was there before that was possible is encoded as it was.
#[derive(Serialize, Deserialize, Clone, Copy)]
enum WirePolicy {
    FirstCommitterWins,
    LastWriteWins,
    EmptyUnlessChanged,
    EmptyAnyway,
}

impl WirePolicy {
    fn of(writes: &RelationWrites) -> WirePolicy {
        match (writes.policy, writes.emptied) {
            (ConflictPolicy::FirstCommitterWins, false) => WirePolicy::FirstCommitterWins,
            (ConflictPolicy::LastWriteWins, false) => WirePolicy::LastWriteWins,
            (ConflictPolicy::FirstCommitterWins, true) => WirePolicy::EmptyUnlessChanged,
            (ConflictPolicy::LastWriteWins, true) => WirePolicy::EmptyAnyway,
        }
    }

    /// The policy, and whether the relation is emptied.
    fn parts(self) -> (ConflictPolicy, bool) {
        match self {
            WirePolicy::FirstCommitterWins => (ConflictPolicy::FirstCommitterWins, false),
            WirePolicy::LastWriteWins => (ConflictPolicy::LastWriteWins, false),
            WirePolicy::EmptyUnlessChanged => (ConflictPolicy::FirstCommitterWins, true),
            WirePolicy::EmptyAnyway => (ConflictPolicy::LastWriteWins, true),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct WireSchema<'a> {
    id: RelationId,
    version: u32,
    key: Vec<usize>,
    /// An IPC stream without batches.
    #[serde(borrow)]
    schema: Slice<'a>,
}

/// Encodes a write set. What was read comes behind it, if anything was, as a value of its own: what writes sets were before that was possible is
/// encoded as it was.
pub fn encode_write_set(write_set: &WriteSet) -> Result<Bytes, CodecError> {
    let batches = |r: &RelationWrites| Ok::<_, CodecError>((encode_batches(r.relation, &r.puts)?, encode_batches(r.relation, &r.deletes)?));
    let streams = write_set.relations.iter().map(batches).collect::<Result<Vec<_>, _>>()?;
    let relations = write_set
        .relations
        .iter()
        .zip(&streams)
        .map(|(writes, (puts, deletes))| WireRelationWrites {
            relation: writes.relation,
            policy: WirePolicy::of(writes),
            staged: writes.staged.clone(),
            puts: Slice(puts),
            deletes: Slice(deletes),
        });
    let writes = encode(&WireWriteSet {
        start: write_set.start,
        relations: relations.collect(),
    })?;
    if write_set.reads.is_empty() {
        return Ok(writes);
    }
    let reads = encode(&write_set.reads)?;
    let bytes = writes.len() + reads.len();
    match bytes > MAX_PAYLOAD_BYTES {
        true => Err(CodecError::TooLarge { bytes }),
        false => Ok([writes, reads].concat().into()),
    }
}

/// The parts of an encoded write set.
fn decode_parts(bytes: &[u8]) -> Result<(WireWriteSet<'_>, Vec<RelationReads>), CodecError> {
    match decode_first(bytes)? {
        (wire, []) => Ok((wire, Vec::new())),
        (wire, reads) => Ok((wire, decode(reads)?)),
    }
}

/// The schemas that a reader of write sets has: of a relation's rows.
pub type Schemas<'a> = &'a dyn Fn(RelationId) -> Option<Arc<RelationSchema>>;

/// Decodes a write set. Arrays of IPC streams are views of `bytes` where alignment allows.
pub fn decode_write_set(bytes: &Bytes, schemas: Schemas<'_>) -> Result<WriteSet, CodecError> {
    let (wire, reads) = decode_parts(bytes)?;
    let relations = wire.relations.into_iter().map(|writes| {
        let (policy, emptied) = writes.policy.parts();
        Ok(RelationWrites {
            relation: writes.relation,
            emptied,
            puts: decode_batches(&bytes.slice_ref(writes.puts.0), || Some(schemas(writes.relation)?.schema.clone()))?,
            deletes: decode_batches(&bytes.slice_ref(writes.deletes.0), || Some(schemas(writes.relation)?.key_schema()))?,
            staged: writes.staged,
            policy,
        })
    });
    Ok(WriteSet {
        start: wire.start,
        relations: relations.collect::<Result<_, CodecError>>()?,
        reads,
    })
}

/// The staged segments that a write set names, as a write set without rows; `None` where it names none.
pub fn staged_only(encoded: &EncodedWriteSet) -> Result<Option<WriteSet>, CodecError> {
    let (wire, _) = decode_parts(&encoded.bytes.0)?;
    if wire.relations.iter().all(|writes| writes.staged.is_empty()) {
        return Ok(None);
    }
    let relations = wire.relations.into_iter().map(|writes| RelationWrites {
        relation: writes.relation,
        emptied: false,
        puts: Vec::new(),
        deletes: Vec::new(),
        staged: writes.staged,
        policy: writes.policy.parts().0,
    });
    Ok(Some(WriteSet {
        start: wire.start,
        relations: relations.collect(),
        reads: Vec::new(),
    }))
}

/// Encodes a relation's schema.
pub fn encode_schema(schema: &RelationSchema) -> Result<Bytes, CodecError> {
    let stream = encode_stream(&schema.schema, &[])?;
    encode(&WireSchema {
        id: schema.id,
        version: schema.version,
        key: schema.key.clone(),
        schema: Slice(&stream),
    })
}

/// Decodes a relation's schema.
pub fn decode_schema(bytes: &Bytes) -> Result<RelationSchema, CodecError> {
    let wire: WireSchema<'_> = decode_borrowed(bytes)?;
    let (schema, _) = decode_stream(&bytes.slice_ref(wire.schema.0))?;
    Ok(RelationSchema {
        id: wire.id,
        version: wire.version,
        schema,
        key: wire.key,
    })
}

fn encode_batches(relation: RelationId, batches: &[RecordBatch]) -> Result<Vec<u8>, CodecError> {
    let Some(first) = batches.first() else {
        return Ok(Vec::new());
    };
    if batches.iter().any(|batch| batch.schema_ref() != first.schema_ref()) {
        return Err(CodecError::MixedSchemas(relation));
    }
    match rows::encode(first.schema_ref(), batches) {
        Some(rows) => Ok(rows),
        None => encode_stream(first.schema_ref(), batches),
    }
}

fn encode_stream(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, CodecError> {
    let options = IpcWriteOptions::try_new(IPC_ALIGNMENT, false, MetadataVersion::V5)?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), schema, options)?;
    for batch in batches {
        writer.write(&pyralog_storage::own_rows(batch)?)?;
    }
    Ok(writer.into_inner()?)
}

fn decode_batches(bytes: &Bytes, schema: impl FnOnce() -> Option<SchemaRef>) -> Result<Vec<RecordBatch>, CodecError> {
    match bytes.first() {
        None => Ok(Vec::new()),
        Some(&rows::MARKER) => rows::decode(bytes, schema().as_ref()),
        Some(_) => Ok(decode_stream(bytes)?.1),
    }
}

fn decode_stream(bytes: &Bytes) -> Result<(SchemaRef, Vec<RecordBatch>), CodecError> {
    // arrow-ipc 59 answers some damaged schemas with a panic. It holds no state of ours, so the panic ends here.
    catch_unwind(|| read_stream(bytes)).unwrap_or(Err(CodecError::DamagedStream))
}

fn read_stream(bytes: &Bytes) -> Result<(SchemaRef, Vec<RecordBatch>), CodecError> {
    let mut buffer = Buffer::from(bytes.clone());
    let mut decoder = StreamDecoder::new();
    let mut batches = Vec::new();
    while let Some(batch) = decoder.decode(&mut buffer)? {
        batches.push(batch);
    }
    decoder.finish()?;
    let schema = decoder.schema().ok_or(CodecError::TruncatedStream)?;
    Ok((schema, batches))
}

/// A write set with its bytes: encoded once by the proposer, decoded only where the bytes came from the log or a peer.
#[derive(Clone)]
pub struct EncodedWriteSet {
    bytes: Blob,
    decoded: Option<Arc<WriteSet>>,
}

impl EncodedWriteSet {
    /// Encodes.
    pub fn new(write_set: Arc<WriteSet>) -> Result<Self, CodecError> {
        Ok(EncodedWriteSet {
            bytes: Blob(encode_write_set(&write_set)?),
            decoded: Some(write_set),
        })
    }

    /// The write set itself.
    pub fn write_set(&self, schemas: Schemas<'_>) -> Result<Arc<WriteSet>, CodecError> {
        match &self.decoded {
            Some(write_set) => Ok(write_set.clone()),
            None => Ok(Arc::new(decode_write_set(&self.bytes.0, schemas)?)),
        }
    }

    /// Whether it is known, without decoding, to name no staged segments.
    pub fn is_plain(&self) -> bool {
        let decoded = self.decoded.as_ref();
        decoded.is_some_and(|write_set| write_set.relations.iter().all(|writes| writes.staged.is_empty()))
    }

    /// Whether it names no staged segments.
    pub fn names_no_files(&self) -> bool {
        self.is_plain() || matches!(staged_only(self), Ok(None))
    }

    /// Encoded size.
    pub fn byte_size(&self) -> usize {
        self.bytes.0.len()
    }
}

impl fmt::Debug for EncodedWriteSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write set of {:?}", self.bytes)
    }
}

impl Serialize for EncodedWriteSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.bytes.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EncodedWriteSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(EncodedWriteSet {
            bytes: Blob::deserialize(deserializer)?,
            decoded: None,
        })
    }
}

#[cfg(test)]
mod tests;
