//! What gives out timestamps: ceilings, which are entries of the logs, and an oracle that all nodes ask.

use crate::cluster::Cluster;
use crate::engine::{Cpu, Disk, Events, MS, Random, S, Time, digits, ms, percentile};
use crate::model::{CEILING, EARLY, MESSAGE_COST};

/// Ceilings of all groups while they are read: entries a second in each, reads that waited for one, and syncs a second of a node's log.
fn ceilings(nodes: usize, groups: usize, every: Time, seed: u64) -> (f64, f64, f64) {
    const SPAN: Time = 30 * S;
    let mut random = Random::new(seed);
    let cluster = Cluster::spread(nodes, groups, 3, &mut random);
    let held = cluster.held()[0].len() as u64;
    // All groups are asked at the same times, and so need theirs at the same times.
    let (mut ceiling, mut entries, mut reads, mut late, mut disk) = (0, 0u64, 0u64, 0u64, Disk::default());
    let mut now = 0;
    while now < SPAN {
        reads += 1;
        if now + EARLY > ceiling {
            late += u64::from(now > ceiling);
            ceiling = now + CEILING;
            entries += 1;
            let mut arrivals: Vec<Time> = (0..held).map(|_| now + random.wire()).collect();
            arrivals.sort_unstable();
            for at in arrivals {
                disk.sync(at, &mut random);
            }
        }
        now += (random.exponential(every as f64) as Time).max(1);
    }
    let second = S as f64 / SPAN as f64;
    (entries as f64 * second, late as f64 / reads as f64, disk.syncs as f64 * second)
}

/// An oracle that every node asks again as soon as it has answered, for all that came meanwhile.
fn oracle(nodes: usize, seed: u64) -> (f64, Time, Time, f64) {
    const SPAN: Time = S;
    enum Ask {
        Arrives(Time),
        Again,
    }
    let (mut random, mut events, mut cpu, mut times) = (Random::new(seed), Events::new(), Cpu::default(), Vec::new());
    (0..nodes).for_each(|_| events.plan(random.between(0, MS), Ask::Again));
    while let Some(event) = events.next(SPAN) {
        let now = events.now;
        match event {
            Ask::Again => events.plan(now + MESSAGE_COST + random.wire(), Ask::Arrives(now)),
            Ask::Arrives(begun) => {
                let end = cpu.work(now, 2 * MESSAGE_COST) + random.wire() + MESSAGE_COST;
                times.push(end - begun);
                events.plan(end, Ask::Again);
            }
        }
    }
    let rate = times.len() as f64 * S as f64 / SPAN as f64;
    (
        rate,
        percentile(&times, 0.5),
        percentile(&times, 0.99),
        cpu.busy as f64 / SPAN as f64,
    )
}

/// Prints the tables.
pub fn report(seed: u64) {
    println!("\nCeilings of 100,000 groups while all are read");
    println!("nodes  reads a s  entries a s of a group  of all groups  reads that wait for one  syncs a s of a node");
    for nodes in [10, 100, 1_000] {
        for rate in [1, 10, 1_000] {
            let (entries, late, syncs) = ceilings(nodes, 100_000, S / rate, seed);
            println!(
                "{nodes:>5} {rate:>10} {:>23} {:>14.0} {:>22.0} % {:>20}",
                digits(entries),
                entries * 100_000.0,
                100.0 * late,
                digits(syncs)
            );
        }
    }
    println!("\nAn oracle that every node asks without a pause, each for all its transactions together");
    println!("nodes  answers a s  p50 ms  p99 ms  its cores");
    for nodes in [10, 100, 1_000] {
        let (rate, p50, p99, cores) = oracle(nodes, seed);
        println!("{nodes:>5} {rate:>12.0} {:>7} {:>7} {:>10}", ms(p50), ms(p99), digits(cores));
    }
}
