//! One seed from its beginning to its end.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;

use pyralog_consensus::simulation;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::disk::Syncs;
use crate::faults;
use crate::host::Command;
use crate::world::{Hook, World, set_world};

/// How long the first nodes may take to find together.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long things go wrong.
const FAULTS: Duration = Duration::from_secs(60);
/// Longest pause between two faults, in milliseconds.
const FAULT_PAUSE_MS: u64 = 3_000;
/// For how long work goes on when everything is healed.
const WORK_AFTER: Duration = Duration::from_secs(10);
/// How long the replicas may take to agree.
const AGREE_LIMIT: Duration = Duration::from_secs(90);

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub seed: u64,
    pub syncs: Syncs,
    /// Whether disks are looked at between steps. Without it only clients and nodes can find that something was lost.
    pub looks_at_disks: bool,
    pub verbose: bool,
}

impl Settings {
    pub fn new(seed: u64) -> Settings {
        Settings {
            seed,
            syncs: Syncs::Honest,
            looks_at_disks: true,
            verbose: false,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub seed: u64,
    pub violation: Option<String>,
    /// Stands for all that happened, in its order.
    pub trace: u64,
    pub events: Vec<String>,
    pub virtual_seconds: u64,
    pub done: u64,
    pub refused: u64,
    pub unknown: u64,
    pub elections: u64,
    pub installs: u64,
    pub lives: u64,
}

thread_local! {
    /// The first panic on this thread, within a simulation.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static SIMULATES: RefCell<bool> = const { RefCell::new(false) };
}

/// tokio swallows the panics of tasks; here each is a violation.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if SIMULATES.with(|simulates| *simulates.borrow()) {
                eprintln!("{info}");
                PANIC.with(|panic| panic.borrow_mut().get_or_insert_with(|| info.to_string()).truncate(2_000));
            } else {
                before(info);
            }
        }));
    });
}

/// Runs one seed.
pub fn run(settings: Settings) -> Report {
    note_panics();
    SIMULATES.with(|simulates| *simulates.borrow_mut() = true);
    PANIC.with(|panic| panic.borrow_mut().take());
    let world = World::new(settings.seed, settings.syncs, settings.verbose);
    set_world(Some(world.clone()));
    // Segments are synced for real, which costs nothing in memory.
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
    let ending = simulation::begin(Rc::new(Hook(world.clone())));
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let mut cluster = Cluster::start(world.clone(), dir.path());
        let outcome = play(&mut cluster, &settings);
        match outcome {
            Ok(()) => world.run_as(0, || drop(cluster)),
            // What a panic left may panic again.
            Err(_) => std::mem::forget(cluster),
        }
        outcome
    }));
    let panicked = PANIC.with(|panic| panic.borrow_mut().take());
    SIMULATES.with(|simulates| *simulates.borrow_mut() = false);
    let violation = panicked
        .map(|panic| format!("panic: {panic}"))
        .or(outcome.unwrap_or_else(|_| Err("panic".to_owned())).err());
    drop(ending);
    set_world(None);
    let (history, invariants) = (world.history.borrow(), world.invariants.borrow());
    let lives = world.hosts.borrow().iter().map(|host| host.life.get()).sum();
    Report {
        seed: settings.seed,
        violation,
        trace: world.trace(),
        events: world.last_events(),
        virtual_seconds: world.now.get().as_secs(),
        done: history.done,
        refused: history.refused,
        unknown: history.unknown,
        elections: invariants.elections() as u64,
        installs: invariants.installs,
        lives,
    }
}

fn step(cluster: &mut Cluster) -> Result<(), String> {
    cluster.step()?;
    match PANIC.with(|panic| panic.borrow().clone()) {
        Some(panic) => Err(panic),
        None => Ok(()),
    }
}

fn until(cluster: &mut Cluster, limit: Duration, what: &str, mut holds: impl FnMut(&mut Cluster) -> bool) -> Result<(), String> {
    let end = cluster.world.now.get() + limit;
    while !holds(cluster) {
        if cluster.world.now.get() >= end {
            let statuses: Vec<_> = (0..cluster.size()).map(|host| cluster.status(host)).collect();
            return Err(format!("waited {limit:?} in vain: {what}; {statuses:#?}"));
        }
        step(cluster)?;
    }
    Ok(())
}

/// Hosts that belong to the cluster in the end.
fn members(cluster: &Cluster) -> Vec<usize> {
    (0..cluster.size())
        .filter(|host| !cluster.world.host(*host).removed.get())
        .collect()
}

/// Whether all members vote in all groups, nobody else does, and everything is applied everywhere.
fn agree(cluster: &Cluster) -> bool {
    let members = members(cluster);
    let statuses: Vec<_> = members.iter().filter_map(|host| cluster.status(*host)).collect();
    let mut ids: Vec<u64> = statuses.iter().map(|status| status.node_id).collect();
    ids.sort();
    let Some(first) = statuses.first().filter(|_| statuses.len() == members.len()) else {
        return false;
    };
    (0..first.groups.len()).all(|group| {
        let leads = statuses.iter().filter(|status| status.groups[group].leader).count();
        let last = first.groups[group].last_index;
        leads == 1
            && statuses.iter().all(|status| {
                let group = &status.groups[group];
                let mut voters = group.voters.clone();
                voters.sort();
                let is_whole = group.applied_index == last && group.last_index == last && group.storage.undecided == 0;
                is_whole && group.stopped.is_none() && voters == ids
            })
    })
}

