//! What a node says of itself over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::layout::NodeEntry;

const CONNECT_LIMIT: Duration = Duration::from_millis(500);
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
const REMOVE_LIMIT: Duration = Duration::from_secs(60);
/// An answer is never near this long.
const MAX_BYTES: u64 = 1 << 20;

/// A node's state.
#[derive(Debug, Clone)]
pub struct Health {
    /// Whether it answers statements.
    pub ready: bool,
    /// Its groups.
    pub groups: Vec<GroupHealth>,
}

/// A group as a node sees it.
#[derive(Debug, Clone)]
pub struct GroupHealth {
    /// Its name.
    pub name: String,
    /// The node that leads it.
    pub leader: Option<u64>,
    /// The nodes that vote.
    pub voters: Vec<u64>,
}

/// Asks a node; `None`: it does not answer.
pub fn of(node: &NodeEntry) -> Option<Health> {
    let (status, body) = request(&node.http, "GET", "/health", ANSWER_LIMIT).ok()?;
    let body: Value = serde_json::from_str(&body).ok()?;
    let groups = body["groups"].as_array()?.iter().map(|group| {
        let name = group["name"].as_str()?.to_owned();
        Some(GroupHealth {
            leader: body["leaders"][&name].as_u64(),
            voters: group["voters"].as_array()?.iter().filter_map(Value::as_u64).collect(),
            name,
        })
    });
    Some(Health {
        ready: status == 200,
        groups: groups.collect::<Option<Vec<_>>>()?,
    })
}

/// Has a node take another one out of the cluster.
pub fn remove(node: &NodeEntry, removed: u64) -> Result<(), String> {
    let answer = request(&node.http, "DELETE", &format!("/cluster/nodes/{removed}"), REMOVE_LIMIT);
    match answer.map_err(|error| format!("node {} does not answer: {error}", node.id))? {
        (204, _) => Ok(()),
        (_, body) => {
            let body: Value = serde_json::from_str(&body).unwrap_or_default();
            Err(body["error"]["message"].as_str().unwrap_or("the node refused").to_owned())
        }
    }
}

/// One request to a node of this machine: a status and a short body. Not for anything else.
fn request(address: &str, method: &str, path: &str, limit: Duration) -> std::io::Result<(u16, String)> {
    let invalid = |what: &'static str| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    let socket: SocketAddr = address.parse().map_err(|_| invalid("no address"))?;
    let mut stream = TcpStream::connect_timeout(&socket, CONNECT_LIMIT)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(MAX_BYTES).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| invalid("no HTTP answer"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| invalid("no HTTP status"))?, body.to_owned()))
}
