//! `/kv/{bucket}/{key}`: values as bytes, versions as entity tags; `/kv/{bucket}`: scans in key order.

use actix_web::http::header::{CONTENT_TYPE, ETAG};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pyralog_models::request::{self, Done};
use pyralog_models::{Bucket, Error, ErrorKind, KvEntry, KvPrecondition, KvScan, RequestName};
use serde_json::{Value, json};

use super::error::Problem;
use super::etag::{Conditions, Plan, tag};
use super::key::{Query, Target, cursor, parse_path, parse_query};
use super::{State, body};
use crate::config::size::parse_duration;

/// Entries of a scan that names no limit.
const DEFAULT_LIMIT: usize = 1_000;
/// Most entries of one answer; `next` leads to the rest.
const MAX_LIMIT: usize = 10_000;
/// Bytes of a value up to which a put without conditions is worked out where it was read.
const SMALL_VALUE: usize = 64 << 10;
/// Rounds of reading the version and writing against it, before a busy key answers 409.
const CONDITION_ROUNDS: usize = 8;

/// Every request under `/kv/`. The path is read raw, since keys are bytes.
pub async fn dispatch(request: HttpRequest, payload: web::Payload, state: State) -> Result<HttpResponse, Problem> {
    let target = parse_path(request.uri().path())?;
    let bucket = state.database.kv(&target.bucket).await?;
    let query = parse_query(request.uri().query())?;
    let name = super::request_name(&request)?;
    let Target { key, .. } = target;
    match (request.method(), key) {
        (&Method::GET | &Method::HEAD, None) => {
            allow(&query, &["prefix", "start", "end", "limit"])?;
            scan(&state, bucket, &query).await
        }
        (&Method::GET | &Method::HEAD, Some(key)) => get(&state, bucket, key, &Conditions::of(&request)?).await,
        (&Method::PUT, Some(key)) => {
            allow(&query, &["ttl"])?;
            let conditions = Conditions::of(&request)?;
            let ttl_ms = time_to_live(&query)?;
            let value = body::read(&request, payload, &state.options).await?;
            let write = Write::Put { value, ttl_ms };
            put(&state, bucket, key, write, conditions, name).await
        }
        (&Method::DELETE, Some(key)) => delete(&state, bucket, key, Conditions::of(&request)?, name).await,
        (method, _) => {
            let message = format!("{method} is not possible on {}", request.uri().path());
            Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message)
                .with_hint("GET, PUT and DELETE a key; GET a bucket"))
        }
    }
}

async fn get(state: &State, bucket: Bucket, key: Vec<u8>, conditions: &Conditions) -> Result<HttpResponse, Problem> {
    let entry = on_runtime(state, async move { bucket.get(&key).await }).await?;
    let version = entry.as_ref().map(|entry| entry.version);
    if !conditions.match_holds(version) {
        return Err(condition_failed());
    }
    let Some(entry) = entry else { return Err(no_such_key()) };
    if !conditions.none_match_holds(version) {
        return Ok(HttpResponse::NotModified().insert_header((ETAG, tag(entry.version))).finish());
    }
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, "application/octet-stream"))
        .insert_header((ETAG, tag(entry.version)));
    if let Some(at) = entry.expires_at {
        response.insert_header(("X-Expires-At", timestamp(at)));
    }
    Ok(response.body(entry.value))
}

async fn put(
    state: &State,
    bucket: Bucket,
    key: Vec<u8>,
    write: Write,
    conditions: Conditions,
    name: Option<RequestName>,
) -> Result<HttpResponse, Problem> {
    let made = matches!(conditions.plan(), Plan::Direct(KvPrecondition::Absent));
    let small = matches!(&write, Write::Put { value, .. } if value.len() <= SMALL_VALUE);
    let version = if small && matches!(conditions.plan(), Plan::Direct(KvPrecondition::Any)) {
        // Done sooner than it would be handed over. Once it is proposed, it goes on without its client.
        request::named(name, write.apply(&bucket, &key, KvPrecondition::Any)).await?
    } else {
        let work = async move { conditionally(&bucket, &key, &conditions, &write).await };
        on_runtime(state, request::named(name, work)).await?
    };
    let status = if made { StatusCode::CREATED } else { StatusCode::NO_CONTENT };
    Ok(HttpResponse::build(status).insert_header((ETAG, tag(version))).finish())
}

