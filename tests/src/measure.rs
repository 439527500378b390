//! Measuring: best of several, percentiles, and what the machine is, so that a figure can be compared.

use std::time::{Duration, Instant};

/// The shortest of several runs.
pub async fn best_of<T>(runs: usize, mut run: impl AsyncFnMut() -> T) -> (Duration, T) {
    let mut best: Option<(Duration, T)> = None;
    for _ in 0..runs.max(1) {
        let started = Instant::now();
        let value = run().await;
        let took = started.elapsed();
        if best.as_ref().is_none_or(|(shortest, _)| took < *shortest) {
            best = Some((took, value));
        }
    }
    best.expect("at least one run")
}

/// A percentile (0 to 100) by the nearest rank; sorts the sample.
pub fn percentile(sample: &mut [Duration], percent: f64) -> Duration {
    assert!(!sample.is_empty(), "no sample");
    sample.sort_unstable();
    let rank = (percent / 100.0 * sample.len() as f64).ceil() as usize;
    sample[rank.clamp(1, sample.len()) - 1]
}

/// A number from the environment, or a default.
pub fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// Whether a benchmark should run: `cargo bench` says so; `cargo test --benches` only wants it compiled.
pub fn asked_to_run() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// One line on the machine.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
    format!("{cores} cores, {model}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut sample: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut sample, 50.0), Duration::from_millis(50));
        assert_eq!(percentile(&mut sample, 99.0), Duration::from_millis(99));
        assert_eq!(percentile(&mut sample, 100.0), Duration::from_millis(100));
        assert_eq!(percentile(&mut sample[..1], 1.0), Duration::from_millis(1));
    }
}
