//! Definitions of what the catalog names.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use pyralog_storage::RelationSchema;
use serde::{Deserialize, Serialize};

use crate::rdf::DatasetDefinition;

/// A schema-qualified name, as stored (already folded to lower case where it was not quoted).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    /// The schema.
    pub schema: String,
    /// The name within it.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.schema == super::DEFAULT_SCHEMA {
            f.write_str(&self.name)
        } else {
            write!(f, "{}.{}", self.schema, self.name)
        }
    }
}

/// Something with a name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Object {
    /// A collection that one relation backs: a table or a bucket.
    Table(TableDefinition),
    /// A view: a query with a name.
    View(ViewDefinition),
    /// A dataset of RDF: a collection of several relations.
    Dataset(DatasetDefinition),
    /// A file or folder read in place; the statement that made it.
    External {
        /// `CREATE EXTERNAL TABLE …`
        sql: String,
    },
}

impl Object {
    /// The relations behind it.
    pub fn relations(&self) -> Vec<&RelationSchema> {
        match self {
            Object::Table(table) => vec![&table.relation],
            Object::Dataset(dataset) => dataset.relations().collect(),
            Object::View(_) | Object::External { .. } => Vec::new(),
        }
    }
}

/// What kind of collection a relation backs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CollectionKind {
    /// A relational table.
    Table,
    /// A key-value bucket.
    KeyValue,
}

impl CollectionKind {
    /// The word used in `CREATE COLLECTION … AS` and `SHOW COLLECTIONS`.
    pub fn word(self) -> &'static str {
        match self {
            CollectionKind::Table => "TABLE",
            CollectionKind::KeyValue => "KV",
        }
    }
}

/// A table or bucket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TableDefinition {
    /// Its name.
    pub name: ObjectName,
    /// What it is.
    pub kind: CollectionKind,
    /// The relation behind it. Hidden columns stand last.
    pub relation: RelationSchema,
    /// What SQL knows of each visible column, in the relation's order; hidden columns have none.
    pub columns: Vec<ColumnDefinition>,
    /// Whether the key is a hidden row id rather than declared.
    pub hidden_key: bool,
    /// Row constraints.
    pub checks: Vec<CheckConstraint>,
    /// The next stable column id.
    pub next_field_id: u32,
}

/// A column beyond its Arrow field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDefinition {
    /// Default value as a SQL expression.
    pub default: Option<String>,
    /// NOT NULL that was set after the column was made: its relation, whose older segments may lack the column, stays nullable.
    #[serde(default)]
    pub not_null: bool,
}

/// A `CHECK` constraint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckConstraint {
    /// Its name.
    pub name: String,
    /// The condition as SQL.
    pub expression: String,
}

/// A view.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ViewDefinition {
    /// The query.
    pub query: String,
    /// Names given to its columns; empty: the query's own.
    pub columns: Vec<String>,
}

/// The column that keys a table without a primary key.
pub const ROW_ID: &str = "_rowid";

impl TableDefinition {
    /// Visible columns.
    pub fn visible_schema(&self) -> SchemaRef {
        let columns = self.columns.iter().zip(self.relation.schema.fields());
        let fields = columns.map(|(column, field)| match column.not_null {
            true => Arc::new(field.as_ref().clone().with_nullable(false)),
            false => Arc::clone(field),
        });
        Arc::new(Schema::new(fields.collect::<Vec<Arc<Field>>>()))
    }

    /// Positions of the visible columns in the relation.
    pub fn visible_columns(&self) -> Vec<usize> {
        (0..self.columns.len()).collect()
    }

    /// Names of the declared primary key; empty when the key is hidden.
    pub fn primary_key(&self) -> Vec<&str> {
        if self.hidden_key {
            return Vec::new();
        }
        self.relation
            .key
            .iter()
            .map(|&i| self.relation.schema.field(i).name().as_str())
            .collect()
    }
}
