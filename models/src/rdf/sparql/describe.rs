//! `DESCRIBE`: the triples that a resource is the subject of, and those of the blank nodes they lead to (a concise bounded description, as W3C
//! member submission CBD calls it, without reification).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, UInt64Array};
use datafusion::arrow::datatypes::{Schema, UInt64Type};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

use super::plan::Runner;
use super::query::Evaluation;
use super::solutions::Solutions;
use super::template::{is_blank, triple_batch};
use super::triple::Graphs;
use crate::error::Result;
use crate::rdf::blocking;
use crate::rdf::quad_index::{Matches, QuadIndex};
use crate::rdf::term_column::quad_fields;
use crate::rdf::term_id::TermId;

/// Triples of one batch of the answer.
const BATCH: usize = 8192;
/// Triples that are read before others have their turn.
const TOGETHER: usize = 64 << 10;
/// Resources that are looked up before others have theirs.
const SUBJECTS: usize = 256;

/// The descriptions of all values of the solutions.
pub async fn describe(
    evaluation: &Evaluation<'_>,
    solutions: Solutions,
    graphs: &Graphs,
    runner: &Runner,
) -> Result<SendableRecordBatchStream> {
    let memory = runner.memory("triples of DESCRIBE");
    let mut wanted: VecDeque<TermId> = VecDeque::new();
    let mut described = 0;
    let mut seen: HashSet<TermId> = HashSet::new();
    let mut rows = runner.start(&solutions.visible().only_variables()?.plan).await?;
    while let Some(batch) = rows.next().await {
        for column in batch?.columns() {
            let ids: &UInt64Array = column.as_primitive::<UInt64Type>();
            wanted.extend(ids.iter().flatten().map(TermId).filter(|id| seen.insert(*id)));
        }
        memory.try_resize(3 * seen.capacity() * size_of::<TermId>())?;
    }
    let index = QuadIndex::open(evaluation.dataset, evaluation.reader)?;
    let (graph, among) = match graphs {
        Graphs::One(id) => (Some(id.0), None),
        Graphs::Merged(among) | Graphs::Each(_, among) => (None, among.as_ref()),
    };
    let mut matches = Matches::default();
    let mut triples: Vec<[TermId; 3]> = Vec::new();
    while let Some(subject) = wanted.pop_front() {
        index.seek([Some(subject.0), None, None, graph], &mut matches)?;
        let before = triples.len();
        loop {
            let has_more = blocking(index.count(&matches)?.try_into().unwrap_or(TOGETHER), || {
                index.read(&mut matches, TOGETHER, |quad| {
                    if among.is_none_or(|among| among.contains(&TermId(quad[3]))) {
                        triples.push([quad[0], quad[1], quad[2]].map(TermId));
                    }
                })
            })?;
            memory.try_resize(3 * seen.capacity() * size_of::<TermId>() + triples.capacity() * size_of::<[TermId; 3]>())?;
            if !has_more {
                break;
            }
            tokio::task::yield_now().await;
        }
        // Of several graphs, once.
        let mut own = triples.split_off(before);
        own.sort_unstable();
        own.dedup();
        wanted.extend(
            own.iter()
                .map(|triple| triple[2])
                .filter(|object| is_blank(*object) && seen.insert(*object)),
        );
        triples.append(&mut own);
        described += 1;
        if described % SUBJECTS == 0 {
            tokio::task::yield_now().await;
        }
    }
    let context = evaluation.context.clone();
    let mut left = triples.into_iter();
    let batches = std::iter::from_fn(move || {
        let triples: Vec<[TermId; 3]> = left.by_ref().take(BATCH).collect();
        let _held = &memory;
        (!triples.is_empty()).then(|| Ok(blocking(triples.len(), || triple_batch(&context, &triples))?))
    });
    let schema = Arc::new(Schema::new(quad_fields()));
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches))))
}
