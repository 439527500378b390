//! `pyralog cluster`: several nodes on this machine, each a process of its own (`pyralog serve`), kept in one directory.
//!
//! ```text
//! DIR/cluster.json     the nodes and their addresses
//! DIR/node-N/          data
//! DIR/node-N.log       what the process prints
//! DIR/node-N.pid       the process
//! ```
//!
//! Every command can be given twice. Nothing here talks Raft: nodes join by themselves, and are asked over HTTP.

mod health;
mod layout;
mod process;

use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::arguments::{ClusterAction, ClusterFlags};
use crate::serve::IN_USE;
use health::Health;
use layout::{Layout, NodeEntry};
use process::Running;

/// How long a node may take to be ready: replay of a long log must fit.
const READY_LIMIT: Duration = Duration::from_secs(300);
/// How long a node may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
/// How long a port that a node had before may be another's.
const PORT_LIMIT: Duration = Duration::from_secs(65);
const PORT_PAUSE: Duration = Duration::from_millis(500);

/// Runs the command. The error is one line.
pub fn run(flags: ClusterFlags) -> Result<(), String> {
    let dir = flags.dir.as_path();
    match flags.action {
        ClusterAction::Up {
            nodes,
            base_port,
            ephemeral,
            memory_limit,
            json,
        } => {
            let layout = match Layout::read(dir)? {
                Some(layout) => layout,
                None => Layout::new(dir, nodes, base_port, ephemeral, memory_limit)?,
            };
            up(dir, &layout)?;
            show(dir, &layout, json, true)
        }
        ClusterAction::Status { json } => show(dir, &layout_of(dir)?, json, false),
        ClusterAction::Kill { node } => {
            let layout = layout_of(dir)?;
            let node = layout.node(node)?;
            match process::running(dir, node) {
                Some(running) => running.kill(),
                None => Err(format!("node {} does not run", node.id)),
            }
        }
        ClusterAction::Restart { node } => {
            let layout = layout_of(dir)?;
            let node = layout.node(node)?;
            if let Some(running) = process::running(dir, node) {
                stop(vec![(node.id, running)])?;
            }
            start_again(dir, &layout, node)
        }
        ClusterAction::Add { json } => {
            let mut layout = layout_of(dir)?;
            up(dir, &layout)?;
            let node = layout.add(dir)?;
            process::start(dir, &layout, &node)?;
            wait_ready(dir, &node)?;
            wait_voters(dir, &layout)?;
            show(dir, &layout, json, false)
        }
        ClusterAction::Remove { node } => remove(dir, layout_of(dir)?, node),
        ClusterAction::Logs { node } => {
            let layout = layout_of(dir)?;
            let path = layout::log_path(dir, layout.node(node)?.id);
            let mut log = std::fs::File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            // A reader that closes its end has seen enough.
            let _ = std::io::copy(&mut log, &mut std::io::stdout());
            Ok(())
        }
        ClusterAction::Stop => {
            let Some(layout) = Layout::read(dir)? else { return Ok(()) };
            stop_all(dir, &layout)?;
            match layout.ephemeral {
                true => remove_dir(dir),
                false => Ok(()),
            }
        }
        ClusterAction::Purge => {
            let Some(layout) = Layout::read(dir)? else { return Ok(()) };
            stop_all(dir, &layout)?;
            remove_dir(dir)
        }
    }
}

fn layout_of(dir: &Path) -> Result<Layout, String> {
    Layout::read(dir)?.ok_or_else(|| {
        format!(
            "{} holds no cluster; pyralog cluster up --dir {} makes one",
            dir.display(),
            dir.display()
        )
    })
}

/// Starts what does not run, the first node first: the others join it.
fn up(dir: &Path, layout: &Layout) -> Result<(), String> {
    let fresh = !layout::data_dir(dir, layout.first()?.id).join("FORMAT").exists();
    if fresh {
        start_if_down(dir, layout, layout.first()?)?;
        wait_ready(dir, layout.first()?)?;
    }
    for node in &layout.nodes {
        start_if_down(dir, layout, node)?;
    }
    for node in &layout.nodes {
        wait_ready(dir, node)?;
    }
    wait_voters(dir, layout)
}

fn start_if_down(dir: &Path, layout: &Layout, node: &NodeEntry) -> Result<(), String> {
    match process::running(dir, node) {
        Some(_) => Ok(()),
        None => process::start(dir, layout, node),
    }
}

/// Starts a node that has run before. Somebody who tried to reach its address meanwhile may have been given its port as his own, and where he
/// closes that connection the port stays taken for a minute (TIME_WAIT).
fn start_again(dir: &Path, layout: &Layout, node: &NodeEntry) -> Result<(), String> {
    let deadline = Instant::now() + PORT_LIMIT;
    loop {
        process::start(dir, layout, node)?;
        match wait_ready(dir, node) {
            Err(error) if error.contains(IN_USE) && Instant::now() < deadline => sleep(PORT_PAUSE),
            outcome => return outcome,
        }
    }
}

