//! The meta group: a small replicated, ordered key-value state that holds the catalog, placement and membership.

use crate::error::Result;

/// Counts committed meta changes; every change has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct MetaRevision(pub u64);

/// An atomic change of the meta state: applied only if every condition holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MetaChange {
    /// Conditions.
    pub expect: Vec<MetaExpect>,
    /// Keys to set.
    pub put: Vec<(String, Vec<u8>)>,
    /// Keys to remove.
    pub delete: Vec<String>,
}

/// A condition on one key.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MetaExpect {
    /// The key.
    pub key: String,
    /// The revision at which it was last set; `None`: it must be absent.
    pub revision: Option<MetaRevision>,
}

/// The meta group as seen from this node. Cheap to clone.
#[derive(Clone)]
pub struct Meta {}

impl Meta {
    /// The revision of the applied state.
    pub fn revision(&self) -> MetaRevision {
        todo!()
    }

    /// A value and the revision at which it was set.
    pub fn get(&self, _key: &str) -> Result<Option<(Vec<u8>, MetaRevision)>> {
        todo!()
    }

    /// All keys with a prefix, in order, with values and revisions.
    pub fn scan(&self, _prefix: &str) -> Result<Vec<(String, Vec<u8>, MetaRevision)>> {
        todo!()
    }

    /// Replicates a change; returns its revision once it is durable and applied.
    pub async fn change(&self, _change: MetaChange) -> Result<MetaRevision> {
        todo!()
    }

    /// A number never given out before under this name (1, 2, …), durable.
    pub async fn allocate(&self, _name: &str, _count: u64) -> Result<u64> {
        todo!()
    }

    /// Tells of every new revision.
    pub fn watch(&self) -> tokio::sync::watch::Receiver<MetaRevision> {
        todo!()
    }
}
