//! What a cluster costs as it grows: heartbeats, reads at one timestamp, leaders and replicas, by simulation. The page `docs/src/scale.md`
//! quotes what this prints.
//!
//! `cargo run --release -p pyralog-consensus --example scale -- [SEED [REPORT]]`

mod balance;
mod cluster;
mod elections;
mod engine;
mod heartbeats;
mod model;
mod reads;
mod repair;
mod timestamps;

type Report = fn(u64);

fn main() {
    let seed = std::env::args().nth(1).and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("seed {seed}\n");
    let report = std::env::args().nth(2);
    let is_wanted = |name: &str| report.as_deref().is_none_or(|report| report == name);
    let reports: [(&str, Report); 6] = [
        ("heartbeats", heartbeats::report),
        ("reads", reads::report),
        ("timestamps", timestamps::report),
        ("balance", balance::report),
        ("elections", elections::report),
        ("repair", repair::report),
    ];
    reports
        .iter()
        .filter(|(name, _)| is_wanted(name))
        .for_each(|(_, report)| report(seed));
}
