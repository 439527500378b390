//! Updates: one request is one transaction; each operation sees what those before it did, its WHERE is evaluated before it changes anything, and
//! it deletes before it inserts (section 3 of SPARQL 1.1 Update).

use std::collections::{BTreeSet, HashMap, HashSet};

use datafusion::arrow::array::{AsArray, UInt64Array};
use datafusion::arrow::datatypes::UInt64Type;
use futures::StreamExt;
use oxrdf::{NamedNode, NamedNodeRef};
use spargebra::algebra::{GraphPattern, GraphTarget, QueryDataset as Clauses};
use spargebra::term::{GraphName, GroundQuadPattern, QuadPattern, TermPattern};
use spargebra::{GraphUpdateOperation, Update};
use tokio::time::Instant;

use super::load;
use super::plan::Runner;
use super::query::{Evaluation, base_of, clauses_of};
use super::solutions::Names;
use super::template::{Layout, Place, TOGETHER, fresh};
use super::triple::{Graphs, Quads};
use super::{SparqlQuery, text};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::large_stack::OnLargeStack;
use crate::rdf::dataset::DatasetDefinition;
use crate::rdf::dictionary::Dictionary;
use crate::rdf::remote::is_elsewhere;
use crate::rdf::term_id::{Encoded, Scope, TermId};
use crate::rdf::writer::{QuadIds, Writer};
use crate::session::{OpenTransaction, Session, timed_out};

impl Session {
    /// Runs an update of SPARQL, all of it or nothing: in the open transaction, or in one of its own. `query` has the update's text; its graphs
    /// are those of USING and USING NAMED, which the text must not have too then.
    pub async fn sparql_update(&self, query: SparqlQuery) -> Result<()> {
        let started = Instant::now();
        let limit = self.statement_timeout();
        let work = OnLargeStack::new(self.run_update(&query));
        let result = match limit {
            None => work.await,
            Some(limit) => match tokio::time::timeout_at(started + limit, work).await {
                Ok(result) => result,
                Err(_) => Err(timed_out(limit)),
            },
        };
        self.engine().count(&result);
        result
    }

    pub(crate) async fn run_update(&self, query: &SparqlQuery) -> Result<()> {
        let update = text::update(&query.text, query.base.as_deref())?;
        let given = clauses_of(query)?;
        let has_own = |operation: &GraphUpdateOperation| matches!(operation, GraphUpdateOperation::DeleteInsert { using: Some(_), .. });
        if given.is_some() && update.operations.iter().any(has_own) {
            return Err(Error::invalid(
                "42601",
                "the request names graphs, and the update's text has USING or WITH too",
            ));
        }
        self.engine().fresh().await?;
        let dataset = self.dataset(&query.dataset)?;
        let runner = Runner::new(self);
        let (part, mut attempt) = (self.next_part(), 0);
        loop {
            let work = async |transaction: &mut OpenTransaction| {
                let mut changes = Changes {
                    engine: self.engine(),
                    runner: &runner,
                    dataset: &dataset,
                    union_default_graph: query.union_default_graph,
                    writer: Writer::new(&dataset),
                };
                changes.run(transaction, &update, given.as_ref()).await?;
                Ok(0)
            };
            let result = self.in_one_change(part, work).await;
            if !self.may_try_again(&result, &mut attempt).await? {
                return result.map(drop);
            }
        }
    }
}

/// One request at work.
struct Changes<'a> {
    engine: &'a Engine,
    runner: &'a Runner,
    dataset: &'a DatasetDefinition,
    union_default_graph: bool,
    writer: Writer<'a>,
}

