//! Key-value buckets: bytes under ordered keys, with time to live, versions and compare-and-set.
//!
//! A bucket is the table `(key, value, expires_at, version)`, so each verb here is one SQL statement with bound values, and runs
//! inside a transaction like any other.

use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, UInt64Type};
use arrow::record_batch::RecordBatch;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::error::{ClientError, Result};
use crate::scope::Scope;
use crate::statement::Statement;
use crate::text::quoted_name;
use crate::value::Value;

/// The version of an entry: it grows with every write of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KvVersion(pub u64);

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEntry {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// For compare-and-set: see [`Put::if_version`].
    pub version: KvVersion,
    /// When it goes, in milliseconds since the Unix epoch; `None`: never.
    pub expires_at_ms: Option<i64>,
}

/// A bucket.
///
/// ```no_run
/// # async fn f(db: pyralog_client::Client) -> pyralog_client::Result<()> {
/// let cache = db.kv("cache");
/// cache.put("user:1", b"Ann").ttl(60).await?;
/// if let Some(entry) = cache.get("user:1").await? {
///     let won = cache.put("user:1", b"Bea").if_version(entry.version).await?;
///     println!("{}", if won { "changed" } else { "somebody was faster" });
/// }
/// let page = cache.scan().prefix("user:").limit(100).await?;
/// cache.delete("user:1").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Bucket {
    scope: Scope,
    table: String,
}

impl Bucket {
    pub(crate) fn new(scope: Scope, name: &str) -> Self {
        Bucket {
            scope,
            table: quoted_name(name),
        }
    }

    fn statement(&self, sql: String) -> Statement {
        Statement::new(self.scope.clone(), sql)
    }

    /// The entry of a key, if it is there and has not expired.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<KvEntry>> {
        let sql = format!("SELECT key, value, version, expires_at FROM {} WHERE key = $1", self.table);
        let rows = self.statement(sql).bind(key.as_ref()).fetch().await?;
        entries(rows).boxed().try_next().await
    }

    /// Sets a key; `.await` the result: whether it was set (always, unless a condition was added).
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Put {
        Put {
            bucket: self.clone(),
            key: key.as_ref().to_vec(),
            value: value.as_ref().to_vec(),
            ttl: None,
            condition: Condition::Any,
        }
    }

    /// Removes a key; whether it was there.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let sql = format!("DELETE FROM {} WHERE key = $1", self.table);
        Ok(self.statement(sql).bind(key.as_ref()).execute().await? > 0)
    }

    /// Removes a key if it has this version still; whether it did.
    pub async fn delete_if_version(&self, key: impl AsRef<[u8]>, version: KvVersion) -> Result<bool> {
        let sql = format!("DELETE FROM {} WHERE key = $1 AND version = $2", self.table);
        Ok(self.statement(sql).bind(key.as_ref()).bind(version.0).execute().await? > 0)
    }

    /// Entries in the order of their keys' bytes: `.await` them, or [`stream`](Scan::stream) them.
    pub fn scan(&self) -> Scan {
        Scan {
            bucket: self.clone(),
            start: None,
            end: None,
            limit: None,
        }
    }
}

/// What must hold for a put.
#[derive(Debug, Clone, Copy)]
enum Condition {
    Any,
    Absent,
    Version(KvVersion),
}

/// A put on its way; `.await` it.
#[derive(Debug)]
#[must_use = "a put happens only when it is awaited"]
pub struct Put {
    bucket: Bucket,
    key: Vec<u8>,
    value: Vec<u8>,
    ttl: Option<Duration>,
    condition: Condition,
}

impl Put {
    /// The entry goes after this many seconds, by the server's clock.
    pub fn ttl(self, seconds: u64) -> Self {
        self.ttl_duration(Duration::from_secs(seconds))
    }

