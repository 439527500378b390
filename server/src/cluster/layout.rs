//! `cluster.json`: which nodes there are, and where.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const NAME: &str = "cluster.json";
const BASE_PORT: u16 = 7400;
/// Ports between one node's first and the next one's.
const STRIDE: u16 = 10;

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Its id.
    pub id: u64,
    /// `host:port` of Flight SQL.
    pub flight: String,
    /// `host:port` of HTTP.
    pub http: String,
    /// `host:port` for the other nodes.
    pub peer: String,
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The nodes, by id.
    pub nodes: Vec<NodeEntry>,
    /// Whether stopping removes everything.
    pub ephemeral: bool,
    /// Memory of each node, as `--memory-limit` takes it.
    pub memory_limit: String,
    /// The next node's first port.
    next_port: u16,
    /// The next node's id.
    next_id: u64,
}

impl Layout {
    /// The cluster in a directory, if there is one.
    pub fn read(dir: &Path) -> Result<Option<Layout>, String> {
        let path = dir.join(NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    /// A new cluster, written to the directory. Its ports must be free.
    pub fn new(dir: &Path, nodes: u64, base_port: Option<u16>, ephemeral: bool, memory_limit: String) -> Result<Layout, String> {
        if nodes == 0 {
            return Err("a cluster has one node at least".to_owned());
        }
        let mut layout = Layout {
            nodes: Vec::new(),
            ephemeral,
            memory_limit,
            next_port: base_port.unwrap_or(BASE_PORT),
            next_id: 1,
        };
        for _ in 0..nodes {
            layout.append()?;
        }
        std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        layout.write(dir)?;
        Ok(layout)
    }

    /// One node more, on free ports.
    pub fn add(&mut self, dir: &Path) -> Result<NodeEntry, String> {
        let node = self.append()?;
        self.write(dir)?;
        Ok(node)
    }

    /// One node less.
    pub fn remove(&mut self, dir: &Path, id: u64) -> Result<(), String> {
        self.nodes.retain(|node| node.id != id);
        self.write(dir)
    }

    fn append(&mut self) -> Result<NodeEntry, String> {
        let address = |offset: u16| {
            let port = self
                .next_port
                .checked_add(offset)
                .ok_or("no ports are left; give a lower --base-port")?;
            let address = format!("127.0.0.1:{port}");
            match TcpListener::bind(&address) {
                Ok(_) => Ok(address),
                Err(error) => Err(format!("{address} cannot be used ({error}); give another --base-port")),
            }
        };
        let node = NodeEntry {
            id: self.next_id,
            flight: address(0)?,
            http: address(1)?,
            peer: address(2)?,
        };
        self.next_id += 1;
        self.next_port = self.next_port.saturating_add(STRIDE);
        self.nodes.push(node.clone());
        Ok(node)
    }

    fn write(&self, dir: &Path) -> Result<(), String> {
        let (path, temporary) = (dir.join(NAME), dir.join("cluster.json.tmp"));
        let text = serde_json::to_vec_pretty(self).map_err(|error| error.to_string())?;
        std::fs::write(&temporary, text)
            .and_then(|()| std::fs::rename(&temporary, &path))
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The first node.
    pub fn first(&self) -> Result<&NodeEntry, String> {
        self.nodes.first().ok_or_else(|| "the cluster has no nodes".to_owned())
    }

    /// A node by id.
    pub fn node(&self, id: u64) -> Result<&NodeEntry, String> {
        let ids = || self.nodes.iter().map(|node| node.id.to_string()).collect::<Vec<_>>().join(", ");
        let found = self.nodes.iter().find(|node| node.id == id);
        found.ok_or_else(|| format!("there is no node {id}; the nodes are {}", ids()))
    }
}

/// A node's data.
pub fn data_dir(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("node-{id}"))
}

/// What a node prints.
pub fn log_path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("node-{id}.log"))
}

/// Where a node's process id is.
pub fn pid_path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("node-{id}.pid"))
}
