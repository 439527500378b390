//! One relation at one snapshot: pieces to scan, and keys to look up.

use std::sync::{Arc, OnceLock};

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_select::interleave::interleave_record_batch;
use arrow_select::take::take_record_batch;
use roaring::RoaringBitmap;

use super::{OwnWrites, ScanPiece};
use crate::error::{Result, StorageError};
use crate::key::{KeyEncoder, key_hash};
use crate::memtable::Memtable;
use crate::partition::{LiveSegment, Pin, RelationVersion};
use crate::projection::projected_schema;
use crate::schema::RelationSchema;

/// Where a row lies within a view (only valid for that view and its clones).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowAddress {
    /// Which piece of [`RelationView::pieces`].
    pub piece: u32,
    /// Which row of the piece, counted before masking.
    pub row: u32,
}

/// A range of keys, as arrow-row encoded bytes from [`RelationView::encode_keys`].
#[derive(Debug, Clone, Default)]
pub struct KeyRange {
    /// Inclusive lower end.
    pub start: Option<Vec<u8>>,
    /// Exclusive upper end.
    pub end: Option<Vec<u8>>,
}

pub(super) struct Inner {
    pub relation: Arc<RelationVersion>,
    pub at: u64,
    pub pin: Arc<Pin>,
    /// Per segment whose rows are not all born yet: rows that are not visible.
    unborn: Vec<(usize, Arc<RoaringBitmap>)>,
    /// Memtables with rows, oldest first; their pieces follow those of the segments.
    pub memtables: Vec<Arc<Memtable>>,
    /// A transaction's writes; their pieces follow those of the memtables.
    pub own: Option<OwnWrites>,
    pieces: OnceLock<Vec<ScanPiece>>,
}

/// One relation at one snapshot, perhaps with a transaction's own writes over it. Cheap to clone, `Send + Sync`.
///
/// Pieces come in this order: segments by first key, memtables from old to new, a transaction's staged segments, its memtable.
#[derive(Clone)]
pub struct RelationView {
    pub(super) inner: Arc<Inner>,
}

impl RelationView {
    /// A relation at a pinned timestamp.
    pub(crate) fn new(relation: Arc<RelationVersion>, pin: Arc<Pin>) -> Result<Self> {
        let at = pin.timestamp().0;
        let mut unborn = Vec::new();
        for (i, live) in relation.segments.all().iter().enumerate() {
            if live.segment().max_timestamp().0 > at {
                unborn.push((i, live.mask_at(at)?));
            }
        }
        let memtables: Vec<_> = relation
            .sealed
            .iter()
            .chain([&relation.active])
            .filter(|memtable| !memtable.is_empty())
            .cloned()
            .collect();
        Ok(RelationView {
            inner: Arc::new(Inner {
                relation,
                at,
                pin,
                unborn,
                memtables,
                own: None,
                pieces: OnceLock::new(),
            }),
        })
    }

    /// This view with a transaction's writes over it.
    pub(crate) fn with_own(&self, own: OwnWrites) -> RelationView {
        let Inner {
            relation,
            at,
            pin,
            unborn,
            memtables,
            ..
        } = &*self.inner;
        RelationView {
            inner: Arc::new(Inner {
                relation: relation.clone(),
                at: *at,
                pin: pin.clone(),
                unborn: unborn.clone(),
                memtables: memtables.clone(),
                own: Some(own),
                pieces: OnceLock::new(),
            }),
        }
    }

    /// The relation's schema.
    pub fn schema(&self) -> &Arc<RelationSchema> {
        &self.inner.relation.schema
    }

    pub(crate) fn encoder(&self) -> &Arc<KeyEncoder> {
        &self.inner.relation.encoder
    }

    pub(super) fn segments(&self) -> &[Arc<LiveSegment>] {
        self.inner.relation.segments.all()
    }

    /// The exact number of visible rows.
    pub fn row_count(&self) -> u64 {
        self.pieces().iter().map(ScanPiece::visible_rows).sum()
    }

