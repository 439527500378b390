//! What heartbeats cost: each alone, together while one is under way (as `node/heartbeats.rs` does it), on one clock a node, with idle
//! groups that are silent.

use crate::cluster::Cluster;
use crate::engine::{Cpu, Events, MS, Random, S, Time, digits};
use crate::model::{
    BATCH, BEAT_COST, HEARTBEAT, LATE, MESSAGE_COST, SENDING, TICK, TIMER_COST, TIMERS, UNDER_WAY, answer_bytes, beat_bytes, call_bytes,
};

/// How a node sends the heartbeats of its groups.
#[derive(Clone, Copy, PartialEq)]
pub enum Scheme {
    /// Each group by its own clock, at most so many messages to one node without an answer.
    OwnClocks(u8),
    /// One clock a node, one message a node in each interval.
    OneClock,
    /// That, but only this share of the groups takes part; for the others it is enough that their nodes are heard.
    Silent(f64),
}

/// How long is simulated, after so long to begin.
const SPAN: Time = 2 * S;
const BEGIN: Time = 500 * MS;

enum Event {
    Due(u32),
    Arrives { pair: u32, beats: u32 },
    Answered(u32),
}

#[derive(Clone, Copy, Default)]
struct Pair {
    waiting: u32,
    bytes: u32,
    under_way: u8,
}

struct Traffic<'a> {
    cluster: &'a Cluster,
    scheme: Scheme,
    /// Position of a group's log.
    index: u64,
    events: Events<Event>,
    random: Random,
    pairs: Vec<Pair>,
    cpus: Vec<Cpu>,
    beats: u64,
    messages: u64,
    bytes: u64,
}

/// Means of a node in a second.
pub struct Load {
    pub beats: f64,
    pub messages: f64,
    pub bytes: f64,
    /// Cores that messages keep busy, and that timers do.
    pub cores: f64,
    pub timers: f64,
}

/// Simulates a cluster in which nothing is written.
pub fn load(cluster: &Cluster, scheme: Scheme, index: u64, seed: u64) -> Load {
    let mut traffic = Traffic {
        cluster,
        scheme,
        index,
        events: Events::new(),
        random: Random::new(seed),
        pairs: vec![Pair::default(); cluster.nodes * cluster.nodes],
        cpus: vec![Cpu::default(); cluster.nodes],
        beats: 0,
        messages: 0,
        bytes: 0,
    };
    traffic.run();
    let second = 1.0 / (cluster.nodes as f64 * SPAN as f64 / S as f64);
    let replicas = (cluster.groups * cluster.voters) as f64 / cluster.nodes as f64;
    let timers = match scheme {
        Scheme::OwnClocks(_) => replicas * TIMERS,
        Scheme::OneClock => TIMERS,
        Scheme::Silent(active) => replicas * active * TIMERS + TIMERS,
    };
    Load {
        beats: traffic.beats as f64 * second,
        messages: traffic.messages as f64 * second,
        bytes: traffic.bytes as f64 * second,
        cores: traffic.cpus.iter().map(|cpu| cpu.busy).sum::<Time>() as f64 * second / S as f64,
        timers: timers * TIMER_COST as f64 / S as f64,
    }
}

