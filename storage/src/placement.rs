//! Which partition a row belongs to: the hash of its partition key, cut into as many ranges as there are partitions.
//!
//! The partition key is the primary key, or its first columns where the schema says so ([`RelationSchema::placed_by`]). With twice as many
//! partitions each range is cut in two, so half of a partition's rows move, and to one place.

use arrow_array::{ArrayRef, RecordBatch, UInt32Array};
use arrow_row::{RowConverter, SortField};
use arrow_select::take::take_record_batch;

use crate::error::{Result, StorageError};
use crate::ids::PartitionId;
use crate::schema::RelationSchema;

/// Another than that of bloom filters: within a partition these hashes are alike. Never changes: rows on disk lie by it.
const SEED: u64 = 0x7079_7261_6c6f_6701;

/// The partitions of a database, a power of two. Rows of one relation with the same partition key are in the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    bits: u32,
}

impl Placement {
    /// A placement over so many partitions; `None` where that is not a power of two.
    pub fn over(partitions: usize) -> Option<Placement> {
        partitions.is_power_of_two().then(|| Placement {
            bits: partitions.trailing_zeros(),
        })
    }

    /// Whether there is one partition only.
    pub fn is_trivial(self) -> bool {
        self.bits == 0
    }

    /// How many partitions.
    pub fn partitions(self) -> usize {
        1 << self.bits
    }

    /// Where keys belong: one partition a row. `keys`: the key columns in key order, or as many of them as the partition key has.
    pub fn of_keys(self, schema: &RelationSchema, keys: &[ArrayRef]) -> Result<Vec<PartitionId>> {
        let rows = keys.first().map_or(0, |column| column.len());
        if self.is_trivial() {
            return Ok(vec![PartitionId(0); rows]);
        }
        let fields = schema.key_schema();
        let placed_by = schema.placed_by();
        let Some(keys) = keys.get(..placed_by) else {
            return Err(mismatch(
                schema,
                format!("{} columns where the partition key has {placed_by}", keys.len()),
            ));
        };
        let types = fields.fields().iter().take(placed_by);
        let converter = RowConverter::new(types.map(|field| SortField::new(field.data_type().clone())).collect())?;
        let rows = converter
            .convert_columns(keys)
            .map_err(|error| mismatch(schema, error.to_string()))?;
        Ok(rows.iter().map(|row| self.of_bytes(row.data())).collect())
    }

    fn of_bytes(self, key: &[u8]) -> PartitionId {
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(key, SEED);
        PartitionId((hash >> (u64::BITS - self.bits)) as u32)
    }

    /// Whole rows, in the relation's schema, by partition; in their order.
    pub fn split_rows(self, schema: &RelationSchema, rows: &RecordBatch) -> Result<Vec<(PartitionId, RecordBatch)>> {
        if self.is_trivial() {
            return Ok(vec![(PartitionId(0), rows.clone())]);
        }
        let key = |position: &usize| match rows.columns().get(*position) {
            Some(column) => Ok(column.clone()),
            None => Err(mismatch(schema, format!("{} columns", rows.num_columns()))),
        };
        let keys = schema.key.iter().take(schema.placed_by()).map(key).collect::<Result<Vec<_>>>()?;
        self.split(rows, self.of_keys(schema, &keys)?)
    }

    /// Key columns, in key order, by partition; in their order.
    pub fn split_keys(self, schema: &RelationSchema, keys: &RecordBatch) -> Result<Vec<(PartitionId, RecordBatch)>> {
        if self.is_trivial() {
            return Ok(vec![(PartitionId(0), keys.clone())]);
        }
        self.split(keys, self.of_keys(schema, keys.columns())?)
    }