    /// The entry goes after this time (counted in milliseconds), by the server's clock.
    pub fn ttl_duration(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Only if the key is not there.
    pub fn if_absent(mut self) -> Self {
        self.condition = Condition::Absent;
        self
    }

    /// Only if the key has this version still (compare-and-set).
    pub fn if_version(mut self, version: KvVersion) -> Self {
        self.condition = Condition::Version(version);
        self
    }

    /// The statement's text: `$1` is the key, `$2` the value, `$3` the version.
    fn sql(&self) -> String {
        let table = &self.bucket.table;
        // The time to live is a number of ours, so it can stand in the text; the server's clock then counts, not this machine's.
        let expires_at = match self.ttl {
            Some(ttl) => format!("now() + INTERVAL '{} milliseconds'", ttl.as_millis()),
            None => "NULL".to_owned(),
        };
        let insert = format!("INSERT INTO {table} (key, value, expires_at) VALUES ($1, $2, {expires_at}) ON CONFLICT (key)");
        match self.condition {
            Condition::Any => format!("{insert} DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at"),
            Condition::Absent => format!("{insert} DO NOTHING"),
            Condition::Version(_) => format!("UPDATE {table} SET value = $2, expires_at = {expires_at} WHERE key = $1 AND version = $3"),
        }
    }

    async fn run(self) -> Result<bool> {
        if self
            .ttl
            .is_some_and(|ttl| ttl.as_millis() == 0 || ttl.as_millis() > i32::MAX as u128 * 1000)
        {
            return Err(ClientError::usage("the time to live must be from 1 millisecond to 68 years"));
        }
        let sql = self.sql();
        let statement = self.bucket.statement(sql).bind(self.key).bind(self.value);
        let statement = match self.condition {
            Condition::Version(version) => statement.bind(version.0),
            Condition::Any | Condition::Absent => statement,
        };
        Ok(statement.execute().await? > 0)
    }
}

impl IntoFuture for Put {
    type Output = Result<bool>;
    type IntoFuture = BoxFuture<'static, Result<bool>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// A page of a scan.
#[derive(Debug, Clone, Default)]
pub struct KvPage {
    /// The entries, in the order of their keys.
    pub entries: Vec<KvEntry>,
    /// Where the next page [starts](Scan::start); `None` at the end.
    pub next: Option<Vec<u8>>,
}

/// A scan on its way; `.await` a page of it or [`stream`](Scan::stream) it.
#[derive(Debug)]
#[must_use = "a scan happens only when it is awaited or streamed"]
pub struct Scan {
    bucket: Bucket,
    start: Option<Vec<u8>>,
    end: Option<Vec<u8>>,
    limit: Option<usize>,
}

impl Scan {
    /// Only keys that begin with this. Narrows what [`start`](Scan::start) and [`end`](Scan::end) gave.
    pub fn prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        let prefix = prefix.as_ref();
        if self.start.as_deref().is_none_or(|start| start < prefix) {
            self.start = Some(prefix.to_vec());
        }
        if let Some(after) = after_prefix(prefix)
            && self.end.as_ref().is_none_or(|end| after < *end)
        {
            self.end = Some(after);
        }
        self
    }

    /// Only keys at or behind this. Narrows what [`prefix`](Scan::prefix) gave.
    pub fn start(mut self, key: impl AsRef<[u8]>) -> Self {
        let key = key.as_ref();
        if self.start.as_deref().is_none_or(|start| start < key) {
            self.start = Some(key.to_vec());
        }
        self
    }

    /// Only keys before this. Narrows what [`prefix`](Scan::prefix) gave.
    pub fn end(mut self, key: impl AsRef<[u8]>) -> Self {
        let key = key.as_ref();
        if self.end.as_deref().is_none_or(|end| key < end) {
            self.end = Some(key.to_vec());
        }
        self
    }

    /// At most so many entries a page. Default for a page: 1000; a stream has no limit.
    pub fn limit(mut self, entries: usize) -> Self {
        self.limit = Some(entries);
        self
    }

    fn statement(&self, limit: Option<usize>) -> Statement {
        let bounds = [(">=", &self.start), ("<", &self.end)];
        let bounds: Vec<_> = bounds
            .into_iter()
            .filter_map(|(sign, key)| key.clone().map(|key| (sign, key)))
            .collect();
        let mut sql = format!("SELECT key, value, version, expires_at FROM {}", self.bucket.table);
        for (i, (sign, _)) in bounds.iter().enumerate() {
            sql += &format!(" {} key {sign} ${}", if i == 0 { "WHERE" } else { "AND" }, i + 1);
        }
        sql += " ORDER BY key";
        if let Some(limit) = limit {
            sql += &format!(" LIMIT {limit}");
        }
        bounds
            .into_iter()
            .fold(self.bucket.statement(sql), |statement, (_, key)| statement.bind(Value::Binary(key)))
    }

