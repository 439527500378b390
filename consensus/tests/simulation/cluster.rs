//! A simulated cluster: steps through virtual time, crashes and restarts, and what is looked at between two steps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use pyralog_consensus::log::{GroupId, Log, LogConfig};
use pyralog_consensus::{MetaRevision, NodeStatus};
use pyralog_storage::{PartitionId, Snapshot, Timestamp};
use turmoil::Sim;

use crate::disk::{DiskFault, SimulatedDisk};
use crate::host::{self, Command};
use crate::rows::{self, APPENDS, CELLS, TRIES};
use crate::world::{Weather, World};

/// Virtual time of one step.
const TICK: Duration = Duration::from_millis(2);
/// How long after a disk's fault its node may take to stop itself.
const STOP_LIMIT: Duration = Duration::from_secs(8);
/// How many logs hold an acknowledged write at least: a majority of two, or of three nodes.
const COPIES: usize = 2;
/// Segments of one TCP connection that are on their way. Also bounds the callers that a paused host has not accepted.
const TCP_CAPACITY: usize = 4096;

/// How a node crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process ends; the system goes on.
    Kill {
        /// Whether nobody is told (the network goes first).
        silent: bool,
    },
    /// The machine ends.
    Power {
        /// Whether nobody is told.
        silent: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Up,
    /// Down until then; `None`: for good.
    Down(Option<Duration>),
}

pub struct Cluster {
    pub world: Rc<World>,
    /// Whether acknowledged writes are looked for on the disks.
    pub looks_at_disks: bool,
    sim: Sim<'static>,
    phases: Vec<Phase>,
    pauses: BTreeMap<usize, Duration>,
    /// Disks that are repaired then.
    repairs: BTreeMap<usize, Duration>,
    /// Where the nodes' directories are.
    dir: PathBuf,
    next_look: Duration,
}

/// What all replicas must agree on in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    pub cells: Vec<(i64, u64)>,
    pub appends: Vec<(i64, u64)>,
    pub tries: Vec<(i64, u64)>,
    pub meta: Vec<(String, Vec<u8>, MetaRevision)>,
}

