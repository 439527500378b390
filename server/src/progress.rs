//! Progress of imports and exports: a bar on a terminal's standard error, nothing elsewhere.

use std::io::{IsTerminal, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Counts of a long task, shown while it runs.
#[derive(Clone)]
pub struct Progress {
    bar: ProgressBar,
    rows: Arc<AtomicU64>,
    begun: Instant,
}

impl Progress {
    /// A task over so many bytes; `None`: nobody knows.
    pub fn new(name: &str, total_bytes: Option<u64>) -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(total_bytes, target);
        let template = match total_bytes {
            Some(_) => "{prefix} [{bar:30}] {bytes}/{total_bytes} {msg} {eta} left",
            None => "{prefix} {spinner} {msg} {elapsed}",
        };
        // The templates are fixed; were one wrong, the bar's default look would do.
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress {
            bar,
            rows: Arc::default(),
            begun: Instant::now(),
        }
    }

    /// Further rows are through.
    pub fn add_rows(&self, rows: u64) {
        let all = self.rows.fetch_add(rows, Ordering::Relaxed) + rows;
        self.bar.set_message(format!("{all} rows, {}", rate(all, self.begun.elapsed())));
    }

    /// Further bytes are through.
    pub fn add_bytes(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// Rows a second, for eyes.
pub fn rate(rows: u64, elapsed: Duration) -> String {
    let per_second = rows as f64 / elapsed.as_secs_f64().max(1e-6);
    match per_second {
        r if r >= 1e6 => format!("{:.1} M rows/s", r / 1e6),
        r if r >= 1e3 => format!("{:.1} k rows/s", r / 1e3),
        r => format!("{r:.0} rows/s"),
    }
}

/// A reader that counts into a [`Progress`].
pub struct CountingReader<R> {
    inner: R,
    progress: Progress,
}

impl<R: Read> CountingReader<R> {
    /// Counts what is read from `inner`.
    pub fn new(inner: R, progress: Progress) -> Self {
        CountingReader { inner, progress }
    }
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.progress.add_bytes(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(rate(2_500_000, Duration::from_secs(1)), "2.5 M rows/s");
        assert_eq!(rate(1500, Duration::from_secs(1)), "1.5 k rows/s");
        assert_eq!(rate(10, Duration::from_secs(2)), "5 rows/s");
    }
}
