//! `RUNS`: the runs of this node's process that the directory knows of. The cluster keeps the last run of each node, and takes a new one only
//! from a directory that knows the last. So of a directory and its copy, the one that starts first goes on, and the other one is refused for
//! ever; and so is a directory that was put back from a backup: it does not have what the node has voted for since.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use pyralog_storage::StorageError;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::peer::Incarnation;

const NAME: &str = "RUNS";
/// Runs that are remembered though the cluster was never reached in them.
const UNREGISTERED: usize = 1000;

/// A run as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// 1 for the node's first one.
    pub number: u64,
    /// Its process's incarnation.
    pub id: String,
}

/// What a directory knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// The number of the last run that the cluster is known to have taken; 0: none.
    pub number: u64,
    /// That run, and all that were begun since, the present one last.
    pub ids: Vec<String>,
}

impl Runs {
    /// Notes durably that a run begins. Blocking.
    pub fn begin(dir: &Path, incarnation: Incarnation) -> Result<Runs> {
        let path = dir.join(NAME);
        let mut runs = match fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map_err(|error| StorageError::damaged(&path, "list of the node's runs", error.to_string()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Runs::default(),
            Err(error) => return Err(StorageError::io(&path, "read")(error).into()),
        };
        if runs.ids.len() > UNREGISTERED {
            runs.ids.remove(1);
        }
        runs.ids.push(id(incarnation));
        runs.write(dir)?;
        Ok(runs)
    }

    /// Notes durably that the cluster took the present run under this number. Blocking.
    pub fn taken(&mut self, dir: &Path, number: u64) -> Result<()> {
        self.number = number;
        self.ids.drain(..self.ids.len().saturating_sub(1));
        self.write(dir)
    }

    /// Whether the node has run since from another directory. A replica that lags may know an older run than the directory does.
    pub fn is_superseded_by(&self, last: &Run) -> bool {
        !self.ids.contains(&last.id) && last.number >= self.number
    }

    fn write(&self, dir: &Path) -> Result<()> {
        let (path, temporary) = (dir.join(NAME), dir.join("RUNS.tmp"));
        let text = serde_json::to_vec(self).map_err(|error| StorageError::io(&path, "encode")(error.into()))?;
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| File::open(dir)?.sync_all());
        Ok(written.map_err(StorageError::io(&path, "write"))?)
    }
}

fn id(incarnation: Incarnation) -> String {
    format!("{:032x}", incarnation.0)
}

/// What the owner of a directory is told that is not its node's newest.
pub fn superseded(node: u64) -> String {
    format!(
        "this is not the newest directory of node {node}: since it was copied or saved, another process ran as the node, and has voted for what \
         is not in here; start the newest one, or take the node out of the cluster and let it join again with an empty directory"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn last(number: u64, incarnation: u128) -> Run {
        Run {
            number,
            id: id(Incarnation(incarnation)),
        }
    }

    #[test]
    fn a_directory_knows_its_own_runs_and_not_those_of_its_copy() {
        let (original, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut first = Runs::begin(original.path(), Incarnation(1)).unwrap();
        first.taken(original.path(), 1).unwrap();
        fs::copy(original.path().join(NAME), copy.path().join(NAME)).unwrap();
        // The copy runs, and the cluster takes it.
        let runs = Runs::begin(copy.path(), Incarnation(2)).unwrap();
        assert!(!runs.is_superseded_by(&last(1, 1)));
        let runs = Runs::begin(original.path(), Incarnation(3)).unwrap();
        assert!(runs.is_superseded_by(&last(2, 2)));
        assert!(!runs.is_superseded_by(&last(1, 1)), "a replica that lags");
        // A run that was cut off between being taken and being noted.
        let runs = Runs::begin(copy.path(), Incarnation(4)).unwrap();
        assert!(!runs.is_superseded_by(&last(2, 2)));
        fs::write(copy.path().join(NAME), "garbage").unwrap();
        assert!(Runs::begin(copy.path(), Incarnation(5)).is_err());
    }

    #[test]
    fn a_node_that_never_reaches_its_cluster_does_not_fill_its_disk() {
        let dir = tempfile::tempdir().unwrap();
        Runs::begin(dir.path(), Incarnation(1)).unwrap().taken(dir.path(), 1).unwrap();
        let mut runs = Runs::begin(dir.path(), Incarnation(2)).unwrap();
        runs.ids.resize(UNREGISTERED, "another".to_owned());
        runs.write(dir.path()).unwrap();
        for run in 0..10 {
            runs = Runs::begin(dir.path(), Incarnation(run)).unwrap();
        }
        assert!(runs.ids.len() <= UNREGISTERED + 1 && runs.ids[0] == id(Incarnation(1)));
    }
}
