//! The shape of a relation: an Arrow schema whose fields have stable ids, and which of them are the key.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::ids::RelationId;

/// Field metadata key that holds a column's stable id (a decimal number, unique within the relation for ever).
pub const FIELD_ID: &str = "pyralog.id";

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
        RelationSchema { id, version: 1, schema: Arc::new(Schema::new(fields)), key }
    }

    /// The stable id of the column at `position`.
    pub fn field_id(&self, position: usize) -> u32 {
        field_id(self.schema.field(position)).unwrap_or(position as u32)
    }

    /// The key columns as a schema, in key order.
    pub fn key_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.key.iter().map(|&i| self.schema.field(i).clone()).collect::<Vec<_>>()))
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
