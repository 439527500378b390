//! Durable replicated puts of 100 bytes by 64 clients into three nodes on this machine: Pyralog (`PUT /kv/…` over HTTP/1.1) and, where
//! `etcd` is on the path (Debian's `etcd-server`), etcd with three members (`KV.Put` over gRPC), in one run. Clients are spread over the
//! nodes. `PYRALOG_SECONDS` is how long each takes (default 10), `PYRALOG_CLIENTS` how many clients.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that fails must stop"
)]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pyralog_tests::cluster::Cluster;
use pyralog_tests::measure::{asked_to_run, machine, percentile, setting};
use pyralog_tests::runtime::block_on;
use pyralog_tests::server::free_port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Channel;

const VALUE_BYTES: usize = 100;

fn main() {
    if !asked_to_run() {
        return;
    }
    let length = Duration::from_secs(setting("PYRALOG_SECONDS", 10));
    let clients: usize = setting("PYRALOG_CLIENTS", 64);
    println!(
        "replicated puts of {VALUE_BYTES} bytes, {clients} clients, three nodes, {length:?} each, {}",
        machine()
    );
    println!("{:>8} {:>10} {:>9} {:>9}", "", "puts/s", "p50 ms", "p99 ms");
    let etcd = Etcd::start();
    // Twice each, in turn: the machine may be shared.
    for _ in 0..2 {
        let cluster = Cluster::up(3, "512MB");
        let nodes = cluster.nodes();
        block_on(async {
            let db = nodes[0].client().await.unwrap();
            db.sql("CREATE COLLECTION bench AS KV").execute().await.unwrap();
            let ports: Vec<u16> = nodes.iter().map(|node| node.http_port()).collect();
            let times = run(clients, length, |client| Http::connect(ports[client % ports.len()])).await;
            report("pyralog", times, length);
        });
        drop(cluster);
        if let Some(etcd) = &etcd {
            let times = block_on(run(clients, length, |client| Grpc::connect(etcd.ports[client % etcd.ports.len()])));
            report("etcd", times, length);
        }
    }
    if etcd.is_none() {
        println!("etcd is not here");
    }
}

fn report(name: &str, mut times: Vec<Duration>, length: Duration) {
    let rate = times.len() as f64 / length.as_secs_f64();
    let (p50, p99) = (percentile(&mut times, 50.0), percentile(&mut times, 99.0));
    println!(
        "{name:>8} {rate:>10.0} {:>9.2} {:>9.2}",
        p50.as_secs_f64() * 1e3,
        p99.as_secs_f64() * 1e3
    );
}

/// A connection that puts.
trait Put: Send + 'static {
    fn put(&mut self, key: String, value: Vec<u8>) -> impl Future<Output = ()> + Send;
}

async fn run<P: Put>(clients: usize, length: Duration, connect: impl AsyncFn(usize) -> P) -> Vec<Duration> {
    let next = Arc::new(AtomicU64::new(0));
    let mut connections = Vec::new();
    for client in 0..clients {
        connections.push(connect(client).await);
    }
    let until = Instant::now() + length;
    let mut tasks = tokio::task::JoinSet::new();
    for mut connection in connections {
        let next = next.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < until {
                let key = format!("key-{:012}", next.fetch_add(1, Ordering::Relaxed));
                let started = Instant::now();
                connection.put(key, vec![b'x'; VALUE_BYTES]).await;
                times.push(started.elapsed());
            }
            times
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// HTTP/1.1 with keep-alive.
struct Http {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Http {
    async fn connect(port: u16) -> Http {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Http {
            stream,
            answer: Vec::new(),
        }
    }
}

impl Put for Http {
    async fn put(&mut self, key: String, value: Vec<u8>) {
        let mut request = format!(
            "PUT /kv/bench/{key} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
            value.len()
        )
        .into_bytes();
        request.extend_from_slice(&value);
        self.stream.write_all(&request).await.unwrap();
        self.answer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.answer).await.unwrap();
            assert!(read > 0, "the server closed the connection");
            let text = String::from_utf8_lossy(&self.answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            assert!(head.starts_with("HTTP/1.1 2"), "{text}");
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
            if body.len() >= length.unwrap_or(0) {
                return;
            }
        }
    }
}

/// The messages of etcd's `etcdserverpb.KV/Put` that are needed.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

struct Grpc {
    client: tonic::client::Grpc<Channel>,
}

impl Grpc {
    async fn connect(port: u16) -> Grpc {
        let channel = Channel::from_shared(format!("http://127.0.0.1:{port}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        Grpc {
            client: tonic::client::Grpc::new(channel),
        }
    }
}

impl Put for Grpc {
    async fn put(&mut self, key: String, value: Vec<u8>) {
        let request = PutRequest {
            key: key.into_bytes(),
            value,
        };
        self.client.ready().await.unwrap();
        let path = tonic::codegen::http::uri::PathAndQuery::from_static("/etcdserverpb.KV/Put");
        let codec = tonic_prost::ProstCodec::<PutRequest, PutResponse>::default();
        self.client.unary(tonic::Request::new(request), path, codec).await.unwrap();
    }
}

/// Three members of etcd in temporary directories.
struct Etcd {
    members: Vec<Child>,
    ports: Vec<u16>,
    _dir: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Option<Etcd> {
        Command::new("etcd").arg("--version").stdout(Stdio::null()).status().ok()?;
        let dir = tempfile::tempdir().unwrap();
        let addresses: Vec<(u16, String)> = (0..3).map(|_| (free_port(), format!("http://127.0.0.1:{}", free_port()))).collect();
        let members: Vec<String> = addresses.iter().enumerate().map(|(i, (_, peer))| format!("m{i}={peer}")).collect();
        let start = |i: usize, port: u16, peer: &str| {
            let client = format!("http://127.0.0.1:{port}");
            Command::new("etcd")
                .args(["--name", &format!("m{i}"), "--data-dir"])
                .arg(dir.path().join(format!("m{i}")))
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
                .args([
                    "--initial-cluster",
                    &members.join(","),
                    "--initial-cluster-state",
                    "new",
                    "--log-level",
                    "error",
                ])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        };
        let started = addresses
            .iter()
            .enumerate()
            .map(|(i, (port, peer))| start(i, *port, peer))
            .collect();
        let etcd = Etcd {
            members: started,
            ports: addresses.iter().map(|(port, _)| *port).collect(),
            _dir: dir,
        };
        // Until they have a leader.
        block_on(async {
            for port in &etcd.ports {
                let begun = Instant::now();
                while TcpStream::connect(("127.0.0.1", *port)).await.is_err() {
                    assert!(begun.elapsed() < Duration::from_secs(30), "etcd does not start");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            Grpc::connect(etcd.ports[0]).await.put("first".to_owned(), vec![0]).await;
        });
        Some(etcd)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            // It may have ended by itself.
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}
