//! Scanning in key order: the pieces of a view merged lazily.

use std::ops::Bound;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_row::Rows;
use arrow_schema::SchemaRef;
use roaring::RoaringBitmap;

use super::{KeyRange, RelationView, RowAddress, ScanPiece};
use crate::error::Result;
use crate::key::KeyEncoder;
use crate::memtable::{self, Memtable};
use crate::merge::{Keys, Merge, MergeBatch, MergeSource, Span, assemble};
use crate::projection::projected_schema;
use crate::segment::Segment;
use crate::selection::Selection;

impl RelationView {
    /// Visible rows in key order within a range, as batches of at most `batch_rows`, lazily.
    pub fn scan_ordered(
        &self,
        range: &KeyRange,
        projection: &[usize],
        batch_rows: usize,
    ) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>> + Send>> {
        let schema = projected_schema(self.schema(), projection)?;
        let range = Arc::new(range.clone());
        let projection: Arc<[usize]> = projection.into();
        let mut sources: Vec<Box<dyn MergeSource>> = Vec::new();
        for piece in self.pieces() {
            if let Some(segment) = piece.segment()
                && piece.visible_rows() > 0
                && SegmentSource::meets(segment, &range)
            {
                let encoder = self.encoder().clone();
                sources.push(Box::new(SegmentSource::new(
                    piece.clone(),
                    segment.clone(),
                    encoder,
                    range.clone(),
                    projection.clone(),
                )));
            }
        }
        for (piece, memtable, at, hidden) in self.loose() {
            let Some((smallest, _)) = memtable.key_range() else { continue };
            let lower = range.start.clone().map_or(smallest.clone(), |start| start.max(smallest));
            let page = Page {
                view: self.clone(),
                piece,
                memtable,
                at,
                hidden,
            };
            sources.push(Box::new(MemtableSource {
                page,
                next: Some(Bound::Included(lower.clone().into_boxed_slice())),
                lower,
                range: range.clone(),
                projection: projection.clone(),
                batch_rows: batch_rows.max(1),
            }));
        }
        Ok(Box::new(OrderedScan {
            merge: Merge::new(sources),
            schema,
            batch_rows: batch_rows.max(1),
            failed: false,
        }))
    }
}

/// Iterator of [`RelationView::scan_ordered`].
struct OrderedScan {
    merge: Merge,
    schema: SchemaRef,
    batch_rows: usize,
    failed: bool,
}

impl OrderedScan {
    fn next_rows(&mut self) -> Result<Option<RecordBatch>> {
        let mut spans: Vec<Span> = Vec::new();
        let mut rows = 0;
        while rows < self.batch_rows
            && let Some(span) = self.merge.next_span(self.batch_rows - rows)?
        {
            rows += span.range.len();
            spans.push(span);
        }
        if spans.is_empty() {
            Ok(None)
        } else {
            assemble(&spans, &self.schema).map(Some)
        }
    }
}

impl Iterator for OrderedScan {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_rows().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// The visible rows of a segment within a range.
struct SegmentSource {
    piece: ScanPiece,
    segment: Arc<Segment>,
    encoder: Arc<KeyEncoder>,
    range: Arc<KeyRange>,
    projection: Arc<[usize]>,
    lower: Vec<u8>,
    batch: usize,
}

impl SegmentSource {
    fn new(piece: ScanPiece, segment: Arc<Segment>, encoder: Arc<KeyEncoder>, range: Arc<KeyRange>, projection: Arc<[usize]>) -> Self {
        let first = segment.info().first_key.clone();
        let lower = range.start.clone().map_or(first.clone(), |start| start.max(first));
        SegmentSource {
            piece,
            segment,
            encoder,
            range,
            projection,
            lower,
            batch: 0,
        }
    }

    /// Whether the segment may hold keys of the range.
    fn meets(segment: &Segment, range: &KeyRange) -> bool {
        let info = segment.info();
        range.start.as_ref().is_none_or(|start| *start <= info.last_key) && range.end.as_ref().is_none_or(|end| info.first_key < *end)
    }