impl Cluster {
    /// A founder and two nodes that are to join it.
    pub fn start(world: Rc<World>, dir: &Path) -> Cluster {
        let latency = [2, 10, 60][world.below(3) as usize];
        let sim = turmoil::Builder::new()
            .rng_seed(world.next_random())
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(24 * 3600))
            .min_message_latency(Duration::ZERO)
            .max_message_latency(Duration::from_millis(latency))
            .tcp_capacity(TCP_CAPACITY)
            .enable_random_order()
            .build();
        let mut cluster = Cluster {
            world,
            looks_at_disks: false,
            sim,
            phases: Vec::new(),
            pauses: BTreeMap::new(),
            repairs: BTreeMap::new(),
            dir: dir.to_owned(),
            next_look: Duration::ZERO,
        };
        for number in 0..3 {
            cluster.add(number > 0);
        }
        cluster
    }

    /// Adds a node.
    pub fn add(&mut self, joins: bool) -> usize {
        let number = self.size();
        let world = self.world.clone();
        world.add_host(self.dir.join(format!("{number}")), joins);
        let name = world.host(number).name.clone();
        let software = {
            let world = world.clone();
            move || world.run_as(number, || pyralog_consensus::simulation::task(host::live(number)))
        };
        self.sim.host(name, software);
        self.phases.push(Phase::Up);
        number
    }

    pub fn size(&self) -> usize {
        self.phases.len()
    }

    /// Hosts that run.
    pub fn up(&self) -> Vec<usize> {
        (0..self.size()).filter(|host| self.phases[*host] == Phase::Up).collect()
    }

    pub fn status(&self, host: usize) -> Option<NodeStatus> {
        self.world.node(host).map(|node| node.status())
    }

    /// The host that leads the data group, as far as hosts know.
    pub fn leader(&self) -> Option<usize> {
        let leads = |host: &usize| {
            self.status(*host)
                .is_some_and(|status| status.groups.iter().skip(1).any(|group| group.leader))
        };
        self.up().into_iter().find(leads)
    }

    pub fn tell(&self, host: usize, command: Command) {
        let host = self.world.host(host);
        let commands = host.commands.borrow();
        if let Some(commands) = commands.as_ref() {
            // A host that is ending does not listen any more.
            let _ = commands.send(command);
        }
    }

    fn name(&self, host: usize) -> String {
        self.world.host(host).name.clone()
    }

    pub fn cut(&mut self, a: usize, b: usize) {
        self.sim.partition(self.name(a), self.name(b));
    }

    pub fn cut_one_way(&mut self, from: usize, to: usize) {
        self.sim.partition_oneway(self.name(from), self.name(to));
    }

    pub fn hold(&mut self, a: usize, b: usize) {
        self.sim.hold(self.name(a), self.name(b));
    }

    /// Everybody reaches everybody.
    pub fn heal(&mut self) {
        for a in 0..self.size() {
            for b in a + 1..self.size() {
                self.sim.release(self.name(a), self.name(b));
            }
        }
    }

    pub fn pause(&mut self, host: usize, pause: Duration) {
        self.world.event(|| format!("n{} stands still for {pause:?}", host + 1));
        self.world.pause(host);
        self.pauses.insert(host, self.world.now.get() + pause);
    }

    /// A disk goes bad, and is repaired after a while.
    pub fn spoil_disk(&mut self, host: usize, fault: DiskFault) {
        self.world.event(|| format!("n{}: {fault:?}", host + 1));
        self.world.host(host).disk.set_fault(Some(fault));
        if !matches!(fault, DiskFault::PowerOff(_)) {
            self.repairs
                .insert(host, self.world.now.get() + STOP_LIMIT + Duration::from_secs(1));
        }
    }

    pub fn crash(&mut self, host: usize, crash: Crash, down: Duration) {
        self.world.event(|| format!("n{} crashes: {crash:?}, for {down:?}", host + 1));
        self.look_at_disks();
        self.end(host, crash);
        self.phases[host] = Phase::Down(Some(self.world.now.get() + down));
    }

    fn end(&mut self, number: usize, crash: Crash) {
        let (world, host) = (self.world.clone(), self.world.host(number));
        let (Crash::Kill { silent } | Crash::Power { silent }) = crash;
        let others: Vec<usize> = (0..self.size()).filter(|other| *other != number).collect();
        if silent {
            others.iter().for_each(|other| self.cut(number, *other));
        }
        // The disk first: what the node's parts do while they are dropped is not done.
        match crash {
            Crash::Kill { .. } => host.disk.kill(),
            Crash::Power { .. } => host.disk.power_off(),
        }
        self.forget(number);
        world.run_as(number, || self.sim.crash(host.name.clone()));
        if silent {
            others
                .iter()
                .for_each(|other| self.sim.release(self.name(number), self.name(*other)));
        }
    }

    fn forget(&mut self, number: usize) {
        let host = self.world.host(number);
        host.node.borrow_mut().take();
        host.commands.borrow_mut().take();
        self.pauses.remove(&number);
        self.repairs.remove(&number);
        self.world.resume(number);
    }

    /// Takes a host away for good.
    pub fn take_away(&mut self, host: usize) {
        if self.phases[host] == Phase::Up {
            self.end(host, Crash::Kill { silent: false });
        }
        self.phases[host] = Phase::Down(None);
        self.world.host(host).removed.set(true);
    }

    fn restart(&mut self, number: usize) {
        let host = self.world.host(number);
        host.disk.set_fault(None);
        host.refused.borrow_mut().take();
        // sled promises nothing after a crash, and works with threads of its own: what it leaves would differ from run to run.
        let _ = std::fs::remove_dir_all(host.dir.join("meta/state"));
        self.phases[number] = Phase::Up;
        self.world.run_as(number, || self.sim.bounce(host.name.clone()));
    }

    /// Ends all faults, and starts what is down.
    pub fn heal_all(&mut self) {
        self.world.event(|| "everything heals".to_owned());
        self.world.weather.set(Weather::default());
        self.heal();
        let now = self.world.now.get();
        self.pauses.values_mut().for_each(|until| *until = now);
        self.repairs.values_mut().for_each(|at| *at = (*at).min(now + STOP_LIMIT));
        for host in 0..self.size() {
            let host_state = self.world.host(host);
            if !host_state.disk.has_failed() && !self.repairs.contains_key(&host) {
                host_state.disk.set_fault(None);
            }
            if let Phase::Down(Some(until)) = &mut self.phases[host] {
                *until = (*until).min(now);
            }
        }
    }

    /// One step of virtual time; whether all holds.
    pub fn step(&mut self) -> Result<(), String> {
        let world = self.world.clone();
        let now = world.now.get() + TICK;
        world.begin_step(now);
        self.sim.step().map_err(|error| error.to_string())?;
        for host in 0..self.size() {
            self.attend(host, now)?;
        }
        for host in self.up() {
            if let Some(status) = self.status(host) {
                world.invariants.borrow_mut().look(&status);
            }
        }
        if now >= self.next_look || (!world.acknowledged.borrow().is_empty() && world.chance(5)) {
            self.next_look = now + Duration::from_secs(1);
            self.look_at_disks();
        }
        match world.violation() {
            Some(violation) => Err(violation),
            None => Ok(()),
        }
    }

    fn attend(&mut self, number: usize, now: Duration) -> Result<(), String> {
        let (world, host) = (self.world.clone(), self.world.host(number));
        if self.pauses.get(&number).is_some_and(|until| *until <= now) {
            world.event(|| format!("{} goes on", host.name));
            self.pauses.remove(&number);
            world.resume(number);
        }
        match self.phases[number] {
            Phase::Down(Some(until)) if until <= now => self.restart(number),
            Phase::Up if host.disk.is_off() => {
                self.look_at_disks();
                self.end(number, Crash::Power { silent: true });
                self.phases[number] = Phase::Down(Some(now + Duration::from_millis(world.below(5_000))));
            }
            Phase::Up if !self.sim.is_host_running(host.name.clone()) => self.ended(number, now)?,
            Phase::Up if self.repairs.get(&number).is_some_and(|at| *at <= now) => {
                let status = self.status(number).filter(|_| host.disk.has_failed() && !host.paused.get());
                if let Some(group) = status
                    .iter()
                    .flat_map(|status| &status.groups)
                    .find(|group| group.stopped.is_none())
                {
                    return Err(format!("{} has a bad disk, and its group {} goes on", host.name, group.name));
                }
                world.event(|| format!("the disk of {} is repaired", host.name));
                self.end(number, Crash::Kill { silent: false });
                self.phases[number] = Phase::Down(Some(now));
            }
            _ => {}
        }
        Ok(())
    }

    /// The host's software has come to its end by itself.
    fn ended(&mut self, number: usize, now: Duration) -> Result<(), String> {
        let host = self.world.host(number);
        let refused = host.refused.borrow_mut().take();
        let failed = host.disk.has_failed();
        self.end(number, Crash::Kill { silent: false });
        self.phases[number] = Phase::Down(Some(now + Duration::from_millis(1 + self.world.below(2_000))));
        let Some(reason) = refused else { return Ok(()) };
        let found_nobody = host.joins && reason.contains("no node of a cluster answers");
        match failed || found_nobody {
            true => Ok(()),
            false => Err(format!("{} does not open: {reason}", host.name)),
        }
    }

    /// Whether what was acknowledged is in enough logs, were the power to fail everywhere now.
    fn look_at_disks(&mut self) {
        if !self.looks_at_disks {
            return;
        }
        let world = self.world.clone();
        let acknowledged = std::mem::take(&mut *world.acknowledged.borrow_mut());
        if acknowledged.is_empty() {
            return;
        }
        let groups: BTreeSet<PartitionId> = acknowledged.iter().map(|(partition, _)| *partition).collect();
        for partition in groups {
            let timestamps = acknowledged
                .iter()
                .filter(|(of, _)| *of == partition)
                .map(|(_, timestamp)| *timestamp);
            if let Err(violation) = self.look_at_logs(GroupId::data(partition.0), timestamps) {
                return world.violated(|| violation);
            }
        }
    }

    fn look_at_logs(&self, group: GroupId, acknowledged: impl Iterator<Item = Timestamp>) -> Result<(), String> {
        let world = &self.world;
        let mut logs = Vec::new();
        for host in 0..self.size() {
            let host = world.host(host);
            if !host.disk.has_log() {
                continue;
            }
            let entries = durable_entries(host.disk.durable(), &host.dir.join("log"), group);
            logs.push(entries.map_err(|error| format!("what is durable of the log of {} cannot be read: {error}", host.name))?);
        }
        for timestamp in acknowledged {
            let Some((index, entry)) = world.invariants.borrow().written(group, timestamp) else {
                return Err(format!("{timestamp:?} was acknowledged, and nobody has applied it"));
            };
            let has =
                |log: &&DurableEntries| log.first.is_none_or(|first| index < first) || log.entries.get(&index) == Some(&entry.checksum);
            let copies = logs.iter().filter(has).count();
            if copies < COPIES {
                return Err(format!(
                    "entry {index} of {group:?} was acknowledged, and is durable in {copies} logs only"
                ));
            }
        }
        Ok(())
    }

    /// What a host's replica holds.
    pub fn contents(&self, host: usize) -> Option<Contents> {
        let node = self.world.node(host)?;
        let snapshots: Option<Vec<Snapshot>> = node.partitions().iter().map(|partition| partition.snapshot(None).ok()).collect();
        let snapshots = snapshots?;
        Some(Contents {
            cells: rows::read_all(&snapshots, CELLS),
            appends: rows::read_all(&snapshots, APPENDS),
            tries: rows::read_all(&snapshots, TRIES),
            meta: node.meta().scan("").ok()?,
        })
    }
}