/// The changes of membership that a seed makes.
struct Changes {
    adds_at: Option<Duration>,
    removes_at: Option<Duration>,
    /// The node that goes.
    removed: Option<(usize, u64)>,
}

impl Changes {
    fn draw(cluster: &Cluster) -> Changes {
        let world = &cluster.world;
        let moment = || world.now.get() + Duration::from_millis(world.below(FAULTS.as_millis() as u64));
        Changes {
            adds_at: world.chance(350).then(moment),
            removes_at: world.chance(250).then(moment),
            removed: None,
        }
    }

    fn make(&mut self, cluster: &mut Cluster) {
        let now = cluster.world.now.get();
        if self.adds_at.take_if(|at| *at <= now).is_some() {
            cluster.world.event(|| "a new node is to join".to_owned());
            cluster.add(true);
        }
        if self.removes_at.is_some_and(|at| at <= now) {
            let up = cluster.up();
            let pick = |cluster: &Cluster| up[cluster.world.below(up.len() as u64) as usize];
            if up.len() < 2 {
                return;
            }
            let (asked, goes) = (pick(cluster), pick(cluster));
            let Some(id) = cluster.status(goes).map(|status| status.node_id) else {
                return;
            };
            if asked != goes && cluster.world.node(asked).is_some() {
                self.removes_at = None;
                self.removed = Some((goes, id));
                cluster.tell(asked, Command::Remove(id));
            }
        }
    }

    /// Sees to it that the node that was to go has gone.
    fn finish(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        let Some((goes, id)) = self.removed.take() else { return Ok(()) };
        let mut asks_at = Duration::ZERO;
        until(cluster, AGREE_LIMIT, "a node to be removed", |cluster| {
            let others = || cluster.up().into_iter().filter(|host| *host != goes);
            let now = cluster.world.now.get();
            if now >= asks_at
                && let Some(asked) = others().find(|host| cluster.world.node(*host).is_some())
            {
                asks_at = now + Duration::from_secs(5);
                cluster.tell(asked, Command::Remove(id));
            }
            others().filter_map(|host| cluster.status(host)).any(|status| {
                status.groups.iter().all(|group| {
                    group.leader_id.is_some() && group.leader_id != Some(id) && !group.voters.contains(&id) && !group.learners.contains(&id)
                })
            })
        })?;
        cluster.take_away(goes);
        Ok(())
    }
}

fn play(cluster: &mut Cluster, settings: &Settings) -> Result<(), String> {
    let world = cluster.world.clone();
    until(cluster, START_LIMIT, "the first three nodes to vote", |cluster| {
        agree_on_members(cluster)
    })?;
    // Until now one node could acknowledge alone.
    world.acknowledged.borrow_mut().clear();
    cluster.looks_at_disks = settings.looks_at_disks;
    let mut changes = Changes::draw(cluster);
    let end = world.now.get() + FAULTS;
    let mut next = world.now.get();
    while world.now.get() < end {
        if world.now.get() >= next {
            next = world.now.get() + Duration::from_millis(world.below(FAULT_PAUSE_MS));
            faults::strike(cluster);
            changes.make(cluster);
        }
        step(cluster)?;
    }
    cluster.heal_all();
    let (done, until_then) = (world.history.borrow().done, world.now.get() + WORK_AFTER);
    until(cluster, AGREE_LIMIT, "work to go on", |_| {
        world.now.get() >= until_then && world.history.borrow().done > done
    })?;
    changes.finish(cluster)?;
    world.working.set(false);
    until(cluster, AGREE_LIMIT, "the replicas to agree", |cluster| agree(cluster))?;
    let mut known = None;
    for host in members(cluster) {
        let contents = cluster.contents(host);
        let Some(contents) = contents else {
            return Err(format!("node {} cannot be read", host + 1));
        };
        match &known {
            None => known = Some(contents),
            Some(known) if *known == contents => {}
            Some(known) => return Err(format!("node {} holds {contents:?}, and another one {known:?}", host + 1)),
        }
    }
    let Some(known) = known else {
        return Err("no node is left".to_owned());
    };
    world.event(|| {
        format!(
            "{} cells, {} rows, {} meta keys",
            known.cells.len(),
            known.appends.len(),
            known.meta.len()
        )
    });
    world.history.borrow().check(&known.cells, &known.appends, &known.tries)
}

fn agree_on_members(cluster: &Cluster) -> bool {
    let statuses: Vec<_> = (0..cluster.size()).filter_map(|host| cluster.status(host)).collect();
    statuses.len() == cluster.size()
        && statuses
            .iter()
            .all(|status| status.groups.iter().all(|group| group.voters.len() == cluster.size()))
}
