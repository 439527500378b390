//! The machinery of the simulations: events in the order of their time, processors, logs with one sync for all that wait, randomness.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::model::{CORES, SYNC_MEDIAN, SYNC_SPREAD, WIRE_MEDIAN, WIRE_SPREAD, WIRE_STRAGGLE, WIRE_STRAGGLER};

/// Nanoseconds since the simulation's beginning.
pub type Time = u64;

pub const US: Time = 1_000;
pub const MS: Time = 1_000 * US;
pub const S: Time = 1_000 * MS;

/// What happens, by time; at one time in the order in which it was planned.
pub struct Events<E> {
    pub now: Time,
    heap: BinaryHeap<Reverse<(Time, u64)>>,
    planned: Vec<Option<E>>,
    free: Vec<usize>,
    number: u64,
}

/// Bits of an event's order that name its place.
const PLACE_BITS: u32 = 24;

impl<E> Events<E> {
    pub fn new() -> Events<E> {
        Events {
            now: 0,
            heap: BinaryHeap::new(),
            planned: Vec::new(),
            free: Vec::new(),
            number: 0,
        }
    }

    pub fn plan(&mut self, at: Time, event: E) {
        let place = self.free.pop().unwrap_or(self.planned.len());
        assert!(place < 1 << PLACE_BITS, "too many events at once");
        match self.planned.get_mut(place) {
            Some(free) => *free = Some(event),
            None => self.planned.push(Some(event)),
        }
        self.number += 1;
        self.heap
            .push(Reverse((at.max(self.now), self.number << PLACE_BITS | place as u64)));
    }

    /// The next event before `end`, at whose time it is now.
    pub fn next(&mut self, end: Time) -> Option<E> {
        let Reverse((at, order)) = *self.heap.peek()?;
        if at >= end {
            return None;
        }
        self.heap.pop();
        self.now = at;
        let place = (order & ((1 << PLACE_BITS) - 1)) as usize;
        self.free.push(place);
        self.planned[place].take()
    }
}

/// A node's processors, that work in the order of arrival.
#[derive(Clone, Default)]
pub struct Cpu {
    free: Time,
    /// What they have worked, all together.
    pub busy: Time,
}

impl Cpu {
    /// Work that one core does, while others do other work; when it is done.
    pub fn work(&mut self, at: Time, cost: Time) -> Time {
        self.busy += cost;
        self.free = self.free.max(at) + cost / CORES;
        self.free.max(at + cost)
    }
}

/// A node's log: what waits while a sync is under way shares the next one (`consensus/src/log/writer.rs`).
#[derive(Clone, Default)]
pub struct Disk {
    /// End of the sync that is under way.
    end: Time,
    /// End of the one after it, if anything waits for it.
    next: Option<Time>,
    pub syncs: u64,
}

impl Disk {
    /// When a record that is submitted now is durable. Calls are in the order of time.
    pub fn sync(&mut self, now: Time, random: &mut Random) -> Time {
        if let Some(next) = self.next.filter(|_| now >= self.end) {
            (self.end, self.next) = (next, None);
        }
        if now >= self.end {
            self.end = now + random.sync();
            self.syncs += 1;
            return self.end;
        }
        *self.next.get_or_insert_with(|| {
            self.syncs += 1;
            self.end + random.sync()
        })
    }
}

/// A generator of random numbers: SplitMix64 (Steele, Lea and Flood 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// At least 0, below 1.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    pub fn between(&mut self, from: Time, to: Time) -> Time {
        from + (self.share() * (to - from) as f64) as Time
    }

    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.share()).ln()
    }

    /// With mean 0 and deviation 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.share()).ln()).sqrt() * (std::f64::consts::TAU * self.share()).cos()
    }

    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for end in (1..all.len()).rev() {
            all.swap(end, self.below(end + 1));
        }
    }

    /// A message's way from node to node.
    pub fn wire(&mut self) -> Time {
        if self.share() < WIRE_STRAGGLER {
            return self.between(WIRE_STRAGGLE.0, WIRE_STRAGGLE.1);
        }
        (WIRE_MEDIAN as f64 * (WIRE_SPREAD * self.normal()).exp()) as Time
    }

    /// A sync of the log.
    pub fn sync(&mut self) -> Time {
        (SYNC_MEDIAN as f64 * (SYNC_SPREAD * self.normal()).exp()) as Time
    }
}

/// The value that so large a share of all lies at or below.
pub fn percentile(values: &[Time], share: f64) -> Time {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0)
}

/// Milliseconds, in three digits.
pub fn ms(time: Time) -> String {
    digits(time as f64 / MS as f64)
}

/// A number in about three digits.
pub fn digits(value: f64) -> String {
    match value {
        value if value >= 99.95 => format!("{value:.0}"),
        value if value >= 9.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
