//! Arrow IPC: the stream format, and the file format read as the stream that it contains.
//!
//! ```text
//! stream:                 message* [end]          message: ffffffff · header length (4) · header · body
//! file:   "ARROW1" 00 … · message* [end] · footer …    (zeros up to the alignment of 8 or 64)
//! ```
//! The library's own readers allocate what a message claims; so the framing is read here, memory growing with what arrives, and each
//! message goes through the checks that messages from the wire go through.

use std::io::{BufReader, Read};

use ::arrow::array::RecordBatch;
use ::arrow::error::ArrowError;
use ::arrow::ipc::root_as_message;
use arrow_flight::FlightData;
use futures::executor::block_on;
use futures::{StreamExt, stream};
use tonic::Status;

use super::rows::Rows;
use crate::flight::decode::Decoder;

const FILE_MAGIC: &[u8; 8] = b"ARROW1\0\0";
/// Bytes of magic and padding that a file begins with at most.
const MAX_PADDING: usize = 64;
/// Largest header of a message, in bytes.
const MAX_HEADER_BYTES: usize = 16 << 20;
/// Largest body of a message, and what it may grow to when it is decompressed, in bytes.
const MAX_BODY_BYTES: usize = 2 << 30;

/// Opens an Arrow stream or file.
pub fn open(input: impl Read + Send + 'static) -> Result<Rows, String> {
    let mut input = BufReader::with_capacity(1 << 20, input);
    // The first bytes of a stream, or those behind a file's magic and padding, are the beginning of the first message.
    let mut first = [0; 8];
    for _ in 0..=MAX_PADDING / first.len() {
        input
            .read_exact(&mut first)
            .map_err(|_| "the file is too short for Arrow data".to_owned())?;
        if first != *FILE_MAGIC && first != [0; 8] {
            break;
        }
    }
    let first = Some(first);
    let mut decoder = Decoder::new(
        stream::iter(Messages {
            input,
            first,
            ended: false,
        })
        .boxed(),
        MAX_BODY_BYTES,
    );
    let schema = block_on(decoder.schema()).map_err(|status| damaged(&status).to_string())?;
    let schema = schema.ok_or("it does not begin with a schema")?;
    Ok(Rows {
        schema,
        batches: Box::new(Batches { decoder: Some(decoder) }),
    })
}

/// Messages of the framing; ends behind an error.
struct Messages<R> {
    input: BufReader<R>,
    /// The eight bytes before the first header, if they were read already.
    first: Option<[u8; 8]>,
    ended: bool,
}

impl<R: Read> Messages<R> {
    /// The next message; `None` at the end of the stream.
    fn read(&mut self) -> Result<Option<FlightData>, Status> {
        let Some(prefix) = self.prefix()? else { return Ok(None) };
        let [a, b, c, d, length @ ..] = prefix;
        if [a, b, c, d] != [0xff; 4] {
            return Err(Status::invalid_argument("a message does not begin where it should"));
        }
        let length = u32::from_le_bytes(length) as usize;
        if length == 0 {
            return Ok(None);
        }
        if length > MAX_HEADER_BYTES {
            return Err(Status::invalid_argument(format!("a message's header claims {length} bytes")));
        }
        let header = self.bytes(length)?;
        let message = root_as_message(&header).map_err(|error| Status::invalid_argument(format!("a message's header: {error}")))?;
        let claimed = message.bodyLength();
        let length = usize::try_from(claimed).ok().filter(|length| *length <= MAX_BODY_BYTES);
        let length = length.ok_or_else(|| Status::invalid_argument(format!("a message claims {claimed} bytes")))?;
        let body = self.bytes(length)?;
        Ok(Some(FlightData {
            data_header: header.into(),
            data_body: body.into(),
            ..FlightData::default()
        }))
    }

    /// The eight bytes before a header; `None` at a clean end of the input.
    fn prefix(&mut self) -> Result<Option<[u8; 8]>, Status> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let bytes = self.available(8)?;
        match <[u8; 8]>::try_from(bytes.as_slice()) {
            Ok(prefix) => Ok(Some(prefix)),
            Err(_) if bytes.is_empty() => Ok(None),
            Err(_) => Err(cut_off()),
        }
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, Status> {
        let bytes = self.available(length)?;
        if bytes.len() < length { Err(cut_off()) } else { Ok(bytes) }
    }

    /// Up to so many bytes; memory grows with what arrives, not with what was claimed.
    fn available(&mut self, length: usize) -> Result<Vec<u8>, Status> {
        let mut bytes = Vec::new();
        self.input
            .by_ref()
            .take(length as u64)
            .read_to_end(&mut bytes)
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(bytes)
    }
}

impl<R: Read> Iterator for Messages<R> {
    type Item = Result<FlightData, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let message = self.read().transpose();
        self.ended = !matches!(message, Some(Ok(_)));
        message
    }
}

/// Decoded batches; ends behind an error.
struct Batches {
    decoder: Option<Decoder>,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        // The messages come from a blocking reader: waiting for them never waits for a task.
        let batch = block_on(self.decoder.as_mut()?.next())
            .map_err(|status| damaged(&status))
            .transpose();
        if !matches!(batch, Some(Ok(_))) {
            self.decoder = None;
        }
        batch
    }
}

fn damaged(status: &Status) -> ArrowError {
    ArrowError::IpcError(format!("damaged Arrow data: {}", status.message()))
}

fn cut_off() -> Status {
    Status::invalid_argument("the file is cut off")
}
