//! The shape of a relation: an Arrow schema whose fields have stable ids, and which of them are the key.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::error::{Result, StorageError};
use crate::ids::RelationId;
use crate::segment::TIMESTAMP_COLUMN;

/// How deep a column's type may nest: Arrow's file format and the manifest's JSON both limit it, at a little more.
const MAX_DEPTH: usize = 24;

/// Field metadata key that holds a column's stable id (a decimal number, unique within the relation for ever).
pub const FIELD_ID: &str = "pyralog.id";

/// Schema metadata key that says how segments are compressed: `zstd`, or not at all where it is missing.
const COMPRESSION: &str = "pyralog.compression";
/// Schema metadata key of the rows of a record batch.
const BATCH_ROWS: &str = "pyralog.batch_rows";
/// Schema metadata key of how many of the first key columns are the partition key; all where it is missing.
const PLACED_BY: &str = "pyralog.placed_by";

/// The schema of a relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationSchema {
    /// The relation.
    pub id: RelationId,
    /// Grows by one with each change of the schema.
    pub version: u32,
    /// User columns, in their order; every field carries [`FIELD_ID`]. A column that a segment lacks reads as null.
    #[serde(with = "arrow_schema_serde")]
    pub schema: SchemaRef,
    /// Positions of the key columns in `schema`, in key order; at least one. Key columns hold no nulls.
    pub key: Vec<usize>,
}

impl RelationSchema {
    /// A first version from plain fields: ids are given in order, starting at 0.
    pub fn new(id: RelationId, fields: impl IntoIterator<Item = Field>, key: Vec<usize>) -> Self {
        let fields: Vec<Field> = fields.into_iter().enumerate().map(|(i, f)| with_field_id(f, i as u32)).collect();
        RelationSchema {
            id,
            version: 1,
            schema: Arc::new(Schema::new(fields)),
            key,
        }
    }

    /// The same, with segments whose buffers are compressed: for rows that are looked up, or scanned again and again, so that they are kept
    /// unpacked; what is read once pays for it each time.
    pub fn compressed(self) -> Self {
        self.with_metadata(COMPRESSION, "zstd".to_owned())
    }

    /// The same, with so many rows a record batch. Fewer of them are read at once where rows are looked up one by one.
    pub fn with_batch_rows(self, rows: usize) -> Self {
        self.with_metadata(BATCH_ROWS, rows.to_string())
    }

    /// The same, with rows placed by so many of the first key columns rather than by all.
    pub fn placed_by_first(self, columns: usize) -> Self {
        self.with_metadata(PLACED_BY, columns.to_string())
    }

    /// How many of the first key columns say in which partition a row is.
    pub fn placed_by(&self) -> usize {
        let columns = self.schema.metadata().get(PLACED_BY).and_then(|columns| columns.parse().ok());
        columns
            .filter(|columns| (1..self.key.len()).contains(columns))
            .unwrap_or(self.key.len())
    }

    fn with_metadata(mut self, key: &str, value: String) -> Self {
        let mut metadata = self.schema.metadata().clone();
        metadata.insert(key.to_owned(), value);
        self.schema = Arc::new(Schema::new_with_metadata(self.schema.fields().clone(), metadata));
        self
    }

    /// Whether segments are compressed.
    pub fn is_compressed(&self) -> bool {
        self.schema.metadata().contains_key(COMPRESSION)
    }

    /// Rows of a record batch, if not as many as in other relations.
    pub fn batch_rows(&self) -> Option<usize> {
        self.schema.metadata().get(BATCH_ROWS)?.parse().ok().filter(|rows| *rows > 0)
    }

    /// Whether segments can hold such rows: ids are unique, the key names columns, types are ones that files can store.
    pub fn validate(&self) -> Result<()> {
        let mismatch = |detail: String| StorageError::SchemaMismatch { relation: self.id, detail };
        let mut ids = HashMap::new();
        for field in self.schema.fields() {
            let id = field_id(field).ok_or_else(|| mismatch(format!("column '{}' has no id", field.name())))?;
            if let Some(other) = ids.insert(id, field.name()) {
                return Err(mismatch(format!("columns '{other}' and '{}' have the same id {id}", field.name())));
            }
            if field.name() == TIMESTAMP_COLUMN {
                return Err(mismatch(format!("the column name '{TIMESTAMP_COLUMN}' is reserved")));
            }
            check_type(field.data_type(), 0).map_err(|what| mismatch(format!("column '{}': {what}", field.name())))?;
        }
        let in_range = self.key.iter().all(|&i| i < self.schema.fields().len());
        if self.key.is_empty() || !in_range {
            return Err(mismatch(format!(
                "the key {:?} is not among the {} columns",
                self.key,
                self.schema.fields().len()
            )));
        }
        Ok(())
    }

    /// The stable id of the column at `position`.
    pub fn field_id(&self, position: usize) -> u32 {
        field_id(self.schema.field(position)).unwrap_or(position as u32)
    }

    /// The key columns as a schema, in key order.
    pub fn key_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(
            self.key.iter().map(|&i| self.schema.field(i).clone()).collect::<Vec<_>>(),
        ))
    }

    /// The projection index that stands for the row version's commit timestamp (a `UInt64` column named `_ts`).
    pub fn timestamp_column(&self) -> usize {
        self.schema.fields().len()
    }
}

/// `field` with a stable id.
pub fn with_field_id(field: Field, id: u32) -> Field {
    let mut metadata: HashMap<String, String> = field.metadata().clone();
    metadata.insert(FIELD_ID.to_owned(), id.to_string());
    field.with_metadata(metadata)
}

/// The stable id in a field's metadata.
pub fn field_id(field: &Field) -> Option<u32> {
    field.metadata().get(FIELD_ID)?.parse().ok()
}

/// Says why a type cannot be stored.
fn check_type(data_type: &DataType, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("its type is nested more than {MAX_DEPTH} levels deep"));
    }
    match data_type {
        DataType::Dictionary(_, values) => Err(format!("dictionary types are not stored; use {values}")),
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::FixedSizeList(f, _)
        | DataType::Map(f, _)
        | DataType::RunEndEncoded(_, f) => check_type(f.data_type(), depth + 1),
        DataType::Struct(fields) => fields.iter().try_for_each(|f| check_type(f.data_type(), depth + 1)),
        DataType::Union(fields, _) => fields.iter().try_for_each(|(_, f)| check_type(f.data_type(), depth + 1)),
        _ => Ok(()),
    }
}

/// `Arc<Schema>` through the serde form of `Schema`.
mod arrow_schema_serde {
    use arrow_schema::SchemaRef;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(schema: &SchemaRef, serializer: S) -> Result<S::Ok, S::Error> {
        schema.as_ref().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SchemaRef, D::Error> {
        Ok(std::sync::Arc::new(arrow_schema::Schema::deserialize(deserializer)?))
    }
}