    /// Bytes of the visible data, estimated.
    pub fn byte_size(&self) -> u64 {
        let share = |piece: &ScanPiece| match piece.segment().map(|segment| segment.info()) {
            Some(info) => (info.bytes as f64 * piece.visible_rows() as f64 / info.rows.max(1) as f64) as u64,
            None => 0,
        };
        let memtables = self.inner.memtables.iter().chain(self.inner.own.as_ref().map(|own| &own.memtable));
        self.pieces().iter().map(share).sum::<u64>() + memtables.map(|memtable| memtable.bytes()).sum::<u64>()
    }

    /// The pieces that together hold every visible row exactly once.
    pub fn pieces(&self) -> &[ScanPiece] {
        self.inner.pieces.get_or_init(|| self.build_pieces())
    }

    /// The memtables: each with the position of its piece, the stamp it is read at, and the rows of it that the view's transaction hides.
    pub(super) fn loose(&self) -> impl Iterator<Item = (u32, Arc<Memtable>, u64, Option<Arc<RoaringBitmap>>)> {
        let first = self.segments().len();
        let own = self.inner.own.as_ref();
        let memtables = self.inner.memtables.iter().enumerate();
        let base = memtables.map(move |(i, memtable)| {
            let piece = (first + i) as u32;
            let hidden = own.and_then(|own| own.hidden.get(&piece).cloned());
            (piece, Arc::clone(memtable), self.inner.at, hidden)
        });
        let last = first + self.inner.memtables.len();
        base.chain(own.map(move |own| ((last + own.staged.len()) as u32, Arc::clone(&own.memtable), own.at, None)))
    }

    fn build_pieces(&self) -> Vec<ScanPiece> {
        let Inner {
            at,
            pin,
            unborn,
            memtables,
            own,
            ..
        } = &*self.inner;
        let schema = self.schema();
        let hidden = |piece: usize| own.as_ref().and_then(|own| own.hidden.get(&(piece as u32)));
        let mut pieces = Vec::with_capacity(self.segments().len() + memtables.len());
        for (i, live) in self.segments().iter().enumerate() {
            // Where rows are not born yet the mask was made when the view was; else it is the deleted rows.
            let known = unborn.iter().find(|(position, _)| *position == i).map(|(_, mask)| mask.clone());
            let mut mask = known.unwrap_or_else(|| live.deletes().mask_at(*at));
            if let Some(own) = hidden(i) {
                mask = if mask.is_empty() { own.clone() } else { Arc::new(&*mask | &**own) };
            }
            pieces.push(ScanPiece::of_segment(
                schema.clone(),
                live.segment().clone(),
                mask,
                Some(live.clone()),
                Some(pin.clone()),
            ));
        }
        for memtable in memtables {
            let hidden = hidden(pieces.len()).cloned();
            pieces.push(ScanPiece::of_memtable(
                schema.clone(),
                memtable,
                *at,
                hidden,
                true,
                Some(pin.clone()),
            ));
        }
        if let Some(own) = own {
            for staged in &own.staged {
                pieces.push(ScanPiece::of_segment(
                    schema.clone(),
                    staged.segment.clone(),
                    staged.mask.clone(),
                    None,
                    Some(pin.clone()),
                ));
            }
            if !own.memtable.is_empty() {
                pieces.push(ScanPiece::of_memtable(
                    schema.clone(),
                    &own.memtable,
                    own.at,
                    None,
                    false,
                    Some(pin.clone()),
                ));
            }
        }
        pieces
    }

    /// Key columns (one array a key column, in key order) as arrow-row bytes, one a row. Byte order is key order.
    pub fn encode_keys(&self, columns: &[ArrayRef]) -> Result<Vec<Box<[u8]>>> {
        Ok(self.encode(columns)?.iter().map(|key| key.data().into()).collect())
    }

