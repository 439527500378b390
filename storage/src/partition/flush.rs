//! Flushing: memtables become segments, recent deletes become delete files, and one manifest edit publishes both.
//!
//! 1. Seal, under the apply lock: fresh memtables, delete overlays sealed, applied position taken.
//! 2. Write the segments. Applies go on; what they delete of the sealed rows is noted by the memtable.
//! 3. Fold the sealed deletes of every segment into delete files, and store the manifest.
//! 4. Swap, under the apply lock: deletes noted since the seal are recorded at the rows' new places.
//!
//! A failure in any step poisons the partition: nothing is lost, since the log still holds everything, but nothing more is written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::{RecordBatch, UInt64Array};
use roaring::RoaringBitmap;

use super::live_segment::LiveSegment;
use super::prepared::Part;
use super::replace::slot;
use super::version::{RelationVersion, Version};
use super::{AppliedState, DeleteLog, Partition};
use crate::deletes::{DeleteFile, DeleteVector, delete_path};
use crate::error::Result;
use crate::file::{remove_file, sync_dir};
use crate::ids::{RelationId, SegmentId, Timestamp, TransactionId};
use crate::key::KeyEncoder;
use crate::manifest::{Manifest, RelationManifest, SegmentEntry};
use crate::memtable::{ALIVE, Gather, Memtable, Version as RowVersion};
use crate::schema::RelationSchema;
use crate::segment::{SegmentInfo, SegmentWriteOptions, SegmentWriter};

/// What is flushed: the state of the partition at one log position.
struct Seal {
    state: AppliedState,
    last_timestamp: Timestamp,
    conflict_floor: Timestamp,
    horizon: Timestamp,
    version: Arc<Version>,
    /// Endings of each sealed memtable at the seal; later ones belong to later log entries.
    ended: BTreeMap<RelationId, usize>,
    dropped: Vec<RelationId>,
    refused: Vec<SegmentId>,
    prepared: BTreeMap<TransactionId, Arc<Part>>,
    abandoned: Vec<(RelationId, SegmentId)>,
}

/// A segment made of memtable rows.
struct Flushed {
    live: Arc<LiveSegment>,
    /// The ordinal of each row.
    ordinals: Vec<u32>,
}

impl Partition {
    /// Seals the memtable and writes it as segments; returns what is durable then. Long, blocking.
    pub fn flush(&self) -> Result<AppliedState> {
        let _flushing = self.flushing.lock();
        self.check_poison()?;
        let Some(seal) = self.seal() else { return Ok(self.flushed()) };
        let result = self.write_sealed(&seal).and_then(|flushed| self.publish(&seal, flushed));
        self.poison(result)?;
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(seal.state)
    }

    /// Step 1. `None` when nothing was applied since the last flush.
    fn seal(&self) -> Option<Seal> {
        let horizon = self.forgettable(true);
        let mut applied = self.applied.lock();
        if !std::mem::take(&mut applied.changed) {
            return None;
        }
        let mut version = (*self.version()).clone();
        let mut ended = BTreeMap::new();
        for (id, relation) in &mut version.relations {
            relation.segments.all().iter().for_each(|segment| segment.deletes().seal());
            if !relation.active.is_empty() {
                ended.insert(*id, relation.active.ended_count());
                let mut sealed = (**relation).clone();
                let full = std::mem::replace(&mut sealed.active, self.new_memtable());
                sealed.sealed.push(full);
                *relation = Arc::new(sealed);
            }
        }
        let version = Arc::new(version);
        *self.version.write() = version.clone();
        Some(Seal {
            state: applied.state.clone(),
            last_timestamp: self.last_timestamp(),
            conflict_floor: applied.conflict_floor,
            horizon,
            version,
            ended,
            dropped: applied.dropped.keys().copied().collect(),
            refused: applied.refused.clone(),
            prepared: self.prepared.read().clone(),
            abandoned: applied.abandoned.clone(),
        })
    }

    /// Step 2.
    fn write_sealed(&self, seal: &Seal) -> Result<BTreeMap<RelationId, Vec<Flushed>>> {
        let mut flushed = BTreeMap::new();
        for (id, ended) in &seal.ended {
            let relation = seal.version.relation(*id)?;
            let Some(memtable) = relation.sealed.last() else { continue };
            self.ensure_relation_dir(*id)?;
            flushed.insert(*id, MemtableWriter::new(self, relation, memtable, *ended, seal).write()?);
        }
        Ok(flushed)
    }

