//! One relation over all partitions, as a statement that looks rows up by key sees it.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::compute::interleave_record_batch;
use datafusion::arrow::datatypes::Schema;
use pyralog_storage::{Placement, RelationSchema, RelationView, RowAddress};

use crate::error::{Error, Result};
use crate::reads::Reads;

/// A view a partition.
#[derive(Clone)]
pub(crate) struct Views {
    views: Vec<RelationView>,
    placement: Placement,
    /// What a serializable transaction reads.
    reads: Option<Arc<Reads>>,
}

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    partition: usize,
    address: RowAddress,
}

impl Views {
    /// Of all partitions, by number.
    pub(crate) fn new(views: Vec<RelationView>) -> Result<Views> {
        match Placement::over(views.len()) {
            Some(placement) => Ok(Views {
                views,
                placement,
                reads: None,
            }),
            None => Err(Error::internal(format!("rows cannot be placed in {} partitions", views.len()))),
        }
    }

    /// The same, which say which keys are looked up.
    pub(crate) fn recorded(self, reads: Option<Arc<Reads>>) -> Views {
        Views { reads, ..self }
    }

    fn first(&self) -> Result<&RelationView> {
        self.views
            .first()
            .ok_or_else(|| Error::internal("the database has no data partition"))
    }

    /// The relation's schema.
    pub(crate) fn schema(&self) -> Result<&RelationSchema> {
        Ok(self.first()?.schema())
    }

    /// The view of the partition in which a key is, if it is anywhere. `keys`: the key's columns, of one row.
    pub(crate) fn home(&self, keys: &[ArrayRef]) -> Result<&RelationView> {
        if let Some(reads) = &self.reads {
            reads.keys(self.first()?, keys)?;
        }
        if self.placement.is_trivial() {
            return self.first();
        }
        let homes = self.placement.of_keys(self.schema()?, keys)?;
        let home = homes.first().and_then(|home| self.views.get(home.0 as usize));
        home.ok_or_else(|| Error::internal("a key without a row"))
    }

    /// Keys as bytes that sort like them. `keys`: key columns in key order.
    pub(crate) fn encode_keys(&self, keys: &[ArrayRef]) -> Result<Vec<Box<[u8]>>> {
        Ok(self.first()?.encode_keys(keys)?)
    }

    /// Where the rows of keys are; `None` for those that are not there.
    pub(crate) fn lookup(&self, keys: &[ArrayRef]) -> Result<Vec<Option<Place>>> {
        if let Some(reads) = &self.reads {
            reads.keys(self.first()?, keys)?;
        }
        let rows = keys.first().map_or(0, |column| column.len());
        let mut places = vec![None; rows];
        // A key is in one partition only: whichever knows it.
        for (partition, view) in self.views.iter().enumerate() {
            for (place, address) in places.iter_mut().zip(view.lookup(keys)?) {
                if let Some(address) = address {
                    *place = Some(Place { partition, address });
                }
            }
        }
        Ok(places)
    }

    /// The rows at these places, in their order, with these columns.
    pub(crate) fn fetch(&self, places: &[Place], columns: &[usize]) -> Result<RecordBatch> {
        let mut addresses: Vec<Vec<RowAddress>> = vec![Vec::new(); self.views.len()];
        let mut order = Vec::with_capacity(places.len());
        for place in places {
            let of_partition = &mut addresses[place.partition];
            order.push((place.partition, of_partition.len()));
            of_partition.push(place.address);
        }
        let fetched = self.views.iter().zip(&addresses);
        let fetched = fetched
            .map(|(view, addresses)| view.fetch(addresses, columns))
            .collect::<Result<Vec<_>, _>>()?;
        match <[RecordBatch; 1]>::try_from(fetched) {
            Ok([only]) => Ok(only),
            Err(several) if order.is_empty() => {
                let schema = several.first().map_or_else(|| Schema::empty().into(), RecordBatch::schema);
                Ok(RecordBatch::new_empty(schema))
            }
            Err(several) => Ok(interleave_record_batch(&several.iter().collect::<Vec<_>>(), &order)?),
        }
    }
}