async fn delete(
    state: &State,
    bucket: Bucket,
    key: Vec<u8>,
    conditions: Conditions,
    name: Option<RequestName>,
) -> Result<HttpResponse, Problem> {
    let work = async move { conditionally(&bucket, &key, &conditions, &Write::Delete).await };
    let was_there = on_runtime(state, request::named(name, work)).await?;
    if was_there > 0 {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(no_such_key())
    }
}

/// A change of one key.
enum Write {
    /// Sets it.
    Put {
        /// The value.
        value: web::Bytes,
        /// Time to live in milliseconds.
        ttl_ms: Option<u64>,
    },
    /// Removes it.
    Delete,
}

impl Write {
    /// Does it; the new version, or for a removal 1 if the key was there.
    async fn apply(&self, bucket: &Bucket, key: &[u8], condition: KvPrecondition) -> Result<u64, Error> {
        match self {
            Write::Put { value, ttl_ms } => bucket.put(key, value, *ttl_ms, condition).await,
            Write::Delete => bucket.delete(key, condition).await.map(u64::from),
        }
    }

    /// As [`Write::apply`] answered an earlier try of the same request.
    fn told_again(&self, done: Done) -> u64 {
        match self {
            Write::Put { .. } => done.timestamp.0,
            Write::Delete => done.rows,
        }
    }
}

/// Writes under conditions. What the store cannot check by itself is checked against the version just read, and the write then depends
/// on that version: if it changed in between, the conditions are looked at again.
async fn conditionally(bucket: &Bucket, key: &[u8], conditions: &Conditions, write: &Write) -> Result<u64, Error> {
    if let Plan::Direct(condition) = conditions.plan() {
        return write.apply(bucket, key, condition).await;
    }
    for _ in 0..CONDITION_ROUNDS {
        let current = bucket.get(key).await?.map(|entry| entry.version);
        let Some(condition) = conditions.against(current) else {
            if let Some(done) = bucket.carried_out().await? {
                return Ok(write.told_again(done));
            }
            return Err(Error::new(
                ErrorKind::PreconditionFailed,
                "PRECONDITION",
                "the key's version does not fit the request's condition",
            ));
        };
        match write.apply(bucket, key, condition).await {
            Err(error) if error.kind == ErrorKind::PreconditionFailed => {}
            outcome => return outcome,
        }
    }
    Err(Error::new(ErrorKind::Conflict, "40001", "the key changes too often for this condition").with_hint("retry"))
}

async fn scan(state: &State, bucket: Bucket, query: &Query) -> Result<HttpResponse, Problem> {
    let limit = match query.text("limit")? {
        None => DEFAULT_LIMIT,
        Some(text) => text
            .parse()
            .map_err(|_| Problem::bad_request("BAD_LIMIT", format!("limit: `{text}` is not a number")))?,
    };
    if limit == 0 || limit > MAX_LIMIT {
        return Err(Problem::bad_request(
            "BAD_LIMIT",
            format!("limit must be between 1 and {MAX_LIMIT}; `next` leads to the rest"),
        ));
    }
    let scan = KvScan {
        prefix: query.key("prefix")?.unwrap_or_default(),
        start: query.key("start")?,
        end: query.key("end")?,
        limit,
    };
    let (entries, next) = on_runtime(state, async move { bucket.scan(scan).await }).await?;
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .body(page(&entries, next.as_deref())))
}

/// The body of a scan, written entry by entry.
fn page(entries: &[KvEntry], next: Option<&[u8]>) -> String {
    let mut out = String::from("{\"items\":[");
    for (index, entry) in entries.iter().enumerate() {
        out.push_str(if index == 0 { "\n" } else { ",\n" });
        out.push_str(&item(entry).to_string());
    }
    out.push_str(&format!("],\"next\":{}}}\n", next.map_or(Value::Null, |key| cursor(key).into())));
    out
}

fn item(entry: &KvEntry) -> Value {
    json!({
        "key": std::str::from_utf8(&entry.key).ok(),
        "key_base64": BASE64_STANDARD.encode(&entry.key),
        "value_base64": BASE64_STANDARD.encode(&entry.value),
        "version": entry.version,
        "expires_at": entry.expires_at.map(timestamp),
    })
}