impl Changes<'_> {
    async fn run(&mut self, transaction: &mut OpenTransaction, update: &Update, given: Option<&Clauses>) -> Result<()> {
        let base = base_of(update.base_iri.clone());
        for operation in &update.operations {
            match operation {
                GraphUpdateOperation::InsertData { data } => {
                    let scope = Scope::new(self.engine.catalog.allocate_rows(self.dataset.terms.id, 1).await?);
                    let mut terms = Vec::with_capacity(4 * data.len());
                    for quad in data {
                        terms.push(Encoded::of(oxrdf::TermRef::from(quad.subject.as_ref()), &scope));
                        terms.push(Encoded::iri(quad.predicate.as_ref()));
                        terms.push(Encoded::of(quad.object.as_ref(), &scope));
                        terms.push(graph_term(&quad.graph_name));
                    }
                    let ids = self.writer.ids(transaction, &terms).await?;
                    self.writer.put(transaction, &quads(&ids)).await?;
                }
                GraphUpdateOperation::DeleteData { data } => {
                    let dictionary = Dictionary::open(self.dataset, &transaction.reader()?)?;
                    let mut ids = Vec::with_capacity(4 * data.len());
                    for quad in data {
                        let object = match &quad.object {
                            spargebra::term::GroundTerm::NamedNode(iri) => Encoded::iri(iri.as_ref()),
                            spargebra::term::GroundTerm::Literal(literal) => Encoded::literal(literal.as_ref()),
                        };
                        ids.push(dictionary.id(&Encoded::iri(quad.subject.as_ref()))?);
                        ids.push(dictionary.id(&Encoded::iri(quad.predicate.as_ref()))?);
                        ids.push(dictionary.id(&object)?);
                        ids.push(dictionary.id(&graph_term(&quad.graph_name))?);
                    }
                    self.writer.remove(transaction, quads(&ids)).await?;
                }
                GraphUpdateOperation::DeleteInsert {
                    delete,
                    insert,
                    using,
                    pattern,
                } => {
                    let clauses = given.or(using.as_ref());
                    self.delete_insert(transaction, (delete, insert), clauses, pattern, base.clone())
                        .await?;
                }
                GraphUpdateOperation::Load {
                    silent,
                    source,
                    destination,
                } => self.load(transaction, source, destination, *silent).await?,
                GraphUpdateOperation::Create { silent, graph } => {
                    let id = self.graph_id(transaction, graph.as_ref())?;
                    if self.named_graphs(transaction).await?.contains(&id) {
                        match silent {
                            true => continue,
                            false => {
                                return Err(Error::new(
                                    ErrorKind::AlreadyExists,
                                    "42P07",
                                    format!("the graph {graph} exists already"),
                                ));
                            }
                        }
                    }
                    let ids = self.writer.ids(transaction, &[Encoded::iri(graph.as_ref())]).await?;
                    self.writer.add_graphs(transaction, ids).await?;
                }
                GraphUpdateOperation::Clear { silent, graph } => self.clear(transaction, graph, *silent, false).await?,
                GraphUpdateOperation::Drop { silent, graph } => self.clear(transaction, graph, *silent, true).await?,
            }
        }
        Ok(())
    }

    /// With `silent`, a document that is not to be had changes nothing.
    async fn load(&mut self, transaction: &mut OpenTransaction, source: &NamedNode, destination: &GraphName, silent: bool) -> Result<()> {
        let before = transaction.mark()?;
        match load::load(self.engine, self.dataset, &mut self.writer, transaction, source, destination).await {
            Err(error) if silent && is_elsewhere(&error) => {
                tracing::debug!(%error, "LOAD SILENT");
                // What it has seen is not there any more.
                self.writer = Writer::new(self.dataset);
                transaction.back_to(before).await
            }
            result => result,
        }
    }

    fn graph_id(&self, transaction: &mut OpenTransaction, graph: NamedNodeRef<'_>) -> Result<TermId> {
        Dictionary::open(self.dataset, &transaction.reader()?)?.id(&Encoded::iri(graph))
    }

    async fn named_graphs(&self, transaction: &mut OpenTransaction) -> Result<BTreeSet<TermId>> {
        let reader = transaction.reader()?;
        let quads = Quads {
            dataset: self.dataset,
            reader: &reader,
            index: None,
        };
        let graphs = quads.named_graphs(&mut Names::default(), "g", None)?;
        let mut found = BTreeSet::new();
        let mut rows = self.runner.start(&graphs.plan).await?;
        while let Some(batch) = rows.next().await {
            found.extend(batch?.column(0).as_primitive::<UInt64Type>().iter().flatten().map(TermId));
        }
        Ok(found)
    }

    async fn clear(&mut self, transaction: &mut OpenTransaction, target: &GraphTarget, silent: bool, drop: bool) -> Result<()> {
        let named = self.named_graphs(transaction).await?;
        let has_named = !named.is_empty();
        let (graphs, names): (Graphs, Vec<TermId>) = match target {
            GraphTarget::DefaultGraph => (Graphs::One(TermId::DEFAULT_GRAPH), Vec::new()),
            GraphTarget::NamedGraphs => (Graphs::Each("g".to_owned(), None), named.into_iter().collect()),
            GraphTarget::AllGraphs => (Graphs::Merged(None), named.into_iter().collect()),
            GraphTarget::NamedNode(iri) => {
                let id = self.graph_id(transaction, iri.as_ref())?;
                match named.contains(&id) {
                    true => (Graphs::One(id), vec![id]),
                    false if silent => return Ok(()),
                    false => return Err(Error::new(ErrorKind::NotFound, "42P01", format!("the graph {iri} does not exist"))),
                }
            }
        };
        let is_all = match target {
            GraphTarget::AllGraphs => true,
            GraphTarget::DefaultGraph => !has_named,
            GraphTarget::NamedGraphs | GraphTarget::NamedNode(_) => false,
        };
        match is_all {
            true => self.writer.remove_all(transaction).await?,
            false => {
                let quads = self.quads_of(transaction, &graphs).await?;
                self.writer.remove(transaction, quads).await?;
            }
        }
        match drop {
            true => self.writer.remove_graphs(transaction, names).await,
            false => Ok(()),
        }
    }

    /// All quads of some graphs.
    async fn quads_of(&self, transaction: &mut OpenTransaction, graphs: &Graphs) -> Result<Vec<QuadIds>> {
        let reader = transaction.reader()?;
        let quads = Quads {
            dataset: self.dataset,
            reader: &reader,
            index: None,
        };
        let memory = self.runner.memory("quads of an update");
        let plan = quads.all(graphs)?;
        let mut found = Vec::new();
        let mut rows = self.runner.start(&plan).await?;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            let columns: Vec<&UInt64Array> = batch.columns().iter().map(|column| column.as_primitive::<UInt64Type>()).collect();
            found.extend((0..batch.num_rows()).map(|row| [0, 1, 2, 3].map(|i| TermId(columns[i].value(row)))));
            memory.try_resize(found.capacity() * size_of::<QuadIds>())?;
        }
        Ok(found)
    }

    async fn delete_insert(
        &mut self,
        transaction: &mut OpenTransaction,
        (delete, insert): (&[GroundQuadPattern], &[QuadPattern]),
        clauses: Option<&Clauses>,
        pattern: &GraphPattern,
        base: Option<NamedNode>,
    ) -> Result<()> {
        let reader = transaction.reader()?;
        let evaluation = Evaluation::new(self.dataset, &reader, self.engine.config.remote.clone())?;
        let context = &evaluation.context;
        let graphs = evaluation.graphs(clauses, self.union_default_graph)?;
        let solutions = evaluation.solutions(pattern, graphs, base)?.visible().only_variables()?;
        let mut layout = Layout::of(&solutions)?;
        let mut deleting = Vec::new();
        for quad in delete {
            let object = TermPattern::from(quad.object.clone());
            let subject = TermPattern::from(quad.subject.clone());
            deleting.push(layout.quad(context, &subject, &quad.predicate, &object, &quad.graph_name)?);
        }
        let mut inserting = Vec::new();
        for quad in insert {
            inserting.push(layout.quad(context, &quad.subject, &quad.predicate, &quad.object, &quad.graph_name)?);
        }
        let memory = self.runner.memory("quads of an update");
        let (mut deleted, mut inserted): (HashSet<QuadIds>, HashSet<QuadIds>) = Default::default();
        let mut rows = self.runner.start(&solutions.plan).await?;
        let rows_together = (TOGETHER / (deleting.len() + inserting.len()).max(1)).max(1);
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            for start in (0..batch.num_rows()).step_by(rows_together) {
                if start > 0 {
                    // So that a time limit can end it.
                    tokio::task::yield_now().await;
                }
                let part = batch.slice(start, rows_together.min(batch.num_rows() - start));
                let columns: Vec<&UInt64Array> = part.columns().iter().map(|column| column.as_primitive::<UInt64Type>()).collect();
                for row in 0..part.num_rows() {
                    let blanks = fresh(context, layout.blanks())?;
                    let filled = |places: &[Place; 4]| -> Option<QuadIds> {
                        let term = |position: usize| places[position].fill(position, &columns, row, &blanks);
                        Some([term(0)?, term(1)?, term(2)?, term(3)?])
                    };
                    deleted.extend(deleting.iter().filter_map(filled));
                    inserted.extend(inserting.iter().filter_map(filled));
                }
                memory.try_resize(2 * (deleted.capacity() + inserted.capacity()) * size_of::<QuadIds>())?;
            }
        }
        drop(rows);
        // What is deleted and inserted stays.
        deleted.retain(|quad| !inserted.contains(quad));
        self.writer.remove(transaction, deleted.into_iter().collect()).await?;
        if inserted.is_empty() {
            return Ok(());
        }
        // Terms that the query made may be new.
        let made: BTreeSet<TermId> = inserted
            .iter()
            .flatten()
            .copied()
            .filter(|id| context.entry(*id).is_some())
            .collect();
        let entries: Vec<Encoded> = made.iter().filter_map(|id| Some(Encoded::Entry(context.entry(*id)?))).collect();
        let ids = self.writer.ids(transaction, &entries).await?;
        let moved: HashMap<TermId, TermId> = made.into_iter().zip(ids).filter(|(from, to)| from != to).collect();
        let inserted: Vec<QuadIds> = inserted
            .into_iter()
            .map(|quad| quad.map(|id| moved.get(&id).copied().unwrap_or(id)))
            .collect();
        self.writer.put(transaction, &inserted).await
    }
}

fn quads(ids: &[TermId]) -> Vec<QuadIds> {
    ids.chunks_exact(4).map(|quad| [quad[0], quad[1], quad[2], quad[3]]).collect()
}

fn graph_term(name: &GraphName) -> Encoded {
    match name {
        GraphName::NamedNode(iri) => Encoded::iri(iri.as_ref()),
        GraphName::DefaultGraph => Encoded::Inline(TermId::DEFAULT_GRAPH),
    }
}
