//! Loading text: parsed by several threads, its terms given ids as they come, and written as sorted segments without a detour through
//! memtables.
//!
//! ```text
//! text ─▶ blocks of lines ─▶ quads ─▶ ids, new terms ─▶ (memory is full, or the end) ─▶ sorted in each order ─▶ staged segments
//!         source.rs          parse.rs  block.rs, interner.rs                             runs.rs
//! ```
//! Texts that are not lines are parsed by one thread; the rest is the same. All of it is one change.

mod block;
mod interner;
mod parse;
mod plain;
mod runs;
mod source;
mod xml;

use std::sync::Arc;

use bytes::Bytes;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::stream::BoxStream;
use oxrdf::GraphName;
use oxrdfio::RdfFormat;
use tokio::task::JoinSet;

use self::block::Block;
use self::interner::Interner;
use self::parse::Parsed;
use self::source::{Piece, Source};
use super::dataset::DatasetDefinition;
use super::dictionary::Dictionary;
use super::term_id::Scope;
use super::writer::Writer;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Position, Result};
use crate::session::OpenTransaction;

/// Quads below which a load is written like any other rows.
const FEW: usize = 32 << 10;
/// Faults that are told with their places; of more, how many there were.
const TOLD_FAULTS: usize = 1000;
/// Bytes of blocks that are always held before a run is written.
const LEAST_BYTES: u64 = 16 << 20;
/// Copies of a block's ids that are held while it is sorted: its own, and one a thread.
const COPIES: u64 = 3;

/// What to load, and how.
#[derive(Debug, Clone)]
pub struct RdfLoad {
    /// The dataset, perhaps with its schema: `kb`, `public.kb`.
    pub dataset: (Option<String>, String),
    /// How the text is written.
    pub format: RdfFormat,
    /// Against what relative IRIs are resolved.
    pub base: Option<String>,
    /// The graph into which triples go; quads of named graphs are then faults.
    pub graph: Option<GraphName>,
    /// Whether what is wrong is passed over and told at the end.
    pub lenient: bool,
}

/// What a load did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdfLoaded {
    /// Quads that were read, whether they were there before or not.
    pub quads: u64,
    /// Faults that were passed over.
    pub faults: u64,
    /// The first of them.
    pub told: Vec<RdfFault>,
}

/// What was wrong in a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RdfFault {
    /// Line and column, counted from 1, where the parser knows them.
    pub place: Option<(u64, u64)>,
    /// What was wrong.
    pub message: String,
}

impl From<RdfFault> for Error {
    fn from(fault: RdfFault) -> Error {
        Error {
            position: fault.place.map(|(line, column)| Position { line, column }),
            ..Error::new(ErrorKind::InvalidInput, "22000", fault.message)
        }
    }
}

/// Loads a text into a dataset.
pub(crate) async fn load(
    engine: &Engine,
    transaction: &mut OpenTransaction,
    dataset: &DatasetDefinition,
    load: RdfLoad,
    text: BoxStream<'static, Result<Bytes>>,
) -> Result<RdfLoaded> {
    if load.lenient && matches!(load.format, RdfFormat::RdfXml | RdfFormat::JsonLd { .. }) {
        return Err(Error::unsupported(format!(
            "faults in {} cannot be passed over: what follows cannot be read",
            load.format
        )));
    }
    // Blank nodes of this text are no others'.
    let scope = Scope::new(engine.catalog.allocate_rows(dataset.terms.id, 1).await?);
    let reader = transaction.reader()?;
    let has_terms = reader.relation(dataset.terms.id)?.iter().any(|view| view.row_count() > 0);
    let dictionary = has_terms.then(|| Dictionary::open(dataset, &reader)).transpose()?;
    let threads = engine.base_state.config().target_partitions().max(1);
    let memory = MemoryConsumer::new("RDF load")
        .with_can_spill(true)
        .register(&engine.runtime.memory_pool);
    Loader {
        dataset,
        memory,
        most_bytes: engine.query_memory_limit / 2,
        interner: Arc::new(Interner::new(dictionary, dataset.hash_bits)),
        scope: Arc::new(scope),
        load: Arc::new(load),
        threads,
        writer: Writer::new(dataset),
        blocks: Vec::new(),
        loaded: RdfLoaded::default(),
        has_written: false,
    }
    .run(transaction, text)
    .await
}

struct Loader<'a> {
    dataset: &'a DatasetDefinition,
    memory: MemoryReservation,
    /// Bytes that the blocks of one run may take.
    most_bytes: u64,
    interner: Arc<Interner>,
    scope: Arc<Scope>,
    load: Arc<RdfLoad>,
    threads: usize,
    writer: Writer<'a>,
    blocks: Vec<Block>,
    loaded: RdfLoaded,
    has_written: bool,
}

type Outcome = (Result<Block>, Vec<RdfFault>);

