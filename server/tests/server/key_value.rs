//! `/kv/…` over a socket: any bytes, conditions, time to live, paging.

use std::time::Duration;

use serde_json::json;

use super::process::{Answer, Scratch, Server};

fn start(name: &str) -> (Scratch, Server) {
    let scratch = Scratch::new(name);
    let server = Server::start(&scratch.0.join("db"));
    server.sql("CREATE COLLECTION cache AS KV");
    (scratch, server)
}

fn key(bytes: &[u8]) -> String {
    let mut target = "/kv/cache/".to_owned();
    for byte in bytes {
        target.push_str(&format!("%{byte:02X}"));
    }
    target
}

fn put(server: &Server, bytes: &[u8], value: &[u8], headers: &[(&str, &str)]) -> Answer {
    server.request("PUT", &key(bytes), headers, value)
}

#[test]
fn keys_and_values_of_any_bytes() {
    let (_scratch, server) = start("kv-bytes");
    let mut keys: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
    keys.extend([
        b"\x00\xff/a b".to_vec(),
        b"a/b//c".to_vec(),
        b"base64:x".to_vec(),
        "schlüssel".as_bytes().to_vec(),
        vec![b'.'; 2],
    ]);
    for bytes in &keys {
        let value: Vec<u8> = bytes.iter().rev().copied().chain([0, 0xff]).collect();
        assert_eq!(put(&server, bytes, &value, &[]).status, 204, "{bytes:?}");
        assert_eq!(server.request("GET", &key(bytes), &[], b"").body, value, "{bytes:?}");
    }
    // Paging by three over all of them, as a client would.
    keys.sort();
    let mut found = Vec::new();
    let mut start = String::new();
    loop {
        let page = server.request("GET", &format!("/kv/cache?limit=3{start}"), &[], b"").json();
        for item in page["items"].as_array().unwrap() {
            let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, item["key_base64"].as_str().unwrap()).unwrap();
            assert_eq!(
                item["key"].as_str().map(str::as_bytes),
                std::str::from_utf8(&bytes).ok().map(str::as_bytes)
            );
            found.push(bytes);
        }
        let Some(next) = page["next"].as_str() else { break };
        let encoded: String = next.bytes().map(|byte| format!("%{byte:02X}")).collect();
        start = format!("&start={encoded}");
    }
    assert_eq!(found, keys);
    let prefixed = server.request("GET", "/kv/cache?prefix=a%2F", &[], b"").json();
    assert_eq!(prefixed["items"].as_array().unwrap().len(), 1);
    let ranged = server.request("GET", "/kv/cache?start=b&end=d", &[], b"").json();
    assert_eq!(
        ranged["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["key"].clone())
            .collect::<Vec<_>>(),
        [json!("b"), json!("base64:x"), json!("c")]
    );
}

#[test]
fn conditions() {
    let (_scratch, server) = start("kv-conditions");
    assert_eq!(server.request("GET", "/kv/cache/a", &[], b"").status, 404);
    assert_eq!(put(&server, b"a", b"0", &[("If-Match", "*")]).status, 412);
    let made = put(&server, b"a", b"1", &[("If-None-Match", "*")]);
    assert_eq!(made.status, 201);
    let first = made.header("ETag").unwrap().to_owned();
    assert_eq!(put(&server, b"a", b"2", &[("If-None-Match", "*")]).status, 412);
    assert_eq!(server.request("GET", "/kv/cache/a", &[("If-None-Match", &first)], b"").status, 304);
    let second = put(&server, b"a", b"2", &[("If-Match", &first)]);
    assert_eq!(second.status, 204);
    let second = second.header("ETag").unwrap().to_owned();
    assert_eq!(put(&server, b"a", b"3", &[("If-Match", &first)]).status, 412);
    assert_eq!(put(&server, b"a", b"3", &[("If-Match", &format!("{first}, {second}"))]).status, 204);
    assert_eq!(server.request("DELETE", "/kv/cache/a", &[("If-Match", &first)], b"").status, 412);
    assert_eq!(server.request("GET", "/kv/cache/a", &[], b"").body, b"3");
    assert_eq!(server.request("DELETE", "/kv/cache/a", &[], b"").status, 204);
    assert_eq!(server.request("DELETE", "/kv/cache/a", &[], b"").status, 404);
    assert_eq!(server.request("GET", "/kv/nowhere/a", &[], b"").status, 404);
    assert_eq!(server.request("POST", "/kv/cache/a", &[], b"").status, 405);
}

#[test]
fn one_winner_of_many() {
    let (_scratch, server) = start("kv-race");
    let tag = put(&server, b"r", b"0", &[]).header("ETag").unwrap().to_owned();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|n: u8| {
                let (server, tag) = (&server, &tag);
                scope.spawn(move || put(server, b"r", &[n], &[("If-Match", tag)]).status)
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 204).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 7, "{statuses:?}");
}

#[test]
fn time_to_live() {
    let (_scratch, server) = start("kv-ttl");
    assert_eq!(server.request("PUT", "/kv/cache/t?ttl=0.5", &[], b"x").status, 204);
    let fresh = server.request("GET", "/kv/cache/t", &[], b"");
    assert!(fresh.status == 200 && fresh.header("X-Expires-At").unwrap().ends_with('Z'));
    std::thread::sleep(Duration::from_millis(900));
    assert_eq!(server.request("GET", "/kv/cache/t", &[], b"").status, 404);
    assert_eq!(server.request("GET", "/kv/cache", &[], b"").json()["items"], json!([]));
    assert_eq!(server.request("PUT", "/kv/cache/t?tll=1", &[], b"x").status, 400);
}
