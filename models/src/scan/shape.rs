//! What stays the same for every scan of one [`super::RelationTable`]: its views, its columns, its key, what is known of its columns.

use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{ColumnStatistics, Constraint, Constraints, plan_err};
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use pyralog_storage::schema::FIELD_ID;
use pyralog_storage::{RelationSchema, RelationView, ScanPiece};

use super::statistics::column_statistics;

/// Name of the column that holds a row version's commit timestamp.
pub(super) const TIMESTAMP_COLUMN: &str = "_ts";

/// One piece of one view.
pub(super) struct Piece {
    /// Which view (and so which partition of the database) it belongs to.
    pub view: usize,
    /// The piece.
    pub scan: ScanPiece,
}

/// A relation at one snapshot with a choice of its columns. "Table columns" are positions in [`Self::schema`], "relation columns"
/// positions in the relation's schema, where `timestamp_column()` stands for the timestamp.
pub(super) struct TableShape {
    pub name: String,
    pub relation: Arc<RelationSchema>,
    pub views: Vec<RelationView>,
    /// Every piece of every view that has visible rows.
    pub pieces: Vec<Piece>,
    /// Relation column of each table column.
    pub positions: Vec<usize>,
    pub schema: SchemaRef,
    /// Table columns of the longest prefix of the key that is visible, in key order.
    pub key_prefix: Vec<usize>,
    pub constraints: Constraints,
    column_statistics: Vec<OnceLock<ColumnStatistics>>,
}

impl TableShape {
    pub fn try_new(name: String, views: Vec<RelationView>, positions: Vec<usize>) -> Result<TableShape> {
        let Some(first) = views.first() else {
            return plan_err!("table {name} has no partition to read");
        };
        let relation = Arc::clone(first.schema());
        if let Some(other) = views
            .iter()
            .find(|v| v.schema().id != relation.id || v.schema().version != relation.version)
        {
            return plan_err!(
                "table {name}: partitions disagree on the schema: {} version {} and {} version {}",
                relation.id,
                relation.version,
                other.schema().id,
                other.schema().version
            );
        }
        let schema = table_schema(&name, &relation, &positions)?;
        let key_columns: Vec<Option<usize>> = relation.key.iter().map(|k| positions.iter().position(|p| p == k)).collect();
        let key_prefix: Vec<usize> = key_columns.iter().map_while(|c| *c).collect();
        let constraints = match key_prefix.len() == relation.key.len() {
            true => Constraints::new_unverified(vec![Constraint::PrimaryKey(key_prefix.clone())]),
            false => Constraints::default(),
        };
        let pieces = views
            .iter()
            .enumerate()
            .flat_map(|(view, v)| v.pieces().iter().map(move |scan| Piece { view, scan: scan.clone() }))
            .filter(|piece| piece.scan.visible_rows() > 0)
            .collect();
        let column_statistics = positions.iter().map(|_| OnceLock::new()).collect();
        Ok(TableShape {
            name,
            relation,
            views,
            pieces,
            positions,
            schema,
            key_prefix,
            constraints,
            column_statistics,
        })
    }

    /// Whether every key column is a table column.
    pub fn key_is_visible(&self) -> bool {
        self.key_prefix.len() == self.relation.key.len()
    }

    /// Relation columns of these table columns.
    pub fn relation_columns(&self, table_columns: &[usize]) -> Vec<usize> {
        table_columns.iter().map(|&c| self.positions[c]).collect()
    }

    /// A schema of these table columns.
    pub fn project(&self, table_columns: &[usize]) -> SchemaRef {
        Arc::new(Schema::new(
            table_columns
                .iter()
                .map(|&c| FieldRef::clone(&self.schema.fields()[c]))
                .collect::<Vec<_>>(),
        ))
    }

    /// The key's order over table columns, as far as it is visible.
    pub fn key_ordering(&self) -> Option<LexOrdering> {
        LexOrdering::new(
            self.key_prefix
                .iter()
                .map(|&c| PhysicalSortExpr::new_default(Arc::new(Column::new(self.schema.field(c).name(), c))).asc()),
        )
    }

    /// Visible rows over all partitions: exact.
    pub fn row_count(&self) -> u64 {
        self.views.iter().map(RelationView::row_count).sum()
    }

    /// Statistics of a table column over all rows, gathered when first asked for.
    pub fn column_statistics(&self, column: usize) -> &ColumnStatistics {
        self.column_statistics[column].get_or_init(|| column_statistics(self, column))
    }
}

/// The columns of a relation at these positions as a table shows them.
pub(super) fn table_schema(table: &str, relation: &RelationSchema, positions: &[usize]) -> Result<SchemaRef> {
    let fields = positions.iter().map(|&position| table_field(table, relation, position));
    Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?)))
}

/// A relation's field as the table shows it: without the storage's own field id, and never null in the key.
fn table_field(table: &str, relation: &RelationSchema, position: usize) -> Result<FieldRef> {
    if position == relation.timestamp_column() {
        return Ok(Arc::new(Field::new(TIMESTAMP_COLUMN, DataType::UInt64, false)));
    }
    let Some(field) = relation.schema.fields().get(position) else {
        return plan_err!("table {table} has no column at position {position}");
    };
    let mut metadata = field.metadata().clone();
    metadata.remove(FIELD_ID);
    let nullable = field.is_nullable() && !relation.key.contains(&position);
    Ok(Arc::new(field.as_ref().clone().with_metadata(metadata).with_nullable(nullable)))
}
