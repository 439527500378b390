//! The processes of the nodes.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::layout::{self, Layout, NodeEntry};

/// A process that runs.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    pid: Pid,
}

impl Running {
    /// Its id.
    pub fn pid(self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Asks it to stop.
    pub fn terminate(self) -> Result<(), String> {
        self.signal(Signal::TERM)
    }

    /// Ends it at once.
    pub fn kill(self) -> Result<(), String> {
        self.signal(Signal::KILL)
    }

    fn signal(self, signal: Signal) -> Result<(), String> {
        match kill_process(self.pid, signal) {
            // Gone in the meantime.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(format!("process {}: {error}", self.pid())),
        }
    }

    /// Whether it is there and not only waits to be buried.
    pub fn is_alive(self) -> bool {
        // The state is the first word behind the name, which is in parentheses.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        let state = stat.ok().and_then(|stat| stat.rsplit_once(')')?.1.trim_start().chars().next());
        state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
    }
}

/// The process of a node, if it runs. Another process that was given the same id is none.
pub fn running(dir: &Path, node: &NodeEntry) -> Option<Running> {
    let text = std::fs::read_to_string(layout::pid_path(dir, node.id)).ok()?;
    let pid = Pid::from_raw(text.trim().parse().ok()?)?;
    let running = Running { pid };
    let command = std::fs::read(format!("/proc/{}/cmdline", running.pid())).ok()?;
    let own = format!("--peer-addr\0{}\0", node.peer);
    // A process that is just being started shows nothing yet.
    let ours = command.is_empty() || command.windows(own.len()).any(|window| window == own.as_bytes());
    (ours && running.is_alive()).then_some(running)
}

/// Starts a node in the background; it outlives this process.
pub fn start(dir: &Path, layout: &Layout, node: &NodeEntry) -> Result<(), String> {
    let dir = std::path::absolute(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let log_path = layout::log_path(&dir, node.id);
    let open = || OpenOptions::new().create(true).append(true).open(&log_path);
    let (out, err) = (open(), open());
    let logs = out
        .and_then(|out| Ok((out, err?)))
        .map_err(|error| format!("{}: {error}", log_path.display()))?;
    let binary = std::env::current_exe().map_err(|error| format!("the binary is not found: {error}"))?;
    let mut command = Command::new(binary);
    command
        .arg("serve")
        .arg("--data-dir")
        .arg(layout::data_dir(&dir, node.id))
        .args(["--flight-addr", &node.flight, "--http-addr", &node.http, "--peer-addr", &node.peer])
        .args(["--node-id", &node.id.to_string(), "--memory-limit", &layout.memory_limit]);
    let others = layout
        .nodes
        .iter()
        .filter(|other| other.id != node.id)
        .map(|other| other.peer.as_str());
    if node.id != layout.first()?.id {
        command.args(["--join", &others.collect::<Vec<_>>().join(",")]);
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(logs.0)
        .stderr(logs.1)
        // Signals to the terminal's group are not for it.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("node {} cannot be started: {error}", node.id))?;
    let path = layout::pid_path(&dir, node.id);
    std::fs::write(&path, child.id().to_string()).map_err(|error| format!("{}: {error}", path.display()))
}

/// The last line that a node printed: why it ended.
pub fn last_line(dir: &Path, id: u64) -> String {
    let log = std::fs::read(layout::log_path(dir, id)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    log.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it printed nothing")
        .to_owned()
}
