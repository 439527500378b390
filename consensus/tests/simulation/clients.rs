//! The workload: registers with conditional writes, transfers between accounts, rows that are written once, numbers that are given out.

use std::sync::Arc;
use std::time::Duration;

use pyralog_consensus::{ConsensusError, Node, PartitionHandle};
use pyralog_storage::{Snapshot, Timestamp, WriteSet};
use tokio::time::sleep;

use crate::history::{History, Told};
use crate::linearizable::Operation;
use crate::rows::{self, ACCOUNTS, APPENDS, BALANCE, CELLS, FIRST_ACCOUNT, REGISTERS};
use crate::world::world;

/// Longest pause between two operations of a client.
const PAUSE_MS: u64 = 120;

/// A client of one node, until the node ends.
pub async fn work(node: Arc<Node>, host: usize, client: usize) {
    let partition = node.partitions()[0].clone();
    if host == 0 && client == 0 {
        prepare(&partition).await;
    }
    loop {
        sleep(Duration::from_millis(world().below(PAUSE_MS))).await;
        if !world().working.get() {
            continue;
        }
        match world().below(100) {
            0..25 => read(&partition).await,
            25..45 => put(&partition).await,
            45..60 => swap(&partition).await,
            60..64 => delete(&partition).await,
            64..80 => transfer(&partition).await,
            80..97 => append(&partition).await,
            _ => allocate(&node).await,
        }
    }
}

/// Makes the relations and the accounts, if they are not there.
async fn prepare(partition: &PartitionHandle) {
    loop {
        if prepared(partition).await.is_ok() {
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn prepared(partition: &PartitionHandle) -> Result<(), ConsensusError> {
    for relation in [CELLS, APPENDS] {
        partition.create_relation(rows::schema(relation)).await?;
    }
    let snapshot = fresh(partition).await?;
    if rows::read(&snapshot, CELLS).iter().any(|(id, _)| *id >= FIRST_ACCOUNT) {
        return Ok(());
    }
    let accounts: Vec<(i64, u64)> = (0..ACCOUNTS).map(|number| (FIRST_ACCOUNT + number, BALANCE)).collect();
    partition.commit(rows::puts(CELLS, Some(snapshot.timestamp()), &accounts)).await?;
    Ok(())
}

async fn fresh(partition: &PartitionHandle) -> Result<Snapshot, ConsensusError> {
    partition.barrier().await?;
    partition.snapshot(None)
}

/// Commits, and says what the author may conclude.
async fn commit(partition: &PartitionHandle, what: &str, write_set: WriteSet) -> Told {
    let result = partition.commit(write_set).await;
    let told = match &result {
        Ok(timestamp) => {
            acknowledged(*timestamp);
            Told::Done
        }
        Err(ConsensusError::Unknown(_)) => Told::Unknown,
        Err(_) => Told::NotDone,
    };
    world().event(|| format!("{what}: {result:?}"));
    told
}

fn acknowledged(timestamp: Timestamp) {
    world().acknowledged.borrow_mut().push(timestamp);
}

fn a_register() -> i64 {
    world().below(REGISTERS as u64) as i64
}

async fn read(partition: &PartitionHandle) {
    let register = a_register();
    let begun = world().history.borrow_mut().begin(register, Operation::Read(None));
    let Ok(snapshot) = fresh(partition).await else {
        return world().history.borrow_mut().end(&begun, Told::NotDone);
    };
    let cells = rows::read(&snapshot, CELLS);
    let found = rows::value(&cells, register);
    world().event(|| format!("register {register} is {found:?}"));
    if let Err(error) = History::check_accounts(&cells) {
        world().violated(|| error);
    }
    let world = world();
    let mut history = world.history.borrow_mut();
    history.becomes(&begun, Operation::Read(found));
    history.end(&begun, Told::Done);
}

async fn put(partition: &PartitionHandle) {
    let (register, value) = (a_register(), world().history.borrow_mut().next_value());
    let begun = world().history.borrow_mut().begin(register, Operation::Write(value));
    let told = commit(
        partition,
        &format!("register {register} := {value}"),
        rows::puts(CELLS, None, &[(register, value)]),
    )
    .await;
    world().history.borrow_mut().end(&begun, told);
}

async fn delete(partition: &PartitionHandle) {
    let register = a_register();
    let begun = world().history.borrow_mut().begin(register, Operation::Delete);
    let told = commit(partition, &format!("register {register} goes"), rows::delete(CELLS, None, register)).await;
    world().history.borrow_mut().end(&begun, told);
}

async fn swap(partition: &PartitionHandle) {
    let register = a_register();
    let Ok(snapshot) = fresh(partition).await else { return };
    let found = rows::value(&rows::read(&snapshot, CELLS), register);
    let value = world().history.borrow_mut().next_value();
    let begun = world().history.borrow_mut().begin(register, Operation::Swap(found, value));
    let write_set = rows::puts(CELLS, Some(snapshot.timestamp()), &[(register, value)]);
    let told = commit(partition, &format!("register {register} {found:?} => {value}"), write_set).await;
    world().history.borrow_mut().end(&begun, told);
}

async fn transfer(partition: &PartitionHandle) {
    let Ok(snapshot) = fresh(partition).await else { return };
    let cells = rows::read(&snapshot, CELLS);
    let (from, to) = (world().below(ACCOUNTS as u64) as i64, world().below(ACCOUNTS as u64) as i64);
    let (from, to) = (FIRST_ACCOUNT + from, FIRST_ACCOUNT + to);
    let (Some(has), Some(gets)) = (rows::value(&cells, from), rows::value(&cells, to)) else {
        return;
    };
    if from == to || has == 0 {
        return;
    }
    let sum = 1 + world().below(has);
    let write_set = rows::puts(CELLS, Some(snapshot.timestamp()), &[(from, has - sum), (to, gets + sum)]);
    let told = commit(partition, &format!("{sum} from {from} to {to}"), write_set).await;
    world().history.borrow_mut().count(told);
}

async fn append(partition: &PartitionHandle) {
    let id = world().history.borrow_mut().begin_append();
    let told = commit(partition, &format!("row {id}"), rows::puts(APPENDS, None, &[(id, id as u64)])).await;
    world().history.borrow_mut().end_append(id, told);
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
