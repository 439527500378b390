//! Carrying out one compaction.
//!
//! Inputs are read batch by batch and merged by (key ascending, commit timestamp descending); outputs are cut at the target size, never
//! within a key. A row map remembers where each kept row went, so that deletes that come while this runs find their rows.

use std::sync::Arc;

use arrow_array::{RecordBatch, UInt64Array};

use super::Task;
use crate::deletes::DeleteVector;
use crate::error::Result;
use crate::ids::{SegmentId, Timestamp};
use crate::key::{KeyEncoder, key_hash};
use crate::merge::{Keys, Merge, MergeBatch, MergeSource, Span, assemble};
use crate::partition::{LiveSegment, Output, Partition, RelationVersion, Replacement, RowMap};
use crate::schema::RelationSchema;
use crate::segment::{Segment, SegmentWriteOptions, SegmentWriter, remove_segment};

/// Runs a task; the inputs stay as they were when it fails.
pub(super) fn run(partition: &Partition, task: Task, horizon: Timestamp) -> Result<()> {
    if task.move_only {
        return partition.move_segments(task.relation, &task.inputs, task.level);
    }
    let version = partition.version();
    let Some(relation) = version.relations.get(&task.relation) else {
        return Ok(());
    };
    let mut job = Job::new(partition, relation, &task, horizon);
    let merged = job.merge();
    let Job { outputs, inputs, .. } = job;
    let dir = partition.relation_dir(task.relation);
    let written: Vec<SegmentId> = outputs.iter().map(|output| output.info.id).collect();
    let published = merged.and_then(|maps| {
        let start = inputs.iter().map(|input| input.deletes.clone()).collect();
        partition.replace_segments(Replacement {
            relation: task.relation,
            inputs: &task.inputs,
            start,
            outputs,
            maps,
            level: task.level,
            horizon,
        })
    });
    if !matches!(published, Ok(true)) && partition.may_remove_outputs() {
        for id in written {
            remove_segment(&dir, id)?;
        }
    }
    published.map(|_| ())
}

/// One input.
struct Input {
    live: Arc<LiveSegment>,
    /// Persisted deletes when the job began.
    deletes: Arc<DeleteVector>,
}

struct Job<'a> {
    partition: &'a Partition,
    relation: &'a RelationVersion,
    inputs: Vec<Input>,
    horizon: Timestamp,
    floor: Timestamp,
    uniform: Option<Timestamp>,
    outputs: Vec<Output>,
}

impl<'a> Job<'a> {
    fn new(partition: &'a Partition, relation: &'a RelationVersion, task: &Task, horizon: Timestamp) -> Self {
        let inputs: Vec<Input> = task
            .inputs
            .iter()
            .map(|live| Input {
                live: live.clone(),
                deletes: live.deletes().persisted().0,
            })
            .collect();
        let first = task.inputs.first().and_then(|live| live.segment().uniform_ts());
        let uniform = first.filter(|ts| task.inputs.iter().all(|live| live.segment().uniform_ts() == Some(*ts)));
        Job {
            partition,
            relation,
            inputs,
            horizon,
            floor: partition.flushed_conflict_floor(),
            uniform,
            outputs: Vec::new(),
        }
    }

    /// Writes the outputs; where the rows of each input went.
    fn merge(&mut self) -> Result<Vec<RowMap>> {
        let schema = self.relation.schema.clone();
        let all: Arc<[usize]> = (0..schema.schema.fields().len()).collect();
        let sources = self.inputs.iter().map(|input| {
            let source = WholeSegment {
                segment: input.live.segment().clone(),
                encoder: self.relation.encoder.clone(),
                schema: schema.clone(),
                projection: all.clone(),
                batch: 0,
            };
            Box::new(source) as Box<dyn MergeSource>
        });
        let mut merge = Merge::new(sources.collect());
        let mut maps: Vec<RowMap> = self.inputs.iter().map(|_| RowMap::default()).collect();
        let any_deleted = self.inputs.iter().any(|input| !input.deletes.is_empty());
        let mut sink = Sink::default();
        let mut newer = NewerVersion::default();
        while let Some(span) = merge.next_span(self.partition.options().batch_rows)? {
            if any_deleted {
                let mut start = span.range.start;
                for i in span.range.clone() {
                    if !self.keeps(&span, i, &newer)? {
                        self.take(&mut sink, &span, start..i, &mut maps)?;
                        start = i + 1;
                    }
                    newer.set(span.batch.key(i), span.batch.timestamp(i));
                }
                self.take(&mut sink, &span, start..span.range.end, &mut maps)?;
            } else {
                self.take(&mut sink, &span, span.range.clone(), &mut maps)?;
            }
        }
        self.finish(&mut sink)?;
        Ok(maps)
    }

    /// Whether some reader can still need a row, or it is the only trace of a change after the conflict floor.
    fn keeps(&self, span: &Span, i: usize, newer: &NewerVersion) -> Result<bool> {
        let row = span.batch.start + span.batch.position(i) as u32;
        let Some(deleted) = self.inputs[span.source].deletes.deleted_at(row) else {
            return Ok(true);
        };
        if deleted > self.horizon {
            return Ok(true);
        }
        let key = span.batch.key(i);
        Ok(!(deleted <= self.floor || newer.tells_of(key, deleted) || self.changed_elsewhere(key, deleted)?))
    }

