//! The head of an input: read once to infer types, then read again as the beginning of the data.

use std::collections::HashMap;
use std::io::{self, Chain, Cursor, Read};
use std::sync::Arc;

use ::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

/// Bytes that types are inferred from at most.
const HEAD_BYTES: usize = 8 << 20;

/// An input with its head in memory.
pub struct Sampled<R> {
    /// The first bytes.
    pub head: Vec<u8>,
    /// Whether the head is all there is.
    pub whole: bool,
    rest: R,
}

impl<R: Read> Sampled<R> {
    /// Reads the head.
    pub fn new(mut input: R) -> io::Result<Self> {
        let mut head = Vec::new();
        input.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        let whole = head.len() < HEAD_BYTES;
        Ok(Sampled { head, whole, rest: input })
    }

    /// The head up to its last whole line.
    pub fn lines(&self) -> &[u8] {
        if self.whole {
            return &self.head;
        }
        self.head
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(&self.head, |end| &self.head[..=end])
    }

    /// All of the input again.
    pub fn into_reader(self) -> Chain<Cursor<Vec<u8>>, R> {
        Cursor::new(self.head).chain(self.rest)
    }
}

/// Inferred columns with the table's own types where it has a column of that name and `readable` says that the reader makes that type.
pub fn with_target(inferred: Vec<FieldRef>, target: Option<&SchemaRef>, readable: fn(&DataType) -> bool) -> SchemaRef {
    let known: HashMap<&str, &DataType> = target
        .map(|target| {
            target
                .fields()
                .iter()
                .map(|field| (field.name().as_str(), field.data_type()))
                .collect()
        })
        .unwrap_or_default();
    let fields = inferred.into_iter().map(|field| {
        let kind = match known.get(field.name().as_str()).map(|kind| plain(kind)) {
            Some(kind) if readable(&kind) => kind,
            // A column without a value in the sample.
            _ if field.data_type().is_null() => DataType::Utf8,
            _ => field.data_type().clone(),
        };
        Arc::new(Field::new(field.name(), kind, true))
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The type without encodings that readers do not make.
fn plain(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::Dictionary(_, value) => plain(value),
        other => other.clone(),
    }
}
