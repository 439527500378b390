//! Publishing a compaction: one manifest edit, and deletes that came meanwhile at the rows' new places.

use std::sync::Arc;

use super::live_segment::LiveSegment;
use super::{Applied, DeleteLog, Partition, RelationVersion, Version};
use crate::deletes::DeleteVector;
use crate::error::Result;
use crate::file::sync_dir;
use crate::ids::{RelationId, Timestamp};
use crate::manifest::{Manifest, SegmentEntry};
use crate::segment::SegmentInfo;

/// A segment that a compaction wrote.
#[derive(Debug)]
pub(crate) struct Output {
    pub info: SegmentInfo,
    pub uniform: Option<Timestamp>,
    /// Rows that are deleted, but still needed.
    pub deleted: Vec<(u32, Timestamp)>,
}

/// Where rows of one input went: runs of consecutive rows.
#[derive(Debug, Default)]
pub(crate) struct RowMap {
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Run {
    from: u32,
    len: u32,
    output: u32,
    to: u32,
}

impl RowMap {
    /// Rows `from..from + len` went to `to..` of an output. Called in ascending order of `from`.
    pub fn push(&mut self, from: u32, len: u32, output: u32, to: u32) {
        match self.runs.last_mut() {
            Some(last) if last.from + last.len == from && last.output == output && last.to + last.len == to => last.len += len,
            _ => self.runs.push(Run { from, len, output, to }),
        }
    }

    /// Output and row; `None` for a row that was dropped.
    pub fn get(&self, row: u32) -> Option<(usize, u32)> {
        let run = &self.runs[self.runs.partition_point(|run| run.from <= row).checked_sub(1)?];
        (row - run.from < run.len).then(|| (run.output as usize, run.to + row - run.from))
    }
}

/// What a compaction did.
pub(crate) struct Replacement<'a> {
    pub relation: RelationId,
    pub inputs: &'a [Arc<LiveSegment>],
    /// Persisted deletes of each input when the compaction began.
    pub start: Vec<Arc<DeleteVector>>,
    pub outputs: Vec<Output>,
    /// Where the rows of each input went.
    pub maps: Vec<RowMap>,
    pub level: u8,
    /// Rows deleted up to here were dropped where that was allowed.
    pub horizon: Timestamp,
}

impl Partition {
    /// Puts outputs in the place of inputs. `false`, and nothing done, if the inputs are no longer there.
    pub(crate) fn replace_segments(&self, replacement: Replacement<'_>) -> Result<bool> {
        let Replacement {
            relation: id,
            inputs,
            start,
            mut outputs,
            maps,
            level,
            horizon,
        } = replacement;
        let mut manifest = self.manifest.lock();
        let mut next = self.edited(&manifest);
        let Some(relation) = next.relations.iter_mut().find(|relation| relation.schema.id == id) else {
            return Ok(false);
        };
        let before = relation.segments.len();
        relation
            .segments
            .retain(|entry| !inputs.iter().any(|input| input.info().id == entry.info.id));
        if before - relation.segments.len() != inputs.len() {
            return Ok(false);
        }
        for ((input, start), map) in inputs.iter().zip(&start).zip(&maps) {
            let now = input.deletes().persisted().0;
            if !Arc::ptr_eq(&now, start) {
                for (row, deleted) in deleted_since(start, &now) {
                    if let Some((output, row)) = map.get(row) {
                        outputs[output].deleted.push((row, deleted));
                    }
                }
            }
        }
        let dir = self.relation_dir(id);
        let mut opened = Vec::with_capacity(outputs.len());
        for output in outputs {
            let deletes = match output.deleted.as_slice() {
                [] => None,
                deleted => {
                    let base = next.horizon.min(next.conflict_floor);
                    Some(DeleteVector::empty().with(deleted, base).write(&dir, output.info.id, 1)?)
                }
            };
            let entry = SegmentEntry {
                info: output.info,
                level,
                uniform_ts: output.uniform,
                deletes,
            };
            let live = LiveSegment::open(&dir, &entry)?;
            live.set_kept_dead(horizon);
            opened.push(Arc::new(live));
            relation.segments.push(entry);
        }
        sync_dir(&dir)?;
        let stored = next.store(&self.dir);
        self.poison(stored)?;
        *manifest = next;

        let mut applied = self.applied.lock();
        for (input, map) in inputs.iter().zip(&maps) {
            let (sealed, recent) = input.deletes().logs();
            let there = |log: &DeleteLog| log.remap(opened.len(), |row| map.get(row));
            for ((output, sealed), recent) in opened.iter().zip(there(&sealed)).zip(there(&recent)) {
                output.deletes().adopt(sealed, recent);
            }
        }
        let mut version = (*self.version()).clone();
        if let Some(slot) = slot(&mut version, &mut applied, id) {
            let segments = Arc::new(slot.segments.replaced(inputs, opened));
            *slot = Arc::new(RelationVersion {
                segments,
                ..(**slot).clone()
            });
        }
        *self.version.write() = Arc::new(version);
        inputs.iter().for_each(|input| input.set_obsolete());
        Ok(true)
    }

    /// Moves segments to another level without rewriting them.
    pub(crate) fn move_segments(&self, id: RelationId, inputs: &[Arc<LiveSegment>], level: u8) -> Result<()> {
        let mut manifest = self.manifest.lock();
        let mut next = self.edited(&manifest);
        for relation in next.relations.iter_mut().filter(|relation| relation.schema.id == id) {
            for entry in &mut relation.segments {
                if inputs.iter().any(|input| input.info().id == entry.info.id) {
                    entry.level = level;
                }
            }
        }
        let stored = next.store(&self.dir);
        self.poison(stored)?;
        *manifest = next;
        inputs.iter().for_each(|input| input.set_level(level));
        Ok(())
    }

    /// Whether the outputs of a failed compaction can be named by no manifest.
    pub(crate) fn may_remove_outputs(&self) -> bool {
        self.check_poison().is_ok()
    }

    /// The conflict floor of the stored manifest: what a replay begins with.
    pub(crate) fn flushed_conflict_floor(&self) -> Timestamp {
        self.manifest.lock().conflict_floor
    }

    fn edited(&self, manifest: &Manifest) -> Manifest {
        Manifest {
            number: manifest.number + 1,
            horizon: self.pins.horizon(),
            next_segment: self.next_segment.load(std::sync::atomic::Ordering::Relaxed),
            ..manifest.clone()
        }
    }
}

/// A relation, dropped ones that a manifest still names included.
pub(super) fn slot<'a>(version: &'a mut Version, applied: &'a mut Applied, id: RelationId) -> Option<&'a mut Arc<RelationVersion>> {
    version.relations.get_mut(&id).or_else(|| applied.dropped.get_mut(&id))
}

/// Deletions that `now` has and `start` has not.
fn deleted_since(start: &DeleteVector, now: &DeleteVector) -> Vec<(u32, Timestamp)> {
    let base = now.base().iter().map(|row| (row, now.base_timestamp()));
    base.chain(now.later())
        .filter(|(row, _)| start.deleted_at(*row).is_none())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_row_map_joins_runs_and_knows_what_was_dropped() {
        let mut map = RowMap::default();
        map.push(0, 3, 0, 10);
        map.push(3, 2, 0, 13);
        map.push(7, 1, 1, 0);
        assert_eq!(map.runs.len(), 2);
        assert_eq!(
            (map.get(4), map.get(5), map.get(6), map.get(7), map.get(8)),
            (Some((0, 14)), None, None, Some((1, 0)), None)
        );
    }
}