/// Entries of one group in a durable log, by index, with their checksums; `first`: those before were purged, being in segments.
struct DurableEntries {
    first: Option<u64>,
    entries: BTreeMap<u64, u32>,
}

/// Reads a log as a node would find it. On a thread outside the simulation, since the log's writer is of no interest here.
fn durable_entries(disk: SimulatedDisk, dir: &Path, group: GroupId) -> Result<DurableEntries, String> {
    let dir = dir.to_owned();
    let read = std::thread::spawn(move || {
        let config = LogConfig {
            dir,
            file_bytes: 1 << 20,
            may_create: false,
            disk: disk.mount(),
        };
        let log = Log::open(config).map_err(|error| error.to_string())?;
        let records = log.group(group);
        let range = records.entries.map_or(0..0, |(first, last)| first..last + 1);
        let entries = log.read(group, range).map_err(|error| error.to_string())?;
        log.close();
        let first = match records.entries {
            Some((first, _)) => Some(first),
            None if records.purged.is_some() => None,
            None => Some(0),
        };
        Ok(DurableEntries {
            first,
            entries: entries.into_iter().map(|(index, bytes)| (index, crc32c::crc32c(&bytes))).collect(),
        })
    });
    read.join().map_err(|_| "reading panicked".to_owned())?
}
