//! Keys as bytes: the arrow-row encoding of a relation's key columns. Byte order is key order.
//!
//! Encoded keys also lie in side-cars and manifests, so the encoding must not change between versions of the software; a test holds it.

use std::fmt::Write;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_row::{RowConverter, Rows, SortField};

use crate::error::{Result, StorageError};
use crate::ids::RelationId;
use crate::schema::RelationSchema;

/// Encodes and decodes the keys of one relation. Make one per relation schema and keep it.
#[derive(Debug)]
pub struct KeyEncoder {
    relation: RelationId,
    names: Vec<Arc<str>>,
    field_ids: Vec<u32>,
    converter: RowConverter,
}

impl KeyEncoder {
    /// An encoder for the key columns of `schema`. Fails when a key column's type has no order.
    pub fn new(schema: &RelationSchema) -> Result<Self> {
        let fields = schema.key_schema();
        let converter = RowConverter::new(fields.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect())?;
        Ok(KeyEncoder {
            relation: schema.id,
            names: fields.fields().iter().map(|f| Arc::from(f.name().as_str())).collect(),
            field_ids: schema.key.iter().map(|&i| schema.field_id(i)).collect(),
            converter,
        })
    }

    /// One key a row. `key_columns` in key order, of the schema's types, without nulls.
    pub fn encode(&self, key_columns: &[ArrayRef]) -> Result<Rows> {
        let mismatch = |detail| StorageError::SchemaMismatch {
            relation: self.relation,
            detail,
        };
        if key_columns.len() != self.names.len() {
            return Err(mismatch(format!(
                "{} key columns where the key has {}",
                key_columns.len(),
                self.names.len()
            )));
        }
        if let Some(at) = key_columns.iter().position(|column| column.logical_null_count() > 0) {
            return Err(mismatch(format!("key column '{}' holds a null", self.names[at])));
        }
        self.converter.convert_columns(key_columns).map_err(|e| mismatch(e.to_string()))
    }

    /// Key columns in key order, from keys that [`Self::encode`] made (of this process or an earlier one, for the same column types).
    pub fn decode<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        // Rows borrow from the parser, which must outlive the call.
        let rows: Vec<_> = keys.into_iter().map(|key| parser.parse(key)).collect();
        Ok(self.converter.convert_rows(rows)?)
    }

    /// The key, readable: `(id=1)`.
    pub fn display(&self, key: &[u8]) -> String {
        let Ok(columns) = self.decode([key]) else {
            return format!("({})", crate::hex::encode(key));
        };
        let options = FormatOptions::default();
        let mut text = String::from("(");
        for (at, (name, column)) in self.names.iter().zip(&columns).enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            // Writing to a string does not fail; a value that cannot be shown leaves its place empty.
            let _ = match ArrayFormatter::try_new(column.as_ref(), &options) {
                Ok(value) => write!(text, "{comma}{name}={}", value.value(0)),
                Err(_) => write!(text, "{comma}{name}=?"),
            };
        }
        text.push(')');
        text
    }

    /// Stable ids of the key columns, in key order.
    pub fn field_ids(&self) -> &[u32] {
        &self.field_ids
    }
}

/// The hash of a key for bloom filters (xxh3, 64 bits).
pub fn key_hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow_array::{Int64Array, StringArray, StringViewArray};
    use arrow_schema::{DataType, Field};

    use super::*;

    fn encoder() -> KeyEncoder {
        let fields = [
            Field::new("id", DataType::Int64, false),
            Field::new("x", DataType::Int8, true),
            Field::new("name", DataType::Utf8, false),
        ];
        KeyEncoder::new(&RelationSchema::new(RelationId(1), fields, vec![2, 0])).unwrap()
    }

    fn columns(names: &[&str], ids: &[i64]) -> Vec<ArrayRef> {
        vec![
            Arc::new(StringArray::from(names.to_vec())),
            Arc::new(Int64Array::from(ids.to_vec())),
        ]
    }

    #[test]
    fn byte_order_is_key_order() {
        let rows = encoder()
            .encode(&columns(&["", "a", "a", "ab", "b"], &[9, -1, 0, -5, i64::MIN]))
            .unwrap();
        assert!((1..5).all(|i| rows.row(i - 1).data() < rows.row(i).data()));
    }

    #[test]
    fn decoding_gives_the_columns_back() {
        let encoder = encoder();
        let columns = columns(&["a long name, longer than one block of the encoding", "b"], &[1, 2]);
        let rows = encoder.encode(&columns).unwrap();
        let keys: Vec<&[u8]> = (0..2).map(|i| rows.row(i).data()).collect();
        assert_eq!(encoder.decode(keys).unwrap(), columns);
        assert_eq!(encoder.display(rows.row(1).data()), "(name=b, id=2)");
        assert_eq!(encoder.field_ids(), &[2, 0]);
    }

    #[test]
    fn nulls_and_wrong_types_are_refused() {
        let encoder = encoder();
        let with_null: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec![None::<&str>])), Arc::new(Int64Array::from(vec![1]))];
        assert!(encoder.encode(&with_null).unwrap_err().to_string().contains("'name' holds a null"));
        let wrong_type: Vec<ArrayRef> = vec![Arc::new(StringViewArray::from(vec!["a"])), Arc::new(Int64Array::from(vec![1]))];
        assert!(matches!(encoder.encode(&wrong_type), Err(StorageError::SchemaMismatch { .. })));
        assert!(matches!(encoder.encode(&wrong_type[..1]), Err(StorageError::SchemaMismatch { .. })));
    }

    /// Keys are stored: an arrow-row that encodes otherwise could not read older files.
    #[test]
    fn the_encoding_is_the_one_on_disk() {
        let rows = encoder().encode(&columns(&["ab"], &[-2])).unwrap();
        assert_eq!(
            crate::hex::encode(rows.row(0).data()),
            "0261620000000000000201".to_owned() + "7ffffffffffffffe"
        );
    }
}
