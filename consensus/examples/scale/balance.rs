//! How leaders spread: by the rule of `node/balance.rs`, and by others.

use crate::cluster::Cluster;
use crate::engine::{Events, Random, S, Time};
use crate::model::BALANCE;

/// Who gives which group to whom.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    /// As built: at each look one group to whoever leads two less, as far as is seen in the groups that the node holds itself.
    AsBuilt,
    /// That, with everybody's number as told every two seconds.
    Told,
    /// Who leads less than the mean asks leaders for half of what it lacks, at once; they give what they can spare by their own numbers.
    Pulled,
}

const RULES: [(Rule, &str); 3] = [(Rule::AsBuilt, "as built"), (Rule::Told, "numbers told"), (Rule::Pulled, "pulled")];
/// Groups that are pulled at a look, at most.
const AT_ONCE: usize = 64;
/// How often numbers are told, and how long is simulated.
const TELLING: Time = 2 * S;
const SPAN: Time = 3_000 * S;

enum Event {
    Look(usize),
    Handed { group: usize, to: usize },
    Tell,
}

struct Balance {
    cluster: Cluster,
    held: Vec<Vec<usize>>,
    leads: Vec<usize>,
    told: Vec<usize>,
    /// Groups on their way from one leader to the next.
    handing: Vec<bool>,
    events: Events<Event>,
    random: Random,
    moves: usize,
}

/// What came of it.
struct Outcome {
    /// When the leaders were even, to 5 % of their mean or 2, and how many moves that took.
    even: Option<(Time, usize)>,
    /// Fewest and most that any node led since the beginning, and at the end.
    ever: (usize, usize),
    last: (usize, usize),
    /// Moves in the last ten minutes.
    restless: usize,
}

impl Balance {
    fn new(cluster: Cluster, seed: u64) -> Balance {
        let (held, leads) = (cluster.held(), cluster.leads());
        Balance {
            held,
            told: leads.clone(),
            leads,
            handing: vec![false; cluster.groups],
            events: Events::new(),
            random: Random::new(seed),
            moves: 0,
            cluster,
        }
    }

    fn run(&mut self, rule: Rule) -> Outcome {
        for node in 0..self.cluster.nodes {
            let at = self.random.between(0, BALANCE);
            self.events.plan(at, Event::Look(node));
        }
        self.events.plan(TELLING, Event::Tell);
        let mut outcome = Outcome {
            even: None,
            ever: self.extremes(),
            last: (0, 0),
            restless: 0,
        };
        while let Some(event) = self.events.next(SPAN) {
            match event {
                Event::Tell => {
                    self.told.clone_from(&self.leads);
                    self.events.plan(self.events.now + TELLING, Event::Tell);
                }
                Event::Handed { group, to } => {
                    self.leads[self.cluster.leader(group)] -= 1;
                    self.leads[to] += 1;
                    self.cluster.lead(group, to);
                    self.handing[group] = false;
                    self.moves += 1;
                    let (least, most) = self.extremes();
                    outcome.ever = (outcome.ever.0.min(least), outcome.ever.1.max(most));
                    if outcome.even.is_none() && most - least <= (most + least).div_ceil(40).max(2) {
                        outcome.even = Some((self.events.now, self.moves));
                    }
                    outcome.restless += usize::from(self.events.now > SPAN - 600 * S);
                }
                Event::Look(node) => {
                    let handed = self.look(node, rule);
                    self.events.plan(handed + BALANCE, Event::Look(node));
                }
            }
        }
        outcome.last = self.extremes();
        outcome
    }

    fn extremes(&self) -> (usize, usize) {
        let (least, most) = (self.leads.iter().min(), self.leads.iter().max());
        (least.copied().unwrap_or(0), most.copied().unwrap_or(0))
    }

