//! Plans of queries that come again: the same text, while nothing was written.
//!
//! A small query is planned for longer than it runs. So the plan of a text that comes a second time is kept, as long as what it reads is the
//! newest state; each run gets operators of its own. A plan holds a snapshot, so one that nobody asks for goes, and so does one that is not of
//! the newest state any more, within a second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::context::QueryContext;
use super::plan::Prepared;
use super::query::SparqlQuery;
use super::token;
use crate::engine::Engine;
use crate::rdf::dataset::DatasetDefinition;
use crate::session::Reader;

/// Texts that are known, at most.
const MOST: usize = 128;
/// A longer text is not kept. Bytes.
const LONGEST_TEXT: usize = 16 << 10;
/// A plan whose query has made more than this of terms and results of functions is not kept. Bytes.
const MOST_HELD: usize = 128 << 10;
/// How often it is looked which plans are to go.
const SWEEP: Duration = Duration::from_secs(1);
/// A plan goes that was not asked for so long.
const IDLE: Duration = Duration::from_secs(10);
/// What gives something else each time. A SERVICE may, too.
const VOLATILE: [&str; 6] = ["NOW", "RAND", "UUID", "STRUUID", "BNODE", "SERVICE"];

/// Which answer a query gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// The solutions.
    Select,
    /// Whether there is one.
    Ask,
}

/// A plan, and what it is the plan of.
pub struct Kept {
    /// Which answer it gives.
    pub asks: Asks,
    /// The plan; each run has one of its own made of it.
    pub plan: Prepared,
    /// The query's own terms.
    pub context: QueryContext,
    /// The dataset.
    pub dataset: DatasetDefinition,
    /// What it reads.
    pub reader: Reader,
}

impl Kept {
    /// Whether the same plan would be made of this dataset's state.
    pub fn is_of(&self, dataset: &DatasetDefinition, reader: &Reader) -> bool {
        self.dataset == *dataset && self.reader.is_same(reader) && self.is_light()
    }

    fn is_light(&self) -> bool {
        self.context.held_bytes() <= MOST_HELD
    }
}

/// What is known of a text.
pub enum Known {
    /// Nothing.
    New,
    /// It came before.
    Seen,
    /// Its plan.
    Kept(Arc<Kept>),
}

/// The plans of a database.
#[derive(Default)]
pub struct PlanCache {
    texts: Mutex<Texts>,
    runs: AtomicU64,
}

#[derive(Default)]
struct Texts {
    known: HashMap<SparqlQuery, Slot>,
    is_swept: bool,
}

struct Slot {
    asked: Instant,
    plan: Option<Arc<Kept>>,
}

impl PlanCache {
    /// What is known of a query. It is known from now on.
    pub fn find(&self, query: &SparqlQuery) -> Known {
        if query.text.len() > LONGEST_TEXT {
            return Known::New;
        }
        let asked = Instant::now();
        let mut texts = self.texts.lock();
        if let Some(slot) = texts.known.get_mut(query) {
            slot.asked = asked;
            return slot.plan.clone().map_or(Known::Seen, Known::Kept);
        }
        if texts.known.len() >= MOST {
            let oldest = texts
                .known
                .iter()
                .min_by_key(|(_, slot)| slot.asked)
                .map(|(query, _)| query.clone());
            oldest.and_then(|oldest| texts.known.remove(&oldest));
        }
        texts.known.insert(query.clone(), Slot { asked, plan: None });
        Known::New
    }