impl Traffic<'_> {
    fn run(&mut self) {
        let senders = match self.scheme {
            Scheme::OwnClocks(_) => self.cluster.groups,
            Scheme::OneClock | Scheme::Silent(_) => self.cluster.nodes,
        };
        for sender in 0..senders {
            let at = self.random.between(0, HEARTBEAT);
            self.events.plan(at, Event::Due(sender as u32));
        }
        let led = self.led();
        let mut counts = false;
        while let Some(event) = self.events.next(BEGIN + SPAN) {
            if !counts && self.events.now >= BEGIN {
                (counts, self.beats, self.messages, self.bytes) = (true, 0, 0, 0);
                self.cpus.iter_mut().for_each(|cpu| cpu.busy = 0);
            }
            match event {
                Event::Due(sender) => self.due(sender, &led),
                Event::Arrives { pair, beats } => {
                    let done = self.work(pair as usize % self.cluster.nodes, 2, beats);
                    self.sent(answer_bytes(u64::from(beats)));
                    let at = done + self.random.wire();
                    self.events.plan(at, Event::Answered(pair));
                }
                Event::Answered(pair) => {
                    self.work(pair as usize / self.cluster.nodes, 1, 0);
                    self.pairs[pair as usize].under_way -= 1;
                    self.send(pair as usize);
                }
            }
        }
    }

    /// What each node has for each other one on one clock: heartbeats, or at least a sign of life.
    fn led(&mut self) -> Vec<Vec<(usize, u32)>> {
        let nodes = self.cluster.nodes;
        let active = match self.scheme {
            Scheme::OwnClocks(_) => return Vec::new(),
            Scheme::OneClock => 1.0,
            Scheme::Silent(active) => active,
        };
        let mut beats: Vec<Option<u32>> = vec![None; nodes * nodes];
        for group in 0..self.cluster.groups {
            let beat = u32::from(self.random.share() < active);
            for follower in self.cluster.followers(group) {
                *beats[self.cluster.leader(group) * nodes + follower].get_or_insert(0) += beat;
            }
        }
        let to_others = |beats: &[Option<u32>], first: usize| {
            let known = beats
                .iter()
                .enumerate()
                .filter_map(|(other, beats)| Some((first + other, (*beats)?)));
            known.collect()
        };
        let of_nodes = beats.chunks(nodes).enumerate();
        of_nodes.map(|(node, beats)| to_others(beats, node * nodes)).collect()
    }

    fn due(&mut self, sender: u32, led: &[Vec<(usize, u32)>]) {
        let (cluster, now) = (self.cluster, self.events.now);
        if let Some(pairs) = led.get(sender as usize) {
            for (pair, beats) in pairs {
                let bytes = *beats * beat_bytes(cluster.groups as u64, u64::from(sender), self.index) as u32;
                self.beats += u64::from(*beats);
                self.pairs[*pair].waiting += beats;
                self.pairs[*pair].bytes += bytes;
                self.send_now(*pair);
            }
            self.events.plan(now + HEARTBEAT, Event::Due(sender));
            return;
        }
        let leader = cluster.leader(sender as usize);
        let bytes = beat_bytes(u64::from(sender), leader as u64, self.index) as u32;
        for follower in cluster.followers(sender as usize) {
            let pair = leader * cluster.nodes + follower;
            self.beats += 1;
            self.pairs[pair].waiting += 1;
            self.pairs[pair].bytes += bytes;
            self.send(pair);
        }
        // At the first tick that is handled when the interval is over.
        let (late, later) = (self.random.exponential(LATE) as Time, self.random.exponential(LATE) as Time);
        let ticks = HEARTBEAT.div_ceil(TICK);
        let is_due = TICK * ticks + later >= HEARTBEAT + late + SENDING;
        self.events.plan(now + TICK * (ticks + u64::from(!is_due)), Event::Due(sender));
    }

    /// Sends what waits, if not too much is under way.
    fn send(&mut self, pair: usize) {
        let Scheme::OwnClocks(most) = self.scheme else { return };
        if self.pairs[pair].waiting > 0 && self.pairs[pair].under_way < most {
            self.send_now(pair);
        }
    }

    fn send_now(&mut self, pair: usize) {
        let Pair { waiting, bytes, .. } = self.pairs[pair];
        let beats = waiting.min(BATCH);
        let taken = (u64::from(bytes) * u64::from(beats)).checked_div(u64::from(waiting)).unwrap_or(0) as u32;
        self.pairs[pair].waiting -= beats;
        self.pairs[pair].bytes -= taken;
        self.pairs[pair].under_way += 1;
        let done = self.work(pair / self.cluster.nodes, 1, beats);
        self.sent(call_bytes(u64::from(beats), u64::from(taken)));
        let (at, pair) = (done + self.random.wire(), pair as u32);
        self.events.plan(at, Event::Arrives { pair, beats });
    }

    fn sent(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
    }

    fn work(&mut self, node: usize, messages: u64, beats: u32) -> Time {
        let cost = messages * MESSAGE_COST + u64::from(beats) * BEAT_COST;
        self.cpus[node].work(self.events.now, cost)
    }
}

