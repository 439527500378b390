//! Two processes with one node's directory: a copy beside its original, in whatever order they start.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use pyralog_consensus::peer::transport::{Listener, Stream, Tcp, Transport};
use pyralog_consensus::{Node, NodeConfig, NodeEnvironment};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::cluster::{Cluster, config, three, until};
use crate::table::{blind, rows, schema};

/// A copy of a node's directory, with a port of its own.
fn copy_of(dir: &Path) -> (tempfile::TempDir, NodeConfig) {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let (entry, to) = (entry.unwrap(), to.to_owned());
            let to = to.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => copy(&entry.path(), &to),
                false => drop(std::fs::copy(entry.path(), to).unwrap()),
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    copy(dir, to.path());
    let config = config(to.path(), Vec::new());
    (to, config)
}

async fn refusal(config: NodeConfig) -> String {
    let begun = Instant::now();
    let error = Node::open(config).await.err().expect("the second process is refused").to_string();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    error
}

fn commits(cluster: &Cluster, from: usize) -> impl Future<Output = ()> {
    let nodes: Vec<_> = cluster.alive().skip(from).cloned().collect();
    async move {
        for node in nodes {
            node.partitions()[0].commit(blind([1], "on")).await.unwrap();
            node.partitions()[0].barrier().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_does_not_start_beside_its_original() {
    let mut cluster = three().await;
    let copied = (cluster.leader().await + 1) % 3;
    cluster.kill(copied).await;
    let (_dir, copy) = copy_of(cluster.dirs[copied].path());
    let restarted = Instant::now();
    cluster.restart(copied).await;
    assert!(restarted.elapsed() < Duration::from_secs(3), "{:?}", restarted.elapsed());
    cluster.node(copied).ready().await.unwrap();
    let before: Vec<_> = cluster.alive().map(|node| node.status()).collect();
    let error = refusal(copy).await;
    assert!(error.contains("another process"), "{error}");
    commits(&cluster, 0).await;
    for (node, before) in cluster.alive().zip(before) {
        let status = node.status();
        assert_eq!(status.members, before.members, "nobody has moved");
        for (group, before) in status.groups.iter().zip(&before.groups) {
            assert_eq!((group.term, group.leader_id), (before.term, before.leader_id), "no election");
            assert_eq!((&group.stopped, group.quorum), (&None, true));
        }
    }
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_original_does_not_start_beside_its_copy() {
    let mut cluster = three().await;
    cluster.kill(2).await;
    let (_dir, copy) = copy_of(cluster.dirs[2].path());
    // As if the directory had been moved to another host.
    let copy_config = copy.clone();
    let moved = Node::open(copy).await.unwrap();
    let ready = moved.ready().await;
    assert!(ready.is_ok(), "{ready:?} {:?}", moved.status());
    let error = refusal(cluster.config_of(2)).await;
    assert!(error.contains("another process"), "{error}");
    commits(&cluster, 0).await;
    moved.partitions()[0].barrier().await.unwrap();
    moved.close().await.unwrap();
    drop(moved);
    // Nor after it: the copy has voted for what the original does not have.
    let error = refusal(cluster.config_of(2)).await;
    assert!(error.contains("not the newest directory of node 3"), "{error}");
    // The copy goes on, and may come back to the address.
    let mut back = copy_config;
    back.peer.as_mut().unwrap().listen = cluster.addresses[2].parse().unwrap();
    let moved = Node::open(back).await.unwrap();
    moved.ready().await.unwrap();
    moved.close().await.unwrap();
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_finds_its_original_when_nobody_else_is_there() {
    let mut cluster = three().await;
    cluster.kill(2).await;
    let (_dir, copy) = copy_of(cluster.dirs[2].path());
    cluster.restart(2).await;
    cluster.kill(0).await;
    cluster.kill(1).await;
    let error = refusal(copy).await;
    assert!(error.contains("node 3 itself, in another process"), "{error}");
    cluster.restart(0).await;
    cluster.restart(1).await;
    commits(&cluster, 0).await;
    cluster.close().await;
}

/// TCP that can be cut: nothing goes through, either way.
#[derive(Clone, Default)]
struct Cable(Arc<AtomicBool>);

struct CutStream(Stream, Cable);

struct CutListener(Box<dyn Listener>, Cable);

impl Cable {
    fn check(&self) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            false => Ok(()),
        }
    }
}

impl Transport for Cable {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Stream>> {
        let cable = self.clone();
        async move {
            cable.check()?;
            Ok(Box::new(CutStream(Tcp.connect(address).await?, cable)) as Stream)
        }
        .boxed()
    }

    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let cable = self.clone();
        async move { Ok(Box::new(CutListener(Tcp.bind(address).await?, cable)) as Box<dyn Listener>) }.boxed()
    }
}

impl Listener for CutListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        async move {
            let (stream, remote) = self.0.accept().await?;
            Ok((Box::new(CutStream(stream, self.1.clone())) as Stream, remote))
        }
        .boxed()
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.0.address()
    }
}

impl AsyncRead for CutStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.1.check()?;
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.1.check()?;
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_original_that_was_cut_off_stops_when_it_meets_its_copy() {
    let cable = Cable::default();
    let mut cluster = Cluster::start(2).await;
    let environment = NodeEnvironment {
        transport: Arc::new(cable.clone()),
        ..NodeEnvironment::default()
    };
    let cut = cluster.add_in(environment).await;
    cluster.node(0).partitions()[0].create_relation(schema()).await.unwrap();
    cluster.node(cut).ready().await.unwrap();
    let (_dir, copy) = copy_of(cluster.dirs[cut].path());
    cable.0.store(true, Ordering::SeqCst);
    // Its silence is noticed, as is that of a host without power.
    let copy = Node::open(copy).await.unwrap();
    copy.ready().await.unwrap();
    copy.partitions()[0].commit(blind([7], "by the copy")).await.unwrap();
    cable.0.store(false, Ordering::SeqCst);
    let original = cluster.nodes.pop().flatten().unwrap();
    until("the original stops", || {
        let status = original.status();
        let stopped = |group: &pyralog_consensus::node::GroupStatus| {
            let reason = group.stopped.as_ref();
            reason.is_some_and(|reason| reason.contains("another process")) && !group.leader && !group.quorum
        };
        status.groups.iter().all(stopped)
    })
    .await;
    let refused = original.partitions()[0].commit(blind([8], "by the original")).await;
    assert!(refused.is_err(), "{refused:?}");
    commits(&cluster, 0).await;
    copy.partitions()[0].barrier().await.unwrap();
    assert_eq!(rows(&copy.partitions()[0]).len(), 2);
    original.close().await.unwrap();
    copy.close().await.unwrap();
    cluster.close().await;
}
