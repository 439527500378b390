//! What to compact: the level that is fullest for its size, dead rows, many small neighbours.

use std::sync::Arc;

use super::{DEEPEST_LEVEL, Task};
use crate::error::{Result, StorageError};
use crate::ids::{RelationId, Timestamp};
use crate::partition::{LiveSegment, Partition, RelationVersion};

/// Bytes of level 1 in segments of full size; each deeper level holds ten times as much.
const LEVEL1_SEGMENTS: u64 = 8;
const LEVEL_RATIO: u64 = 10;
/// A segment is rewritten when more than one row in this many is dead.
const DEAD_FRACTION: u64 = 5;

/// One relation's persisted segments, and what may be forgotten.
struct Picker<'a> {
    partition: &'a Partition,
    relation: &'a RelationVersion,
    segments: Vec<Arc<LiveSegment>>,
    horizon: Timestamp,
    floor: Timestamp,
}

impl<'a> Picker<'a> {
    fn new(partition: &'a Partition, relation: &'a RelationVersion, horizon: Timestamp, floor: Timestamp) -> Self {
        // What no manifest names may still be found by a replay, and stays as it is.
        let segments = relation
            .segments
            .all()
            .iter()
            .filter(|segment| segment.is_persisted())
            .cloned()
            .collect();
        Picker {
            partition,
            relation,
            segments,
            horizon,
            floor,
        }
    }

    fn segment_bytes(&self) -> u64 {
        self.partition.options().segment_bytes.max(1)
    }

    fn level(&self, level: u8) -> Vec<Arc<LiveSegment>> {
        self.segments.iter().filter(|segment| segment.level() == level).cloned().collect()
    }

    fn task(&self, inputs: Vec<Arc<LiveSegment>>, level: u8) -> Task {
        let move_only = inputs.len() == 1 && inputs[0].level() != level && !self.has_dead(&inputs[0]);
        Task {
            relation: self.relation.schema.id,
            inputs,
            level,
            move_only,
        }
    }

    /// Whether a rewrite would drop rows, as far as one can tell without doing it.
    fn has_dead(&self, segment: &LiveSegment) -> bool {
        let (dead, certain) = segment.dead(self.horizon, self.floor);
        certain > 0 || dead > segment.kept_dead()
    }

    /// Segments of a level that overlap the hull of `inputs`, added to them.
    fn with_overlapping(&self, mut inputs: Vec<Arc<LiveSegment>>, level: u8) -> Vec<Arc<LiveSegment>> {
        let first = inputs
            .iter()
            .map(|segment| &segment.info().first_key)
            .min()
            .cloned()
            .unwrap_or_default();
        let last = inputs
            .iter()
            .map(|segment| &segment.info().last_key)
            .max()
            .cloned()
            .unwrap_or_default();
        let meets = |segment: &&Arc<LiveSegment>| segment.info().first_key <= last && segment.info().last_key >= first;
        let below: Vec<_> = self
            .segments
            .iter()
            .filter(|segment| segment.level() == level)
            .filter(meets)
            .cloned()
            .collect();
        inputs.extend(below);
        inputs
    }

    /// The most urgent task and how urgent it is; due at 1.
    fn best(&self) -> Option<(f64, Task)> {
        let candidates = [self.level0(), self.full_level(), self.dead(), self.small_neighbours()];
        candidates.into_iter().flatten().max_by(|(a, _), (b, _)| a.total_cmp(b))
    }

    fn level0(&self) -> Option<(f64, Task)> {
        let inputs = self.level(0);
        let wanted = self.partition.options().level0_segments.max(1);
        if inputs.len() < wanted {
            return None;
        }
        let score = inputs.len() as f64 / wanted as f64;
        // A large segment that overlaps nothing at all need not be rewritten.
        let alone = inputs.iter().find(|segment| {
            let info = segment.info();
            segment.bytes() * 2 >= self.segment_bytes() && self.relation.segments.overlapping(&info.first_key, &info.last_key).count() == 1
        });
        let task = match alone {
            Some(segment) => self.task(vec![segment.clone()], DEEPEST_LEVEL),
            None => self.task(self.with_overlapping(inputs, 1), 1),
        };
        Some((score, task))
    }

