//! A server process under test: started on free ports with its own directory, killed, restarted, stopped, watched.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pyralog_client::{Client, ClientConfig};
use tempfile::TempDir;

use crate::http::{self, Response};
use crate::{binary, measure, memory};

/// How long a server may take until `/health` answers 200.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long a server may take to stop after SIGTERM.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// The data directory; `None`: a temporary one that goes with the server.
    pub data_dir: Option<PathBuf>,
    /// More arguments of `pyralog serve`; `{http-port}` in them stands for the (first) server's HTTP port.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: Vec<(String, String)>,
}

impl ServerOptions {
    /// The server's `--memory-limit`.
    pub fn memory_limit(mut self, limit: &str) -> Self {
        self.args.extend(["--memory-limit".to_owned(), limit.to_owned()]);
        self
    }

    /// Keeps its data in a directory of the caller's.
    pub fn data_dir(mut self, dir: &Path) -> Self {
        self.data_dir = Some(dir.to_path_buf());
        self
    }
}

/// Why a server did not start.
#[derive(Debug)]
pub struct StartFailure {
    /// The exit status; `None`: it ran but was not ready in time (and was killed).
    pub status: Option<ExitStatus>,
    /// What it printed in this run.
    pub output: String,
}

/// A server process. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    data_dir: PathBuf,
    scratch: TempDir,
    child: Option<Child>,
    flight_port: u16,
    http_port: u16,
    peer_port: u16,
    /// Bytes of the output that earlier runs wrote.
    output_before: u64,
    /// The other nodes, where the tests run against a cluster.
    companions: Vec<Companion>,
    /// Counts connections and requests, which go to one node after the other.
    turn: AtomicUsize,
}

/// Another node of the server's cluster.
#[derive(Debug)]
struct Companion {
    child: Child,
    flight_port: u16,
    http_port: u16,
}

/// Nodes that a server of a test has: `PYRALOG_TEST_NODES`, or one.
fn nodes() -> usize {
    measure::setting("PYRALOG_TEST_NODES", 1_i64).clamp(1, 9) as usize
}

impl Server {
    /// Starts a server with an empty directory and default settings.
    pub fn start() -> Server {
        Server::start_with(ServerOptions::default())
    }

    /// Starts a server.
    pub fn start_with(options: ServerOptions) -> Server {
        let mut server = Server::prepare(options);
        if let Err(failure) = server.launch() {
            panic!("the server did not start ({:?}):\n{}", failure.status, failure.output);
        }
        server
    }

    /// A server that is not started yet; see [`launch`](Server::launch).
    pub fn prepare(options: ServerOptions) -> Server {
        let scratch = tempfile::Builder::new()
            .prefix("pyralog-test-")
            .tempdir()
            .expect("temporary directory");
        let data_dir = options.data_dir.clone().unwrap_or_else(|| scratch.path().join("data"));
        let (flight_port, http_port) = (free_port(), free_port());
        Server {
            options,
            data_dir,
            scratch,
            child: None,
            flight_port,
            http_port,
            output_before: 0,
            companions: Vec::new(),
            turn: AtomicUsize::new(0),
            peer_port: free_port(),
        }
    }

    /// Starts the process and waits until it is ready. Takes other ports if somebody else took these meanwhile.
    pub fn launch(&mut self) -> Result<(), StartFailure> {
        for _ in 0..3 {
            match self.launch_once() {
                Err(failure) if failure.output.contains("in use") => {
                    (self.flight_port, self.http_port) = (free_port(), free_port());
                }
                other => return other,
            }
        }
        self.launch_once()
    }

