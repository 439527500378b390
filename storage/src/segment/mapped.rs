//! Keeps the pages of mapped files within the process's memory limit.
//!
//! The kernel counts every page of a mapped file that was touched as the process's, and takes it back only when the machine runs short. So
//! when the process holds more than it may, the files that were read longest ago are told to let go of their pages. These stay in the
//! kernel's page cache: who reads them again pays a fault for them, not the disk.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use memmap2::Mmap;
use parking_lot::Mutex;

/// Bytes that are read between two looks at the process's size.
const LOOK_EVERY: u64 = 6 << 20;
/// The same after a look that found nothing more to let go.
const LOOK_LATER: u64 = 24 << 20;

/// Bytes of a page where this runs. Where pages are larger, the process is taken for smaller than it is.
const PAGE: u64 = 4096;

/// Bytes that the process may hold; 0: any number.
static LIMIT: AtomicU64 = AtomicU64::new(0);
/// Counts reads, so that files can be put in order of their last one.
static READS: AtomicU64 = AtomicU64::new(0);
/// Bytes to be read until the next look.
static UNTIL_LOOK: AtomicU64 = AtomicU64::new(LOOK_EVERY);
static FILES: Mutex<Vec<Weak<Mapping>>> = Mutex::new(Vec::new());

/// Lets the process hold this many bytes, mapped pages included, before mapped files let go of theirs. Where databases of one process give
/// several limits, the largest holds. Works on Linux; elsewhere it changes nothing.
pub fn set_resident_limit(bytes: u64) {
    LIMIT.fetch_max(bytes, Ordering::Relaxed);
}

/// A mapped file on record.
#[derive(Debug)]
pub struct Mapping {
    map: Mmap,
    last_read: AtomicU64,
}

impl Mapping {
    /// Puts a map on record for as long as it lives.
    pub fn new(map: Mmap) -> Arc<Mapping> {
        let mapping = Arc::new(Mapping {
            map,
            last_read: AtomicU64::new(0),
        });
        let mut files = FILES.lock();
        if files.len() == files.capacity() {
            files.retain(|file| file.strong_count() > 0);
        }
        files.push(Arc::downgrade(&mapping));
        mapping
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Says that so many bytes are about to be read.
    pub fn about_to_read(&self, bytes: u64) {
        self.last_read.store(READS.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let left = UNTIL_LOOK.load(Ordering::Relaxed);
        if bytes < left {
            // Threads that race lose a few bytes of the count; it is a pace, not a sum.
            UNTIL_LOOK.store(left - bytes, Ordering::Relaxed);
            return;
        }
        UNTIL_LOOK.store(LOOK_EVERY, Ordering::Relaxed);
        keep_within(LIMIT.load(Ordering::Relaxed), resident);
    }

    fn let_go(&self) {
        #[cfg(unix)]
        {
            // SAFETY: the map is of a file, shared and read-only: what is dropped is read from the file again, unchanged.
            let advised = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
            if let Err(error) = advised {
                tracing::debug!(%error, "a mapped file keeps its pages");
            }
        }
    }
}

/// Lets files go, those read longest ago first, until the process holds an eighth less than it may.
fn keep_within(limit: u64, resident: impl Fn() -> Option<u64>) {
    if limit == 0 || resident().is_none_or(|held| held <= limit) {
        return;
    }
    // Somebody else is at it already.
    let Some(mut files) = FILES.try_lock() else { return };
    files.retain(|file| file.strong_count() > 0);
    let mut live: Vec<Arc<Mapping>> = files.iter().filter_map(Weak::upgrade).collect();
    drop(files);
    // Each is asked once: others go on reading, and a sort whose keys change underneath panics.
    live.sort_by_cached_key(|file| file.last_read.load(Ordering::Relaxed));
    for file in live {
        file.let_go();
        if resident().is_none_or(|held| held <= limit - limit / 8) {
            return;
        }
    }
    UNTIL_LOOK.store(LOOK_LATER, Ordering::Relaxed);
}

/// Bytes of memory that the process holds; `None` where the system does not tell.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    /// The files on record are the process's: one of these tests at a time.
    static ALONE: Mutex<()> = Mutex::new(());

    fn mapped(dir: &std::path::Path, name: &str, bytes: usize) -> Arc<Mapping> {
        let path = dir.join(name);
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(&vec![7_u8; bytes]).unwrap();
        // SAFETY: nobody changes the file.
        Mapping::new(unsafe { Mmap::map(&std::fs::File::open(&path).unwrap()) }.unwrap())
    }

    /// A mapped file of a few megabytes, every page touched.
    fn touched(dir: &std::path::Path, name: &str) -> Arc<Mapping> {
        let mapping = mapped(dir, name, 4 << 20);
        assert!(mapping.bytes().iter().step_by(4096).all(|byte| *byte == 7));
        mapping
    }

    fn resident_of(mapping: &Mapping) -> u64 {
        // The lines of this map in smaps, up to the next map's.
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let start = format!("{:x}-", mapping.bytes().as_ptr() as usize);
        let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&start)).skip(1);
        let rss = lines.find(|line| line.starts_with("Rss:")).unwrap();
        rss.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    #[test]
    fn the_file_read_longest_ago_goes_first_and_reads_the_same_again() {
        let _alone = ALONE.lock();
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (touched(dir.path(), "old"), touched(dir.path(), "new"));
        old.about_to_read(1);
        new.about_to_read(1);
        assert!(resident_of(&old) >= 4 << 20);
        // Other tests of this process may map files too, so the size is played: over the limit until the old file has let go.
        let held = || Some(if resident_of(&old) > 0 { 200 } else { 10 });
        keep_within(100, held);
        assert_eq!(resident_of(&old), 0);
        assert!(resident_of(&new) >= 4 << 20);
        assert!(old.bytes().iter().all(|byte| *byte == 7));
    }

    #[test]
    fn files_go_while_others_are_being_read() {
        let _alone = ALONE.lock();
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<Arc<Mapping>> = (0..200).map(|i| mapped(dir.path(), &i.to_string(), 4096)).collect();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                for file in files.iter().rev().chain(&files).cycle().take(200_000) {
                    file.about_to_read(1);
                }
            });
            while !reader.is_finished() {
                keep_within(1, || Some(2));
            }
        });
    }

    #[test]
    fn without_a_limit_or_below_it_nothing_goes() {
        let _alone = ALONE.lock();
        let dir = tempfile::tempdir().unwrap();
        let file = touched(dir.path(), "file");
        keep_within(0, || Some(u64::MAX));
        keep_within(100, || Some(100));
        keep_within(100, || None);
        assert!(resident_of(&file) >= 4 << 20);
    }

    #[test]
    fn the_process_is_measured() {
        assert!(resident().unwrap() > 1 << 20);
    }
}
