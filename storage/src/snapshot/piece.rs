//! A unit of scanning.

use std::sync::{Arc, OnceLock};

use arrow_array::{ArrayRef, RecordBatch, UInt64Array};
use roaring::RoaringBitmap;

use crate::error::Result;
use crate::ids::Timestamp;
use crate::memtable::{Chunk, Memtable};
use crate::partition::{LiveSegment, Pin};
use crate::projection::project;
use crate::schema::RelationSchema;
use crate::segment::Segment;
use crate::selection::Selection;
use crate::zone_map::ZoneMaps;

/// Rows of a segment.
struct SegmentPiece {
    segment: Arc<Segment>,
    /// Rows that are not visible.
    mask: Arc<RoaringBitmap>,
    /// Keeps delete files until the last reader is gone.
    _live: Option<Arc<LiveSegment>>,
}

/// Rows of a memtable.
struct MemtablePiece {
    chunks: Vec<Arc<Chunk>>,
    at: u64,
    /// Rows hidden by the transaction whose view this is.
    hidden: Option<Arc<RoaringBitmap>>,
    /// Whether stamps are commit timestamps; a transaction's own rows have none yet.
    committed: bool,
    /// First and last key of an ascending memtable.
    range: Option<(Vec<u8>, Vec<u8>)>,
}

enum Source {
    Segment(SegmentPiece),
    Memtable(MemtablePiece),
}

struct Inner {
    schema: Arc<RelationSchema>,
    source: Source,
    visible: OnceLock<u64>,
    _pin: Option<Arc<Pin>>,
}

/// A unit of scanning: one segment, or one memtable's rows.
#[derive(Clone)]
pub struct ScanPiece {
    inner: Arc<Inner>,
}

impl ScanPiece {
    fn new(schema: Arc<RelationSchema>, source: Source, pin: Option<Arc<Pin>>) -> Self {
        ScanPiece {
            inner: Arc::new(Inner {
                schema,
                source,
                visible: OnceLock::new(),
                _pin: pin,
            }),
        }
    }

    /// A segment without the rows in `mask`.
    pub(crate) fn of_segment(
        schema: Arc<RelationSchema>,
        segment: Arc<Segment>,
        mask: Arc<RoaringBitmap>,
        live: Option<Arc<LiveSegment>>,
        pin: Option<Arc<Pin>>,
    ) -> Self {
        ScanPiece::new(
            schema,
            Source::Segment(SegmentPiece {
                segment,
                mask,
                _live: live,
            }),
            pin,
        )
    }

    /// What a reader at `at` sees of a memtable.
    pub(crate) fn of_memtable(
        schema: Arc<RelationSchema>,
        memtable: &Memtable,
        at: u64,
        hidden: Option<Arc<RoaringBitmap>>,
        committed: bool,
        pin: Option<Arc<Pin>>,
    ) -> Self {
        // Order is asked for before the rows are pinned, and rows before the range: a wider range is still right.
        let chunks = memtable.chunks();
        let range = if memtable.is_ascending() { memtable.key_range() } else { None };
        ScanPiece::new(
            schema,
            Source::Memtable(MemtablePiece {
                chunks,
                at,
                hidden,
                committed,
                range,
            }),
            pin,
        )
    }

    /// Number of batches.
    pub fn batch_count(&self) -> usize {
        match &self.inner.source {
            Source::Segment(piece) => piece.segment.batch_count(),
            Source::Memtable(piece) => piece.chunks.len(),
        }
    }

    /// Rows before masking in one batch.
    pub fn batch_rows(&self, batch: usize) -> usize {
        match &self.inner.source {
            Source::Segment(piece) => piece.segment.batch_rows(batch),
            Source::Memtable(piece) => piece.chunks.get(batch).map_or(0, |chunk| chunk.len()),
        }
    }

    /// Visible rows over all batches.
    pub fn visible_rows(&self) -> u64 {
        *self.inner.visible.get_or_init(|| match &self.inner.source {
            Source::Segment(piece) => piece.segment.info().rows.saturating_sub(piece.mask.len()),
            Source::Memtable(piece) => piece
                .chunks
                .iter()
                .map(|chunk| piece.selection(chunk).count(chunk.len()) as u64)
                .sum(),
        })
    }

    /// Whether rows lie in key order, across batches.
    pub fn is_sorted(&self) -> bool {
        match &self.inner.source {
            Source::Segment(_) => true,
            Source::Memtable(piece) => piece.range.is_some(),
        }
    }

    /// First and last key (arrow-row encoded), masked rows included; `None` when empty or unsorted.
    pub fn key_range(&self) -> Option<(&[u8], &[u8])> {
        match &self.inner.source {
            Source::Segment(piece) if piece.segment.info().rows == 0 => None,
            Source::Segment(piece) => Some((&piece.segment.info().first_key, &piece.segment.info().last_key)),
            Source::Memtable(piece) => piece.range.as_ref().map(|(first, last)| (first.as_slice(), last.as_slice())),
        }
    }

