//! The workload: registers with conditional writes, transfers between accounts, rows that are written once, requests that are tried through
//! several nodes, numbers that are given out. Rows lie in as many partitions as the seed has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pyralog_consensus::{Commit, ConsensusError, Moment, Node, Request, RequestId, Tried};
use pyralog_storage::{PartitionId, RelationId, Snapshot, WriteSet};
use tokio::time::sleep;

use crate::history::{History, Told};
use crate::linearizable::Operation;
use crate::rows::{self, ACCOUNTS, APPENDS, BALANCE, CELLS, FIRST_ACCOUNT, MOST_TRIES, REGISTERS, TRIES};
use crate::world::world;

/// Longest pause between two operations of a client.
const PAUSE_MS: u64 = 120;
/// Requests of which one is tried again.
const LAST_REQUESTS: u64 = 5;

/// Of a thousand reads, how many other nodes are to repeat.
const TAKEN: u32 = 300;
/// States that wait for that.
const MOST_TAKEN: usize = 4;

/// A state that a node has read, by partition.
pub struct Taken {
    host: usize,
    moment: Moment,
    rows: Vec<Rows>,
}

/// What a snapshot holds, by relation.
type Rows = [Vec<(i64, u64)>; 3];

type Parts = Vec<(PartitionId, WriteSet)>;

/// A client of one node, until the node ends.
pub async fn work(node: Arc<Node>, host: usize, client: usize) {
    if host == 0 && client == 0 {
        prepare(&node).await;
    }
    loop {
        sleep(Duration::from_millis(world().below(PAUSE_MS))).await;
        if !world().working.get() {
            continue;
        }
        match world().below(100) {
            0..21 => read(&node, host).await,
            21..25 => read_again(&node, host).await,
            25..42 => put(&node).await,
            42..56 => swap(&node).await,
            56..60 => delete(&node).await,
            60..76 => transfer(&node).await,
            76..90 => append(&node).await,
            90..97 => request(&node).await,
            _ => allocate(&node).await,
        }
    }
}

