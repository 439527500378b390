//! A deterministic simulation of whole clusters: the real nodes on a simulated network, disk and clock, from one seed.
//!
//! `PYRALOG_SIM_SEEDS` says how many seeds are run, `PYRALOG_SIM_SEED` which is the first; `PYRALOG_SIM_EVENTS` prints every event.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;
mod cluster;
mod disk;
mod faults;
mod history;
mod host;
mod invariants;
#[path = "../../../tests/src/linearizable.rs"]
mod linearizable;
mod network;
mod recovery;
mod rows;
mod run;
mod world;

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use disk::Syncs;
use run::{Settings, run};

/// Seeds that are run where nobody says how many.
const SEEDS: u64 = 5;
/// Seeds among which one at least shows the planted bug.
const PLANTED_SEEDS: u64 = 20;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// What a process that simulates one seed printed.
struct Told {
    seed: u64,
    held: bool,
    lines: Vec<String>,
}

/// Runs seeds, each in a process of its own, two at a time. What is counted through a process, as tokio's ids of tasks are, begins anew for each:
/// the order in which a crashed host's tasks are dropped depends on them.
fn run_all(seeds: &[u64], events: bool, each: impl Fn(Told) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    each(run_alone(*seed, events));
                }
            });
        }
    });
}

fn run_alone(seed: u64, events: bool) -> Told {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process
        .args(["one", "--exact", "--nocapture"])
        .env("PYRALOG_SIM_ONE", seed.to_string());
    if events {
        process.env("PYRALOG_SIM_EVENTS", "1");
    }
    let done = process.output().unwrap();
    let mut lines: Vec<String> = String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect();
    if !done.status.success() {
        lines.extend(String::from_utf8_lossy(&done.stderr).lines().map(str::to_owned));
    }
    // The rest is the harness's.
    let is_ours = |line: &String| !done.status.success() || line.starts_with(' ') || line.starts_with("seed ");
    lines.retain(is_ours);
    Told {
        seed,
        held: done.status.success(),
        lines,
    }
}

/// Runs the seed that the process was started for.
#[test]
fn one() {
    let Some(seed) = variable("PYRALOG_SIM_ONE") else { return };
    let report = run(Settings {
        verbose: std::env::var("PYRALOG_SIM_EVENTS").is_ok(),
        ..Settings::new(seed)
    });
    println!(
        "seed {seed}: {} s, {} done, {} refused, {} unknown, {} elections, {} snapshots, {} lives, trace {:016x}{}",
        report.virtual_seconds,
        report.done,
        report.refused,
        report.unknown,
        report.elections,
        report.installs,
        report.lives,
        report.trace,
        if report.violation.is_some() { ", VIOLATED" } else { "" }
    );
    let Some(violation) = report.violation else { return };
    println!("--- the last events of seed {seed}");
    report.events.iter().for_each(|event| println!("{event}"));
    println!("--- seed {seed}: {violation}");
    println!("replay: .ci/simulate 1 {seed}");
    if !cfg!(tokio_unstable) {
        println!("(this build replays nothing exactly: that takes the cfg tokio_unstable, which .ci/simulate sets)");
    }
    panic!("seed {seed} failed");
}

#[test]
fn seeds() {
    let first = variable("PYRALOG_SIM_SEED").unwrap_or(1);
    let count = variable("PYRALOG_SIM_SEEDS").unwrap_or(SEEDS);
    let events = std::env::var("PYRALOG_SIM_EVENTS").is_ok();
    let seeds: Vec<u64> = (first..first + count).collect();
    let failed = parking_lot::Mutex::new(Vec::new());
    let begun = std::time::Instant::now();
    run_all(&seeds, events, |told| {
        println!("{}", told.lines.join("\n"));
        if !told.held {
            failed.lock().push(told.seed);
        }
    });
    println!("{count} seeds in {:.0} s", begun.elapsed().as_secs_f64());
    let failed = failed.into_inner();
    assert!(failed.is_empty(), "seeds {failed:?} failed");
}

#[test]
fn a_seed_always_gives_the_same_run() {
    // tokio wakes the waiters of a watch channel in an order of its own unless it is built with the cfg, by which turmoil seeds it.
    if !cfg!(tokio_unstable) {
        return println!("skipped: needs RUSTFLAGS=\"--cfg tokio_unstable\"");
    }
    for seed in [7, 8] {
        let runs = parking_lot::Mutex::new(Vec::new());
        run_all(&[seed, seed], true, |told| runs.lock().push(told));
        let runs = runs.into_inner();
        assert!(runs[0].held, "seed {seed} failed: {:#?}", runs[0].lines);
        let (one, other) = (&runs[0].lines, &runs[1].lines);
        assert!(one.len() > 1_000, "{} events", one.len());
        let differ = one.iter().zip(other).find(|(one, other)| one != other);
        assert!(differ.is_none() && one.len() == other.len(), "seed {seed} gave {differ:#?}");
    }
}

/// A log that acknowledges before it has synced is caught: by what is on the disks, and without that by what clients and nodes notice.
#[test]
fn a_log_that_acknowledges_before_it_syncs_is_caught() {
    for looks_at_disks in [true, false] {
        let seeds = (1..=PLANTED_SEEDS).map(|seed| Settings {
            syncs: Syncs::Late,
            looks_at_disks,
            ..Settings::new(seed)
        });
        let caught = seeds.map(run).find_map(|report| Some((report.seed, report.violation?)));
        println!("with looks at disks: {looks_at_disks}: {caught:?}");
        assert!(caught.is_some(), "the planted bug was not caught");
    }
}
