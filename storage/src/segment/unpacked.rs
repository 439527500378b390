//! Columns of compressed batches, unpacked, as many as memory allows.
//!
//! A column that is asked for stays unpacked until the bytes of all that are exceed a limit, which is the process's. Then those that nobody
//! has asked for since the last round go (the clock algorithm: Corbató, "A paging experiment with the Multics system", 1968). Who still uses
//! an array keeps it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arrow_array::ArrayRef;
use parking_lot::{Mutex, RwLock};

use crate::memory_size::array_bytes;

/// Bytes of unpacked columns; 0: any number.
static LIMIT: AtomicU64 = AtomicU64::new(0);
static HELD: AtomicU64 = AtomicU64::new(0);
static CLOCK: Mutex<VecDeque<Weak<Unpacked>>> = Mutex::new(VecDeque::new());

/// Lets the process keep this many bytes of compressed columns unpacked. Where databases of one process give several limits, the largest
/// holds.
pub fn set_unpacked_limit(bytes: u64) {
    LIMIT.fetch_max(bytes, Ordering::Relaxed);
}

/// A place for one column.
#[derive(Debug, Default)]
pub struct Unpacked {
    array: RwLock<Option<ArrayRef>>,
    bytes: AtomicU64,
    is_used: AtomicBool,
}

impl Unpacked {
    /// The column, if it is unpacked.
    pub fn get(&self) -> Option<ArrayRef> {
        let array = self.array.read().clone()?;
        self.is_used.store(true, Ordering::Relaxed);
        Some(array)
    }

    /// Keeps the column.
    pub fn put(self: &Arc<Self>, array: &ArrayRef) {
        // What it shows, not what it keeps alive: buffers that would not shrink lie in the mapped file.
        let bytes = array_bytes(array);
        {
            let mut place = self.array.write();
            if place.is_some() {
                return;
            }
            *place = Some(Arc::clone(array));
            self.bytes.store(bytes, Ordering::Relaxed);
            HELD.fetch_add(bytes, Ordering::Relaxed);
        }
        CLOCK.lock().push_back(Arc::downgrade(self));
        keep_within(LIMIT.load(Ordering::Relaxed), &HELD, &CLOCK);
    }

    fn let_go(&self) -> u64 {
        let mut place = self.array.write();
        *place = None;
        self.bytes.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        HELD.fetch_sub(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Lets columns go until no more than `limit` bytes are held.
fn keep_within(limit: u64, held: &AtomicU64, clock: &Mutex<VecDeque<Weak<Unpacked>>>) {
    if limit == 0 || held.load(Ordering::Relaxed) <= limit {
        return;
    }
    // Somebody else is at it already.
    let Some(mut clock) = clock.try_lock() else { return };
    // Each is passed over once at most.
    let mut left = 2 * clock.len();
    while held.load(Ordering::Relaxed) > limit && left > 0 {
        left -= 1;
        let Some(next) = clock.pop_front() else { return };
        // Its segment is gone.
        let Some(column) = next.upgrade() else { continue };
        if column.is_used.swap(false, Ordering::Relaxed) {
            clock.push_back(next);
        } else {
            held.fetch_sub(column.let_go(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow_array::UInt64Array;

    use super::*;

    fn column(clock: &Mutex<VecDeque<Weak<Unpacked>>>, held: &AtomicU64) -> Arc<Unpacked> {
        let column = Arc::new(Unpacked::default());
        let array: ArrayRef = Arc::new(UInt64Array::from(vec![7; 100]));
        let bytes = array_bytes(&array);
        *column.array.write() = Some(array);
        column.bytes.store(bytes, Ordering::Relaxed);
        held.fetch_add(bytes, Ordering::Relaxed);
        HELD.fetch_add(bytes, Ordering::Relaxed);
        clock.lock().push_back(Arc::downgrade(&column));
        column
    }

    #[test]
    fn what_nobody_asked_for_goes_first() {
        let (clock, held) = (Mutex::default(), AtomicU64::new(0));
        let columns: Vec<_> = (0..10).map(|_| column(&clock, &held)).collect();
        let one = held.load(Ordering::Relaxed) / 10;
        keep_within(0, &held, &clock);
        keep_within(10 * one, &held, &clock);
        assert!(columns.iter().all(|column| column.array.read().is_some()));
        let kept = columns[0].get().unwrap();
        keep_within(4 * one, &held, &clock);
        assert_eq!(held.load(Ordering::Relaxed), 4 * one);
        assert!(columns[0].get().is_some() && columns[1].get().is_none());
        keep_within(1, &held, &clock);
        assert_eq!(held.load(Ordering::Relaxed), 0);
        assert!(columns.iter().all(|column| column.get().is_none()));
        assert_eq!(kept.len(), 100, "who has an array keeps it");
    }

    #[test]
    fn a_part_of_a_file_counts_as_the_part() {
        let file = arrow_buffer::Buffer::from(vec![0_u8; 1 << 20]);
        let array: ArrayRef = Arc::new(UInt64Array::new(file.slice_with_length(4096, 800).into(), None));
        let column = Arc::new(Unpacked::default());
        column.put(&array);
        assert_eq!(column.bytes.load(Ordering::Relaxed), 800);
    }

    #[test]
    fn a_column_is_kept_until_its_segment_goes() {
        let column = Arc::new(Unpacked::default());
        let array: ArrayRef = Arc::new(UInt64Array::from(vec![7; 100]));
        column.put(&array);
        column.put(&array);
        assert_eq!(column.get().unwrap().len(), 100);
    }
}
