//! What reads at one timestamp cost: promises of leaders, as `node/reads.rs` asks for them, beside an oracle, and with or without a proof
//! of leadership for each read.

use std::collections::BTreeMap;

use crate::cluster::Cluster;
use crate::engine::{Cpu, Events, MS, Random, S, Time, digits, ms, percentile};
use crate::model::{BEAT_COST, CLOCK_DEVIATION, COMMITS, CORES, MESSAGE_COST, PROMISE_COST, READ_COST};

/// How a read comes to its timestamp and to the leaders' positions.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    /// Whether an oracle gives the timestamp. Otherwise it is the reader's clock, and a round is repeated where a commit lies above it.
    oracle: bool,
    /// Whether leaders prove by a round of heartbeats that they lead. Otherwise they know by a lease.
    proof: bool,
}

enum Event {
    Asked(usize),
    Beaten { leader: usize, follower: usize },
    Acknowledged { leader: usize, follower: usize },
    Proven(usize),
    Answered,
}

/// What is under way at one leader.
#[derive(Default)]
struct Question {
    /// Of each group, how many followers have answered.
    answers: Vec<usize>,
    /// The groups whose heartbeats go to a follower.
    beats: BTreeMap<usize, Vec<usize>>,
    unproven: usize,
    /// When what it had stamped before has landed.
    landed: Time,
    /// How long before its answer the newest commit that is in it was stamped.
    age: f64,
}

struct Reads<'a> {
    cluster: &'a Cluster,
    random: Random,
    cpus: Vec<Cpu>,
    clocks: Vec<f64>,
    messages: u64,
    beats: u64,
}

/// What one read took.
struct Taken {
    time: Time,
    rounds: u64,
}

