//! Elections after a node's death, step by step as openraft takes them with the settings of `raft/group.rs`: followers keep to their leader,
//! ask whether they would be voted for, are voted for, and write an entry of their own. Each vote is synced before it counts.

use crate::cluster::Cluster;
use crate::engine::{Cpu, Disk, Events, MS, Random, S, Time, digits, ms, percentile};
use crate::model::{BEAT_COST, CORES, ELECTION, HEARTBEAT, LEASE, MESSAGE_COST, TICK};

#[derive(Clone, Copy)]
enum Step {
    /// Its clocks are looked at.
    Tick,
    /// Would you vote for me? It would; would not.
    Asked,
    Granted,
    Denied,
    /// Its own vote is synced.
    Standing,
    /// Vote for me; the vote is synced, or refused.
    Voting,
    Voted,
    /// Its vote as a leader is synced.
    Elected,
    /// Its first entry, synced by the other one.
    Append,
    Appended,
}

/// One of the two that are left of a group.
#[derive(Clone, Copy)]
struct Voter {
    node: usize,
    /// Since when it has heard of no leader, for how long it keeps to the last one, and after how long it stands then.
    heard: i64,
    lease: Time,
    patience: Time,
    /// Term and node.
    vote: (u64, usize),
    asks: bool,
}

struct Elections {
    voters: Vec<[Voter; 2]>,
    led: Vec<Option<Time>>,
    cpus: Vec<Cpu>,
    disks: Vec<Disk>,
    messages: u64,
    rounds: u64,
    random: Random,
    events: Events<(u32, bool, Step, (u64, usize))>,
}

/// The groups that the first node led, which has died.
fn run(cluster: &Cluster, seed: u64) -> Elections {
    let mut random = Random::new(seed);
    let mut voters = Vec::new();
    for group in (0..cluster.groups).filter(|group| cluster.leader(*group) == 0) {
        let heard = -(random.between(0, HEARTBEAT + TICK) as i64);
        let others: Vec<usize> = cluster.followers(group).collect();
        voters.push([others[0], others[1]].map(|node| Voter {
            node,
            heard: heard + random.wire() as i64,
            lease: LEASE,
            patience: random.between(ELECTION.0, ELECTION.1),
            vote: (1, 0),
            asks: false,
        }));
    }
    let mut elections = Elections {
        led: vec![None; voters.len()],
        cpus: vec![Cpu::default(); cluster.nodes],
        disks: vec![Disk::default(); cluster.nodes],
        messages: 0,
        rounds: 0,
        random,
        events: Events::new(),
        voters,
    };
    for group in 0..elections.voters.len() {
        for which in [false, true] {
            let at = elections.random.between(0, TICK);
            elections.events.plan(at, (group as u32, which, Step::Tick, (0, 0)));
        }
    }
    while let Some((group, which, step, vote)) = elections.events.next(60 * S) {
        elections.step(group as usize, which, step, vote);
    }
    elections
}