    /// Steps 3 and 4.
    fn publish(&self, seal: &Seal, flushed: BTreeMap<RelationId, Vec<Flushed>>) -> Result<()> {
        let mut manifest = self.manifest.lock();
        let mut next = Manifest {
            number: manifest.number + 1,
            applied: seal.state.clone(),
            last_timestamp: seal.last_timestamp,
            horizon: self.pins.horizon(),
            conflict_floor: seal.conflict_floor,
            next_segment: self.next_segment.load(Ordering::Relaxed),
            relations: Vec::new(),
            prepared: self.store_prepared(&seal.prepared)?,
        };
        let mut folded: Vec<(Arc<LiveSegment>, DeleteVector, DeleteFile)> = Vec::new();
        let mut entered: Vec<Arc<LiveSegment>> = Vec::new();
        for (id, sealed) in &seal.version.relations {
            let mut entries: Vec<SegmentEntry> = Vec::new();
            let mut touched = false;
            for segment in self.segments_at(seal, sealed) {
                let mut entry = segment.entry();
                if let Some(vector) = segment.deletes().fold(seal.horizon.min(seal.conflict_floor)) {
                    let number = entry.deletes.as_ref().map_or(1, |file| file.version + 1);
                    let file = vector.write(segment.dir(), entry.info.id, number)?;
                    entry.deletes = Some(file.clone());
                    folded.push((segment.clone(), vector, file));
                    touched = true;
                }
                entries.push(entry);
                entered.push(segment);
            }
            for new in flushed.get(id).into_iter().flatten() {
                entries.push(new.live.entry());
                entered.push(new.live.clone());
                touched = true;
            }
            if touched {
                sync_dir(&self.relation_dir(*id))?;
            }
            next.relations.push(RelationManifest {
                schema: (*sealed.schema).clone(),
                segments: entries,
            });
        }
        next.store(&self.dir)?;
        let before = std::mem::replace(&mut *manifest, next);
        *self.durable.write() = seal.state.clone();
        entered.iter().for_each(|segment| segment.set_persisted());
        let mut stale = Vec::new();
        for (segment, vector, file) in folded {
            let before = segment.deletes().published(vector, file);
            stale.extend(before.map(|before| delete_path(segment.dir(), segment.info().id, before.version)));
        }
        self.swap(seal, flushed);
        stale.iter().try_for_each(|path| remove_file(path))?;
        self.remove_prepared(&before.prepared, &manifest.prepared)?;
        self.remove_abandoned(&seal.abandoned)?;
        self.forget_refused(&seal.refused)
    }

    /// The segments of a relation that hold what the log did up to the seal: those of the manifest, as compaction may have changed them
    /// since, and those ingested before the seal.
    fn segments_at(&self, seal: &Seal, sealed: &RelationVersion) -> Vec<Arc<LiveSegment>> {
        let id = sealed.schema.id;
        let applied = self.applied.lock();
        let version = self.version();
        let now = version
            .relations
            .get(&id)
            .or_else(|| applied.dropped.get(&id))
            .map(|relation| relation.segments.clone());
        let at_seal = seal
            .version
            .relations
            .get(&id)
            .map(|relation| relation.segments.clone())
            .unwrap_or_default();
        let was_there = |segment: &Arc<LiveSegment>| at_seal.all().iter().any(|before| Arc::ptr_eq(before, segment));
        now.unwrap_or_default()
            .all()
            .iter()
            .filter(|segment| segment.is_persisted() || was_there(segment))
            .cloned()
            .collect()
    }

    /// Step 4: new segments take the place of the sealed memtables; what the manifest no longer names goes.
    fn swap(&self, seal: &Seal, flushed: BTreeMap<RelationId, Vec<Flushed>>) {
        let mut applied = self.applied.lock();
        let mut version = (*self.version()).clone();
        for (id, segments) in flushed {
            let ended = seal.ended.get(&id).copied().unwrap_or(0);
            let Some(slot) = slot(&mut version, &mut applied, id) else {
                continue;
            };
            let mut next = (**slot).clone();
            let memtable = (!next.sealed.is_empty()).then(|| next.sealed.remove(0));
            if let Some(memtable) = memtable {
                segments.iter().for_each(|new| carry_over(&memtable, ended, new));
            }
            next.segments = Arc::new(next.segments.replaced(&[], segments.into_iter().map(|new| new.live)));
            *slot = Arc::new(next);
        }
        *self.version.write() = Arc::new(version);
        for id in &seal.dropped {
            if let Some(relation) = applied.dropped.remove(id) {
                relation.segments.all().iter().for_each(|segment| segment.set_obsolete());
            }
        }
        applied.refused.retain(|segment| !seal.refused.contains(segment));
        applied.abandoned.retain(|segment| !seal.abandoned.contains(segment));
    }
}

/// Deletes that came after the seal, at the rows' new places.
fn carry_over(memtable: &Memtable, ended: usize, new: &Flushed) {
    let late = memtable.ended_between(ended, None);
    if late.is_empty() {
        return;
    }
    let late: RoaringBitmap = late.into_iter().collect();
    let mut log = DeleteLog::default();
    for (row, ordinal) in new.ordinals.iter().enumerate().filter(|(_, ordinal)| late.contains(**ordinal)) {
        let end = memtable.version(*ordinal).end;
        log.add(&RoaringBitmap::from_iter([row as u32]), end);
    }
    new.live.deletes().adopt(DeleteLog::default(), log);
}

/// Writes one memtable as segments.
struct MemtableWriter<'a> {
    partition: &'a Partition,
    schema: &'a Arc<RelationSchema>,
    encoder: &'a KeyEncoder,
    memtable: &'a Memtable,
    /// Rows that had ended at the seal.
    ended: RoaringBitmap,
    seal: &'a Seal,
}

