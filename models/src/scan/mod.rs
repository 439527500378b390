//! How DataFusion reads relations.

mod table;

pub use table::RelationTable;
