//! Get, put, delete and scan of one bucket.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, RecordBatch};
use datafusion::arrow::datatypes::{TimestampMillisecondType, UInt64Type};
use pyralog_consensus::{Done, Request};
use pyralog_storage::{KeyRange, RelationView};

use super::group_commit::{self, Put};
use super::{KvEntry, KvPrecondition, KvScan};
use crate::catalog::{CollectionKind, DEFAULT_SCHEMA, ObjectName, TableDefinition};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::request;
use crate::session::{Isolation, OpenTransaction, Reader, Views};

/// Longest key, in bytes.
const MAX_KEY: usize = 64 << 10;
/// Longest value, in bytes.
const MAX_VALUE: usize = 64 << 20;
/// Most entries of one scan.
const MAX_SCAN: usize = 10_000;
/// Rows read at once by a scan.
const SCAN_BATCH: usize = 1024;
/// How often a conditional write is tried again when somebody else writes the key at the same time.
const CONFLICT_RETRIES: u32 = 32;

/// A key-value bucket. Cheap to clone.
#[derive(Clone)]
pub struct Bucket {
    engine: Arc<Engine>,
    name: ObjectName,
}

impl Bucket {
    pub(crate) async fn open(engine: Arc<Engine>, name: &str) -> Result<Bucket> {
        let bucket = Bucket {
            engine,
            name: ObjectName {
                schema: DEFAULT_SCHEMA.to_owned(),
                name: name.to_owned(),
            },
        };
        if bucket.table().is_err() {
            // Another node may just have made it.
            bucket.engine.fresh_catalog().await?;
            bucket.table()?;
        }
        Ok(bucket)
    }

    fn table(&self) -> Result<Arc<TableDefinition>> {
        let (_, table) = self.engine.catalog.snapshot()?.require_table(&self.name)?;
        match table.kind {
            CollectionKind::KeyValue => Ok(table),
            kind => Err(Error::invalid(
                "42809",
                format!("{} is a {} collection, not a bucket", self.name, kind.word()),
            )),
        }
    }

    /// The entry of a key, if it is there and has not expired.
    pub async fn get(&self, key: &[u8]) -> Result<Option<KvEntry>> {
        let table = self.table()?;
        // Where the key is if it is anywhere: nobody else is asked.
        let keys: Vec<ArrayRef> = vec![Arc::new(BinaryViewArray::from_iter_values([key]))];
        let home = self.engine.placement.of_keys(&table.relation, &keys)?[0];
        let snapshot = self.engine.node.snapshot_of(home).await?;
        let now = self.engine.node.now().millis();
        let views = Views::new(vec![snapshot.relation(table.relation.id)?])?;
        let key = key.to_vec();
        // A read may fault pages in: not on an async thread.
        blocking(move || read(&views, &key, now)).await
    }

    /// Sets a key; returns its version. `ttl_ms`: time to live in milliseconds. Errors with `PreconditionFailed`.
    pub async fn put(&self, key: &[u8], value: &[u8], ttl_ms: Option<u64>, condition: KvPrecondition) -> Result<u64> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(Error::invalid("22023", format!("a key has between 1 and {MAX_KEY} bytes")));
        }
        if value.len() > MAX_VALUE {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                "54000",
                format!("a value has at most {MAX_VALUE} bytes"),
            ));
        }
        let expires = match ttl_ms {
            None => None,
            Some(ttl) => Some(
                i64::try_from(self.engine.node.now().millis().saturating_add(ttl))
                    .map_err(|_| Error::invalid("22003", format!("a time to live of {ttl} ms is too long")))?,
            ),
        };
        self.write(key, condition, Change::Put { value, expires })
            .await
            .map(|(version, _)| version)
    }

    /// Removes a key; whether it was there. Errors with `PreconditionFailed`.
    pub async fn delete(&self, key: &[u8], condition: KvPrecondition) -> Result<bool> {
        self.write(key, condition, Change::Delete).await.map(|(_, existed)| existed)
    }

    /// What an earlier try of the write came to in whose name this is called ([`request::named`]); such a name stands for one write.
    pub async fn carried_out(&self) -> Result<Option<Done>> {
        match request::only_part() {
            Some(part) => request::carried_out(&self.engine, part.id).await,
            None => Ok(None),
        }
    }

    /// Entries in key order, and the key to start the next page from.
    pub async fn scan(&self, scan: KvScan) -> Result<(Vec<KvEntry>, Option<Vec<u8>>)> {
        self.engine.fresh_rows().await?;
        let table = self.table()?;
        let now = self.engine.node.now().millis();
        let views = Reader::newest(&self.engine).await?.relation(table.relation.id)?;
        let limit = scan.limit.clamp(1, MAX_SCAN);
        blocking(move || {
            let mut found = Vec::new();
            for view in &views {
                found.extend(read_range(view, &scan, limit + 1, now)?);
            }
            found.sort_by(|a: &KvEntry, b: &KvEntry| a.key.cmp(&b.key));
            let next = found.get(limit).map(|entry| entry.key.clone());
            found.truncate(limit);
            Ok((found, next))
        })
        .await
    }

    /// One conditional write: read, check, write, commit; again when another writer was faster.
    async fn write(&self, key: &[u8], condition: KvPrecondition, change: Change<'_>) -> Result<(u64, bool)> {
        let part = request::only_part();
        let result = self.write_alone(key, condition, change, part).await;
        request::outcome(&self.engine, part, result, |done| Ok((done.timestamp.0, done.rows > 0))).await
    }

    async fn write_alone(&self, key: &[u8], condition: KvPrecondition, change: Change<'_>, part: Option<Request>) -> Result<(u64, bool)> {
        let table = self.table()?;
        let relation = table.relation.id;
        let put = match change {
            Change::Put { value, expires } => Some(Put {
                relation,
                schema: &table.relation.schema,
                key,
                value,
                expires,
            }),
            Change::Delete => None,
        };
        let put = match put {
            // Nothing to read, nothing to conflict with.
            Some(put) if condition == KvPrecondition::Any => return Ok((group_commit::put(&self.engine, put, part).await?, false)),
            put => put,
        };
        let mut attempt = 0;
        loop {
            self.engine.fresh_rows().await?;
            let mut transaction = OpenTransaction::begin(&self.engine, Isolation::Snapshot).await?;
            let views = transaction.views(relation)?;
            let (wanted, now) = (key.to_vec(), self.engine.node.now().millis());
            let current = blocking(move || read(&views, &wanted, now)).await?;
            check(condition, current.as_ref())?;
            match &put {
                Some(put) => transaction.put(relation, put.row()?).await?,
                None => {
                    let columns: Vec<ArrayRef> = vec![Arc::new(BinaryViewArray::from_iter_values([key]))];
                    let keys = RecordBatch::try_new(table.relation.key_schema(), columns)?;
                    transaction.delete(relation, keys).await?;
                }
            }
            if condition == KvPrecondition::Any {
                transaction.last_write_wins(relation)?;
            }
            transaction.name(part, u64::from(current.is_some()));
            match transaction.commit_at(&self.engine).await {
                Err(error) if error.kind == ErrorKind::Conflict && attempt < CONFLICT_RETRIES => {
                    attempt += 1;
                    tokio::time::sleep(Duration::from_micros(100 << attempt.min(6))).await;
                }
                result => return Ok((result?, current.is_some())),
            }
        }
    }
}