impl Elections {
    fn step(&mut self, group: usize, which: bool, step: Step, vote: (u64, usize)) {
        let now = self.events.now;
        let Voter { node, .. } = self.voters[group][usize::from(which)];
        let work = match step {
            Step::Tick | Step::Standing | Step::Elected => 0,
            _ => MESSAGE_COST + BEAT_COST,
        };
        let at = self.cpus[node].work(now, work);
        let voter = &mut self.voters[group][usize::from(which)];
        match step {
            Step::Tick if self.led[group].is_some() => {}
            Step::Tick => {
                let waited = now as i64 - voter.heard;
                if waited > (voter.lease + voter.patience) as i64 && !voter.asks {
                    voter.asks = true;
                    voter.patience = self.random.between(ELECTION.0, ELECTION.1);
                    let vote = (voter.vote.0 + 1, node);
                    self.rounds += 1;
                    self.send(group, which, Step::Asked, vote, now);
                }
                self.events.plan(now + TICK, (group as u32, which, Step::Tick, (0, 0)));
            }
            Step::Asked => {
                let free = now as i64 - voter.heard > voter.lease as i64;
                let answer = if free && vote >= voter.vote { Step::Granted } else { Step::Denied };
                self.send(group, which, answer, vote, at);
            }
            Step::Denied => {
                voter.asks = false;
                // The next look comes after another wait.
                voter.heard = now as i64 - voter.lease as i64;
            }
            Step::Granted if voter.asks && vote > voter.vote => {
                (voter.asks, voter.vote, voter.heard, voter.lease) = (false, vote, now as i64, 0);
                self.sync(group, which, Step::Standing, vote, at);
            }
            Step::Standing => self.send(group, which, Step::Voting, vote, at),
            Step::Voting => {
                let free = now as i64 - voter.heard > voter.lease as i64;
                if free && vote > voter.vote {
                    (voter.asks, voter.vote, voter.heard, voter.lease) = (false, vote, now as i64, 0);
                    let synced = self.disks[node].sync(now, &mut self.random);
                    self.send(group, which, Step::Voted, vote, synced.max(at));
                }
            }
            Step::Voted if voter.vote == vote => self.sync(group, which, Step::Elected, vote, at),
            Step::Elected if voter.vote == vote => self.send(group, which, Step::Append, vote, at),
            Step::Append if vote >= voter.vote => {
                (voter.vote, voter.heard, voter.lease) = (vote, now as i64, LEASE);
                // Its vote and the entry, one after the other.
                let first = self.disks[node].sync(now, &mut self.random);
                let synced = first + self.random.sync();
                self.send(group, which, Step::Appended, vote, synced.max(at));
            }
            Step::Appended if voter.vote == vote => {
                self.led[group].get_or_insert(at);
            }
            Step::Granted | Step::Voted | Step::Elected | Step::Append | Step::Appended => {}
        }
    }

    /// To the other one; the third one is dead.
    fn send(&mut self, group: usize, which: bool, step: Step, vote: (u64, usize), at: Time) {
        let node = self.voters[group][usize::from(which)].node;
        let sent = self.cpus[node].work(at, MESSAGE_COST);
        self.messages += 1;
        let there = sent + self.random.wire();
        self.events.plan(there, (group as u32, !which, step, vote));
    }

    fn sync(&mut self, group: usize, which: bool, step: Step, vote: (u64, usize), at: Time) {
        let node = self.voters[group][usize::from(which)].node;
        let synced = self.disks[node].sync(self.events.now, &mut self.random);
        self.events.plan(synced.max(at), (group as u32, which, step, vote));
    }
}

/// Prints the table.
pub fn report(seed: u64) {
    println!("\nElections after a node's death");
    println!("nodes  groups  without a leader  rounds  led again: first    p50    p99   last ms  messages  syncs  busiest node");
    for (nodes, groups) in [(3, 64), (10, 100_000), (100, 100_000), (1_000, 100_000)] {
        let cluster = Cluster::spread(nodes, groups, 3, &mut Random::new(seed));
        let elections = run(&cluster, seed);
        let times: Vec<Time> = elections.led.iter().map(|led| led.unwrap_or(Time::MAX)).collect();
        let syncs: u64 = elections.disks.iter().map(|disk| disk.syncs).sum();
        let busiest = elections.cpus.iter().map(|cpu| cpu.busy).max().unwrap_or(0);
        println!(
            "{nodes:>5} {groups:>7} {:>17} {:>7} {:>17} {:>6} {:>6} {:>9} {:>9} {syncs:>6} {:>8} cores",
            times.len(),
            elections.rounds,
            ms(percentile(&times, 0.0)),
            ms(percentile(&times, 0.5)),
            ms(percentile(&times, 0.99)),
            ms(percentile(&times, 1.0)),
            elections.messages,
            digits(busiest as f64 / (750 * MS) as f64),
        );
    }
    println!("       (of {CORES} cores, over the 0.75 s in which it happens)");
}