impl<'a> Reads<'a> {
    fn new(cluster: &'a Cluster, seed: u64) -> Reads<'a> {
        let mut random = Random::new(seed);
        Reads {
            cluster,
            cpus: Vec::new(),
            clocks: (0..cluster.nodes).map(|_| CLOCK_DEVIATION * random.normal()).collect(),
            random,
            messages: 0,
            beats: 0,
        }
    }

    /// One read of some groups by a node, while nothing else is read.
    fn read(&mut self, reader: usize, groups: &[usize], way: Way) -> Taken {
        self.cpus.resize(self.cluster.nodes, Cpu::default());
        let (mut at, mut rounds) = (0, 1);
        if way.oracle {
            at = self.random.wire() + self.random.wire() + 4 * MESSAGE_COST;
            self.messages += 2;
        }
        let (mut end, newest) = self.round(reader, groups, way, at);
        if !way.oracle && newest > self.clocks[reader] {
            (end, rounds) = (self.round(reader, groups, way, end).0, 2);
        }
        Taken { time: end, rounds }
    }

    /// One question to the leaders of groups; when it is answered, and the newest commit that they know, beside true time at its beginning.
    fn round(&mut self, reader: usize, groups: &[usize], way: Way, begin: Time) -> (Time, f64) {
        let (mut questions, mut events) = (self.questions(groups), Events::new());
        let (mut end, mut newest) = (begin, f64::MIN);
        // One task asks: what it does for each group is not done by several cores.
        let begun = begin + groups.len() as Time * READ_COST;
        self.cpus[reader].busy += groups.len() as Time * READ_COST;
        let mut waits = questions.len();
        for leader in questions.keys() {
            let sent = self.message(reader, *leader, begun);
            events.plan(sent, Event::Asked(*leader));
        }
        while let Some(event) = events.next(Time::MAX) {
            let now = events.now;
            match event {
                Event::Asked(leader) => {
                    let Some(question) = questions.get_mut(&leader) else { continue };
                    let cost = question.answers.len() as Time * PROMISE_COST;
                    let commit = (self.random.wire() + self.random.wire() + self.random.sync()) as f64;
                    let commits = COMMITS * question.answers.len() as f64 / S as f64;
                    question.age = commit + self.random.exponential(1.0 / commits);
                    // What was stamped last before has most of its way before it.
                    question.landed = now + (commit - self.random.exponential(1.0 / commits)).max(0.0) as Time;
                    // Asked one after the other by one task.
                    let done = self.cpus[leader].work(now, cost);
                    if !way.proof || self.cluster.voters == 1 {
                        events.plan(done, Event::Proven(leader));
                        continue;
                    }
                    let beats: Vec<(usize, usize)> = question.beats.iter().map(|(follower, groups)| (*follower, groups.len())).collect();
                    for (follower, count) in beats {
                        self.beats += count as u64;
                        self.cpus[leader].work(done, count as Time * BEAT_COST);
                        let at = self.message(leader, follower, done);
                        events.plan(at, Event::Beaten { leader, follower });
                    }
                }
                Event::Beaten { leader, follower } => {
                    let Some(question) = questions.get(&leader) else { continue };
                    let count = question.beats[&follower].len();
                    let done = self.cpus[follower].work(now, MESSAGE_COST + count as Time * BEAT_COST);
                    let at = self.message(follower, leader, done);
                    events.plan(at, Event::Acknowledged { leader, follower });
                }
                Event::Acknowledged { leader, follower } => {
                    self.cpus[leader].work(now, MESSAGE_COST);
                    let Some(question) = questions.get_mut(&leader) else { continue };
                    // The first half of a group's followers make a majority with the leader.
                    let needed = self.cluster.voters / 2;
                    for at in question.beats.remove(&follower).unwrap_or_default() {
                        question.answers[at] += 1;
                        question.unproven -= usize::from(question.answers[at] == needed);
                    }
                    if question.unproven == 0 {
                        question.unproven = usize::MAX;
                        events.plan(now, Event::Proven(leader));
                    }
                }
                Event::Proven(leader) => {
                    let (landed, age) = questions
                        .get(&leader)
                        .map_or((now, 0.0), |question| (question.landed, question.age));
                    newest = newest.max((now - begin) as f64 - age + self.clocks[leader]);
                    let at = self.message(leader, reader, now.max(landed));
                    events.plan(at, Event::Answered);
                }
                Event::Answered => {
                    self.cpus[reader].work(now, MESSAGE_COST);
                    waits -= 1;
                    if waits == 0 {
                        end = now + MESSAGE_COST;
                    }
                }
            }
        }
        (end, newest)
    }

    /// By leader: its groups (of each how many followers have answered), and whom it proves them to.
    fn questions(&self, groups: &[usize]) -> BTreeMap<usize, Question> {
        let mut questions: BTreeMap<usize, Question> = BTreeMap::new();
        for group in groups {
            let question = questions.entry(self.cluster.leader(*group)).or_default();
            for follower in self.cluster.followers(*group) {
                question.beats.entry(follower).or_default().push(question.answers.len());
            }
            question.answers.push(0);
            question.unproven += 1;
        }
        questions
    }

    /// A message: when it is there. Its receiver's work is not in it.
    fn message(&mut self, from: usize, to: usize, at: Time) -> Time {
        let sent = self.cpus[from].work(at, MESSAGE_COST);
        self.messages += u64::from(from != to);
        match from == to {
            true => sent,
            false => sent + self.random.wire(),
        }
    }
}

/// Prints a line: so many reads of `read` groups each, by nodes in turn.
fn line(cluster: &Cluster, way: Way, read: usize, count: usize, seed: u64) {
    let mut reads = Reads::new(cluster, seed);
    let all: Vec<usize> = (0..cluster.groups).collect();
    let (mut times, mut rounds, mut busy) = (Vec::new(), 0, 0);
    for number in 0..count {
        let some: Vec<usize> = match read < cluster.groups {
            true => (0..read).map(|_| reads.random.below(cluster.groups)).collect(),
            false => all.clone(),
        };
        let taken = reads.read(number % cluster.nodes, &some, way);
        times.push(taken.time);
        rounds += taken.rounds;
        busy += reads.cpus.drain(..).map(|cpu| cpu.busy).sum::<Time>();
    }
    let mean = |sum: u64| sum as f64 / count as f64;
    let most = (CORES * cluster.nodes as u64 * S) as f64 / mean(busy);
    println!(
        "{:>5} {:>7} {:>8}  {:<30} {:>6} {:>9.0} {:>9.0} {:>9} {:>8} {:>8} {:>11.0}",
        cluster.nodes,
        cluster.groups,
        read,
        way.name,
        digits(mean(rounds)),
        mean(reads.messages),
        mean(reads.beats),
        digits(mean(busy) / MS as f64),
        ms(percentile(&times, 0.5)),
        ms(percentile(&times, 0.99)),
        most,
    );
}

/// Prints the table.
pub fn report(seed: u64) {
    let way = |name, oracle, proof| Way { name, oracle, proof };
    let promises = way("promises, proof by heartbeats", false, true);
    let ways = [
        promises,
        way("promises, leases", false, false),
        way("oracle, proof by heartbeats", true, true),
        way("oracle, leases", true, false),
    ];
    println!("\nReads at one timestamp, of so many groups, one at a time");
    println!("nodes  groups     read  how                            rounds  messages     beats    cpu ms   p50 ms   p99 ms  by cpu a s");
    let spread = |nodes, groups| Cluster::spread(nodes, groups, 3, &mut Random::new(seed));
    for (nodes, groups) in [(10, 1_000), (100, 10_000), (10, 100_000), (100, 100_000), (1_000, 100_000)] {
        line(&spread(nodes, groups), promises, groups, 20, seed);
    }
    let cluster = spread(1_000, 100_000);
    for (read, count) in [(1, 5_000), (8, 5_000), (64, 2_000), (1_000, 200)] {
        ways.iter().for_each(|way| line(&cluster, *way, read, count, seed));
    }
    line(&cluster, ways[1], 100_000, 20, seed);
    for nodes in [3, 10, 100, 256] {
        let cluster = Cluster::spread(nodes, 64, nodes, &mut Random::new(seed));
        line(&cluster, way("as built: every node votes", false, true), 64, 500, seed);
    }
}