/// Beside heartbeats each node asks each other one every second who it is (`node/standing.rs`), and both ends of a stream on which nothing
/// went for a second say that they are there (`peer/writer.rs`): messages and bytes of a node, about.
fn presence(nodes: usize) -> (f64, f64) {
    let others = nodes as f64 - 1.0;
    (others * 4.0, others * (55.0 + 20.0 + 2.0 * 17.0))
}

/// Prints the tables.
pub fn report(seed: u64) {
    println!("Heartbeats of idle groups: a node, in a second");
    println!("nodes  groups  voters  scheme                                  beats  messages    kB/s  cores  + timers");
    let line = |cluster: &Cluster, name: &str, scheme: Scheme| {
        let load = load(cluster, scheme, 1_000_000, seed);
        println!(
            "{:>5} {:>7} {:>7}  {name:<36} {:>8.0} {:>9.0} {:>7.0} {:>6} {:>9}",
            cluster.nodes,
            cluster.groups,
            cluster.voters,
            load.beats,
            load.messages,
            load.bytes / 1e3,
            digits(load.cores),
            digits(load.timers),
        );
    };
    for (nodes, groups) in [(10, 1_000), (100, 10_000)] {
        let cluster = Cluster::spread(nodes, groups, 3, &mut Random::new(seed));
        line(&cluster, "together while two are under way", Scheme::OwnClocks(UNDER_WAY));
    }
    for nodes in [10, 100, 1_000] {
        let mut random = Random::new(seed);
        let cluster = Cluster::spread(nodes, 100_000, 3, &mut random);
        line(&cluster, "each alone", Scheme::OwnClocks(u8::MAX));
        line(&cluster, "together while two are under way", Scheme::OwnClocks(UNDER_WAY));
        line(&cluster, "one clock a node", Scheme::OneClock);
        line(&cluster, "one clock, 95 % of groups silent", Scheme::Silent(0.05));
        if nodes > 10 {
            let near = Cluster::copysets(nodes, 100_000, 3, 12, &mut random);
            line(&near, "that, 12 nodes beside each", Scheme::Silent(0.05));
        }
    }
    for nodes in [3, 10, 100, 256] {
        let cluster = Cluster::spread(nodes, 65, nodes, &mut Random::new(seed));
        line(&cluster, "as built: every node votes", Scheme::OwnClocks(UNDER_WAY));
    }
    println!("\nBeside that each node asks each other one every second who it is: a node, in a second");
    for nodes in [10, 100, 1_000] {
        let (messages, bytes) = presence(nodes);
        println!("{nodes:>5} nodes: {messages:.0} messages, {:.0} kB", bytes / 1e3);
    }
    let cluster = Cluster::spread(3, 65, 3, &mut Random::new(seed));
    let load = load(&cluster, Scheme::OwnClocks(UNDER_WAY), 10, seed);
    let (messages, bytes) = presence(3);
    println!(
        "\nCheck: three nodes, 64 partitions and the meta group, all nodes together: {:.0} messages and {:.0} bytes a second, heartbeats {} ms apart",
        3.0 * (load.messages + messages / 2.0),
        3.0 * (load.bytes + bytes - 2.0 * 2.0 * 17.0),
        (65.0 * 2.0 / (3.0 * load.beats) * 1e3).round(),
    );
    println!("       measured: 1,128 and 32,578");
}
