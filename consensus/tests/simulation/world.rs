//! What one simulated cluster consists of besides its network: nodes with their disks and clocks, the seed's randomness, and the trace of
//! all that happens. It belongs to one thread, and everything in it happens in an order that follows from the seed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::Location;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Weak;
use std::task::{Context, Waker};
use std::time::Duration;

use pyralog_consensus::Node;
use pyralog_consensus::simulation::{Observation, Simulation, TaskGate};
use pyralog_storage::{PartitionId, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::sync::mpsc::UnboundedSender;

use crate::clients::Taken;
use crate::disk::{SimulatedDisk, Syncs};
use crate::history::History;
use crate::host::Command;
use crate::invariants::Invariants;

/// Events that a failure prints.
const LAST_EVENTS: usize = 400;
/// Polls of tasks in one step of virtual time that are too many.
const POLL_LIMIT: u64 = 100_000;
/// The last of them, which are told.
const LAST_POLLS: u64 = 60;

thread_local! {
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// The world of this thread.
pub fn world() -> Rc<World> {
    WORLD.with(|world| world.borrow().clone()).expect("no simulation on this thread")
}

/// Makes a world this thread's, or takes it away.
pub fn set_world(world: Option<Rc<World>>) {
    WORLD.with(|current| *current.borrow_mut() = world);
}

/// How requests between nodes fare, in parts of a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// The connection breaks.
    pub breaks: u32,
    /// A request or an answer of Raft that costs no more than a short time-out is lost.
    pub loses: u32,
    /// A request of Raft arrives twice.
    pub doubles: u32,
    /// A request or an answer is overtaken by later ones.
    pub delays: u32,
    /// By how much at most, in milliseconds.
    pub delay_ms: u64,
}

/// One node: what outlives its crashes, and what it is at the moment.
pub struct Host {
    pub name: String,
    pub dir: PathBuf,
    pub disk: SimulatedDisk,
    /// How far its wall clock is off, in milliseconds.
    pub clock_skew_ms: Cell<i64>,
    pub paused: Cell<bool>,
    /// Tasks that wait for the end of the pause.
    sleepers: RefCell<Vec<Waker>>,
    /// The node while it is open. Weak: it goes with its runtime.
    pub node: RefCell<Option<Weak<Node>>>,
    pub commands: RefCell<Option<UnboundedSender<Command>>>,
    /// Whether it is to be opened by joining the others.
    pub joins: bool,
    /// Whether it was taken out of the cluster.
    pub removed: Cell<bool>,
    /// Counts its lives.
    pub life: Cell<u64>,
    /// Why it could not be opened, and whether that is to be expected.
    pub refused: RefCell<Option<String>>,
}

/// The whole.
pub struct World {
    pub seed: u64,
    /// Data partitions.
    pub partitions: u32,
    pub hosts: RefCell<Vec<Rc<Host>>>,
    pub weather: Cell<Weather>,
    pub invariants: RefCell<Invariants>,
    pub history: RefCell<History>,
    /// Writes that were acknowledged since their durability was last looked at.
    pub acknowledged: RefCell<Vec<(PartitionId, Timestamp)>>,
    /// States that clients have read, for other nodes to read again.
    pub taken: RefCell<VecDeque<Taken>>,
    /// Virtual time since the beginning.
    pub now: Cell<Duration>,
    /// Whether clients go on.
    pub working: Cell<bool>,
    random: RefCell<StdRng>,
    current: Cell<Option<usize>>,
    tasks: Cell<u64>,
    /// Polls in this step.
    polls: Cell<u64>,
    trace: Cell<u64>,
    events: RefCell<VecDeque<String>>,
    violation: RefCell<Option<String>>,
    /// Longest time that a frame of the log takes, in microseconds.
    disk_delay_us: u64,
    pub syncs: Syncs,
    /// Whether every event is printed.
    pub verbose: bool,
}

impl World {
    pub fn new(seed: u64, syncs: Syncs, verbose: bool) -> Rc<World> {
        let mut random = StdRng::seed_from_u64(seed);
        let disk_delay_us = [100, 2_000, 20_000][random.random_range(0..3)];
        let partitions = [1, 2, 4][random.random_range(0..3)];
        Rc::new(World {
            seed,
            partitions,
            hosts: RefCell::default(),
            weather: Cell::default(),
            invariants: RefCell::default(),
            history: RefCell::default(),
            acknowledged: RefCell::default(),
            taken: RefCell::default(),
            now: Cell::default(),
            working: Cell::new(true),
            random: RefCell::new(random),
            current: Cell::new(None),
            tasks: Cell::new(0),
            polls: Cell::new(0),
            trace: Cell::new(0),
            events: RefCell::default(),
            violation: RefCell::default(),
            disk_delay_us,
            syncs,
            verbose,
        })
    }

    /// Adds a node that was never opened.
    pub fn add_host(&self, dir: PathBuf, joins: bool) -> usize {
        let number = self.hosts.borrow().len();
        let skew = match self.below(3) {
            0 => 0,
            1 => self.below(2_000) as i64 - 1_000,
            _ => self.below(7_200_000) as i64 - 3_600_000,
        };
        self.hosts.borrow_mut().push(Rc::new(Host {
            name: format!("n{}", number + 1),
            dir,
            disk: SimulatedDisk::new(self.seed ^ (number as u64) << 32, self.syncs),
            clock_skew_ms: Cell::new(skew),
            paused: Cell::new(false),
            sleepers: RefCell::default(),
            node: RefCell::default(),
            commands: RefCell::default(),
            joins,
            removed: Cell::new(false),
            life: Cell::new(0),
            refused: RefCell::default(),
        }));
        number
    }

    pub fn host(&self, number: usize) -> Rc<Host> {
        self.hosts.borrow()[number].clone()
    }

    /// The node of a host, while it is open.
    pub fn node(&self, number: usize) -> Option<std::sync::Arc<Node>> {
        self.host(number).node.borrow().as_ref().and_then(Weak::upgrade)
    }

    /// The host whose task is running.
    pub fn current(&self) -> usize {
        self.current.get().expect("no host is running")
    }

    /// Does something as a host.
    pub fn run_as<T>(&self, host: usize, work: impl FnOnce() -> T) -> T {
        let before = self.current.replace(Some(host));
        let result = work();
        self.current.set(before);
        result
    }

    pub fn next_random(&self) -> u64 {
        self.random.borrow_mut().next_u64()
    }

    /// A random number below `limit`.
    pub fn below(&self, limit: u64) -> u64 {
        self.random.borrow_mut().random_range(0..limit.max(1))
    }

    /// Whether something happens that happens so many times in a thousand.
    pub fn chance(&self, of_thousand: u32) -> bool {
        of_thousand > 0 && self.below(1000) < u64::from(of_thousand)
    }

    /// Begins a step at a time.
    pub fn begin_step(&self, now: Duration) {
        self.now.set(now);
        self.polls.set(0);
    }

    /// Counts a poll; whether it may be. Tasks that go round in circles would keep time from going on.
    fn polls(&self, gate: &Gate) -> bool {
        let polls = self.polls.get() + 1;
        self.polls.set(polls);
        if polls + LAST_POLLS > POLL_LIMIT {
            self.event(|| format!("poll of task {} of n{}, started at {}", gate.task, gate.host + 1, gate.started));
        }
        if polls > POLL_LIMIT {
            self.violated(|| format!("a livelock: {POLL_LIMIT} polls in one step"));
        }
        polls <= POLL_LIMIT
    }

    /// Takes a number into the trace.
    pub fn note(&self, number: u64) {
        let trace = (self.trace.get().rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.trace.set(trace);
    }

    /// Takes an event into the trace, and keeps it for the case of a failure.
    pub fn event(&self, text: impl FnOnce() -> String) {
        let who = self.current.get().map_or_else(|| "--".to_owned(), |host| format!("n{}", host + 1));
        let text = format!("{:>9.3} {who} {}", self.now.get().as_secs_f64(), text());
        self.note(u64::from(crc32c::crc32c(text.as_bytes())));
        if self.verbose {
            println!("{text}");
        }
        let mut events = self.events.borrow_mut();
        if events.len() == LAST_EVENTS {
            events.pop_front();
        }
        events.push_back(text);
    }

    /// The trace so far: equal traces are equal runs.
    pub fn trace(&self) -> u64 {
        self.trace.get()
    }

    pub fn last_events(&self) -> Vec<String> {
        self.events.borrow().iter().cloned().collect()
    }

    /// Notes that an invariant does not hold. The first violation stands.
    pub fn violated(&self, what: impl FnOnce() -> String) {
        let mut violation = self.violation.borrow_mut();
        if violation.is_none() {
            *violation = Some(what());
        }
    }

    pub fn violation(&self) -> Option<String> {
        self.violation.borrow().clone()
    }

    /// Stops a node in its tracks: none of its tasks runs, and time goes on for it.
    pub fn pause(&self, host: usize) {
        self.host(host).paused.set(true);
    }

    /// The end of the pause: all its timers that are due meanwhile go off at once.
    pub fn resume(&self, host: usize) {
        let host = self.host(host);
        host.paused.set(false);
        let sleepers = std::mem::take(&mut *host.sleepers.borrow_mut());
        sleepers.into_iter().for_each(Waker::wake);
    }
}

/// The hook in the crate.
pub struct Hook(pub Rc<World>);

impl Simulation for Hook {
    fn gate(&self, started: &'static Location<'static>) -> Box<dyn TaskGate> {
        let world = &self.0;
        let task = world.tasks.get();
        world.tasks.set(task + 1);
        Box::new(Gate {
            host: world.current(),
            task,
            started,
            before: None,
        })
    }

    fn random(&self) -> u64 {
        self.0.next_random()
    }

    fn disk_delay(&self) -> Duration {
        Duration::from_micros(self.0.below(self.0.disk_delay_us))
    }

    fn observe(&self, observation: Observation) {
        let world = &self.0;
        let host = world.current();
        world.event(|| format!("{observation:?}"));
        let checked = world.invariants.borrow_mut().observe(host, observation);
        if let Err(error) = checked {
            world.violated(|| error);
        }
    }
}

/// Holds back the tasks of a paused host, and now and then any task, so that tasks run in other orders than they were woken.
struct Gate {
    host: usize,
    task: u64,
    started: &'static Location<'static>,
    before: Option<usize>,
}

impl TaskGate for Gate {
    fn enter(&mut self, context: &mut Context<'_>) -> bool {
        let world = world();
        let host = world.host(self.host);
        if host.paused.get() {
            host.sleepers.borrow_mut().push(context.waker().clone());
            return false;
        }
        world.note(self.task);
        if !world.polls(self) {
            return false;
        }
        if world.chance(30) {
            context.waker().wake_by_ref();
            return false;
        }
        self.before = world.current.replace(Some(self.host));
        true
    }

    fn leave(&mut self) {
        world().current.set(self.before);
    }
}