/// Makes the relations and the accounts, if they are not there.
async fn prepare(node: &Node) {
    loop {
        if prepared(node).await.is_ok() {
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn prepared(node: &Node) -> Result<(), ConsensusError> {
    for partition in node.partitions() {
        for relation in [CELLS, APPENDS, TRIES] {
            partition.create_relation(rows::schema(relation)).await?;
        }
    }
    let snapshots = fresh(node).await?;
    if rows::read_all(&snapshots, CELLS).iter().any(|(id, _)| *id >= FIRST_ACCOUNT) {
        return Ok(());
    }
    let accounts: Vec<(i64, u64)> = (0..ACCOUNTS).map(|number| (FIRST_ACCOUNT + number, BALANCE)).collect();
    node.commit(rows::parts(
        node.partitions().len(),
        CELLS,
        Some(snapshots[0].timestamp()),
        &accounts,
    ))
    .await?;
    Ok(())
}

async fn fresh(node: &Node) -> Result<Vec<Snapshot>, ConsensusError> {
    Ok(fresh_and_moment(node).await?.0)
}

async fn fresh_and_moment(node: &Node) -> Result<(Vec<Snapshot>, Option<Moment>), ConsensusError> {
    if let [only] = node.partitions() {
        only.barrier().await?;
    }
    node.snapshots_and_moment().await
}

/// Commits, and says what the author may conclude.
async fn commit(node: &Node, what: &str, parts: Parts) -> Told {
    told(what, carry_out(node, parts, None).await)
}

async fn carry_out(node: &Node, parts: Parts, request: Option<Request>) -> Result<Commit, ConsensusError> {
    let only = (parts.len() == 1).then(|| parts[0].0);
    let result = node.carry_out(parts, request).await;
    if let (Ok(Commit { timestamp, repeated: None }), Some(partition)) = (&result, only)
        && request.is_none_or(|request| request.tried == Tried::First)
    {
        world().acknowledged.borrow_mut().push((partition, *timestamp));
    }
    result
}

fn told(what: &str, result: Result<Commit, ConsensusError>) -> Told {
    world().event(|| format!("{what}: {result:?}"));
    match &result {
        Ok(_) => Told::Done,
        Err(ConsensusError::Unknown(_)) => Told::Unknown,
        Err(_) => Told::NotDone,
    }
}

fn a_register() -> i64 {
    world().below(REGISTERS as u64) as i64
}

fn to_put(node: &Node, relation: RelationId, snapshots: Option<&[Snapshot]>, rows: &[(i64, u64)]) -> Parts {
    let start = snapshots.map(|snapshots| snapshots[0].timestamp());
    rows::parts(node.partitions().len(), relation, start, rows)
}

fn all_rows(snapshot: &Snapshot) -> Rows {
    [CELLS, APPENDS, TRIES].map(|relation| rows::read(snapshot, relation))
}

/// Keeps a state for other nodes to read again.
fn take(host: usize, snapshots: &[Snapshot], moment: Option<Moment>) {
    let Some(moment) = moment.filter(|_| world().chance(TAKEN)) else {
        return;
    };
    let rows = snapshots.iter().map(all_rows).collect();
    let world = world();
    let mut taken = world.taken.borrow_mut();
    taken.truncate(MOST_TAKEN - 1);
    taken.push_front(Taken { host, moment, rows });
}

/// Reads what another node has read, at the same moment.
async fn read_again(node: &Node, host: usize) {
    let taken = {
        let world = world();
        let mut taken = world.taken.borrow_mut();
        let of_another = taken.iter().position(|taken| taken.host != host);
        of_another.and_then(|number| taken.remove(number))
    };
    let Some(Taken { host: first, moment, rows }) = taken else { return };
    let pins = (0..rows.len()).map(|number| node.pin(number, moment.timestamp));
    let pins: Result<Vec<_>, _> = pins.collect();
    let Ok(pins) = pins else {
        return world().event(|| format!("what n{} has read at {:?} is forgotten", first + 1, moment.timestamp));
    };
    for (pinned, (applied, expected)) in pins.into_iter().zip(moment.applied.iter().zip(rows)) {
        let number = pinned.partition();
        match node.snapshot_when_applied(pinned, *applied).await {
            Ok(snapshot) => {
                let found = all_rows(&snapshot);
                world().event(|| format!("reads p{number} at {:?} as n{} has", moment.timestamp, first + 1));
                if found != expected {
                    world().violated(|| {
                        format!(
                            "p{number} at {moment:?} is {found:?} at n{}, and was {expected:?} at n{}",
                            host + 1,
                            first + 1
                        )
                    });
                }
            }
            Err(error) => world().event(|| format!("cannot read p{number} as n{} has: {error}", first + 1)),
        }
    }
}

async fn read(node: &Node, host: usize) {
    let register = a_register();
    let begun = world().history.borrow_mut().begin(register, Operation::Read(None));
    let Ok((snapshots, moment)) = fresh_and_moment(node).await else {
        return world().history.borrow_mut().end(&begun, Told::NotDone);
    };
    take(host, &snapshots, moment);
    let cells = rows::read_all(&snapshots, CELLS);
    let found = rows::value(&cells, register);
    world().event(|| format!("register {register} is {found:?} at {:?}", snapshots[0].timestamp()));
    if let Err(error) = History::check_accounts(&cells) {
        world().violated(|| error);
    }
    let world = world();
    let mut history = world.history.borrow_mut();
    history.becomes(&begun, Operation::Read(found));
    history.end(&begun, Told::Done);
}

async fn put(node: &Node) {
    let (register, value) = (a_register(), world().history.borrow_mut().next_value());
    let begun = world().history.borrow_mut().begin(register, Operation::Write(value));
    let told = commit(
        node,
        &format!("register {register} := {value}"),
        to_put(node, CELLS, None, &[(register, value)]),
    )
    .await;
    world().history.borrow_mut().end(&begun, told);
}

async fn delete(node: &Node) {
    let register = a_register();
    let begun = world().history.borrow_mut().begin(register, Operation::Delete);
    let home = rows::home(register, node.partitions().len());
    let parts = vec![(home, rows::delete(CELLS, None, register))];
    let told = commit(node, &format!("register {register} goes"), parts).await;
    world().history.borrow_mut().end(&begun, told);
}

async fn swap(node: &Node) {
    let register = a_register();
    let Ok(snapshots) = fresh(node).await else { return };
    let found = rows::value(&rows::read_all(&snapshots, CELLS), register);
    let value = world().history.borrow_mut().next_value();
    let begun = world().history.borrow_mut().begin(register, Operation::Swap(found, value));
    let parts = to_put(node, CELLS, Some(&snapshots), &[(register, value)]);
    let told = commit(node, &format!("register {register} {found:?} => {value}"), parts).await;
    world().history.borrow_mut().end(&begun, told);
}

async fn transfer(node: &Node) {
    let Ok(snapshots) = fresh(node).await else { return };
    let cells = rows::read_all(&snapshots, CELLS);
    let (from, to) = (world().below(ACCOUNTS as u64) as i64, world().below(ACCOUNTS as u64) as i64);
    let (from, to) = (FIRST_ACCOUNT + from, FIRST_ACCOUNT + to);
    let (Some(has), Some(gets)) = (rows::value(&cells, from), rows::value(&cells, to)) else {
        return;
    };
    if from == to || has == 0 {
        return;
    }
    let sum = 1 + world().below(has);
    let parts = to_put(node, CELLS, Some(&snapshots), &[(from, has - sum), (to, gets + sum)]);
    let told = commit(node, &format!("{sum} from {from} to {to}"), parts).await;
    world().history.borrow_mut().count(told);
}

/// A row, or several at once: all of them, or none.
async fn append(node: &Node) {
    let count = [1, 1, 2, 4][world().below(4) as usize];
    let ids = world().history.borrow_mut().begin_appends(count);
    let rows: Vec<(i64, u64)> = ids.iter().map(|id| (*id, ids[0] as u64)).collect();
    let told = commit(node, &format!("rows {ids:?}"), to_put(node, APPENDS, None, &rows)).await;
    for id in ids {
        world().history.borrow_mut().end_append(id, told);
    }
}

/// A try of a request: the first, or one more of a request that any client began. Each writes rows of its own, in partitions of its own.
async fn request(node: &Node) {
    let world = world();
    let known = world.history.borrow().requests();
    let number = match known > 0 && world.chance(650) {
        true => known - 1 - world.below(LAST_REQUESTS.min(known)),
        false => known,
    };
    let Some(tried) = world.history.borrow_mut().begin_try(number, MOST_TRIES as u64) else {
        return;
    };
    let request = Request {
        id: RequestId {
            client: 0x1234_5678_9abc + u128::from(number % 3),
            serial: number,
            part: 0,
        },
        settled: number.saturating_sub(4 * LAST_REQUESTS),
        rows: tried,
        tried: if tried == 0 { Tried::First } else { Tried::Again },
    };
    let id = number as i64 * MOST_TRIES + tried as i64;
    // A partition is drawn for it, so that tries differ in where they write. The rows say what they belong to.
    let spread: i64 = 1 << 40;
    let rows: BTreeMap<i64, u64> = (0..1 + world.below(3))
        .map(|_| (id + spread * world.below(8) as i64, id as u64))
        .collect();
    let parts = by_spread(node, &rows, spread);
    let told = told(
        &format!("request {number}, try {tried}"),
        carry_out(node, parts, Some(request)).await,
    );
    world.history.borrow_mut().end_try(number, told);
}

fn by_spread(node: &Node, rows: &BTreeMap<i64, u64>, spread: i64) -> Parts {
    let count = node.partitions().len();
    let mut by_home: BTreeMap<PartitionId, Vec<(i64, u64)>> = BTreeMap::new();
    for (id, value) in rows {
        let home = PartitionId((id / spread) as u32 % count as u32);
        by_home.entry(home).or_default().push((*id, *value));
    }
    by_home
        .into_iter()
        .map(|(home, rows)| (home, rows::puts(TRIES, None, &rows)))
        .collect()
}

async fn allocate(node: &Node) {
    let number = node.meta().allocate("test", 1).await;
    world().event(|| format!("number: {number:?}"));
    if let Ok(number) = number {
        let counted = world().history.borrow_mut().allocated(number);
        if let Err(error) = counted {
            world().violated(|| error);
        }
    }
}
