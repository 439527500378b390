//! A process's memory, as Linux tells it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Resident memory of a process in bytes, pages of mapped files included (`VmRSS`); `None` if it is gone.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Resident pages of the program's own file, its code above all, in bytes. How many there are is up to the system's cache of files, and there
/// are many where nothing is optimized.
fn program_bytes(pid: u32) -> Option<u64> {
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let program = program.to_str()?;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).ok()?;
    let (mut kilobytes, mut is_program) = (0, false);
    for line in maps.lines() {
        match line.strip_prefix("Rss:") {
            Some(resident) if is_program => kilobytes += resident.split_whitespace().next()?.parse::<u64>().ok()?,
            Some(_) => {}
            // The line that begins a mapping has no name with a colon.
            None if !line.split_whitespace().next()?.ends_with(':') => is_program = line.ends_with(program),
            None => {}
        }
    }
    Some(kilobytes * 1024)
}

/// Watches a process's resident memory and keeps the peak.
pub struct PeakMemory {
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl PeakMemory {
    /// Looks every 10 milliseconds.
    pub fn watch(pid: u32) -> PeakMemory {
        Self::watch_with(move || resident_bytes(pid).unwrap_or(0))
    }

    /// Watches what is resident besides the pages of the program's own file.
    pub fn watch_data(pid: u32) -> PeakMemory {
        let (mut program, mut looked) = (0, None::<Instant>);
        Self::watch_with(move || {
            if looked.is_none_or(|at| at.elapsed() > Duration::from_millis(500)) {
                program = program_bytes(pid).unwrap_or(program);
                looked = Some(Instant::now());
            }
            resident_bytes(pid).unwrap_or(0).saturating_sub(program)
        })
    }

    fn watch_with(mut now: impl FnMut() -> u64 + Send + 'static) -> PeakMemory {
        let (stop, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, highest) = (Arc::clone(&stop), Arc::clone(&peak));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                highest.fetch_max(now(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        PeakMemory {
            stop,
            peak,
            thread: Some(thread),
        }
    }

    /// The peak so far, in bytes.
    pub fn peak_bytes(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

impl Drop for PeakMemory {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the watching thread");
        }
    }
}
