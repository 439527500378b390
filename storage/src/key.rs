//! Keys as bytes: the arrow-row encoding of a relation's key columns. Byte order is key order.

use arrow_array::ArrayRef;
use arrow_row::Rows;

use crate::error::Result;
use crate::schema::RelationSchema;

/// Encodes and decodes the keys of one relation. Make one per relation schema and keep it.
#[derive(Debug)]
pub struct KeyEncoder {}

impl KeyEncoder {
    /// An encoder for the key columns of `schema`.
    pub fn new(_schema: &RelationSchema) -> Result<Self> {
        todo!()
    }

    /// One key a row. `key_columns` in key order, of the schema's types, without nulls.
    pub fn encode(&self, _key_columns: &[ArrayRef]) -> Result<Rows> {
        todo!()
    }

    /// Key columns in key order, from keys that [`Self::encode`] made (of this process or an earlier one).
    pub fn decode<'a>(&self, _keys: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        todo!()
    }

    /// The key, readable: `(id=1)`.
    pub fn display(&self, _key: &[u8]) -> String {
        todo!()
    }

    /// Stable ids of the key columns, in key order.
    pub fn field_ids(&self) -> &[u32] {
        todo!()
    }
}

/// The hash of a key for bloom filters (xxh3, 64 bits).
pub fn key_hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}
