//! `GET /health`: ready or not, with node, version, groups and their leaders, and who is connected.

use actix_web::HttpResponse;
use pyralog_models::DatabaseStatus;
use serde_json::{Map, Value, json};

use super::State;

/// Status 200 when every group has a leader that this node reaches, and a majority; 503 otherwise. The body is the same.
pub async fn health(state: State) -> HttpResponse {
    let status = state.database.status();
    let body = describe(&status, state.started.elapsed().as_secs());
    let mut response = if is_ready(&status) {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    response.insert_header(("Cache-Control", "no-store")).json(body)
}

fn is_ready(status: &DatabaseStatus) -> bool {
    !status.node.groups.is_empty()
        && status
            .node
            .groups
            .iter()
            .all(|group| group.leader_id.is_some() && group.quorum && group.stopped.is_none())
}

fn describe(status: &DatabaseStatus, uptime_seconds: u64) -> Value {
    let node = &status.node;
    let groups: Vec<Value> = node
        .groups
        .iter()
        .map(|group| {
            json!({
                "name": group.name,
                "leader": group.leader,
                "quorum": group.quorum,
                "term": group.term,
                "last_index": group.last_index,
                "applied_index": group.applied_index,
                "purged_index": group.purged_index,
                "voters": group.voters,
                "learners": group.learners,
                "stopped": group.stopped,
            })
        })
        .collect();
    let leaders: Map<String, Value> = node
        .groups
        .iter()
        .map(|group| (group.name.clone(), group.leader_id.map_or(Value::Null, Value::from)))
        .collect();
    let peers: Map<String, Value> = node
        .peers
        .iter()
        .map(|peer| (peer.node.to_string(), Value::from(peer.connected)))
        .collect();
    json!({
        "status": if is_ready(status) { "ready" } else { "not ready" },
        "node": node.node_id,
        "database": node.database_id,
        "version": status.version,
        "uptime_seconds": uptime_seconds,
        "groups": groups,
        "leaders": leaders,
        "connected": peers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_without_leader_is_not_ready() {
        let mut status = DatabaseStatus {
            version: "1".into(),
            ..DatabaseStatus::default()
        };
        assert!(!is_ready(&status));
        status.node.node_id = 7;
        status.node.groups.resize_with(2, Default::default);
        status.node.groups[0].name = "meta".into();
        status.node.groups[1].name = "p0".into();
        status.node.groups[0].leader_id = Some(7);
        assert!(!is_ready(&status));
        assert_eq!(describe(&status, 1)["leaders"], json!({"meta": 7, "p0": null}));
        status.node.groups[1].leader_id = Some(7);
        assert!(!is_ready(&status), "a leader without a majority");
        status.node.groups.iter_mut().for_each(|group| group.quorum = true);
        assert!(is_ready(&status));
        assert_eq!(describe(&status, 1)["status"], "ready");
    }
}