    /// Zone maps, in the positions of the relation's schema; `None` for memtables.
    pub fn zone_maps(&self) -> Option<Arc<ZoneMaps>> {
        self.segment().map(|segment| segment.zone_maps(&self.inner.schema))
    }

    /// Reads the visible rows of one batch; `None` when there are none. May block on page faults: call it from a blocking thread.
    ///
    /// `projection` are positions in the relation's schema; [`RelationSchema::timestamp_column`] stands for the commit timestamp, which is
    /// [`Timestamp::MAX`] for a transaction's own rows. Columns are zero-copy views of the memory map where no row is masked.
    pub fn read(&self, batch: usize, projection: &[usize]) -> Result<Option<RecordBatch>> {
        match self.selection(batch) {
            Selection::Nothing => Ok(None),
            selection => selection.apply(self.read_all(batch, projection)?),
        }
    }

    /// As [`Self::read`], and the row numbers (for [`crate::RowAddress::row`]) of the rows that were read.
    pub fn read_with_rows(&self, batch: usize, projection: &[usize]) -> Result<Option<(RecordBatch, Vec<u32>)>> {
        let selection = self.selection(batch);
        if matches!(selection, Selection::Nothing) {
            return Ok(None);
        }
        let start = self.batch_start(batch);
        let rows = selection.positions(self.batch_rows(batch)).into_iter().map(|i| start + i).collect();
        Ok(selection.apply(self.read_all(batch, projection)?)?.map(|batch| (batch, rows)))
    }

    /// The segment behind this piece, if it is one.
    pub(crate) fn segment(&self) -> Option<&Arc<Segment>> {
        match &self.inner.source {
            Source::Segment(piece) => Some(&piece.segment),
            Source::Memtable(_) => None,
        }
    }

    /// Whether rows are masked.
    pub(crate) fn is_masked(&self) -> bool {
        match &self.inner.source {
            Source::Segment(piece) => !piece.mask.is_empty(),
            Source::Memtable(_) => true,
        }
    }

    /// How many rows of a segment's `rows` are masked.
    pub(crate) fn masked_within(&self, rows: std::ops::Range<u32>) -> u64 {
        match &self.inner.source {
            Source::Segment(piece) if !piece.mask.is_empty() => piece.mask.range_cardinality(rows),
            _ => 0,
        }
    }

    /// Whether a row of a segment is masked.
    pub(crate) fn is_masked_row(&self, row: u32) -> bool {
        match &self.inner.source {
            Source::Segment(piece) => piece.mask.contains(row),
            Source::Memtable(_) => false,
        }
    }

    /// The relation.
    pub(crate) fn relation(&self) -> crate::ids::RelationId {
        self.inner.schema.id
    }

    /// The first row of a batch, counted over the piece.
    pub(crate) fn batch_start(&self, batch: usize) -> u32 {
        match &self.inner.source {
            Source::Segment(piece) => piece.segment.batch_start(batch),
            Source::Memtable(piece) => piece.chunks.get(batch).map_or(0, |chunk| chunk.start()),
        }
    }

    /// The batch of a row and the row's position there; `None` for a row that is not in the piece.
    pub(crate) fn locate(&self, row: u32) -> Option<(usize, usize)> {
        match &self.inner.source {
            Source::Segment(piece) => (u64::from(row) < piece.segment.info().rows).then(|| piece.segment.locate(row)),
            Source::Memtable(piece) => {
                let batch = piece.chunks.partition_point(|chunk| chunk.start() <= row).checked_sub(1)?;
                let position = (row - piece.chunks[batch].start()) as usize;
                (position < piece.chunks[batch].len()).then_some((batch, position))
            }
        }
    }

    /// Which rows of a batch are visible.
    pub(crate) fn selection(&self, batch: usize) -> Selection {
        match &self.inner.source {
            Source::Segment(piece) if batch < piece.segment.batch_count() => {
                Selection::outside(&piece.mask, piece.segment.batch_start(batch), piece.segment.batch_rows(batch))
            }
            Source::Memtable(piece) if batch < piece.chunks.len() => piece.selection(&piece.chunks[batch]),
            _ => Selection::Nothing,
        }
    }

    /// All rows of a batch.
    pub(crate) fn read_all(&self, batch: usize, projection: &[usize]) -> Result<RecordBatch> {
        match &self.inner.source {
            Source::Segment(piece) => piece.segment.read(batch, &self.inner.schema, projection),
            Source::Memtable(piece) => {
                let chunk = &piece.chunks[batch];
                let timestamps = || -> ArrayRef {
                    if piece.committed {
                        chunk.begin_column()
                    } else {
                        Arc::new(UInt64Array::from_value(Timestamp::MAX.0, chunk.len()))
                    }
                };
                project(chunk.rows(), chunk.schema(), &self.inner.schema, projection, timestamps)
            }
        }
    }
}

impl MemtablePiece {
    fn selection(&self, chunk: &Chunk) -> Selection {
        let visible = chunk.selection(self.at);
        match &self.hidden {
            Some(hidden) => visible.and(Selection::outside(hidden, chunk.start(), chunk.len())),
            None => visible,
        }
    }
}
