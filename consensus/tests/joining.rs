//! First starts that do not come to their end, and how they go on.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use pyralog_consensus::peer::transport::{Listener, Stream, Tcp, Transport};
use pyralog_consensus::{Node, NodeConfig, NodeEnvironment};

use crate::cluster::{config, until, votes};

/// TCP that reaches other nodes only until this directory has a FORMAT.
struct UntilFormat {
    format: std::path::PathBuf,
    cut: Arc<AtomicBool>,
}

impl Transport for UntilFormat {
    fn connect(&self, address: String) -> BoxFuture<'static, std::io::Result<Stream>> {
        if self.format.exists() {
            self.cut.store(true, Ordering::SeqCst);
            return async { Err(std::io::Error::other("the cable is out")) }.boxed();
        }
        Tcp.connect(address)
    }

    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, std::io::Result<Box<dyn Listener>>> {
        Tcp.bind(address)
    }
}

fn at(address: &str, dir: &Path, join: Vec<String>) -> NodeConfig {
    let mut config = config(dir, join);
    config.peer.as_mut().unwrap().listen = address.parse().unwrap();
    config
}

fn address_of(node: &Node) -> String {
    node.status().members[0].1.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_at_its_port_founds_nothing() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let founder = Node::open(config(first.path(), Vec::new())).await.unwrap();
    let address = address_of(&founder);
    let error = Node::open(at(&address, second.path(), Vec::new())).await.err().unwrap().to_string();
    assert!(error.contains(&address), "{error}");
    assert!(!second.path().join("FORMAT").exists());
    let node = Node::open(config(second.path(), vec![address])).await.unwrap();
    assert_eq!(node.status().database_id, founder.status().database_id);
    until("the node votes", || votes(&node)).await;
    node.close().await.unwrap();
    founder.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_not_admitted_yet_goes_on_by_itself_at_its_next_start() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let founder = Node::open(config(first.path(), Vec::new())).await.unwrap();
    let cut = Arc::new(AtomicBool::new(false));
    let environment = NodeEnvironment {
        transport: Arc::new(UntilFormat {
            format: second.path().join("FORMAT"),
            cut: cut.clone(),
        }),
        ..NodeEnvironment::default()
    };
    let joining = config(second.path(), vec![address_of(&founder)]);
    let node = Node::open_in(joining, environment).await.unwrap();
    until("it asks to be admitted", || cut.load(Ordering::SeqCst)).await;
    assert!(!votes(&node));
    drop(node);
    assert!(second.path().join("JOIN").exists());
    let node = Node::open(config(second.path(), Vec::new())).await.unwrap();
    until("the node votes", || votes(&node)).await;
    until("the join is over", || !second.path().join("JOIN").exists()).await;
    node.close().await.unwrap();
    founder.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_nobody_answered_goes_on_and_founds_nothing() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let joining = Node::open(config(second.path(), vec![port.to_string()]));
    assert!(tokio::time::timeout(Duration::from_secs(1), joining).await.is_err());
    let alone = Node::open(NodeConfig::new(second.path())).await.err().unwrap().to_string();
    assert!(alone.contains("--peer-addr") && alone.contains("JOIN"), "{alone}");
    let founder = Node::open(at(&port.to_string(), first.path(), Vec::new())).await.unwrap();
    let node = Node::open(config(second.path(), Vec::new())).await.unwrap();
    assert_eq!(node.status().database_id, founder.status().database_id);
    until("the node votes", || votes(&node)).await;
    node.close().await.unwrap();
    founder.close().await.unwrap();
}
