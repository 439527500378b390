//! Quads on their way into a transaction: terms become ids, new terms go to the dictionary, each quad goes to every order.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use pyralog_storage::RelationSchema;

use super::dataset::{DatasetDefinition, Order};
use super::dictionary::{self, Dictionary};
use super::term_id::{Encoded, Entry, TermId};
use crate::error::{Error, Result};
use crate::session::OpenTransaction;

/// Terms whose ids are remembered between batches, so that they are looked up once.
const REMEMBERED: usize = 1 << 20;

/// A quad: subject, predicate, object, graph.
pub type QuadIds = [TermId; 4];

/// Writes quads of one dataset in one transaction.
pub struct Writer<'a> {
    dataset: &'a DatasetDefinition,
    /// Terms that are in the dictionary as this transaction sees it: id of the first attempt → what tells terms with it apart, id.
    known: HashMap<TermId, (u64, TermId)>,
    graphs: HashSet<TermId>,
}

impl<'a> Writer<'a> {
    /// A writer that has written nothing.
    pub fn new(dataset: &'a DatasetDefinition) -> Writer<'a> {
        Writer {
            dataset,
            known: HashMap::new(),
            graphs: HashSet::new(),
        }
    }

    /// Gives terms their ids, in their order; those that are new go to the dictionary.
    pub async fn ids(&mut self, transaction: &mut OpenTransaction, terms: &[Encoded]) -> Result<Vec<TermId>> {
        let bits = self.dataset.hash_bits;
        if self.known.len() > REMEMBERED {
            self.known.clear();
        }
        let mut ids = vec![TermId::DEFAULT_GRAPH; terms.len()];
        let mut unknown: HashMap<&Entry, Vec<usize>> = HashMap::new();
        for (i, term) in terms.iter().enumerate() {
            match term {
                Encoded::Inline(id) => ids[i] = *id,
                Encoded::Entry(entry) => {
                    let (first, mark) = entry.id(0, bits);
                    match self.known.get(&first) {
                        Some((known, id)) if *known == mark => ids[i] = *id,
                        _ => unknown.entry(entry).or_default().push(i),
                    }
                }
            }
        }
        if unknown.is_empty() {
            return Ok(ids);
        }
        let reader = transaction.reader()?;
        let dictionary = Dictionary::open(self.dataset, &reader)?;
        let (entries, places): (Vec<Entry>, Vec<Vec<usize>>) = unknown.into_iter().map(|(entry, places)| (entry.clone(), places)).unzip();
        let (entries, found) = tokio::task::spawn_blocking(move || {
            let found = dictionary.find(&entries);
            (entries, found)
        })
        .await
        .map_err(|error| Error::internal(format!("a read task failed: {error}")))?;
        let mut new = Vec::new();
        let mut displaced = Vec::new();
        for ((entry, places), found) in entries.into_iter().zip(places).zip(found?) {
            places.into_iter().for_each(|place| ids[place] = found.id);
            let (first, mark) = entry.id(0, bits);
            self.known.insert(first, (mark, found.id));
            if !found.is_there {
                displaced.extend((found.attempt > 0).then_some(found.id));
                new.push((found.id, entry));
            }
        }
        if !new.is_empty() {
            new.sort_unstable_by_key(|(id, _)| *id);
            let rows = dictionary::rows(self.dataset, &new)?;
            transaction.insert(self.dataset.terms.id, rows).await?;
        }
        self.note_displaced(transaction, displaced).await?;
        Ok(ids)
    }

    /// Notes terms that did not get their first id.
    pub async fn note_displaced(&self, transaction: &mut OpenTransaction, ids: Vec<TermId>) -> Result<()> {
        self.put_ids(transaction, &self.dataset.displaced, ids).await
    }

    async fn put_ids(&self, transaction: &mut OpenTransaction, relation: &RelationSchema, ids: Vec<TermId>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        transaction.put(relation.id, id_rows(relation, ids)?).await
    }

    /// Adds quads. Those that are there already are written once more, which changes nothing that can be seen.
    pub async fn put(&mut self, transaction: &mut OpenTransaction, quads: &[QuadIds]) -> Result<()> {
        let graphs = quads.iter().map(|quad| quad[3]).filter(|graph| *graph != TermId::DEFAULT_GRAPH);
        self.note_graphs(transaction, graphs.collect()).await?;
        for order in Order::ALL {
            let positions = order.positions();
            let mut rows: Vec<QuadIds> = quads.iter().map(|quad| positions.map(|position| quad[position])).collect();
            rows.sort_unstable();
            rows.dedup();
            let relation = self.dataset.order(order);
            transaction.put(relation.id, quad_rows(relation, &rows)?).await?;
        }
        Ok(())
    }

    /// Removes quads; those that are not there are passed over.
    pub async fn remove(&mut self, transaction: &mut OpenTransaction, quads: Vec<QuadIds>) -> Result<()> {
        if quads.is_empty() {
            return Ok(());
        }
        for order in Order::ALL {
            let positions = order.positions();
            let mut rows: Vec<QuadIds> = quads.iter().map(|quad| positions.map(|position| quad[position])).collect();
            rows.sort_unstable();
            rows.dedup();
            let relation = self.dataset.order(order);
            transaction.delete(relation.id, quad_rows(relation, &rows)?).await?;
        }
        Ok(())
    }

    /// Removes all quads of all graphs.
    pub async fn remove_all(&mut self, transaction: &mut OpenTransaction) -> Result<()> {
        for order in Order::ALL {
            transaction.empty(self.dataset.order(order).id).await?;
        }
        Ok(())
    }

    /// Notes those of the graphs that this writer has not noted yet.
    pub async fn note_graphs(&mut self, transaction: &mut OpenTransaction, mut graphs: HashSet<TermId>) -> Result<()> {
        graphs.retain(|graph| !self.graphs.contains(graph));
        match graphs.is_empty() {
            true => Ok(()),
            false => self.add_graphs(transaction, graphs.into_iter().collect()).await,
        }
    }

    /// Notes that graphs are there, whether they have quads or not.
    pub async fn add_graphs(&mut self, transaction: &mut OpenTransaction, mut graphs: Vec<TermId>) -> Result<()> {
        self.graphs.extend(&graphs);
        graphs.sort_unstable();
        self.put_ids(transaction, &self.dataset.graphs, graphs).await
    }

    /// Forgets graphs, whose quads are gone.
    pub async fn remove_graphs(&mut self, transaction: &mut OpenTransaction, mut graphs: Vec<TermId>) -> Result<()> {
        if graphs.is_empty() {
            return Ok(());
        }
        self.graphs.retain(|graph| !graphs.contains(graph));
        graphs.sort_unstable();
        let relation = &self.dataset.graphs;
        transaction.delete(relation.id, id_rows(relation, graphs)?).await?;
        Ok(())
    }
}

/// Quads whose terms are in the order of the relation's columns.
pub(super) fn quad_rows(relation: &RelationSchema, quads: &[QuadIds]) -> Result<RecordBatch> {
    let column = |i: usize| Arc::new(UInt64Array::from_iter_values(quads.iter().map(|quad| quad[i].0))) as ArrayRef;
    Ok(RecordBatch::try_new(Arc::clone(&relation.schema), (0..4).map(column).collect())?)
}

fn id_rows(relation: &RelationSchema, ids: Vec<TermId>) -> Result<RecordBatch> {
    let ids: ArrayRef = Arc::new(UInt64Array::from_iter_values(ids.into_iter().map(|id| id.0)));
    Ok(RecordBatch::try_new(Arc::clone(&relation.schema), vec![ids])?)
}
