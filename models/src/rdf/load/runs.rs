//! Blocks become sorted runs: one of terms, and one of quads in each order, written side by side.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringViewBuilder, UInt64Array};
use tokio::sync::Semaphore;

use super::block::Block;
use super::interner::{NewTerm, NewTerms};
use crate::error::{Error, Result};
use crate::rdf::dataset::{DatasetDefinition, Order};
use crate::rdf::writer::{QuadIds, quad_rows};
use crate::session::{OpenTransaction, SortedRuns};

/// Rows of a batch: as many as storage writes together.
const BATCH: usize = 8192;
/// What writes a run.
type Work = Box<dyn FnOnce() -> Result<SortedRuns> + Send>;

/// Bytes of a batch's texts from which on it is cut short.
const BATCH_BYTES: usize = 64 << 20;

/// Writes blocks straight to segments.
pub async fn write(transaction: &mut OpenTransaction, dataset: &DatasetDefinition, blocks: Vec<Block>, threads: usize) -> Result<()> {
    let blocks = Arc::new(blocks);
    let turns = Arc::new(Semaphore::new(threads));
    let mut writing = Vec::new();
    // The largest run goes first, so that no other thread waits for it in the end.
    let (run, terms_of, in_blocks) = (transaction.sorted_run(dataset.terms.id)?, dataset.clone(), Arc::clone(&blocks));
    let work = move || {
        let terms = sorted_terms(&in_blocks);
        append_all(run, term_batches(&terms).map(|terms| term_rows(&terms_of, terms)))
    };
    writing.push(in_turn(&turns, Box::new(work)));
    for order in Order::ALL {
        let (run, blocks) = (transaction.sorted_run(dataset.order(order).id)?, Arc::clone(&blocks));
        let schema = dataset.order(order).clone();
        let work = move || {
            let rows = sorted(&blocks, order);
            append_all(run, rows.chunks(BATCH).map(|rows| quad_rows(&schema, rows)))
        };
        writing.push(in_turn(&turns, Box::new(work)));
    }
    let runs = futures::future::try_join_all(writing).await?;
    transaction.add_runs(runs).await
}

/// Does blocking work, no more of it at once than there are turns.
async fn in_turn(turns: &Arc<Semaphore>, work: Work) -> Result<SortedRuns> {
    let failed = |error: &dyn std::fmt::Display| Error::internal(format!("a write task failed: {error}"));
    let turn = Arc::clone(turns).acquire_owned().await.map_err(|error| failed(&error))?;
    let done = tokio::task::spawn_blocking(move || {
        let run = work();
        drop(turn);
        run
    });
    done.await.map_err(|error| failed(&error))?
}

fn append_all(mut run: SortedRuns, batches: impl Iterator<Item = Result<RecordBatch>>) -> Result<SortedRuns> {
    for batch in batches {
        run.append(&batch?)?;
    }
    run.finish()?;
    Ok(run)
}

/// Quads in an order, each once.
fn sorted(blocks: &[Block], order: Order) -> Vec<QuadIds> {
    let positions = order.positions();
    let mut rows = Vec::with_capacity(blocks.iter().map(|block| block.quads.len()).sum());
    for block in blocks {
        rows.extend(block.quads.iter().map(|quad| positions.map(|position| quad[position])));
    }
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// New terms in the order of their ids, which are all different: each was claimed once.
fn sorted_terms(blocks: &[Block]) -> Vec<(&NewTerms, NewTerm)> {
    let mut terms: Vec<(&NewTerms, NewTerm)> = blocks
        .iter()
        .flat_map(|block| block.terms.rows().iter().map(|term| (&block.terms, *term)))
        .collect();
    terms.sort_unstable_by_key(|(_, term)| term.id);
    terms
}

/// Cut so that a batch of long texts does not take much more memory than one of short ones.
fn term_batches<'a, 'b>(terms: &'b [(&'a NewTerms, NewTerm)]) -> impl Iterator<Item = &'b [(&'a NewTerms, NewTerm)]> {
    let mut rest = terms;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |(_, term): &&(&NewTerms, NewTerm)| {
            let before = bytes;
            bytes += term.bytes();
            before < BATCH_BYTES
        };
        let count = rest.iter().take(BATCH).take_while(fits).count();
        let (batch, behind) = rest.split_at(count);
        rest = behind;
        (!batch.is_empty()).then_some(batch)
    })
}

/// Rows of the dictionary.
pub fn term_rows(dataset: &DatasetDefinition, terms: &[(&NewTerms, NewTerm)]) -> Result<RecordBatch> {
    let mut values = StringViewBuilder::with_capacity(terms.len());
    let mut qualifiers = StringViewBuilder::with_capacity(terms.len());
    for (texts, term) in terms {
        let (value, qualifier) = texts.text(term);
        values.append_value(value);
        qualifiers.append_option(qualifier);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(terms.iter().map(|(_, term)| term.id.0))),
        Arc::new(values.finish()),
        Arc::new(qualifiers.finish()),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&dataset.terms.schema), columns)?)
}

/// Writes few blocks as any other rows: they are not worth files of their own.
pub async fn put(transaction: &mut OpenTransaction, dataset: &DatasetDefinition, blocks: &[Block]) -> Result<()> {
    for order in Order::ALL {
        let relation = dataset.order(order);
        let rows = sorted(blocks, order);
        if !rows.is_empty() {
            transaction.put(relation.id, quad_rows(relation, &rows)?).await?;
        }
    }
    let batch = {
        let terms = sorted_terms(blocks);
        match terms.is_empty() {
            true => return Ok(()),
            false => term_rows(dataset, &terms)?,
        }
    };
    transaction.insert(dataset.terms.id, batch).await
}
