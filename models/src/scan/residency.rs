//! Which columns of which batches this process has already pulled into memory, and the walk that pulls them in.
//!
//! The record is process-wide, one bit a batch and column, keyed by a segment's zone maps (which storage keeps once a segment); entries of
//! segments that are gone are dropped. A bit may be wrong after the kernel has evicted pages: it promises speed, not residency.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arrow::array::{Array, ArrayData};
use parking_lot::Mutex;
use pyralog_storage::{ScanPiece, ZoneMaps};

use super::external;

/// The smallest page size of the supported platforms.
const PAGE: usize = 4096;
/// Segments on record above which dead ones are looked for.
const SWEEP: usize = 256;

struct Entry {
    owner: Weak<ZoneMaps>,
    bits: Arc<Residency>,
}

static RECORD: OnceLock<Mutex<HashMap<usize, Entry>>> = OnceLock::new();

/// What is known to be resident of one segment.
pub(super) struct Residency {
    columns: usize,
    bits: Vec<AtomicU64>,
}

impl Residency {
    /// The record of a piece; `None` for pieces in memory, which need none.
    pub fn of(piece: &ScanPiece) -> Option<Arc<Residency>> {
        let zones = piece.zone_maps()?;
        let mut record = RECORD.get_or_init(Mutex::default).lock();
        if record.len() > SWEEP && record.len().is_power_of_two() {
            record.retain(|_, entry| entry.owner.strong_count() > 0);
        }
        let address = Arc::as_ptr(&zones) as usize;
        if let Some(entry) = record.get(&address).filter(|entry| entry.owner.strong_count() > 0) {
            return Some(Arc::clone(&entry.bits));
        }
        let columns = zones.columns.len() + 1;
        let words = (columns * piece.batch_count()).div_ceil(64);
        let bits = Arc::new(Residency {
            columns,
            bits: (0..words).map(|_| AtomicU64::new(0)).collect(),
        });
        record.insert(
            address,
            Entry {
                owner: Arc::downgrade(&zones),
                bits: Arc::clone(&bits),
            },
        );
        Some(bits)
    }

    fn bit(&self, batch: usize, column: usize) -> Option<(&AtomicU64, u64)> {
        let index = batch * self.columns + column.min(self.columns - 1);
        self.bits.get(index / 64).map(|word| (word, 1 << (index % 64)))
    }

    /// Whether these relation columns of a batch have been walked.
    pub fn is_resident(&self, batch: usize, columns: &[usize]) -> bool {
        columns.iter().all(|&c| {
            self.bit(batch, c)
                .is_none_or(|(word, mask)| word.load(Ordering::Relaxed) & mask != 0)
        })
    }

    /// Reads a batch's columns and touches each of their pages. Blocks on the disk.
    pub fn walk(&self, piece: &ScanPiece, batch: usize, columns: &[usize]) -> datafusion::error::Result<()> {
        let missing: Vec<usize> = columns.iter().copied().filter(|&c| !self.is_resident(batch, &[c])).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if let Some(rows) = piece.read(batch, &missing).map_err(external)? {
            rows.columns().iter().for_each(|column| touch(&column.to_data()));
        }
        for &column in &missing {
            if let Some((word, mask)) = self.bit(batch, column) {
                word.fetch_or(mask, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// Reads one byte of each page of an array's buffers.
fn touch(data: &ArrayData) {
    for buffer in data.buffers().iter().chain(data.nulls().map(|nulls| nulls.buffer())) {
        for byte in buffer.as_slice().iter().step_by(PAGE) {
            black_box(*byte);
        }
    }
    data.child_data().iter().for_each(touch);
}
