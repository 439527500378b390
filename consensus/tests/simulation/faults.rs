//! What goes wrong, when, and for how long.

use std::time::Duration;

use crate::cluster::{Cluster, Crash};
use crate::disk::DiskFault;
use crate::host::Command;
use crate::world::Weather;

/// Operations of a disk among which the one is drawn that meets a power failure.
const DISK_OPERATIONS: u64 = 60;

/// Brings about one fault, or the end of those of the network.
pub fn strike(cluster: &mut Cluster) {
    let world = cluster.world.clone();
    let up = cluster.up();
    let Some(&one) = up.get(world.below(up.len() as u64) as usize) else {
        return;
    };
    match world.below(100) {
        0..8 => isolate(cluster, one),
        8..12 => halves(cluster),
        12..19 => one_way(cluster, one),
        19..24 => bridge(cluster),
        24..28 => hold(cluster, one),
        28..44 => {
            world.event(|| "the network heals".to_owned());
            cluster.heal();
        }
        44..54 => crash(cluster, one),
        54..58 => {
            if let Some(leader) = cluster.leader() {
                crash(cluster, leader);
            }
        }
        58..61 => {
            let together = 1 + world.below(up.len() as u64) as usize;
            up.into_iter()
                .take(together)
                .for_each(|host| crash_with(cluster, host, Crash::Power { silent: true }));
        }
        61..67 => {
            let fault = DiskFault::PowerOff(world.below(DISK_OPERATIONS));
            cluster.spoil_disk(one, fault);
        }
        67..70 => cluster.spoil_disk(one, [DiskFault::SyncFails, DiskFault::Full][world.below(2) as usize]),
        70..76 => {
            let millis = [500, 5_000, 30_000][world.below(3) as usize];
            cluster.pause(one, Duration::from_millis(1 + world.below(millis)));
        }
        76..80 => {
            let skew = world.below(7_200_000) as i64 - 3_600_000;
            world.event(|| format!("the clock of n{} is set to {skew} ms", one + 1));
            world.host(one).clock_skew_ms.set(skew);
        }
        80..86 => {
            let weather = Weather {
                breaks: world.below(4) as u32,
                loses: world.below(150) as u32,
                doubles: world.below(100) as u32,
                delays: world.below(200) as u32,
                delay_ms: [10, 100, 700][world.below(3) as usize],
            };
            world.event(|| format!("{weather:?}"));
            world.weather.set(weather);
        }
        86..89 => world.weather.set(Weather::default()),
        89..94 => cluster.tell(one, Command::Checkpoint),
        94..96 => cluster.tell(one, Command::Compact),
        _ => {
            // A node that closes may be at it for long.
            if cluster.up().len() > 2 {
                cluster.tell(one, Command::Close);
            }
        }
    }
}

fn crash(cluster: &mut Cluster, host: usize) {
    let world = &cluster.world;
    let silent = world.chance(500);
    let crash = match world.chance(600) {
        true => Crash::Power { silent },
        false => Crash::Kill { silent },
    };
    crash_with(cluster, host, crash);
}

fn crash_with(cluster: &mut Cluster, host: usize, crash: Crash) {
    let down = match cluster.world.below(3) {
        0 => 50,
        1 => 2_000,
        _ => 12_000,
    };
    let down = Duration::from_millis(1 + cluster.world.below(down));
    cluster.crash(host, crash, down);
}

fn others(cluster: &Cluster, host: usize) -> Vec<usize> {
    (0..cluster.size()).filter(|other| *other != host).collect()
}

fn isolate(cluster: &mut Cluster, host: usize) {
    cluster.world.event(|| format!("n{} is cut off", host + 1));
    others(cluster, host).into_iter().for_each(|other| cluster.cut(host, other));
}

fn halves(cluster: &mut Cluster) {
    let sides: Vec<bool> = (0..cluster.size()).map(|_| cluster.world.chance(500)).collect();
    cluster.world.event(|| format!("cut between {sides:?}"));
    for a in 0..sides.len() {
        for b in a + 1..sides.len() {
            if sides[a] != sides[b] {
                cluster.cut(a, b);
            }
        }
    }
}

fn one_way(cluster: &mut Cluster, host: usize) {
    let outwards = cluster.world.chance(500);
    let others = others(cluster, host);
    let some = others.len().min(1 + cluster.world.below(others.len() as u64) as usize);
    cluster
        .world
        .event(|| format!("n{} is {} for {some}", host + 1, if outwards { "mute" } else { "deaf" }));
    for other in others.into_iter().take(some) {
        match outwards {
            true => cluster.cut_one_way(host, other),
            false => cluster.cut_one_way(other, host),
        }
    }
}

/// Two nodes that reach each other only by way of the others.
fn bridge(cluster: &mut Cluster) {
    let a = cluster.world.below(cluster.size() as u64) as usize;
    let b = (a + 1) % cluster.size();
    cluster.world.event(|| format!("cut between n{} and n{}", a + 1, b + 1));
    cluster.cut(a, b);
}

fn hold(cluster: &mut Cluster, host: usize) {
    cluster.world.event(|| format!("all to and from n{} is held up", host + 1));
    others(cluster, host).into_iter().for_each(|other| cluster.hold(host, other));
}