/// Runs on the process's runtime. A write goes on when its client leaves: whether it happened must not depend on when that was seen.
async fn on_runtime<T: Send + 'static>(state: &State, work: impl Future<Output = Result<T, Error>> + Send + 'static) -> Result<T, Problem> {
    match state.runtime.spawn(work).await {
        Ok(outcome) => Ok(outcome?),
        Err(error) => Err(Error::new(ErrorKind::Internal, "XX000", format!("the request's task failed: {error}")).into()),
    }
}

/// `?ttl=` in seconds (a fraction is allowed), as milliseconds.
fn time_to_live(query: &Query) -> Result<Option<u64>, Problem> {
    let Some(text) = query.text("ttl")? else { return Ok(None) };
    let bad = |problem: String| Problem::bad_request("BAD_TTL", format!("ttl: {problem}"));
    let millis = parse_duration(text).map_err(bad)?.as_millis();
    match u64::try_from(millis) {
        Ok(0) => Err(bad("must be positive".into())),
        // The expiry (now + ttl) must fit a timestamp.
        Ok(millis) if millis < 1 << 52 => Ok(Some(millis)),
        _ => Err(bad("too large".into())),
    }
}

/// Refuses query names that do nothing: a misspelt `ttl` would keep a value for ever.
fn allow(query: &Query, known: &[&str]) -> Result<(), Problem> {
    match query.names().find(|name| !known.contains(&name.as_ref())) {
        None => Ok(()),
        Some(name) => Err(Problem::bad_request(
            "BAD_QUERY",
            format!("unknown query parameter `{name}`; there are {}", known.join(", ")),
        )),
    }
}

/// Milliseconds since the Unix epoch in ISO 8601.
fn timestamp(millis: u64) -> String {
    let time = i64::try_from(millis)
        .ok()
        .and_then(arrow::temporal_conversions::timestamp_ms_to_datetime);
    time.map_or_else(|| millis.to_string(), |time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

fn no_such_key() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "NO_SUCH_KEY", "the key is not there")
}

fn condition_failed() -> Problem {
    Problem::new(
        StatusCode::PRECONDITION_FAILED,
        "PRECONDITION",
        "the key's version does not fit the request's condition",
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_any_keys() {
        let entry = |key: &[u8], expires_at| KvEntry {
            key: key.to_vec(),
            value: vec![0xff],
            version: 9_007_199_254_740_993,
            expires_at,
        };
        let text = page(&[entry(b"user:1", None), entry(b"\x00\xff", Some(1_000))], Some(b"\xff"));
        let page: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(page["items"][0]["key"], "user:1");
        assert_eq!(page["items"][0]["version"], json!(9_007_199_254_740_993u64));
        assert_eq!(page["items"][0]["expires_at"], Value::Null);
        assert_eq!(page["items"][1]["key"], Value::Null);
        assert_eq!(page["items"][1]["key_base64"], "AP8=");
        assert_eq!(page["items"][1]["expires_at"], "1970-01-01T00:00:01.000Z");
        assert_eq!(page["next"], "base64:_w");
        let last: Value = serde_json::from_str(&super::page(&[], None)).unwrap();
        assert_eq!(last, json!({"items": [], "next": null}));
    }

    #[test]
    fn times_to_live() {
        let ttl = |query| time_to_live(&parse_query(Some(query)).unwrap());
        assert_eq!(ttl("ttl=1").unwrap(), Some(1000));
        assert_eq!(ttl("ttl=0.25").unwrap(), Some(250));
        assert_eq!(ttl("").unwrap(), None);
        for wrong in ["ttl=0", "ttl=-1", "ttl=x", "ttl=99999999999999999"] {
            assert_eq!(ttl(wrong).unwrap_err().status.as_u16(), 400, "{wrong}");
        }
    }

    #[test]
    fn misspelt_parameters_are_refused() {
        assert!(allow(&parse_query(Some("tll=1")).unwrap(), &["ttl"]).is_err());
        assert!(allow(&parse_query(Some("ttl=1")).unwrap(), &["ttl"]).is_ok());
    }
}