    fn encode(&self, columns: &[ArrayRef]) -> Result<arrow_row::Rows> {
        let schema = self.schema();
        let mismatch = |detail: String| StorageError::SchemaMismatch {
            relation: schema.id,
            detail,
        };
        if columns.len() != schema.key.len() {
            return Err(mismatch(format!("{} key columns instead of {}", columns.len(), schema.key.len())));
        }
        for (column, &position) in columns.iter().zip(&schema.key) {
            let field = schema.schema.field(position);
            if column.data_type() != field.data_type() {
                return Err(mismatch(format!(
                    "key column {} is {} instead of {}",
                    field.name(),
                    column.data_type(),
                    field.data_type()
                )));
            }
        }
        self.encoder().encode(columns)
    }

    /// The addresses of visible rows with these keys (arrays as in [`Self::encode_keys`]), one answer a key.
    pub fn lookup(&self, columns: &[ArrayRef]) -> Result<Vec<Option<RowAddress>>> {
        self.encode(columns)?.iter().map(|key| self.find(key.data())).collect()
    }

    /// The visible row of one encoded key.
    pub(crate) fn find(&self, key: &[u8]) -> Result<Option<RowAddress>> {
        let base = self.segments().len() + self.inner.memtables.len();
        if let Some(own) = &self.inner.own {
            if let Some(row) = own.memtable.find(key, own.at) {
                return Ok(Some(RowAddress {
                    piece: (base + own.staged.len()) as u32,
                    row,
                }));
            }
            for (i, staged) in own.staged.iter().enumerate() {
                for row in find_within(&staged.segment, key, self.encoder())? {
                    if !staged.mask.contains(row) {
                        return Ok(Some(RowAddress {
                            piece: (base + i) as u32,
                            row,
                        }));
                    }
                }
            }
        }
        let hidden = |address: &RowAddress| {
            self.inner
                .own
                .as_ref()
                .and_then(|own| own.hidden.get(&address.piece))
                .is_some_and(|rows| rows.contains(address.row))
        };
        Ok(self.find_base(key)?.filter(|address| !hidden(address)))
    }

    /// The row of the snapshot below a transaction's writes.
    fn find_base(&self, key: &[u8]) -> Result<Option<RowAddress>> {
        let at = self.inner.at;
        let first = self.segments().len();
        for (i, memtable) in self.inner.memtables.iter().enumerate().rev() {
            if let Some(row) = memtable.find(key, at) {
                return Ok(Some(RowAddress {
                    piece: (first + i) as u32,
                    row,
                }));
            }
        }
        let hash = key_hash(key);
        for (i, live) in self.inner.relation.segments.overlapping(key, key) {
            if let Some(row) = live.find_visible(key, hash, self.encoder(), at)? {
                return Ok(Some(RowAddress { piece: i as u32, row }));
            }
        }
        Ok(None)
    }

    /// Whether `key` is above every key of the snapshot (not counting a transaction's writes).
    pub(crate) fn base_is_below(&self, key: &[u8]) -> bool {
        self.inner.relation.segments.last_key().is_none_or(|last| last < key)
            && self.inner.memtables.iter().all(|memtable| memtable.is_below(key))
    }

    /// Whether no segment or memtable of the snapshot has keys within `first..=last`, as far as their ranges tell.
    pub(crate) fn base_avoids(&self, first: &[u8], last: &[u8]) -> bool {
        self.inner.relation.segments.overlapping(first, last).next().is_none()
            && self.inner.memtables.iter().all(|memtable| {
                memtable
                    .key_range()
                    .is_none_or(|(low, high)| high.as_slice() < first || low.as_slice() > last)
            })
    }

    /// Whether nothing has keys within `first..=last`, as far as ranges of keys tell; a transaction's writes count.
    pub(crate) fn avoids(&self, first: &[u8], last: &[u8]) -> bool {
        let avoided_by = |memtable: &Memtable| {
            let range = memtable.key_range();
            range.is_none_or(|(low, high)| high.as_slice() < first || low.as_slice() > last)
        };
        self.base_avoids(first, last)
            && self.inner.own.as_ref().is_none_or(|own| {
                let infos = own.staged.iter().map(|staged| staged.segment.info());
                avoided_by(&own.memtable)
                    && infos
                        .into_iter()
                        .all(|info| info.last_key.as_slice() < first || info.first_key.as_slice() > last)
            })
    }

