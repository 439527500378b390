//! A cluster of processes, through `pyralog cluster`.

use std::path::PathBuf;
use std::process::{Command, Output};

use pyralog_client::Client;
use serde::Deserialize;
use tempfile::TempDir;

use crate::binary;
use crate::server::free_ports;

/// A node as `cluster status --json` tells of it.
#[derive(Debug, Clone, Deserialize)]
pub struct ClusterNode {
    /// Its id.
    pub id: u64,
    /// `ready`, `starting` or `down`.
    pub status: String,
    /// Its process.
    pub pid: Option<u32>,
    /// `grpc://host:port`.
    pub flight: String,
    /// `http://host:port`.
    pub http: String,
    /// The groups that it leads.
    pub leads: Vec<String>,
}

#[derive(Deserialize)]
struct Status {
    nodes: Vec<ClusterNode>,
}

impl ClusterNode {
    /// The HTTP port.
    pub fn http_port(&self) -> u16 {
        let port = self.http.rsplit(':').next().expect("port");
        port.parse().expect("port")
    }

    /// The port for other nodes.
    pub fn peer_port(&self) -> u16 {
        self.http_port() + 1
    }

    /// A new connection and session.
    pub async fn client(&self) -> pyralog_client::Result<Client> {
        Client::connect(self.flight.as_str()).await
    }

    /// Sends a signal to the process, as `kill -NAME`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid.expect("the node runs").to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill runs");
        assert!(sent.success(), "SIG{name} could not be sent to node {}", self.id);
    }
}

/// A cluster in a directory of its own; purged when dropped.
#[derive(Debug)]
pub struct Cluster {
    dir: TempDir,
    environment: Vec<(String, String)>,
}

impl Cluster {
    /// Starts nodes.
    pub fn up(nodes: u64, memory_limit: &str) -> Cluster {
        Cluster::up_with(nodes, memory_limit, &[])
    }

    /// Starts nodes with environment variables.
    pub fn up_with(nodes: u64, memory_limit: &str, environment: &[(&str, &str)]) -> Cluster {
        let dir = tempfile::Builder::new()
            .prefix("pyralog-cluster-")
            .tempdir()
            .expect("temporary directory");
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let cluster = Cluster { dir, environment };
        let ports = free_ports(nodes as u16 * 10).to_string();
        let nodes = nodes.to_string();
        cluster.succeed(&["up", "--nodes", &nodes, "--base-port", &ports, "--memory-limit", memory_limit]);
        cluster
    }

    /// Runs a command of `pyralog cluster`.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(binary::path())
            .arg("cluster")
            .envs(self.environment.iter().cloned())
            .args(arguments)
            .arg("--dir")
            .arg(self.dir.path())
            .output()
            .expect("the binary runs")
    }

    /// Runs a command that must succeed; what it prints.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cluster {arguments:?}: {said}\n{}", self.logs());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The nodes as they are now.
    pub fn nodes(&self) -> Vec<ClusterNode> {
        let text = self.succeed(&["status", "--json"]);
        let status: Status = serde_json::from_str(&text).expect("JSON");
        status.nodes
    }

    /// A node's data directory.
    pub fn data_dir(&self, node: u64) -> PathBuf {
        self.dir.path().join(format!("node-{node}"))
    }

    /// Everything that a node has printed.
    pub fn log_of(&self, node: u64) -> String {
        let log = std::fs::read(self.dir.path().join(format!("node-{node}.log")));
        String::from_utf8_lossy(&log.expect("log")).into_owned()
    }

    /// The ends of all nodes' logs.
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        for entry in std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|end| end == "log") {
                let text = std::fs::read(entry.path()).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).into_owned();
                let lines: Vec<&str> = text.lines().collect();
                logs += &format!("--- {}\n", entry.path().display());
                logs += &lines[lines.len().saturating_sub(30)..].join("\n");
                logs.push('\n');
            }
        }
        logs
    }

    /// Whether a node has panicked.
    pub fn panics(&self) -> Vec<String> {
        let logs = std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        let texts = logs.filter_map(|entry| std::fs::read(entry.path()).ok());
        texts
            .flat_map(|text| String::from_utf8_lossy(&text).lines().map(str::to_owned).collect::<Vec<_>>())
            .filter(|line| line.contains("panicked at"))
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        // Stopped processes do not hear a polite request.
        for node in self.nodes().iter().filter(|node| node.pid.is_some()) {
            node.signal("KILL");
        }
        let purged = self.run(&["purge"]);
        if !purged.status.success() {
            eprintln!("cluster purge: {}", String::from_utf8_lossy(&purged.stderr));
        }
    }
}