    fn read(&self, batch: usize, selection: &Selection) -> Result<MergeBatch> {
        let keys = self.segment.keys(batch, &self.encoder)?;
        let rows = self.piece.read_all(batch, &self.projection)?;
        let start = self.range.start.as_ref().map_or(0, |start| lower_bound(&keys, start));
        let end = self.range.end.as_ref().map_or(keys.num_rows(), |end| lower_bound(&keys, end));
        let whole = matches!(selection, Selection::All) && start == 0 && end == keys.num_rows();
        let picks = (!whole).then(|| {
            let within = |position: &u32| (start..end).contains(&(*position as usize));
            selection.positions(keys.num_rows()).into_iter().filter(within).collect()
        });
        Ok(MergeBatch {
            keys: Keys::Encoded(keys),
            rows,
            picks,
            start: self.segment.batch_start(batch),
            timestamps: None,
        })
    }
}

/// The first position whose key is not below `key`.
fn lower_bound(keys: &Rows, key: &[u8]) -> usize {
    let (mut low, mut high) = (0, keys.num_rows());
    while low < high {
        let middle = (low + high) / 2;
        if keys.row(middle).data() < key {
            low = middle + 1
        } else {
            high = middle
        }
    }
    low
}

impl MergeSource for SegmentSource {
    fn lower_bound(&self) -> &[u8] {
        &self.lower
    }

    fn next_batch(&mut self) -> Result<Option<MergeBatch>> {
        while self.batch < self.segment.batch_count() {
            let batch = self.batch;
            self.batch += 1;
            if self
                .range
                .start
                .as_ref()
                .is_some_and(|start| self.segment.last_key(batch) < start.as_slice())
            {
                continue;
            }
            if self
                .range
                .end
                .as_ref()
                .is_some_and(|end| self.segment.first_key(batch) >= end.as_slice())
            {
                self.batch = self.segment.batch_count();
                break;
            }
            match self.piece.selection(batch) {
                Selection::Nothing => {}
                selection => return self.read(batch, &selection).map(Some),
            }
        }
        Ok(None)
    }
}

/// Where pages of memtable keys come from.
struct Page {
    view: RelationView,
    piece: u32,
    memtable: Arc<Memtable>,
    at: u64,
    hidden: Option<Arc<RoaringBitmap>>,
}

/// The visible rows of a memtable within a range.
struct MemtableSource {
    page: Page,
    next: Option<Bound<Box<[u8]>>>,
    lower: Vec<u8>,
    range: Arc<KeyRange>,
    projection: Arc<[usize]>,
    batch_rows: usize,
}

impl MergeSource for MemtableSource {
    fn lower_bound(&self) -> &[u8] {
        &self.lower
    }

    fn next_batch(&mut self) -> Result<Option<MergeBatch>> {
        while let Some(from) = self.next.take() {
            let from = from.as_ref().map(|key| key.as_ref());
            let memtable::Page { rows: mut found, last } =
                self.page
                    .memtable
                    .page(from, self.range.end.as_deref(), self.page.at, self.batch_rows);
            self.next = last.map(Bound::Excluded);
            if let Some(hidden) = &self.page.hidden {
                found.retain(|(_, row)| !hidden.contains(*row));
            }
            if !found.is_empty() {
                let piece = self.page.piece;
                let addresses: Vec<_> = found.iter().map(|(_, row)| RowAddress { piece, row: *row }).collect();
                let rows = self.page.view.fetch(&addresses, &self.projection)?;
                let keys = Keys::Listed(found.into_iter().map(|(key, _)| key).collect());
                return Ok(Some(MergeBatch {
                    keys,
                    rows,
                    picks: None,
                    start: 0,
                    timestamps: None,
                }));
            }
        }
        Ok(None)
    }
}
