//! What a statement reads: a snapshot, or a transaction's own view of one.

use std::collections::HashMap;
use std::sync::Arc;

use pyralog_consensus::Moment;
use pyralog_storage::{RelationId, RelationView, Snapshot, StorageError};

use crate::engine::Engine;
use crate::error::Result;
use crate::reads::Reads;

/// One consistent state over all partitions.
#[derive(Clone)]
pub(crate) enum Reader {
    /// The newest acknowledged state when the statement began.
    Snapshot {
        /// One a partition.
        base: Arc<Vec<Snapshot>>,
        /// The same as other nodes know it.
        moment: Option<Arc<Moment>>,
    },
    /// A transaction's snapshot with its own writes. Views are taken ahead for the relations it has written; others come from the snapshot.
    Transaction {
        /// The snapshot under the transaction, one a partition.
        base: Arc<Vec<Snapshot>>,
        /// Views of relations that the transaction has written, one a partition.
        written: Arc<HashMap<RelationId, Vec<RelationView>>>,
        /// What it reads, if it is to be serializable.
        reads: Option<Arc<Reads>>,
    },
}

impl Reader {
    /// Pins the newest state.
    pub(crate) async fn newest(engine: &Engine) -> Result<Reader> {
        let (snapshots, moment) = engine.catalog.snapshots().await?;
        Ok(Reader::Snapshot {
            base: Arc::new(snapshots),
            moment: moment.map(Arc::new),
        })
    }

    /// What it reads as other nodes know it, if they can read the same.
    pub(crate) fn moment(&self) -> Option<&Arc<Moment>> {
        match self {
            Reader::Snapshot { moment, .. } => moment.as_ref(),
            Reader::Transaction { .. } => None,
        }
    }

    /// Whether both read the same state, and no transaction's own.
    pub(crate) fn is_same(&self, other: &Reader) -> bool {
        match (self, other) {
            (Reader::Snapshot { base: ours, .. }, Reader::Snapshot { base: theirs, .. }) => {
                ours.iter().map(Snapshot::timestamp).eq(theirs.iter().map(Snapshot::timestamp))
            }
            _ => false,
        }
    }

    /// Whether nothing was committed since.
    pub(crate) fn is_newest(&self, engine: &Engine) -> bool {
        let (Reader::Snapshot { base, .. } | Reader::Transaction { base, .. }) = self;
        // All were taken at one timestamp: the newest there was.
        let newest = engine
            .node
            .partitions()
            .iter()
            .map(|partition| partition.storage().last_timestamp());
        base.iter().map(Snapshot::timestamp).max() == newest.max()
    }

    /// The views of one relation, one a partition. A serializable transaction has read all of it then.
    pub(crate) fn relation(&self, id: RelationId) -> Result<Vec<RelationView>> {
        let (views, reads) = self.recorded(id)?;
        if let Some(reads) = reads {
            reads.whole(id);
        }
        Ok(views)
    }

    /// The views of one relation, one a partition, and where the caller says what of it is read.
    pub(crate) fn recorded(&self, id: RelationId) -> Result<(Vec<RelationView>, Option<Arc<Reads>>)> {
        match self {
            Reader::Snapshot { .. } => Ok((self.views(id)?, None)),
            Reader::Transaction { reads, .. } => Ok((self.views(id)?, reads.clone())),
        }
    }

    fn views(&self, id: RelationId) -> Result<Vec<RelationView>> {
        let base = match self {
            Reader::Snapshot { base, .. } => base,
            Reader::Transaction { base, written, .. } => match written.get(&id) {
                Some(views) => return Ok(views.clone()),
                None => base,
            },
        };
        let views: std::result::Result<Vec<_>, StorageError> = base.iter().map(|snapshot| snapshot.relation(id)).collect();
        Ok(views?)
    }
}
