//! HTTP: exact bytes, entity tags, compare-and-set, scans, time to live.

use std::collections::BTreeMap;
use std::time::Duration;

use pyralog_tests::http::{self, Response, escaped};
use pyralog_tests::server::Server;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::with_bucket;

fn put(server: &Server, key: &[u8], value: &[u8], headers: &[(&str, &str)]) -> u16 {
    let headers: Vec<(&str, &str)> = [("Content-Type", "application/octet-stream")]
        .iter()
        .chain(headers)
        .copied()
        .collect();
    server.http("PUT", &format!("/kv/cache/{}", escaped(key)), &headers, value).status
}

fn get(server: &Server, key: &[u8]) -> Response {
    server.http("GET", &format!("/kv/cache/{}", escaped(key)), &[], b"")
}

fn keys(server: &Server, query: &str) -> (Vec<String>, serde_json::Value) {
    let page = server.http("GET", &format!("/kv/cache?{query}"), &[], b"").json();
    let keys = page["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item["key"].as_str().unwrap_or("null").to_owned())
        .collect();
    (keys, page["next"].clone())
}

#[test]
fn bytes_come_back_exactly_also_after_kill_9() {
    let mut server = with_bucket();
    let mut random = StdRng::seed_from_u64(3);
    let mut model = BTreeMap::new();
    for _ in 0..200 {
        let key: Vec<u8> = (0..random.random_range(1..20)).map(|_| random.random()).collect();
        let value: Vec<u8> = (0..random.random_range(0..300)).map(|_| random.random()).collect();
        assert!(put(&server, &key, &value, &[]) < 300);
        model.insert(key, value);
    }
    server.kill_and_restart();
    for (key, value) in &model {
        let response = get(&server, key);
        assert_eq!((response.status, &response.body), (200, value), "{key:?}");
    }
    assert_eq!(get(&server, b"nope").status, 404);
    let count = server.http_sql("SELECT count(*) FROM cache")["rows"][0][0].as_u64();
    assert_eq!(count, Some(model.len() as u64));
}

#[test]
fn a_large_value_and_an_empty_one() {
    let server = with_bucket();
    let large = vec![0xa5; 4 << 20];
    assert!(put(&server, b"large", &large, &[]) < 300);
    assert!(get(&server, b"large").body == large);
    assert!(put(&server, b"empty", b"", &[]) < 300);
    assert_eq!((get(&server, b"empty").status, get(&server, b"empty").body.len()), (200, 0));
}

#[test]
fn compare_and_set_has_one_winner() {
    let server = with_bucket();
    assert!(put(&server, b"cas", b"0", &[("If-None-Match", "*")]) < 300);
    assert_eq!(put(&server, b"cas", b"x", &[("If-None-Match", "*")]), 412);
    let tag = get(&server, b"cas").header("etag").expect("entity tag").to_owned();
    let port = server.http_port();
    let attempts: Vec<_> = (0..16)
        .map(|i| {
            let tag = tag.clone();
            std::thread::spawn(move || http::request(port, "PUT", "/kv/cache/cas", &[("If-Match", &tag)], i.to_string().as_bytes()).status)
        })
        .collect();
    let statuses: Vec<u16> = attempts.into_iter().map(|attempt| attempt.join().unwrap()).collect();
    assert_eq!(statuses.iter().filter(|status| **status < 300).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 15, "{statuses:?}");
    assert_ne!(get(&server, b"cas").header("etag"), Some(tag.as_str()));
    assert_eq!(server.http("DELETE", "/kv/cache/cas", &[("If-Match", &tag)], b"").status, 412);
    assert!(server.http("DELETE", "/kv/cache/cas", &[], b"").status < 300);
    assert_eq!(get(&server, b"cas").status, 404);
}

#[test]
fn scans_are_ordered_limited_and_paged() {
    let server = with_bucket();
    for i in 0..30 {
        assert!(put(&server, format!("user:{i:02}").as_bytes(), b"v", &[]) < 300);
    }
    assert!(put(&server, b"other", b"v", &[]) < 300);
    assert!(put(&server, b"\xff\xfe", b"v", &[]) < 300);
    let expected: Vec<String> = (0..30).map(|i| format!("user:{i:02}")).collect();
    let (mut seen, mut start) = (Vec::new(), String::new());
    for _ in 0..10 {
        let (page, next) = keys(&server, &format!("prefix=user:&limit=7{start}"));
        assert!(page.len() <= 7);
        seen.extend(page);
        let Some(next) = next.as_str() else { break };
        start = format!("&start={}", escaped(next.as_bytes()));
    }
    assert_eq!(seen, expected);
    assert_eq!(keys(&server, "start=user:10&end=user:13").0, ["user:10", "user:11", "user:12"]);
    assert_eq!(keys(&server, "start=%FF").0, ["null"]);
    assert_eq!(keys(&server, "prefix=nothing").0, Vec::<String>::new());
}

#[test]
fn time_to_live_ends() {
    let server = with_bucket();
    let path = "/kv/cache/t?ttl=1";
    assert!(server.http("PUT", path, &[], b"x").status < 300);
    assert!(server.http("PUT", "/kv/cache/stays?ttl=3600", &[], b"x").status < 300);
    assert_eq!(get(&server, b"t").status, 200);
    std::thread::sleep(Duration::from_millis(2200));
    assert_eq!(get(&server, b"t").status, 404);
    assert_eq!(keys(&server, "").0, ["stays"]);
    assert_eq!(server.http_sql("SELECT count(*) FROM cache")["rows"][0][0].as_u64(), Some(1));
    assert!(
        put(&server, b"t", b"again", &[("If-None-Match", "*")]) < 300,
        "an expired key counts as absent"
    );
}

#[test]
fn wrong_requests_are_refused() {
    let server = with_bucket();
    assert_eq!(server.http("GET", "/kv/nowhere/k", &[], b"").status, 404);
    assert_eq!(server.http("PUT", "/kv/nowhere/k", &[], b"v").status, 404);
    for query in ["ttl=x", "ttl=-1"] {
        assert_eq!(
            server.http("PUT", &format!("/kv/cache/k?{query}"), &[], b"v").status,
            400,
            "{query}"
        );
    }
    assert_eq!(server.http("GET", "/kv/cache?limit=x", &[], b"").status, 400);
    assert_eq!(get(&server, b"k").status, 404);
}