impl Loader<'_> {
    async fn run(mut self, transaction: &mut OpenTransaction, text: BoxStream<'static, Result<Bytes>>) -> Result<RdfLoaded> {
        let mut source = Source::new(&self.load, text);
        let mut tasks: JoinSet<Outcome> = JoinSet::new();
        while let Some(piece) = source.next().await? {
            // One more than there are threads, so that none waits for the next piece.
            if tasks.len() > self.threads {
                self.take_one(&mut tasks).await?;
                if !self.fits() {
                    self.take_all(&mut tasks).await?;
                    self.write(transaction).await?;
                }
            }
            let (interner, scope, load) = (Arc::clone(&self.interner), Arc::clone(&self.scope), Arc::clone(&self.load));
            tasks.spawn_blocking(move || match piece {
                Piece::Lines(lines) => Block::of_lines(&lines, &load, &interner, &scope),
                Piece::Parsed(Parsed { quads, faults }) => (Block::of_quads(&quads, &interner, &scope), faults),
            });
        }
        self.take_all(&mut tasks).await?;
        let count: usize = self.blocks.iter().map(|block| block.quads.len()).sum();
        if count > FEW || self.has_written {
            self.write(transaction).await?;
        } else {
            let blocks = std::mem::take(&mut self.blocks);
            self.note(transaction, &blocks).await?;
            runs::put(transaction, self.dataset, &blocks).await?;
        }
        self.loaded.told.sort_unstable();
        Ok(self.loaded)
    }

    /// Whether the blocks so far may be held.
    fn fits(&mut self) -> bool {
        let blocks: u64 = self.blocks.iter().map(Block::bytes).sum();
        let held = blocks * COPIES + self.interner.bytes();
        let bytes = usize::try_from(held).unwrap_or(usize::MAX);
        // However little there is, tiny files would not help.
        blocks < LEAST_BYTES || (held <= self.most_bytes && self.memory.try_resize(bytes).is_ok())
    }

    async fn take_one(&mut self, tasks: &mut JoinSet<Outcome>) -> Result<()> {
        let Some(done) = tasks.join_next().await else { return Ok(()) };
        let (block, faults) = done.map_err(|error| Error::internal(format!("a load task failed: {error}")))?;
        if !faults.is_empty() && !self.load.lenient {
            return Err(self.first_fault(faults, tasks).await);
        }
        let block = block?;
        self.loaded.quads += block.quads.len() as u64;
        self.loaded.faults += faults.len() as u64;
        let room = TOLD_FAULTS.saturating_sub(self.loaded.told.len());
        self.loaded.told.extend(faults.into_iter().take(room));
        self.blocks.push(block);
        Ok(())
    }

    async fn take_all(&mut self, tasks: &mut JoinSet<Outcome>) -> Result<()> {
        while !tasks.is_empty() {
            self.take_one(tasks).await?;
        }
        Ok(())
    }

    /// The first fault of the text: blocks before the one in which a fault was found may have one too.
    async fn first_fault(&self, mut faults: Vec<RdfFault>, tasks: &mut JoinSet<Outcome>) -> Error {
        while let Some(done) = tasks.join_next().await {
            faults.extend(done.into_iter().flat_map(|(_, faults)| faults));
        }
        let first = faults.into_iter().min();
        first.map_or_else(|| Error::internal("a load without a fault failed"), Error::from)
    }

    /// Graphs and displaced terms, of which there are few.
    async fn note(&mut self, transaction: &mut OpenTransaction, blocks: &[Block]) -> Result<()> {
        let graphs = blocks.iter().flat_map(|block| block.graphs.iter().copied()).collect();
        self.writer.note_graphs(transaction, graphs).await?;
        let terms = blocks.iter().flat_map(|block| block.terms.rows());
        let mut displaced: Vec<_> = terms.filter(|term| term.is_displaced).map(|term| term.id).collect();
        displaced.sort_unstable();
        self.writer.note_displaced(transaction, displaced).await
    }

    /// Writes the blocks so far as runs.
    async fn write(&mut self, transaction: &mut OpenTransaction) -> Result<()> {
        let blocks = std::mem::take(&mut self.blocks);
        if blocks.is_empty() {
            return Ok(());
        }
        self.has_written = true;
        self.note(transaction, &blocks).await?;
        runs::write(transaction, self.dataset, blocks, self.threads).await?;
        if self.interner.bytes() > self.most_bytes / 4 {
            let dictionary = Dictionary::open(self.dataset, &transaction.reader()?)?;
            // No task has it now.
            match Arc::get_mut(&mut self.interner) {
                Some(interner) => interner.forget(dictionary),
                None => return Err(Error::internal("terms of a load are in use between its runs")),
            }
        }
        let bytes = usize::try_from(self.interner.bytes()).unwrap_or(usize::MAX);
        // What the table of terms takes was counted before.
        self.memory.shrink(self.memory.size().saturating_sub(bytes));
        Ok(())
    }
}