    /// The entries as they come, with back-pressure; dropping the stream ends the scan.
    pub async fn stream(self) -> Result<impl Stream<Item = Result<KvEntry>> + Send> {
        Ok(entries(self.statement(self.limit).fetch().await?))
    }

    async fn page(self) -> Result<KvPage> {
        let limit = self.limit.unwrap_or(1000);
        // One more than asked for tells whether there is a next page, and where it starts.
        let rows = self.statement(Some(limit.saturating_add(1))).fetch().await?;
        let mut entries: Vec<KvEntry> = entries(rows).try_collect().await?;
        let next = if entries.len() > limit {
            entries.pop().map(|entry| entry.key)
        } else {
            None
        };
        Ok(KvPage { entries, next })
    }
}

impl IntoFuture for Scan {
    type Output = Result<KvPage>;
    type IntoFuture = BoxFuture<'static, Result<KvPage>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.page())
    }
}

/// The first key behind all keys with a prefix; `None` where there is none (empty, or `ff ff …`).
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

/// The entries of batches with the columns key, value, version, expires_at.
fn entries(batches: impl Stream<Item = Result<RecordBatch>> + Send) -> impl Stream<Item = Result<KvEntry>> + Send {
    batches
        .and_then(async |batch| Ok(stream::iter(decode(&batch)?.into_iter().map(Ok))))
        .try_flatten()
}

fn decode(batch: &RecordBatch) -> Result<Vec<KvEntry>> {
    let column = |index: usize, target: DataType| -> Result<ArrayRef> {
        let column = batch
            .columns()
            .get(index)
            .ok_or_else(|| ClientError::protocol("the bucket's rows lack columns"))?;
        cast(column, &target).map_err(|error| ClientError::protocol(format!("the bucket's rows: {error}")).with_source(error))
    };
    let (keys, values) = (column(0, DataType::Binary)?, column(1, DataType::Binary)?);
    let versions = column(2, DataType::UInt64)?;
    // Whatever clock unit the server stores, milliseconds go out.
    let expires = match batch.columns().get(3).map(|column| column.data_type().clone()) {
        Some(DataType::Timestamp(_, zone)) => {
            let in_ms = column(3, DataType::Timestamp(TimeUnit::Millisecond, zone))?;
            cast(&in_ms, &DataType::Int64).map_err(|error| ClientError::protocol(error.to_string()).with_source(error))?
        }
        _ => column(3, DataType::Int64)?,
    };
    let (keys, values) = (keys.as_binary::<i32>(), values.as_binary::<i32>());
    let (versions, expires) = (versions.as_primitive::<UInt64Type>(), expires.as_primitive::<Int64Type>());
    Ok((0..batch.num_rows())
        .map(|i| KvEntry {
            key: keys.value(i).to_vec(),
            value: values.value(i).to_vec(),
            version: KvVersion(versions.value(i)),
            expires_at_ms: expires.is_valid(i).then(|| expires.value(i)),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::array::{BinaryArray, Int64Array, TimestampNanosecondArray};

    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(after_prefix(b"user:"), Some(b"user;".to_vec()));
        assert_eq!(after_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff"), None);
        assert_eq!(after_prefix(b""), None);
    }

    #[test]
    fn entries_are_decoded_from_any_clock_unit() {
        let batch = RecordBatch::try_from_iter(vec![
            ("key", Arc::new(BinaryArray::from(vec![b"a".as_slice(), b"b"])) as ArrayRef),
            ("value", Arc::new(BinaryArray::from(vec![b"1".as_slice(), b""])) as ArrayRef),
            ("version", Arc::new(Int64Array::from(vec![7, 8])) as ArrayRef),
            (
                "expires_at",
                Arc::new(TimestampNanosecondArray::from(vec![Some(5_000_000), None]).with_timezone("UTC")) as ArrayRef,
            ),
        ])
        .unwrap();
        let entries = decode(&batch).unwrap();
        assert_eq!(entries[0].expires_at_ms, Some(5));
        assert_eq!(
            entries[1],
            KvEntry {
                key: b"b".to_vec(),
                value: vec![],
                version: KvVersion(8),
                expires_at_ms: None
            }
        );
        assert!(decode(&batch.project(&[0, 1]).unwrap()).is_err());
    }
}
