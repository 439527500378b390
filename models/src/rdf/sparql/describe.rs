//! `DESCRIBE`: the triples that a resource is the subject of, and those of the blank nodes they lead to (a concise bounded description, as W3C
//! member submission CBD calls it, without reification).

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, UInt64Array};
use datafusion::arrow::datatypes::{Schema, UInt64Type};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::lit;
use futures::StreamExt;

use super::plan::Runner;
use super::query::Evaluation;
use super::solutions::{Names, Solutions};
use super::template::{is_blank, triple_batch};
use super::triple::{Graphs, Quads, Slot};
use crate::error::{Error, Result};
use crate::rdf::blocking;
use crate::rdf::term_column::quad_fields;
use crate::rdf::term_id::TermId;

/// Triples of one batch of the answer.
const BATCH: usize = 8192;
/// Resources that are looked up together.
const TOGETHER: usize = 512;

/// The descriptions of all values of the solutions.
pub async fn describe(
    evaluation: &Evaluation<'_>,
    solutions: Solutions,
    graphs: &Graphs,
    runner: &Runner,
) -> Result<SendableRecordBatchStream> {
    let memory = runner.memory("triples of DESCRIBE");
    let mut wanted: Vec<TermId> = Vec::new();
    let mut seen: HashSet<TermId> = HashSet::new();
    let mut rows = runner.start(&solutions.visible().only_variables()?.plan).await?;
    while let Some(batch) = rows.next().await {
        for column in batch?.columns() {
            let ids: &UInt64Array = column.as_primitive::<UInt64Type>();
            wanted.extend(ids.iter().flatten().map(TermId).filter(|id| seen.insert(*id)));
        }
        memory.try_resize(3 * seen.capacity() * size_of::<TermId>())?;
    }
    let mut triples: Vec<[TermId; 3]> = Vec::new();
    while !wanted.is_empty() {
        let now: Vec<TermId> = wanted.drain(..wanted.len().min(TOGETHER)).collect();
        let mut rows = runner.start(&triples_of(evaluation, &now, graphs)?).await?;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            let columns: Vec<&UInt64Array> = batch.columns().iter().map(|column| column.as_primitive::<UInt64Type>()).collect();
            let [subjects, predicates, objects] = columns.as_slice() else {
                return Err(Error::internal("triples have three columns"));
            };
            for row in 0..batch.num_rows() {
                let object = TermId(objects.value(row));
                triples.push([TermId(subjects.value(row)), TermId(predicates.value(row)), object]);
                if is_blank(object) && seen.insert(object) {
                    wanted.push(object);
                }
            }
            memory.try_resize(3 * seen.capacity() * size_of::<TermId>() + triples.capacity() * size_of::<[TermId; 3]>())?;
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

/// The triples with these subjects.
fn triples_of(evaluation: &Evaluation<'_>, subjects: &[TermId], graphs: &Graphs) -> Result<datafusion::logical_expr::LogicalPlan> {
    let quads = Quads {
        dataset: evaluation.dataset,
        reader: evaluation.reader,
        index: None,
    };
    let slots = ["s", "p", "o"].map(|name| Slot::Variable(name.to_owned()));
    let found = quads.matching(&mut Names::default(), [&slots[0], &slots[1], &slots[2]], graphs, "DESCRIBE")?;
    let [subject, predicate, object] = ["s", "p", "o"].map(|name| found.variables[name].expr());
    let among = subject.clone().in_list(subjects.iter().map(|id| lit(id.0)).collect(), false);
    Ok(LogicalPlanBuilder::from(found.plan)
        .filter(among)?
        .project([subject, predicate, object])?
        .build()?)
}