    fn full_level(&self) -> Option<(f64, Task)> {
        let mut target = LEVEL1_SEGMENTS * self.segment_bytes();
        let mut best: Option<(f64, u8)> = None;
        for level in 1..DEEPEST_LEVEL {
            let bytes: u64 = self.level(level).iter().map(|segment| segment.bytes()).sum();
            let score = bytes as f64 / target as f64;
            if score > 1.0 && best.is_none_or(|(best, _)| score > best) {
                best = Some((score, level));
            }
            target = target.saturating_mul(LEVEL_RATIO);
        }
        let (score, level) = best?;
        // The segment with the least below it costs the least to move down.
        let cost = |segment: &Arc<LiveSegment>| {
            let inputs = self.with_overlapping(vec![segment.clone()], level + 1);
            inputs.iter().map(|input| input.bytes()).sum::<u64>() as f64 / segment.bytes().max(1) as f64
        };
        let segments = self.level(level);
        let cheapest = segments.iter().min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
        Some((
            score,
            self.task(self.with_overlapping(vec![cheapest.clone()], level + 1), level + 1),
        ))
    }

    fn dead(&self) -> Option<(f64, Task)> {
        let fraction = |segment: &LiveSegment| {
            let (dead, certain) = segment.dead(self.horizon, self.floor);
            dead.saturating_sub(segment.kept_dead()).max(certain) as f64 / segment.info().rows.max(1) as f64
        };
        let worst = self.segments.iter().max_by(|a, b| fraction(a).total_cmp(&fraction(b)))?;
        let fraction = fraction(worst);
        let task = Task {
            relation: self.relation.schema.id,
            inputs: vec![worst.clone()],
            level: worst.level(),
            move_only: false,
        };
        (fraction * DEAD_FRACTION as f64 > 1.0).then_some((1.0 + fraction, task))
    }

    /// Neighbours of a level that together fit in one segment.
    fn small_neighbours(&self) -> Option<(f64, Task)> {
        let wanted = self.partition.options().level0_segments.max(2);
        for level in 1..=DEEPEST_LEVEL {
            let mut run: Vec<Arc<LiveSegment>> = Vec::new();
            let mut bytes = 0;
            for segment in self.level(level) {
                if bytes + segment.bytes() > self.segment_bytes() {
                    if run.len() >= wanted {
                        break;
                    }
                    (run, bytes) = (Vec::new(), 0);
                }
                bytes += segment.bytes();
                run.push(segment);
            }
            if run.len() >= wanted {
                return Some((1.0, self.task(run, level)));
            }
        }
        None
    }

    /// Tasks after which no two segments overlap, none has dead rows and none is needlessly small.
    fn all(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        let mut group: Vec<Arc<LiveSegment>> = Vec::new();
        let mut reach: Vec<u8> = Vec::new();
        let mut bytes = 0;
        for segment in &self.segments {
            let overlaps = !group.is_empty() && segment.info().first_key <= reach;
            if !overlaps && bytes + segment.bytes() > self.segment_bytes() {
                self.finish_group(std::mem::take(&mut group), &mut tasks);
                bytes = 0;
            }
            bytes += segment.bytes();
            reach = std::mem::take(&mut reach).max(segment.info().last_key.clone());
            group.push(segment.clone());
        }
        self.finish_group(group, &mut tasks);
        tasks
    }

    fn finish_group(&self, group: Vec<Arc<LiveSegment>>, tasks: &mut Vec<Task>) {
        let due = group.len() > 1
            || group
                .iter()
                .any(|segment| segment.level() != DEEPEST_LEVEL || self.has_dead(segment));
        if due && !group.is_empty() {
            tasks.push(self.task(group, DEEPEST_LEVEL));
        }
    }
}

/// The most urgent task of a partition, if one is due.
pub(super) fn most_urgent(partition: &Partition, horizon: Timestamp) -> Option<Task> {
    let version = partition.version();
    let floor = partition.flushed_conflict_floor();
    let tasks = version
        .relations
        .values()
        .filter_map(|relation| Picker::new(partition, relation, horizon, floor).best());
    tasks.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, task)| task)
}

/// Everything there is to do.
pub(super) fn everything(partition: &Partition, relation: Option<RelationId>, horizon: Timestamp) -> Result<Vec<Task>> {
    let version = partition.version();
    let floor = partition.flushed_conflict_floor();
    if let Some(id) = relation.filter(|id| !version.relations.contains_key(id)) {
        return Err(StorageError::UnknownRelation(id));
    }
    let chosen = version.relations.values().filter(|r| relation.is_none_or(|id| r.schema.id == id));
    Ok(chosen
        .flat_map(|relation| Picker::new(partition, relation, horizon, floor).all())
        .collect())
}
