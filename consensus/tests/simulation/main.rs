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

use std::sync::atomic::{AtomicU64, Ordering};

use disk::Syncs;
use run::{Report, Settings, run};

/// Seeds that are run where nobody says how many.
const SEEDS: u64 = 5;
/// Seeds among which one at least shows the planted bug.
const PLANTED_SEEDS: u64 = 20;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Runs seeds on two threads.
fn run_all(settings: &[Settings], mut each: impl FnMut(Report) + Send) {
    let next = AtomicU64::new(0);
    let each = parking_lot::Mutex::new(&mut each);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(settings) = settings.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let report = run(*settings);
                    each.lock()(report);
                }
            });
        }
    });
}

fn tell(report: &Report) {
    let Some(violation) = &report.violation else { return };
    println!("--- the last events of seed {}", report.seed);
    report.events.iter().for_each(|event| println!("{event}"));
    println!("--- seed {}: {violation}", report.seed);
    println!("replay: .ci/simulate 1 {}", report.seed);
    if !cfg!(tokio_unstable) {
        println!("(this build replays nothing exactly: that takes the cfg tokio_unstable, which .ci/simulate sets)");
    }
}

#[test]
fn seeds() {
    let first = variable("PYRALOG_SIM_SEED").unwrap_or(1);
    let count = variable("PYRALOG_SIM_SEEDS").unwrap_or(SEEDS);
    let verbose = std::env::var("PYRALOG_SIM_EVENTS").is_ok();
    let settings: Vec<Settings> = (first..first + count)
        .map(|seed| Settings {
            verbose,
            ..Settings::new(seed)
        })
        .collect();
    let mut failed = Vec::new();
    let begun = std::time::Instant::now();
    run_all(&settings, |report| {
        println!(
            "seed {}: {} s, {} done, {} refused, {} unknown, {} elections, {} snapshots, {} lives, trace {:016x}{}",
            report.seed,
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
        tell(&report);
        if report.violation.is_some() {
            failed.push(report.seed);
        }
    });
    println!("{count} seeds in {:.0} s", begun.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "seeds {failed:?} failed");
}

#[test]
fn a_seed_always_gives_the_same_run() {
    // tokio wakes the waiters of a watch channel in an order of its own unless it is built with the cfg, by which turmoil seeds it.
    if !cfg!(tokio_unstable) {
        return println!("skipped: needs RUSTFLAGS=\"--cfg tokio_unstable\"");
    }
    let reports = parking_lot::Mutex::new(Vec::new());
    run_all(&[Settings::new(7), Settings::new(7)], |report| reports.lock().push(report));
    let reports = reports.into_inner();
    assert!(reports[0].violation.is_none(), "{:?}", reports[0].violation);
    let differ = reports[0].events.iter().zip(&reports[1].events).find(|(one, other)| one != other);
    assert!(
        reports[0] == reports[1],
        "traces {:x} and {:x}; {differ:?}",
        reports[0].trace,
        reports[1].trace
    );
    assert_ne!(reports[0].trace, run(Settings::new(8)).trace);
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
