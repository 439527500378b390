//! Whether what a transaction has read is as it was: the check that makes a transaction serializable.
//!
//! A transaction that reads at its start, and is applied only where nothing that it read has changed until its commit, could have run at the
//! moment of its commit. (Backward validation, Kung and Robinson 1981; of ranges of keys rather than rows, so that rows which came
//! since count, too.) Until a part of a transaction is decided, what it read is locked as what it writes is, but shared with other readers.

use super::apply::{Refusal, conflict};
use super::live_segment::LiveSegment;
use super::version::{RelationVersion, Version};
use super::{Applied, Partition};
use crate::error::Result;
use crate::ids::Timestamp;
use crate::key::KeyEncoder;
use crate::reads::KeySpan;
use crate::segment::Segment;
use crate::write_set::WriteSet;

impl Partition {
    /// Refuses a write set where something that its transaction read has changed since it began, or may change at a commit before this one.
    pub(super) fn check_reads(&self, applied: &Applied, version: &Version, write_set: &WriteSet) -> Result<(), Refusal> {
        for reads in &write_set.reads {
            self.check_floor(applied, reads.relation, write_set.start)?;
            let relation = version.relation(reads.relation)?;
            self.locks(reads.relation).check_reads(relation, reads)?;
            for key in &reads.keys {
                if relation.key_state(key)?.modified > write_set.start.0 {
                    return Err(conflict(relation, key));
                }
            }
            for span in reads.spans.iter().filter(|span| !span.is_empty()) {
                if let Some(key) = relation.changed_since(span, write_set.start)? {
                    return Err(conflict(relation, &key));
                }
            }
        }
        Ok(())
    }
}

impl RelationVersion {
    /// The smallest key of a span that was changed after `start`, which is not before the conflict floor: every replica has a trace of each such
    /// key, though not the same ones.
    fn changed_since(&self, span: &KeySpan, start: Timestamp) -> Result<Option<Box<[u8]>>> {
        let mut changed: Option<Box<[u8]>> = None;
        let in_memtables = self.memtables().filter_map(|memtable| memtable.changed_since(span, start.0));
        for key in in_memtables {
            changed = Some(changed.map_or(key.clone(), |known| known.min(key)));
        }
        for live in self.segments.all() {
            let info = live.info();
            let meets = *info.last_key >= *span.from && span.to.as_ref().is_none_or(|to| *info.first_key < **to);
            if let Some(row) = meets.then(|| late_row(live, span, start, &self.encoder)).transpose()?.flatten() {
                let (batch, place) = live.segment().locate(row);
                let keys = live.segment().keys(batch, &self.encoder)?;
                let key = keys.row(place).data();
                if changed.as_deref().is_none_or(|known| key < known) {
                    changed = Some(key.into());
                }
            }
        }
        Ok(changed)
    }
}

/// The first row of a span that begins after `start` or was deleted after it.
fn late_row(live: &LiveSegment, span: &KeySpan, start: Timestamp, encoder: &KeyEncoder) -> Result<Option<u32>> {
    // Rows that begin later are no part of what was deleted by then, and deleted later is what was not.
    let late = &*live.unborn_since(start.0)? | &(&*live.deletes().mask_at(u64::MAX) - &*live.mask_at(start.0)?);
    if late.is_empty() {
        return Ok(None);
    }
    let rows = rows_within(live.segment(), span, encoder)?;
    let mut late = late.iter();
    late.advance_to(rows.start);
    Ok(late.next().filter(|row| *row < rows.end))
}

/// The rows of a segment whose keys are in a span.
pub(super) fn rows_within(segment: &Segment, span: &KeySpan, encoder: &KeyEncoder) -> Result<std::ops::Range<u32>> {
    let from = segment.lower_bound(&span.from, encoder)?;
    let to = match &span.to {
        Some(to) => segment.lower_bound(to, encoder)?,
        None => u32::try_from(segment.info().rows).unwrap_or(u32::MAX),
    };
    Ok(from..to)
}