    /// Whether a segment that is not an input tells of a change of `key` at or after `since`.
    fn changed_elsewhere(&self, key: &[u8], since: Timestamp) -> Result<bool> {
        let hash = key_hash(key);
        for (_, live) in self.relation.segments.overlapping(key, key) {
            if !live.is_persisted() || self.inputs.iter().any(|input| Arc::ptr_eq(&input.live, live)) {
                continue;
            }
            for row in live.segment().find(key, hash, &self.relation.encoder)? {
                if live.begin(row)? >= since.0 {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Adds rows of a span to the output.
    fn take(&mut self, sink: &mut Sink, span: &Span, range: std::ops::Range<usize>, maps: &mut [RowMap]) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let options = self.partition.options();
        let full = sink.writer.as_ref().is_some_and(|writer| writer.bytes() >= options.segment_bytes);
        if full && sink.last_key != span.batch.key(range.start) {
            self.finish(sink)?;
        }
        let input = &self.inputs[span.source];
        let from = span.batch.start + span.batch.position(range.start) as u32;
        maps[span.source].push(from, range.len() as u32, self.outputs.len() as u32, sink.rows);
        if !input.deletes.is_empty() {
            for (offset, _) in range.clone().enumerate() {
                if let Some(deleted) = input.deletes.deleted_at(from + offset as u32) {
                    sink.deleted.push((sink.rows + offset as u32, deleted));
                }
            }
        }
        sink.last_key.clear();
        sink.last_key.extend_from_slice(span.batch.key(range.end - 1));
        sink.rows += range.len() as u32;
        sink.pending_rows += range.len();
        sink.pending.push(Span { range, ..span.clone() });
        if sink.pending_rows >= options.batch_rows {
            self.write_pending(sink)?;
        }
        Ok(())
    }

    fn write_pending(&mut self, sink: &mut Sink) -> Result<()> {
        if sink.pending.is_empty() {
            return Ok(());
        }
        let schema = &self.relation.schema;
        let rows: RecordBatch = assemble(&sink.pending, &crate::projection::projected_schema(schema, &all_columns(schema))?)?;
        let columns: Vec<_> = schema.key.iter().map(|&i| rows.column(i).clone()).collect();
        let keys = self.relation.encoder.encode(&columns)?;
        let timestamps = self.uniform.is_none().then(|| {
            UInt64Array::from_iter_values(
                sink.pending
                    .iter()
                    .flat_map(|span| span.range.clone().map(|i| span.batch.timestamp(i))),
            )
        });
        let writer = match &mut sink.writer {
            Some(writer) => writer,
            None => {
                let dir = self.partition.relation_dir(schema.id);
                let options = SegmentWriteOptions {
                    batch_rows: self.partition.options().batch_rows,
                    timestamps: self.uniform.is_none(),
                };
                sink.writer
                    .insert(SegmentWriter::create(&dir, self.partition.allot_segment(), schema, options)?)
            }
        };
        writer.append(&rows, &keys, timestamps.as_ref())?;
        (sink.pending, sink.pending_rows) = (Vec::new(), 0);
        Ok(())
    }

    fn finish(&mut self, sink: &mut Sink) -> Result<()> {
        self.write_pending(sink)?;
        let Sink { writer, deleted, .. } = std::mem::take(sink);
        if let Some(writer) = writer {
            self.outputs.push(Output {
                info: writer.finish()?,
                uniform: self.uniform,
                deleted,
            });
        }
        Ok(())
    }
}

fn all_columns(schema: &RelationSchema) -> Vec<usize> {
    (0..schema.schema.fields().len()).collect()
}

/// The output being written.
#[derive(Default)]
struct Sink {
    writer: Option<SegmentWriter>,
    pending: Vec<Span>,
    pending_rows: usize,
    rows: u32,
    last_key: Vec<u8>,
    deleted: Vec<(u32, Timestamp)>,
}

/// The row before, in merged order: the next newer version if the key is the same.
#[derive(Default)]
struct NewerVersion {
    key: Vec<u8>,
    begin: u64,
    known: bool,
}

impl NewerVersion {
    fn set(&mut self, key: &[u8], begin: u64) {
        self.key.clear();
        self.key.extend_from_slice(key);
        (self.begin, self.known) = (begin, true);
    }

    /// Whether it is a version of `key` that began at or after `since`.
    fn tells_of(&self, key: &[u8], since: Timestamp) -> bool {
        self.known && self.begin >= since.0 && self.key == key
    }
}

/// Every row of a segment, deleted ones too.
struct WholeSegment {
    segment: Arc<Segment>,
    encoder: Arc<KeyEncoder>,
    schema: Arc<RelationSchema>,
    projection: Arc<[usize]>,
    batch: usize,
}

impl MergeSource for WholeSegment {
    fn lower_bound(&self) -> &[u8] {
        &self.segment.info().first_key
    }

    fn next_batch(&mut self) -> Result<Option<MergeBatch>> {
        if self.batch >= self.segment.batch_count() {
            return Ok(None);
        }
        let batch = self.batch;
        self.batch += 1;
        Ok(Some(MergeBatch {
            keys: Keys::Encoded(self.segment.keys(batch, &self.encoder)?),
            rows: self.segment.read(batch, &self.schema, &self.projection)?,
            picks: None,
            start: self.segment.batch_start(batch),
            timestamps: Some(self.segment.timestamps(batch)?),
        }))
    }
}
