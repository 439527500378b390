//! The relations behind a dataset.
//!
//! ```text
//! terms      id → value, qualifier        what ids of hashed terms stand for
//! spo        (s, p, o, g)                 every quad, in three orders, so that a pattern with any terms bound is a range of one of them
//! pos        (p, o, s, g)
//! osp        (o, s, p, g)
//! graphs     id                           the named graphs, also those without quads
//! displaced  id                           terms that did not get their first id, because another term had it
//! ```
//!
//! All are written by one transaction, so every snapshot sees a quad in all orders or in none.

use datafusion::arrow::datatypes::{DataType, Field};
use pyralog_storage::RelationSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, ObjectName};
use crate::error::Result;

/// Rows of a record batch of the dictionary: terms are looked up here and there.
const TERM_BATCH: usize = 1024;

/// Bits of a hash that make an id.
const HASH_BITS: u32 = 60;

/// A dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetDefinition {
    /// Its name.
    pub name: ObjectName,
    /// `id → value, qualifier`.
    pub terms: RelationSchema,
    /// The quads, in each [`Order`].
    pub quads: [RelationSchema; 3],
    /// Named graphs.
    pub graphs: RelationSchema,
    /// Terms with another id than their first.
    pub displaced: RelationSchema,
    /// How many bits of a term's hash make its id.
    pub hash_bits: u32,
}

/// An order of the quads. The graph always stands last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Subject, predicate, object.
    Spo,
    /// Predicate, object, subject.
    Pos,
    /// Object, subject, predicate.
    Osp,
}

impl Order {
    /// All of them, as in [`DatasetDefinition::quads`].
    pub const ALL: [Order; 3] = [Order::Spo, Order::Pos, Order::Osp];

    /// The order that begins with the known places of subject, predicate, object.
    pub fn with_first(known: [bool; 3]) -> Order {
        match known {
            [true, _, false] | [true, true, true] | [false, false, false] => Order::Spo,
            [false, true, _] => Order::Pos,
            [_, false, true] => Order::Osp,
        }
    }

    /// Where in a quad (subject, predicate, object, graph) each column of the order comes from.
    pub fn positions(self) -> [usize; 4] {
        match self {
            Order::Spo => [0, 1, 2, 3],
            Order::Pos => [1, 2, 0, 3],
            Order::Osp => [2, 0, 1, 3],
        }
    }
}

/// Names of a quad's terms.
pub const QUAD: [&str; 4] = ["subject", "predicate", "object", "graph"];

impl DatasetDefinition {
    /// A dataset with relations of its own, which nobody has made yet.
    pub async fn new(catalog: &Catalog, name: ObjectName) -> Result<DatasetDefinition> {
        let id = |name: &str| Field::new(name, DataType::UInt64, false);
        let terms = [
            id("id"),
            Field::new("value", DataType::Utf8View, false),
            Field::new("qualifier", DataType::Utf8View, true),
        ];
        let mut quads = Vec::new();
        for order in Order::ALL {
            let fields = order.positions().map(|position| id(QUAD[position]));
            // A predicate alone would put a quarter of the quads in one partition.
            let placed_by = if order == Order::Pos { 2 } else { 1 };
            let relation = RelationSchema::new(catalog.allocate_relation().await?, fields, vec![0, 1, 2, 3]);
            quads.push(relation.compressed().placed_by_first(placed_by));
        }
        let [spo, pos, osp] = <[RelationSchema; 3]>::try_from(quads).map_err(|_| crate::Error::internal("a dataset has three orders"))?;
        Ok(DatasetDefinition {
            name,
            terms: RelationSchema::new(catalog.allocate_relation().await?, terms, vec![0])
                .compressed()
                .with_batch_rows(TERM_BATCH),
            quads: [spo, pos, osp],
            graphs: RelationSchema::new(catalog.allocate_relation().await?, [id("id")], vec![0]),
            displaced: RelationSchema::new(catalog.allocate_relation().await?, [id("id")], vec![0]),
            hash_bits: HASH_BITS,
        })
    }

    /// All its relations.
    pub fn relations(&self) -> impl Iterator<Item = &RelationSchema> {
        self.quads.iter().chain([&self.terms, &self.graphs, &self.displaced])
    }

    /// The quads in an order.
    pub fn order(&self, order: Order) -> &RelationSchema {
        &self.quads[order as usize]
    }
}