    /// Keeps a query's plan.
    pub fn keep(&self, engine: &Arc<Engine>, query: &SparqlQuery, plan: Kept) {
        let mut texts = self.texts.lock();
        let Some(slot) = texts.known.get_mut(query) else { return };
        slot.plan = Some(Arc::new(plan));
        if !std::mem::replace(&mut texts.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(engine)));
        }
    }

    /// Counts a run of a plan that was kept.
    pub fn count_run(&self) {
        self.runs.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs of plans that were kept, since start.
    pub fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    /// Lets all go.
    pub fn clear(&self) {
        self.texts.lock().known.clear();
    }

    /// Lets those go that are of another state than the newest, heavy, or not asked for; whether any is left.
    fn sweep(&self, engine: &Engine) -> bool {
        let mut texts = self.texts.lock();
        let mut is_left = false;
        for slot in texts.known.values_mut() {
            let stays = |plan: &Arc<Kept>| slot.asked.elapsed() < IDLE && plan.is_light() && plan.reader.is_newest(engine);
            slot.plan = slot.plan.take().filter(stays);
            is_left |= slot.plan.is_some();
        }
        texts.is_swept = is_left;
        is_left
    }
}

async fn sweep(engine: Weak<Engine>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        match engine.upgrade() {
            Some(engine) if engine.plans.sweep(&engine) => {}
            _ => return,
        }
    }
}

/// Whether a text means the same whenever it is asked of the same state.
pub fn is_repeatable(text: &str) -> bool {
    !token::tokens(text).any(|token| VOLATILE.iter().any(|word| token.is_keyword(word)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn query(text: String) -> SparqlQuery {
        SparqlQuery {
            dataset: "kb".to_owned(),
            text,
            ..SparqlQuery::default()
        }
    }

    #[test]
    fn what_gives_something_else_each_time_is_not_repeatable() {
        for text in [
            "SELECT (now() AS ?t) {}",
            "ASK { FILTER(RAND() < 0.5) }",
            "SELECT (StrUUID () AS ?u) {}",
            "SELECT * { BIND(BNODE() AS ?b) }",
            "SELECT * { SERVICE <http://a/> { ?s ?p ?o } }",
        ] {
            assert!(!is_repeatable(text), "{text}");
        }
        for text in [
            "SELECT ?now { ?s <http://a/now> ?now ; <http://xmlns.com/foaf/0.1/knows> 'rand()' }",
            "ASK {} # uuid()",
        ] {
            assert!(is_repeatable(text), "{text}");
        }
    }

    #[test]
    fn texts_are_known_the_second_time_and_bounded() {
        let cache = PlanCache::default();
        assert!(matches!(cache.find(&query("ASK {}".to_owned())), Known::New));
        assert!(matches!(cache.find(&query("ASK {}".to_owned())), Known::Seen));
        let elsewhere = SparqlQuery {
            union_default_graph: true,
            ..query("ASK {}".to_owned())
        };
        assert!(matches!(cache.find(&elsewhere), Known::New));
        for i in 0..MOST {
            assert!(matches!(cache.find(&query(format!("ASK {{}} # {i}"))), Known::New));
            assert!(cache.texts.lock().known.len() <= MOST);
        }
        assert!(matches!(cache.find(&query("ASK {}".to_owned())), Known::New));
        let long = query(format!("ASK {{}} #{}", "x".repeat(LONGEST_TEXT)));
        assert!(matches!(cache.find(&long), Known::New));
        assert!(matches!(cache.find(&long), Known::New));
    }

    /// A plan holds a snapshot: what was deleted could not be freed while it is kept.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_plan_of_an_older_state_goes() {
        use crate::{Database, Parameters};
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path()).await.unwrap();
        let session = db.session();
        let run = |sql: &'static str| session.execute(sql, Parameters::None);
        run("CREATE COLLECTION kb AS RDF").await.unwrap();
        run("CREATE TABLE t (a BIGINT PRIMARY KEY)").await.unwrap();
        for _ in 0..3 {
            drop(session.sparql(query("SELECT ?o { <urn:a> <urn:b> ?o }".to_owned())).await.unwrap());
        }
        assert_eq!(db.status().plans_reused, 1);
        let partition = &session.engine().node.partitions()[0];
        assert!(partition.storage().oldest_pinned().is_some());
        run("INSERT INTO t VALUES (1)").await.unwrap();
        let mut waits = 0;
        while partition.storage().oldest_pinned().is_some() {
            waits += 1;
            assert!(waits < 100, "the plan is kept still");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(!session.engine().plans.texts.lock().is_swept);
    }
}
