//! What the simulations take from the code, from measurements, and what they assume.

use crate::engine::{MS, S, Time, US};

// From the code.

/// A leader's heartbeats (`consensus/src/raft/group.rs`).
pub const HEARTBEAT: Time = 200 * MS;
/// openraft looks at a group's clocks every 13/64 of that, in whole milliseconds (its `Config::tick_interval`).
pub const TICK: Time = HEARTBEAT / MS * 13 / 64 * MS;
/// Shortest and longest time after which a follower stands, and for how long before it keeps to its leader (`raft/group.rs`).
pub const ELECTION: (Time, Time) = (500 * MS, S);
pub const LEASE: Time = ELECTION.1;
/// Heartbeats to one node in one message, and such messages without an answer (`node/heartbeats.rs`).
pub const BATCH: u32 = 4096;
pub const UNDER_WAY: u8 = 2;
/// How far ahead a ceiling is set, and how long before it is reached the next one is (`partition/promise.rs`).
pub const CEILING: Time = 1_000 * MS;
pub const EARLY: Time = 400 * MS;
/// How often a node gives a leader away (`node/balance.rs`).
pub const BALANCE: Time = 2 * S;
/// Bytes per second at which snapshots leave a node (`PeerConfig::SNAPSHOT_RATE`).
pub const SNAPSHOT_RATE: f64 = (64 << 20) as f64;
/// Header of a frame (`peer/frame.rs`).
pub const FRAME_BYTES: u64 = 17;

// Measured: see the page. Costs are of one core.

/// Timers of an idle replica a second: 25 ticks, an observer's look and a flush's; and what one costs: 17 to 27 µs.
pub const TIMERS: f64 = 27.0;
pub const TIMER_COST: Time = 20 * US;
/// How late a tick is handled, in the mean, and how long after that the next heartbeat counts from: so chosen that heartbeats are 234 ms
/// apart as measured, since the fifth tick mostly comes just too early.
pub const LATE: f64 = 50.0 * US as f64;
pub const SENDING: Time = 60 * US;
/// A group's promise at its leader, and what a reader does for each group.
pub const PROMISE_COST: Time = 26 * US;
pub const READ_COST: Time = 7 * US;
/// A heartbeat within a message, with its answer, at either end; and a message: 10 to 45 µs, the less the more there is to do.
pub const BEAT_COST: Time = 5 * US;
pub const MESSAGE_COST: Time = 20 * US;

// Assumed.

/// Cores of a node.
pub const CORES: u64 = 16;
/// One way from node to node within a data centre: log-normal, but for a few that are held up.
pub const WIRE_MEDIAN: Time = 250 * US;
pub const WIRE_SPREAD: f64 = 0.3;
pub const WIRE_STRAGGLER: f64 = 0.001;
pub const WIRE_STRAGGLE: (Time, Time) = (MS, 10 * MS);
/// A sync of a log, log-normal.
pub const SYNC_MEDIAN: Time = 500 * US;
pub const SYNC_SPREAD: f64 = 0.4;
/// How far a node's clock is off.
pub const CLOCK_DEVIATION: f64 = 0.5 * MS as f64;
/// Commits a second in each group.
pub const COMMITS: f64 = 10.0;
/// Bytes of a group: 10^12 rows of 100 bytes in 100,000 groups.
pub const GROUP_BYTES: f64 = 1e9;

/// Bytes of a number in bincode's standard configuration, which `consensus/src/codec.rs` uses.
pub fn number_bytes(value: u64) -> u64 {
    match value {
        0..=250 => 1,
        251..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// Bytes of one heartbeat in a message: group, vote, the position before, no entries, the committed position.
pub fn beat_bytes(group: u64, leader: u64, index: u64) -> u64 {
    let leadership = 1 + number_bytes(leader);
    let position = 1 + leadership + number_bytes(index);
    number_bytes(group) + leadership + 1 + position + 1 + position
}

/// Bytes of a message of `beats` heartbeats (which take `bytes`), and of its answer, each in its frame.
pub fn call_bytes(beats: u64, bytes: u64) -> u64 {
    FRAME_BYTES + 2 + number_bytes(beats) + bytes
}

pub fn answer_bytes(beats: u64) -> u64 {
    FRAME_BYTES + 2 + number_bytes(beats) + 2 * beats
}
