//! Merging sorted sources by key, batch by batch: for ordered scans and for compaction.
//!
//! A k-way merge that emits spans, not rows: while one source owns a window of keys, its rows pass as a slice. Sources are opened only when
//! the merge reaches their first key, so memory holds one batch of each source that overlaps the current key.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_row::Rows;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;

use crate::error::Result;
use crate::segment::Timestamps;
use crate::snapshot::gather;

/// Keys of a batch.
pub(crate) enum Keys {
    /// As the encoder gave them.
    Encoded(Rows),
    /// One by one.
    Listed(Vec<Box<[u8]>>),
}

impl Keys {
    fn get(&self, i: usize) -> &[u8] {
        match self {
            Keys::Encoded(rows) => rows.row(i).data(),
            Keys::Listed(keys) => &keys[i],
        }
    }
}

/// Rows of a source, by key ascending, then commit timestamp descending.
pub(crate) struct MergeBatch {
    /// One a row of `rows`.
    pub keys: Keys,
    /// The rows.
    pub rows: RecordBatch,
    /// Positions in `rows` that take part, ascending; `None`: all.
    pub picks: Option<Vec<u32>>,
    /// Number of the first row of `rows` within its source.
    pub start: u32,
    /// Commit timestamps of `rows`, where versions of a key are to be ordered.
    pub timestamps: Option<Timestamps>,
}

impl MergeBatch {
    /// Rows that take part.
    pub fn len(&self) -> usize {
        self.picks.as_ref().map_or(self.rows.num_rows(), Vec::len)
    }

    /// The position in `rows` of the `i`th row that takes part.
    pub fn position(&self, i: usize) -> usize {
        self.picks.as_ref().map_or(i, |picks| picks[i] as usize)
    }

    /// The key of the `i`th row that takes part.
    pub fn key(&self, i: usize) -> &[u8] {
        self.keys.get(self.position(i))
    }

    /// The commit timestamp of the `i`th row that takes part; zero without timestamps.
    pub fn timestamp(&self, i: usize) -> u64 {
        self.timestamps.as_ref().map_or(0, |timestamps| timestamps.at(self.position(i)).0)
    }

    fn compare(&self, i: usize, other: &MergeBatch, j: usize) -> Ordering {
        self.key(i)
            .cmp(other.key(j))
            .then_with(|| other.timestamp(j).cmp(&self.timestamp(i)))
    }

    fn slice(&self, range: &Range<usize>) -> Result<RecordBatch> {
        match &self.picks {
            Some(picks) if (picks[range.end - 1] - picks[range.start]) as usize != range.len() - 1 => {
                Ok(take_record_batch(&self.rows, &UInt32Array::from(picks[range.clone()].to_vec()))?)
            }
            _ => Ok(self.rows.slice(self.position(range.start), range.len())),
        }
    }
}

/// A sorted source of rows.
pub(crate) trait MergeSource: Send {
    /// No row has a smaller key.
    fn lower_bound(&self) -> &[u8];
    /// The next rows; `None` at the end.
    fn next_batch(&mut self) -> Result<Option<MergeBatch>>;
}

/// Consecutive rows of the merged order that come from one batch.
#[derive(Clone)]
pub(crate) struct Span {
    /// Which source, by its position when the merge was made.
    pub source: usize,
    /// The batch.
    pub batch: Arc<MergeBatch>,
    /// Rows of the batch that take part.
    pub range: Range<usize>,
}

struct Active {
    number: usize,
    source: Box<dyn MergeSource>,
    batch: Arc<MergeBatch>,
    position: usize,
}

/// See the module's documentation.
pub(crate) struct Merge {
    /// Sources that are not open, by descending lower bound.
    pending: Vec<(usize, Box<dyn MergeSource>)>,
    active: Vec<Active>,
}

impl Merge {
    /// Merges `sources`.
    pub fn new(sources: Vec<Box<dyn MergeSource>>) -> Self {
        let mut pending: Vec<_> = sources.into_iter().enumerate().collect();
        pending.sort_by(|(_, a), (_, b)| b.lower_bound().cmp(a.lower_bound()));
        Merge {
            pending,
            active: Vec::new(),
        }
    }

