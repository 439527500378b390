//! How long a lost node's replicas take to be made anew on others, at the pace at which snapshots leave a node, one at a time at each
//! receiver (`node/service.rs`). Nothing does that today: it is what it would take.

use crate::cluster::Cluster;
use crate::engine::{Random, digits};
use crate::model::{GROUP_BYTES, SNAPSHOT_RATE};

/// Seconds of a step.
const STEP: f64 = 0.25;

/// A replica on its way.
struct Copy {
    from: usize,
    left: f64,
}

/// Seconds until all replicas of the first node are made anew, and the share of pairs of further nodes whose loss would meanwhile have
/// taken a group's last replicas, at the beginning.
fn repair(cluster: &Cluster, rate: f64, near: bool, random: &mut Random) -> (f64, f64) {
    let lost: Vec<usize> = (0..cluster.groups).filter(|group| cluster.replicas(*group).contains(&0)).collect();
    let mut waiting: Vec<Vec<Copy>> = (0..cluster.nodes).map(|_| Vec::new()).collect();
    let mut pairs = std::collections::BTreeSet::new();
    let held = cluster.held();
    let beside = |node: usize| {
        held[node]
            .iter()
            .flat_map(|group| cluster.replicas(*group).iter().map(|node| *node as usize))
    };
    let mut others: Vec<usize> = beside(0).filter(|node| *node != 0).collect();
    others.sort_unstable();
    others.dedup();
    for group in lost {
        let left: Vec<usize> = cluster
            .replicas(group)
            .iter()
            .map(|node| *node as usize)
            .filter(|node| *node != 0)
            .collect();
        pairs.insert((left[0].min(left[1]), left[0].max(left[1])));
        let from = left[random.below(left.len())];
        // Two nodes are looked at, and the one that has less to do takes it (Mitzenmacher 2001).
        let mut best: Option<usize> = None;
        while best.is_none() {
            for _ in 0..2 {
                let to = match near {
                    true => others[random.below(others.len())],
                    false => 1 + random.below(cluster.nodes - 1),
                };
                if !left.contains(&to) && best.is_none_or(|best| waiting[to].len() < waiting[best].len()) {
                    best = Some(to);
                }
            }
        }
        if let Some(to) = best {
            waiting[to].push(Copy { from, left: GROUP_BYTES });
        }
    }
    let mut seconds = 0.0;
    loop {
        let mut sending = vec![0u32; cluster.nodes];
        waiting
            .iter()
            .filter_map(|copies| copies.last())
            .for_each(|copy| sending[copy.from] += 1);
        if sending.iter().all(|count| *count == 0) {
            let all = (cluster.nodes - 1) * (cluster.nodes - 2) / 2;
            return (seconds, pairs.len() as f64 / all as f64);
        }
        for copies in &mut waiting {
            if let Some(copy) = copies.last_mut() {
                copy.left -= STEP * rate / f64::from(sending[copy.from]);
                if copy.left <= 0.0 {
                    copies.pop();
                }
            }
        }
        seconds += STEP;
    }
}

/// Prints the table.
pub fn report(seed: u64) {
    println!("\nA lost node's replicas made anew, 1 GB each");
    println!("nodes  lost replicas  lost GB  MB a s from a node  placed                    minutes  pairs whose loss then loses a group");
    for nodes in [10, 100, 1_000] {
        for rate in [SNAPSHOT_RATE, 8.0 * SNAPSHOT_RATE] {
            // Of ten, twelve are not beside each.
            for near in [false, true].into_iter().filter(|near| !near || nodes > 10) {
                let mut random = Random::new(seed);
                let cluster = match near {
                    false => Cluster::spread(nodes, 100_000, 3, &mut random),
                    true => Cluster::copysets(nodes, 100_000, 3, 12, &mut random),
                };
                let (seconds, pairs) = repair(&cluster, rate, near, &mut random);
                let lost = cluster.held()[0].len();
                println!(
                    "{nodes:>5} {lost:>14} {:>8.0} {:>19.0}  {:<24} {:>8} {:>37}",
                    lost as f64 * GROUP_BYTES / 1e9,
                    rate / 1e6,
                    if near { "beside 12 nodes" } else { "anywhere" },
                    digits(seconds / 60.0),
                    format!("{:.3} %", 100.0 * pairs),
                );
            }
        }
    }
}
