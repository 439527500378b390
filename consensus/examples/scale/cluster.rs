//! Which nodes hold a group's replicas, and which of them leads.

use crate::engine::Random;

/// Groups and nodes, by number.
pub struct Cluster {
    pub nodes: usize,
    pub groups: usize,
    /// Replicas of each group.
    pub voters: usize,
    places: Vec<u32>,
    leaders: Vec<u32>,
}

impl Cluster {
    /// Replicas at random, as many on each node.
    pub fn spread(nodes: usize, groups: usize, voters: usize, random: &mut Random) -> Cluster {
        let mut places: Vec<u32> = (0..groups * voters).map(|place| (place % nodes) as u32).collect();
        if voters < nodes {
            random.shuffle(&mut places);
            for place in 0..places.len() {
                let first = place / voters * voters;
                // A node that a group has already changes places with any other, where neither group has the other's.
                while places[first..place].contains(&places[place]) {
                    let other = random.below(places.len());
                    let begin = other / voters * voters;
                    let (ours, theirs) = (places[place], places[other]);
                    if !places[first..first + voters].contains(&theirs) && !places[begin..begin + voters].contains(&ours) {
                        places.swap(place, other);
                    }
                }
            }
        }
        Cluster::led_evenly(nodes, groups, voters, places)
    }

    /// Replicas on few sets of nodes, so that each node has about `width` others beside it: copysets (Cidon et al. 2013), as many sets as
    /// `width / (voters - 1)` permutations of the nodes have runs.
    pub fn copysets(nodes: usize, groups: usize, voters: usize, width: usize, random: &mut Random) -> Cluster {
        let mut sets: Vec<Vec<u32>> = Vec::new();
        for _ in 0..width.div_ceil(voters - 1) {
            let mut order: Vec<u32> = (0..nodes as u32).collect();
            random.shuffle(&mut order);
            // What is left over is filled up from the front.
            let run = |first: usize| (first..first + voters).map(|place| order[place % nodes]).collect();
            sets.extend((0..nodes).step_by(voters).map(run));
        }
        let places = (0..groups).flat_map(|group| sets[group % sets.len()].clone()).collect();
        Cluster::led_evenly(nodes, groups, voters, places)
    }

    fn led_evenly(nodes: usize, groups: usize, voters: usize, places: Vec<u32>) -> Cluster {
        let mut cluster = Cluster {
            nodes,
            groups,
            voters,
            places,
            leaders: vec![0; groups],
        };
        let mut leads = vec![0; nodes];
        for group in 0..groups {
            let fewest = cluster.replicas(group).iter().copied().min_by_key(|node| leads[*node as usize]);
            let leader = fewest.unwrap_or(0);
            leads[leader as usize] += 1;
            cluster.leaders[group] = leader;
        }
        cluster
    }

    pub fn replicas(&self, group: usize) -> &[u32] {
        &self.places[group * self.voters..][..self.voters]
    }

    pub fn leader(&self, group: usize) -> usize {
        self.leaders[group] as usize
    }

    pub fn lead(&mut self, group: usize, leader: usize) {
        self.leaders[group] = leader as u32;
    }

    pub fn followers(&self, group: usize) -> impl Iterator<Item = usize> {
        let leader = self.leader(group);
        self.replicas(group)
            .iter()
            .map(|node| *node as usize)
            .filter(move |node| *node != leader)
    }

    /// How many groups each node leads.
    pub fn leads(&self) -> Vec<usize> {
        let mut leads = vec![0; self.nodes];
        self.leaders.iter().for_each(|leader| leads[*leader as usize] += 1);
        leads
    }

    /// The groups that each node holds a replica of.
    pub fn held(&self) -> Vec<Vec<usize>> {
        let mut held = vec![Vec::new(); self.nodes];
        for group in 0..self.groups {
            self.replicas(group).iter().for_each(|node| held[*node as usize].push(group));
        }
        held
    }
}