/// What a write does to its key.
#[derive(Clone, Copy)]
enum Change<'a> {
    Put { value: &'a [u8], expires: Option<i64> },
    Delete,
}

fn check(condition: KvPrecondition, current: Option<&KvEntry>) -> Result<()> {
    let failed = |message: String| Err(Error::new(ErrorKind::PreconditionFailed, "P0412", message));
    match (condition, current) {
        (KvPrecondition::Any, _) | (KvPrecondition::Absent, None) | (KvPrecondition::Present, Some(_)) => Ok(()),
        (KvPrecondition::Absent, Some(entry)) => failed(format!("the key exists at version {}", entry.version)),
        (KvPrecondition::Present, None) => failed("the key does not exist".to_owned()),
        (KvPrecondition::Version(wanted), Some(entry)) if entry.version == wanted => Ok(()),
        (KvPrecondition::Version(wanted), Some(entry)) => failed(format!("the key is at version {}, not {wanted}", entry.version)),
        (KvPrecondition::Version(wanted), None) => failed(format!("the key does not exist; version {wanted} was expected")),
    }
}

/// Reads one key; an expired entry is none.
fn read(views: &Views, key: &[u8], now: u64) -> Result<Option<KvEntry>> {
    let keys: Vec<ArrayRef> = vec![Arc::new(BinaryViewArray::from_iter_values([key]))];
    let view = views.home(&keys)?;
    let Some(Some(address)) = view.lookup(&keys)?.pop() else {
        return Ok(None);
    };
    let batch = view.fetch(&[address], &projection(view))?;
    Ok(entries(&batch, now).next())
}

fn read_range(view: &RelationView, scan: &KvScan, limit: usize, now: u64) -> Result<Vec<KvEntry>> {
    let start = scan
        .start
        .as_deref()
        .map_or(scan.prefix.as_slice(), |start| start.max(scan.prefix.as_slice()));
    let encode = |key: &[u8]| -> Result<Option<Vec<u8>>> {
        let keys: Vec<ArrayRef> = vec![Arc::new(BinaryViewArray::from_iter_values([key]))];
        Ok(view.encode_keys(&keys)?.pop().map(|key| key.into_vec()))
    };
    let range = KeyRange {
        start: if start.is_empty() { None } else { encode(start)? },
        end: match &scan.end {
            Some(end) => encode(end)?,
            None => None,
        },
    };
    let mut found = Vec::new();
    for batch in view.scan_ordered(&range, &projection(view), limit.min(SCAN_BATCH))? {
        for entry in entries(&batch?, now) {
            // Keys with the prefix stand together: behind them nothing more can match.
            if !entry.key.starts_with(&scan.prefix) || found.len() == limit {
                return Ok(found);
            }
            found.push(entry);
        }
    }
    Ok(found)
}

fn projection(view: &RelationView) -> [usize; 4] {
    [0, 1, 2, view.schema().timestamp_column()]
}

fn entries(batch: &RecordBatch, now: u64) -> impl Iterator<Item = KvEntry> {
    let keys = batch.column(0).as_binary_view();
    let values = batch.column(1).as_binary_view();
    let expires = batch.column(2).as_primitive::<TimestampMillisecondType>();
    let versions = batch.column(3).as_primitive::<UInt64Type>();
    (0..batch.num_rows()).filter_map(move |row| {
        let expires_at = expires.is_valid(row).then(|| u64::try_from(expires.value(row)).unwrap_or(0));
        if expires_at.is_some_and(|at| at <= now) {
            return None;
        }
        Some(KvEntry {
            key: keys.value(row).to_vec(),
            value: values.value(row).to_vec(),
            version: versions.value(row),
            expires_at,
        })
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal(format!("a read task failed: {e}")))?
}
