//! Cutting rows of any batch sizes into batches of one size, with what a side-car needs to know of each batch's keys.

use arrow_array::RecordBatch;
use arrow_row::Rows;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;

use crate::error::Result;
use crate::key::key_hash;
use crate::own_rows::own_rows;

/// A batch of the size asked for, and its keys.
#[derive(Debug)]
pub struct Chunk {
    /// The rows; their buffers hold nothing else.
    pub rows: RecordBatch,
    /// Hash of each row's key.
    pub hashes: Vec<u64>,
    /// First key.
    pub first_key: Vec<u8>,
    /// Last key.
    pub last_key: Vec<u8>,
}

/// Rows that wait until a batch is full.
#[derive(Debug)]
pub struct Chunker {
    schema: SchemaRef,
    batch_rows: usize,
    slices: Vec<RecordBatch>,
    waiting: usize,
    hashes: Vec<u64>,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
}

impl Chunker {
    /// Cuts into batches of `batch_rows`.
    pub fn new(schema: SchemaRef, batch_rows: usize) -> Self {
        let batch_rows = batch_rows.max(1);
        Chunker {
            schema,
            batch_rows,
            slices: Vec::new(),
            waiting: 0,
            hashes: Vec::new(),
            first_key: Vec::new(),
            last_key: Vec::new(),
        }
    }

    /// Takes rows from position `start` on; returns how many it took, and a chunk when that filled one.
    pub fn take(&mut self, rows: &RecordBatch, keys: &Rows, start: usize) -> Result<(usize, Option<Chunk>)> {
        let count = (self.batch_rows - self.waiting).min(rows.num_rows() - start);
        if count == 0 {
            return Ok((0, None));
        }
        if self.waiting == 0 {
            self.first_key = keys.row(start).data().to_vec();
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(keys.row(start + count - 1).data());
        self.hashes.extend((start..start + count).map(|i| key_hash(keys.row(i).data())));
        self.slices.push(rows.slice(start, count));
        self.waiting += count;
        let full = if self.waiting == self.batch_rows { self.finish()? } else { None };
        Ok((count, full))
    }

    /// What waits; `None` when nothing does.
    pub fn finish(&mut self) -> Result<Option<Chunk>> {
        let rows = match self.slices.as_slice() {
            [] => return Ok(None),
            [only] => only.clone(),
            several => concat_batches(&self.schema, several)?,
        };
        self.slices.clear();
        self.waiting = 0;
        Ok(Some(Chunk {
            rows: own_rows(&rows)?.with_schema(self.schema.clone())?,
            hashes: std::mem::take(&mut self.hashes),
            first_key: std::mem::take(&mut self.first_key),
            last_key: std::mem::take(&mut self.last_key),
        }))
    }

    /// Rows that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }
}