    /// Shows rows by address where they lie: the number of the address, the batch that has the row, and its position there. `projection` as in
    /// [`ScanPiece::read`].
    pub fn visit(&self, addresses: &[RowAddress], projection: &[usize], mut see: impl FnMut(usize, &RecordBatch, usize)) -> Result<()> {
        let mut order: Vec<usize> = (0..addresses.len()).collect();
        order.sort_unstable_by_key(|i| addresses[*i]);
        let mut current: Option<(u32, usize, RecordBatch)> = None;
        for i in order {
            let (piece, batch, position) = self.place(addresses[i])?;
            let rows = match current.take() {
                Some((last_piece, last_batch, rows)) if (last_piece, last_batch) == (addresses[i].piece, batch) => rows,
                _ => piece.read_all(batch, projection)?,
            };
            see(i, &rows, position);
            current = Some((addresses[i].piece, batch, rows));
        }
        Ok(())
    }

    /// The piece and batch of a row, and its position there.
    fn place(&self, address: RowAddress) -> Result<(&ScanPiece, usize, usize)> {
        let missing = || StorageError::SchemaMismatch {
            relation: self.schema().id,
            detail: format!("no row {} in piece {} of this view", address.row, address.piece),
        };
        let piece = self.pieces().get(address.piece as usize).ok_or_else(missing)?;
        let (batch, position) = piece.locate(address.row).ok_or_else(missing)?;
        Ok((piece, batch, position))
    }

    /// Reads rows by address, in the order asked for. `projection` as in [`ScanPiece::read`].
    pub fn fetch(&self, addresses: &[RowAddress], projection: &[usize]) -> Result<RecordBatch> {
        let mut sources: Vec<RecordBatch> = Vec::new();
        let mut known: std::collections::HashMap<(u32, usize), usize> = std::collections::HashMap::new();
        let mut places = Vec::with_capacity(addresses.len());
        for address in addresses {
            let (piece, batch, position) = self.place(*address)?;
            let source = match known.entry((address.piece, batch)) {
                std::collections::hash_map::Entry::Occupied(entry) => *entry.get(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    sources.push(piece.read_all(batch, projection)?);
                    *entry.insert(sources.len() - 1)
                }
            };
            places.push((source, position));
        }
        gather(&sources, &places, || projected_schema(self.schema(), projection))
    }
}

/// Rows of a segment with a key, newest first; checks the segment's range first.
fn find_within(segment: &crate::segment::Segment, key: &[u8], encoder: &KeyEncoder) -> Result<std::ops::Range<u32>> {
    let info = segment.info();
    if key < info.first_key.as_slice() || key > info.last_key.as_slice() {
        return Ok(0..0);
    }
    segment.find(key, key_hash(key), encoder)
}

/// The rows at `places` (batch, position) as one batch.
pub(crate) fn gather(
    sources: &[RecordBatch],
    places: &[(usize, usize)],
    schema: impl FnOnce() -> Result<arrow_schema::SchemaRef>,
) -> Result<RecordBatch> {
    let Some(first) = sources.first() else {
        return Ok(RecordBatch::new_empty(schema()?));
    };
    if first.num_columns() == 0 {
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        return Ok(RecordBatch::try_new_with_options(first.schema(), Vec::new(), &options)?);
    }
    if sources.len() == 1 {
        let indices = arrow_array::UInt32Array::from_iter_values(places.iter().map(|(_, position)| *position as u32));
        return Ok(take_record_batch(first, &indices)?);
    }
    let references: Vec<&RecordBatch> = sources.iter().collect();
    Ok(interleave_record_batch(&references, places)?)
}