    /// A look of one node; when what it began is done.
    fn look(&mut self, node: usize, rule: Rule) -> Time {
        let now = self.events.now;
        let mean = self.cluster.groups / self.cluster.nodes;
        match rule {
            Rule::AsBuilt | Rule::Told => match self.surplus(node, rule) {
                Some((group, to)) => self.hand(group, to),
                None => now,
            },
            Rule::Pulled => {
                let mut done = now;
                let wanted = mean.saturating_sub(self.leads[node]).div_ceil(2).min(AT_ONCE);
                let (mut taken, mut got) = (vec![0; self.cluster.nodes], 0);
                let mut held = self.held[node].clone();
                self.random.shuffle(&mut held);
                for group in held {
                    let leader = self.cluster.leader(group);
                    let spare = self.leads[leader] - taken[leader];
                    if got < wanted && !self.handing[group] && spare >= mean && spare > self.leads[node] + got + 1 {
                        (taken[leader], got) = (taken[leader] + 1, got + 1);
                        done = done.max(self.hand(group, node));
                    }
                }
                done
            }
        }
    }

    /// `surplus` of `node/balance.rs`.
    fn surplus(&self, node: usize, rule: Rule) -> Option<(usize, usize)> {
        let mut seen = vec![0; self.cluster.nodes];
        for group in &self.held[node] {
            if self.handing[*group] {
                return None;
            }
            seen[self.cluster.leader(*group)] += 1;
        }
        let leads = match rule {
            Rule::Told => &self.told,
            _ => &seen,
        };
        let here = self.leads[node];
        let mut best: Option<(usize, usize, usize)> = None;
        for group in self.held[node].iter().filter(|group| self.cluster.leader(**group) == node) {
            for follower in self.cluster.followers(*group) {
                let there = leads[follower];
                if there + 1 < here && best.is_none_or(|(fewest, ..)| there < fewest) {
                    best = Some((there, *group, follower));
                }
            }
        }
        best.map(|(_, group, to)| (group, to))
    }

    /// Gives a group to a node; when that leads it: it is told, stands, is voted for, and writes its first entry.
    fn hand(&mut self, group: usize, to: usize) -> Time {
        let ways: Time = (0..5).map(|_| self.random.wire()).sum();
        let syncs: Time = (0..5).map(|_| self.random.sync()).sum();
        let at = self.events.now + ways + syncs;
        self.handing[group] = true;
        self.events.plan(at, Event::Handed { group, to });
        at
    }
}

/// Prints a line.
fn line(cluster: Cluster, what: &str, (rule, name): (Rule, &str), seed: u64) {
    let (nodes, groups, voters) = (cluster.nodes, cluster.groups, cluster.voters);
    let outcome = Balance::new(cluster, seed).run(rule);
    let (time, moves) = match outcome.even {
        Some((time, moves)) => (format!("{} s", time / S), moves.to_string()),
        None => ("never".to_owned(), "-".to_owned()),
    };
    println!(
        "{nodes:>5} {groups:>7} {voters:>7}  {what:<22} {name:<18} {time:>8} {moves:>7} {:>7}-{:<7} {:>6}-{:<6} {:>7.2}",
        outcome.ever.0,
        outcome.ever.1,
        outcome.last.0,
        outcome.last.1,
        outcome.restless as f64 / 600.0,
    );
}

/// Prints the table.
pub fn report(seed: u64) {
    println!("\nSpreading leaders: until they are even, within 50 minutes");
    println!("nodes  groups  voters  after                  rule               even after  moves  led meanwhile  at the end  moves a s");
    for nodes in [3, 10, 64] {
        let mut cluster = Cluster::spread(nodes, 64, nodes, &mut Random::new(seed));
        (0..64).for_each(|group| cluster.lead(group, 0));
        line(cluster, "the first node's start", RULES[0], seed);
    }
    for nodes in [10, 100, 1_000] {
        for rule in RULES {
            let mut random = Random::new(seed);
            let mut cluster = Cluster::spread(nodes, 100_000, 3, &mut random);
            for group in 0..cluster.groups {
                if cluster.leader(group) == 0 {
                    let others: Vec<usize> = cluster.followers(group).collect();
                    cluster.lead(group, others[random.below(others.len())]);
                }
            }
            line(cluster, "a node's restart", rule, seed);
        }
    }
}