    /// The next span of at most `limit` rows (at least one).
    pub fn next_span(&mut self, limit: usize) -> Result<Option<Span>> {
        self.open_due()?;
        let Some(first) = self.smallest(None) else { return Ok(None) };
        let second = self.smallest(Some(first));
        let Active {
            number, batch, position, ..
        } = &self.active[first];
        let window = (*position, batch.len().min(position.saturating_add(limit.max(1))));
        let end = partition(window, |i| {
            let before_second = second.is_none_or(|second| {
                let other = &self.active[second];
                batch.compare(i, &other.batch, other.position).is_lt()
            });
            before_second && self.pending.last().is_none_or(|(_, source)| batch.key(i) < source.lower_bound())
        });
        let range = *position..end.max(position + 1);
        let span = Span {
            source: *number,
            batch: batch.clone(),
            range,
        };
        self.advance(first, span.range.end)?;
        Ok(Some(span))
    }

    /// Opens every source that may hold the smallest key.
    fn open_due(&mut self) -> Result<()> {
        while let Some((_, source)) = self.pending.last() {
            if let Some(smallest) = self.smallest(None) {
                let active = &self.active[smallest];
                if active.batch.key(active.position) < source.lower_bound() {
                    break;
                }
            }
            let Some((number, mut source)) = self.pending.pop() else { break };
            if let Some(batch) = next_filled(&mut *source)? {
                self.active.push(Active {
                    number,
                    source,
                    batch,
                    position: 0,
                });
            }
        }
        Ok(())
    }

    fn smallest(&self, except: Option<usize>) -> Option<usize> {
        (0..self.active.len()).filter(|i| Some(*i) != except).min_by(|&i, &j| {
            let (a, b) = (&self.active[i], &self.active[j]);
            a.batch.compare(a.position, &b.batch, b.position)
        })
    }

    fn advance(&mut self, i: usize, to: usize) -> Result<()> {
        let active = &mut self.active[i];
        active.position = to;
        if to >= active.batch.len() {
            match next_filled(&mut *active.source)? {
                Some(batch) => (active.batch, active.position) = (batch, 0),
                None => {
                    self.active.swap_remove(i);
                }
            }
        }
        Ok(())
    }
}

fn next_filled(source: &mut dyn MergeSource) -> Result<Option<Arc<MergeBatch>>> {
    while let Some(batch) = source.next_batch()? {
        if batch.len() > 0 {
            return Ok(Some(Arc::new(batch)));
        }
    }
    Ok(None)
}

/// The first position of the window for which `holds` does not hold. Looks at the last one first: most windows pass whole.
fn partition((mut low, mut high): (usize, usize), holds: impl Fn(usize) -> bool) -> usize {
    if low < high && holds(high - 1) {
        return high;
    }
    while low < high {
        let middle = (low + high) / 2;
        if holds(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// The rows of spans as one batch; a slice where they lie together.
pub(crate) fn assemble(spans: &[Span], schema: &SchemaRef) -> Result<RecordBatch> {
    /// Spans at least this long on average are copied as slices.
    const LONG_SPAN: usize = 32;
    match spans {
        [] => return Ok(RecordBatch::new_empty(schema.clone())),
        [span] => return span.batch.slice(&span.range),
        _ => {}
    }
    let rows: usize = spans.iter().map(|span| span.range.len()).sum();
    if rows / spans.len() >= LONG_SPAN && !schema.fields().is_empty() {
        let slices: Vec<_> = spans.iter().map(|span| span.batch.slice(&span.range)).collect::<Result<_>>()?;
        return Ok(concat_batches(schema, &slices)?);
    }
    let mut sources: Vec<RecordBatch> = Vec::new();
    let mut known: HashMap<*const MergeBatch, usize> = HashMap::new();
    let mut places = Vec::with_capacity(rows);
    for span in spans {
        let source = *known.entry(Arc::as_ptr(&span.batch)).or_insert_with(|| {
            sources.push(span.batch.rows.clone());
            sources.len() - 1
        });
        places.extend(span.range.clone().map(|i| (source, span.batch.position(i))));
    }
    gather(&sources, &places, || Ok(schema.clone()))
}
