//! Rows of one immutable piece that a transaction no longer sees, and since which statement.

use std::sync::Arc;

use roaring::RoaringBitmap;

/// A growing set of rows that can go back to an earlier statement. Views share the set as it was.
#[derive(Debug, Default)]
pub(super) struct RowMask {
    all: Arc<RoaringBitmap>,
    /// Rows by the newest statement that hid one of them, ascending.
    log: Vec<(u64, RoaringBitmap)>,
}

impl RowMask {
    /// Hides a row in statement `stamp`; `savepoint` is the newest point to which one can go back. `false` if it was hidden before.
    pub fn hide(&mut self, row: u32, stamp: u64, savepoint: Option<u64>) -> bool {
        if self.all.contains(row) {
            return false;
        }
        Arc::make_mut(&mut self.all).insert(row);
        match self.since(savepoint) {
            Some((last, rows)) => {
                rows.insert(row);
                *last = (*last).max(stamp);
            }
            None => self.log.push((stamp, RoaringBitmap::from_iter([row]))),
        }
        true
    }

    /// Hides the first `count` rows, as [`Self::hide`] does.
    pub fn hide_first(&mut self, count: u64, stamp: u64, savepoint: Option<u64>) {
        let mut more = RoaringBitmap::new();
        // Row numbers have 32 bits.
        more.insert_range(0..u32::try_from(count).unwrap_or(u32::MAX));
        more -= &*self.all;
        *Arc::make_mut(&mut self.all) |= &more;
        match self.since(savepoint) {
            Some((last, rows)) => {
                *rows |= more;
                *last = (*last).max(stamp);
            }
            None => self.log.push((stamp, more)),
        }
    }

    /// The last entry, where nobody can go back to between it and now.
    fn since(&mut self, savepoint: Option<u64>) -> Option<&mut (u64, RoaringBitmap)> {
        let is_open = |last: &&mut (u64, RoaringBitmap)| savepoint.is_none_or(|savepoint| last.0 > savepoint);
        self.log.last_mut().filter(is_open)
    }

    /// Hides rows for good.
    pub fn bury(&mut self, rows: &RoaringBitmap) {
        *Arc::make_mut(&mut self.all) |= rows;
        match self.log.first_mut() {
            Some((0, buried)) => *buried |= rows,
            _ => self.log.insert(0, (0, rows.clone())),
        }
    }

    /// Shows again what was hidden after statement `to`.
    pub fn roll_back(&mut self, to: u64) {
        while let Some((_, rows)) = self.log.pop_if(|(stamp, _)| *stamp > to) {
            *Arc::make_mut(&mut self.all) -= rows;
        }
    }

    /// The hidden rows.
    pub fn rows(&self) -> &Arc<RoaringBitmap> {
        &self.all
    }

    /// Whether a row is hidden.
    pub fn contains(&self, row: u32) -> bool {
        self.all.contains(row)
    }
}