fn wait_ready(dir: &Path, node: &NodeEntry) -> Result<(), String> {
    let deadline = Instant::now() + READY_LIMIT;
    loop {
        if health::of(node).is_some_and(|health| health.ready) {
            return Ok(());
        }
        if process::running(dir, node).is_none() {
            return Err(format!("node {} ended: {}", node.id, process::last_line(dir, node.id)));
        }
        if Instant::now() > deadline {
            return Err(format!(
                "node {} is not ready after {} s; see pyralog cluster logs {} --dir {}",
                node.id,
                READY_LIMIT.as_secs(),
                node.id,
                dir.display()
            ));
        }
        sleep(PAUSE);
    }
}

/// Waits until every node of the layout votes in every group, and one node leads each.
fn wait_voters(dir: &Path, layout: &Layout) -> Result<(), String> {
    let deadline = Instant::now() + READY_LIMIT;
    let ids: Vec<u64> = layout.nodes.iter().map(|node| node.id).collect();
    let complete = |health: &Health| {
        health
            .groups
            .iter()
            .all(|group| group.leader.is_some() && ids.iter().all(|id| group.voters.contains(id)))
    };
    for node in &layout.nodes {
        while !health::of(node).is_some_and(|health| complete(&health)) {
            if process::running(dir, node).is_none() {
                return Err(format!("node {} ended: {}", node.id, process::last_line(dir, node.id)));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "the nodes do not find each other; see pyralog cluster logs N --dir {}",
                    dir.display()
                ));
            }
            sleep(PAUSE);
        }
    }
    Ok(())
}

fn remove(dir: &Path, mut layout: Layout, id: u64) -> Result<(), String> {
    let node = layout.node(id)?.clone();
    let others = layout.nodes.iter().filter(|other| other.id != id);
    let Some(asked) = others.clone().find(|other| health::of(other).is_some_and(|health| health.ready)) else {
        return Err(format!("no other node is ready to take node {id} out"));
    };
    health::remove(asked, id)?;
    if let Some(running) = process::running(dir, &node) {
        stop(vec![(id, running)])?;
    }
    layout.remove(dir, id)
}

fn stop_all(dir: &Path, layout: &Layout) -> Result<(), String> {
    let running = layout.nodes.iter().filter_map(|node| Some((node.id, process::running(dir, node)?)));
    stop(running.collect())
}

/// Ends processes together: first politely, then by force.
fn stop(nodes: Vec<(u64, Running)>) -> Result<(), String> {
    for (_, running) in &nodes {
        running.terminate()?;
    }
    let deadline = Instant::now() + STOP_LIMIT;
    for (id, running) in &nodes {
        while running.is_alive() {
            if Instant::now() > deadline {
                eprintln!("node {id} does not stop and is killed");
                running.kill()?;
            }
            sleep(PAUSE);
        }
    }
    Ok(())
}

fn remove_dir(dir: &Path) -> Result<(), String> {
    std::fs::remove_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))
}

/// Prints the nodes.
fn show(dir: &Path, layout: &Layout, json: bool, hint: bool) -> Result<(), String> {
    let nodes: Vec<Value> = layout.nodes.iter().map(|node| describe(dir, node)).collect();
    let mut out = std::io::stdout().lock();
    let text = match json {
        true => format!("{}\n", json!({ "nodes": nodes })),
        false => table(layout, &nodes, hint),
    };
    // A reader that closes its end has seen enough.
    let _ = out.write_all(text.as_bytes());
    Ok(())
}

fn describe(dir: &Path, node: &NodeEntry) -> Value {
    let running = process::running(dir, node);
    let health = running.as_ref().and_then(|_| health::of(node));
    let status = match (&running, &health) {
        (None, _) => "down",
        (Some(_), Some(health)) if health.ready => "ready",
        (Some(_), _) => "starting",
    };
    let leads: Vec<&str> = health
        .iter()
        .flat_map(|health| &health.groups)
        .filter(|group| group.leader == Some(node.id))
        .map(|group| group.name.as_str())
        .collect();
    json!({
        "id": node.id,
        "status": status,
        "pid": running.map(|running| running.pid()),
        "flight": format!("grpc://{}", node.flight),
        "http": format!("http://{}", node.http),
        "peer": node.peer,
        "data_dir": layout::data_dir(dir, node.id),
        "leads": leads,
    })
}

fn table(layout: &Layout, nodes: &[Value], hint: bool) -> String {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    let columns = ["id", "status", "pid", "flight", "http", "leads"];
    let rows: Vec<Vec<String>> = std::iter::once(columns.map(str::to_owned).to_vec())
        .chain(nodes.iter().map(|node| columns.iter().map(|column| text(&node[column])).collect()))
        .collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    if let Some(node) = layout.nodes.first().filter(|_| hint) {
        out.push_str(&format!("\npyralog sql --url grpc://{}\n", node.flight));
    }
    out
}
