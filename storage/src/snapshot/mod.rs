//! What a reader pins: a timestamp together with the segments, delete bitmaps and memtables that are visible at it.

mod integer_index;
mod ordered;
mod own_writes;
mod piece;
mod summary;
mod view;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::Result;
use crate::ids::{RelationId, Timestamp};
use crate::partition::{Pin, Version};

pub use integer_index::{IntegerIndex, IntegerRange};
pub(crate) use own_writes::{OwnSegment, OwnWrites};
pub use piece::ScanPiece;
pub(crate) use view::gather;
pub use view::{KeyRange, RelationView, RowAddress};

struct Inner {
    pin: Arc<Pin>,
    version: Arc<Version>,
    views: Mutex<HashMap<RelationId, RelationView>>,
}

/// A pinned state of one partition. Cheap to clone; files and row versions stay while a clone lives.
#[derive(Clone)]
pub struct Snapshot {
    inner: Arc<Inner>,
}

impl Snapshot {
    /// The state of `version` at the pinned timestamp.
    pub(crate) fn new(pin: Arc<Pin>, version: Arc<Version>) -> Self {
        Snapshot {
            inner: Arc::new(Inner {
                pin,
                version,
                views: Mutex::default(),
            }),
        }
    }

    /// The timestamp of this snapshot.
    pub fn timestamp(&self) -> Timestamp {
        self.inner.pin.timestamp()
    }

    /// The relations, by id, and their schemas' versions.
    pub fn versions(&self) -> impl Iterator<Item = (RelationId, u32)> {
        self.inner
            .version
            .relations
            .iter()
            .map(|(id, relation)| (*id, relation.schema.version))
    }

    /// One relation as of this snapshot.
    pub fn relation(&self, id: RelationId) -> Result<RelationView> {
        if let Some(view) = self.inner.views.lock().get(&id) {
            return Ok(view.clone());
        }
        let view = RelationView::new(self.inner.version.relation(id)?.clone(), self.inner.pin.clone())?;
        self.inner.views.lock().insert(id, view.clone());
        Ok(view)
    }
}