impl<'a> MemtableWriter<'a> {
    fn new(partition: &'a Partition, relation: &'a RelationVersion, memtable: &'a Memtable, ended: usize, seal: &'a Seal) -> Self {
        let ended = memtable.ended_between(0, Some(ended)).into_iter().collect();
        MemtableWriter {
            partition,
            schema: &relation.schema,
            encoder: &relation.encoder,
            memtable,
            ended,
            seal,
        }
    }

    fn write(&self) -> Result<Vec<Flushed>> {
        let (versions, breaks) = self.kept_versions();
        let Some(first) = versions.first() else { return Ok(Vec::new()) };
        let uniform = versions
            .iter()
            .all(|version| version.begin == first.begin)
            .then_some(Timestamp(first.begin));
        let gather = Gather::new(self.memtable, self.schema)?;
        let mut flushed = Vec::new();
        let mut segment = OpenSegment::new(self, uniform)?;
        let mut start = 0;
        // Pages end at a key's last version, so that a segment can end at any page.
        while start < versions.len() {
            let wanted = (start + self.partition.options.batch_rows).min(versions.len());
            let end = (wanted..versions.len())
                .find(|&i| breaks.contains(i as u32))
                .unwrap_or(versions.len());
            let page = &versions[start..end];
            segment.append(gather.rows(page)?, page)?;
            start = end;
            if segment.writer.bytes() >= self.partition.options.segment_bytes && start < versions.len() {
                flushed.push(segment.finish()?);
                segment = OpenSegment::new(self, uniform)?;
            }
        }
        flushed.push(segment.finish()?);
        Ok(flushed)
    }

    /// Versions that a reader can still need or that tell of a change after the conflict floor, in file order; and the positions at which
    /// a new key begins.
    fn kept_versions(&self) -> (Vec<RowVersion>, RoaringBitmap) {
        let mut kept: Vec<RowVersion> = Vec::new();
        let mut breaks = RoaringBitmap::new();
        let mut new_key = true;
        self.memtable.for_each_version(|_, mut version, newer| {
            new_key |= newer.is_none();
            if !self.ended.contains(version.ordinal) {
                version.end = ALIVE;
            }
            let never_seen = version.end <= version.begin;
            let unread = never_seen || version.end <= self.seal.horizon.0;
            let known = version.end <= self.seal.conflict_floor.0 || newer.is_some_and(|newer| never_seen || newer.begin >= version.end);
            if version.end != ALIVE && unread && known {
                return;
            }
            if std::mem::take(&mut new_key) {
                breaks.insert(kept.len() as u32);
            }
            kept.push(version);
        });
        (kept, breaks)
    }
}

/// A segment being written from a memtable.
struct OpenSegment<'a> {
    source: &'a MemtableWriter<'a>,
    uniform: Option<Timestamp>,
    writer: SegmentWriter,
    ordinals: Vec<u32>,
    deleted: Vec<(u32, Timestamp)>,
}

impl<'a> OpenSegment<'a> {
    fn new(source: &'a MemtableWriter<'a>, uniform: Option<Timestamp>) -> Result<Self> {
        let dir = source.partition.relation_dir(source.schema.id);
        let options = SegmentWriteOptions {
            batch_rows: source.partition.options.batch_rows,
            timestamps: uniform.is_none(),
        };
        let writer = SegmentWriter::create(&dir, source.partition.allot_segment(), source.schema, options)?;
        Ok(OpenSegment {
            source,
            uniform,
            writer,
            ordinals: Vec::new(),
            deleted: Vec::new(),
        })
    }

    fn append(&mut self, rows: RecordBatch, versions: &[RowVersion]) -> Result<()> {
        let columns: Vec<_> = self.source.schema.key.iter().map(|&i| rows.column(i).clone()).collect();
        let keys = self.source.encoder.encode(&columns)?;
        let begins = UInt64Array::from_iter_values(versions.iter().map(|version| version.begin));
        self.writer.append(&rows, &keys, self.uniform.is_none().then_some(&begins))?;
        for version in versions {
            if version.end != ALIVE {
                self.deleted.push((self.ordinals.len() as u32, Timestamp(version.end)));
            }
            self.ordinals.push(version.ordinal);
        }
        Ok(())
    }

    fn finish(self) -> Result<Flushed> {
        let dir = self.source.partition.relation_dir(self.source.schema.id);
        let info: SegmentInfo = self.writer.finish()?;
        let deletes = if self.deleted.is_empty() {
            None
        } else {
            let base = self.source.seal.horizon.min(self.source.seal.conflict_floor);
            Some(DeleteVector::empty().with(&self.deleted, base).write(&dir, info.id, 1)?)
        };
        let live = LiveSegment::open(
            &dir,
            &SegmentEntry {
                info,
                level: 0,
                uniform_ts: self.uniform,
                deletes,
            },
        )?;
        Ok(Flushed {
            live: Arc::new(live),
            ordinals: self.ordinals,
        })
    }
}