    fn split(self, batch: &RecordBatch, homes: Vec<PartitionId>) -> Result<Vec<(PartitionId, RecordBatch)>> {
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); self.partitions()];
        for (row, home) in homes.into_iter().enumerate() {
            rows[home.0 as usize].push(row as u32);
        }
        let homes = rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty());
        let split = homes.map(|(home, rows)| {
            let taken = match rows.len() == batch.num_rows() {
                true => batch.clone(),
                false => take_record_batch(batch, &UInt32Array::from(rows))?,
            };
            Ok((PartitionId(home as u32), taken))
        });
        split.collect()
    }
}

fn mismatch(schema: &RelationSchema, detail: String) -> StorageError {
    StorageError::SchemaMismatch {
        relation: schema.id,
        detail,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{Int64Array, StringArray};
    use arrow_schema::{DataType, Field};

    use super::*;
    use crate::ids::RelationId;

    fn schema() -> RelationSchema {
        let fields = [Field::new("name", DataType::Utf8, false), Field::new("id", DataType::Int64, false)];
        RelationSchema::new(RelationId(1), fields, vec![1, 0])
    }

    fn rows(count: i64) -> RecordBatch {
        let names = StringArray::from_iter_values((0..count).map(|id| format!("name {}", id % 7)));
        let ids = Int64Array::from_iter_values(0..count);
        RecordBatch::try_new(schema().schema, vec![Arc::new(names), Arc::new(ids)]).unwrap()
    }

    #[test]
    fn rows_are_spread_evenly_and_each_is_in_one_place() {
        let placement = Placement::over(8).unwrap();
        let split = placement.split_rows(&schema(), &rows(8000)).unwrap();
        let sizes: Vec<usize> = split.iter().map(|(_, rows)| rows.num_rows()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 8000);
        assert!(sizes.iter().all(|size| (850..1150).contains(size)), "{sizes:?}");
        for (home, rows) in split {
            let ids = rows.column(1).as_primitive::<Int64Type>();
            assert!(ids.values().is_sorted(), "in their order");
            let keys = RecordBatch::try_new(schema().key_schema(), vec![rows.column(1).clone(), rows.column(0).clone()]).unwrap();
            assert_eq!(placement.split_keys(&schema(), &keys).unwrap(), [(home, keys)]);
        }
    }

    #[test]
    fn twice_as_many_partitions_cut_each_in_two() {
        let (four, eight) = (Placement::over(4).unwrap(), Placement::over(8).unwrap());
        let keys: Vec<ArrayRef> = vec![rows(500).column(1).clone(), rows(500).column(0).clone()];
        let before = four.of_keys(&schema(), &keys).unwrap();
        let after = eight.of_keys(&schema(), &keys).unwrap();
        assert!(before.iter().zip(after).all(|(before, after)| before.0 == after.0 / 2));
        assert!(Placement::over(6).is_none() && Placement::over(0).is_none());
        assert!(Placement::over(1).unwrap().is_trivial());
    }

    #[test]
    fn the_first_columns_place_where_the_schema_says_so() {
        let schema = schema().placed_by_first(1);
        assert_eq!(schema.placed_by(), 1);
        let placement = Placement::over(8).unwrap();
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![5, 5, 6]));
        let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "a"]));
        let homes = placement.of_keys(&schema, &[ids.clone(), names]).unwrap();
        assert_eq!(homes[0], homes[1]);
        assert_eq!(placement.of_keys(&schema, &[ids]).unwrap(), homes);
        let wrong: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        assert!(placement.of_keys(&schema, &[wrong]).is_err() && placement.of_keys(&schema, &[]).is_err());
    }

    /// Rows on disk lie by it.
    #[test]
    fn the_hash_is_the_one_on_disk() {
        let placement = Placement::over(1 << 16).unwrap();
        let keys: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1, -2])), Arc::new(StringArray::from(vec!["a", "b"]))];
        let homes: Vec<u32> = placement.of_keys(&schema(), &keys).unwrap().iter().map(|home| home.0).collect();
        assert_eq!(homes, [1708, 20801]);
    }
}