    fn launch_once(&mut self) -> Result<(), StartFailure> {
        assert!(self.child.is_none(), "the server runs already");
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.output_path())
            .expect("output file");
        self.output_before = output.metadata().expect("output file").len();
        let mut peer = Vec::new();
        if nodes() > 1 {
            peer = vec!["--peer-addr".to_owned(), format!("127.0.0.1:{}", self.peer_port)];
        }
        self.child = Some(self.spawn(&self.data_dir, (self.flight_port, self.http_port), &peer, output));
        self.wait_until_ready()?;
        while self.companions.len() + 1 < nodes() {
            let companion = self.start_companion();
            self.companions.push(companion);
        }
        Ok(())
    }

    fn spawn(&self, data_dir: &Path, ports: (u16, u16), peer: &[String], output: File) -> Child {
        Command::new(binary::path())
            .arg("serve")
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--flight-addr", &format!("127.0.0.1:{}", ports.0)])
            .args(["--http-addr", &format!("127.0.0.1:{}", ports.1)])
            .args(peer)
            .args(
                self.options
                    .args
                    .iter()
                    .map(|arg| arg.replace("{http-port}", &self.http_port.to_string())),
            )
            .envs(self.options.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("output file"))
            .stderr(output)
            .spawn()
            .expect("the binary runs")
    }

    /// Starts one node more and waits until it votes in every group.
    fn start_companion(&self) -> Companion {
        let number = self.companions.len() + 2;
        let (flight_port, http_port) = (free_port(), free_port());
        let peer = [
            "--peer-addr".to_owned(),
            format!("127.0.0.1:{}", free_port()),
            "--join".to_owned(),
            format!("127.0.0.1:{}", self.peer_port),
        ];
        let output = File::create(self.scratch.path().join(format!("companion-{number}.log"))).expect("output file");
        let data_dir = self.scratch.path().join(format!("companion-{number}"));
        let child = self.spawn(&data_dir, (flight_port, http_port), &peer, output);
        let started = Instant::now();
        let votes = || {
            let health = http::try_request(http_port, "GET", "/health", &[], b"")
                .ok()
                .filter(|health| health.status == 200)?;
            let health: serde_json::Value = serde_json::from_slice(&health.body).ok()?;
            let groups = health["groups"].as_array()?.clone();
            Some(
                groups
                    .iter()
                    .all(|group| group["voters"].as_array().is_some_and(|voters| voters.contains(&health["node"]))),
            )
        };
        while votes() != Some(true) {
            assert!(started.elapsed() < READY_WITHIN, "node {number} did not join");
            std::thread::sleep(Duration::from_millis(10));
        }
        Companion {
            child,
            flight_port,
            http_port,
        }
    }

    /// The node whose turn it is: 0 is the server itself.
    fn next_node(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % (self.companions.len() + 1)
    }

    fn wait_until_ready(&mut self) -> Result<(), StartFailure> {
        let started = Instant::now();
        while started.elapsed() < READY_WITHIN {
            let child = self.child.as_mut().expect("child");
            if let Some(status) = child.try_wait().expect("child state") {
                self.child = None;
                return Err(StartFailure {
                    status: Some(status),
                    output: self.output_of_this_run(),
                });
            }
            if http::try_request(self.http_port, "GET", "/health", &[], b"").is_ok_and(|response| response.status == 200) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
        Err(StartFailure {
            status: None,
            output: self.output_of_this_run(),
        })
    }

    /// Kills the process as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself a moment ago; waiting tells no more than that.
            let _ = child.kill();
            child.wait().expect("child state");
        }
    }

    /// Stops the process as `kill` does, and gives its exit status.
    pub fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server runs");
        let sent = Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(sent.success(), "SIGTERM could not be sent");
        let started = Instant::now();
        while started.elapsed() < STOPPED_WITHIN {
            if let Some(status) = child.try_wait().expect("child state") {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().expect("kill");
        child.wait().expect("child state");
        panic!(
            "the server did not stop within {STOPPED_WITHIN:?} of SIGTERM:\n{}",
            self.output_of_this_run()
        );
    }

    /// Kills and starts again.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// Starts again after a stop or a kill, on the same ports.
    pub fn restart(&mut self) {
        if let Err(failure) = self.launch() {
            panic!("the server did not start again ({:?}):\n{}", failure.status, failure.output);
        }
    }

    /// Whether the process runs.
    pub fn is_alive(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| child.try_wait().expect("child state").is_none())
    }

    /// A new connection and session.
    pub async fn client(&self) -> Client {
        Client::connect(self.flight_url()).await.expect("connection")
    }

    /// A new connection and session with settings; the address in them is replaced.
    pub async fn client_with(&self, set: impl FnOnce(ClientConfig) -> ClientConfig) -> Client {
        Client::connect(set(ClientConfig::new(&self.flight_url()).expect("address")))
            .await
            .expect("connection")
    }

    /// A new connection and session, over which a table was made: `t (id BIGINT PRIMARY KEY)`.
    pub async fn client_with_table(&self, table: &str) -> Client {
        let db = self.client().await;
        db.sql(format!("CREATE TABLE {table}"))
            .execute()
            .await
            .unwrap_or_else(|error| panic!("{table}: {error}"));
        db
    }

    /// The Flight SQL address.
    /// Of each node in turn, where the server is a cluster.
    pub fn flight_url(&self) -> String {
        let port = match self.next_node() {
            0 => self.flight_port,
            node => self.companions[node - 1].flight_port,
        };
        format!("grpc://127.0.0.1:{port}")
    }

    /// The Flight SQL port.
    pub fn flight_port(&self) -> u16 {
        self.flight_port
    }

    /// The HTTP port; of each node in turn, where the server is a cluster.
    pub fn http_port(&self) -> u16 {
        match self.next_node() {
            0 => self.http_port,
            node => self.companions[node - 1].http_port,
        }
    }

    /// The HTTP port of the server itself, also where it is a cluster.
    pub fn first_http_port(&self) -> u16 {
        self.http_port
    }

    /// An HTTP request.
    pub fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        http::request(self.http_port(), method, path, headers, body)
    }

    /// A statement over `POST /sql`; the answer's JSON.
    pub fn http_sql(&self, query: &str) -> serde_json::Value {
        let body = serde_json::json!({ "query": query }).to_string();
        let response = self.http("POST", "/sql", &[("Content-Type", "application/json")], body.as_bytes());
        assert_eq!(response.status, 200, "{query}: {}", response.text());
        serde_json::from_slice(&response.body).expect("JSON")
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Resident memory in bytes: what `--memory-limit` bounds.
    pub fn resident_memory_bytes(&self) -> u64 {
        memory::resident_bytes(self.pid()).expect("the server runs")
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Everything printed in all runs.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.output_path()).unwrap_or_default()).into_owned()
    }

    /// What the current or last run printed.
    pub fn output_of_this_run(&self) -> String {
        let all = std::fs::read(self.output_path()).unwrap_or_default();
        let start = usize::try_from(self.output_before).expect("size").min(all.len());
        String::from_utf8_lossy(&all[start..]).into_owned()
    }

    /// Fails if any run of the server panicked.
    pub fn assert_no_panic(&self) {
        let output = self.output();
        let panics: Vec<&str> = output.lines().filter(|line| line.contains("panicked at")).collect();
        assert!(panics.is_empty(), "the server panicked: {panics:#?}");
    }

    fn output_path(&self) -> PathBuf {
        self.scratch.path().join("output.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        for companion in &mut self.companions {
            // It may have ended by itself.
            let _ = companion.child.kill();
            let _ = companion.child.wait();
        }
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            // A panic's trace is longer than the tail, and its head is what matters.
            if let Some(panic) = lines.iter().position(|line| line.contains("panicked at")) {
                eprintln!("--- the server's first panic:");
                lines[panic..].iter().take(60).for_each(|line| eprintln!("{line}"));
            }
            eprintln!("--- the server's last lines:");
            lines[lines.len().saturating_sub(40)..].iter().for_each(|line| eprintln!("{line}"));
        } else {
            self.assert_no_panic();
        }
    }
}

/// A port that nobody listens on now, and that this process has not given out lately.
pub fn free_port() -> u16 {
    free_ports(1)
}

/// The first of so many such ports in a row. They lie below those that the system gives to outgoing connections (from 32768 on), of which
/// the tests make many: one of them must not take a port before its server does.
pub fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    const FIRST: usize = 10_000;
    const COUNT: usize = 22_000;
    // Processes of one machine begin at different places.
    let own = std::process::id() as usize * 997;
    for _ in 0..COUNT {
        let first = (FIRST + (own + NEXT.fetch_add(count.into(), Ordering::Relaxed)) % COUNT) as u16;
        if (first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
    panic!("no {count} ports in a row are free");
}
