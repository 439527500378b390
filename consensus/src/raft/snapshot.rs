//! Snapshots on their way from a leader to a replica that lacks what the leader's log no longer holds.
//!
//! ```text
//! leader    export: hard links under a ticket ─▶ Install(ticket, files) ─────────────────▶ answer: installed
//! replica                                        links what it has, fetches what it lacks, installs, renames the manifest last
//! ```
//!
//! Files that arrived stay for the next attempt, so a transfer that was cut off goes on where it was, also after a restart of either node.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::Raft;
use openraft::storage::RaftStateMachine;
use openraft::type_config::alias;
use pyralog_storage::{Partition, ReplicaFile};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::applied;
use super::types::{SnapshotMeta, Types, Vote};
use crate::log::GroupId;
use crate::node::cluster::Cluster;
use crate::runtime;

/// Files that are fetched at once: the link is shared with what goes on.
const FETCHES: usize = 2;

/// A snapshot that a leader offers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Offer {
    /// Which group.
    pub group: GroupId,
    /// The leader's vote.
    pub vote: Vote,
    /// What it covers.
    pub meta: SnapshotMeta,
    /// The name under which the leader gives its files.
    pub ticket: u64,
    /// Its files.
    pub files: Vec<ReplicaFile>,
}

/// A snapshot as openraft knows it: the node's own newest one, or one that has arrived.
#[derive(Clone)]
pub enum SnapshotData {
    /// What the group has flushed.
    Own(Source),
    /// A folder with all files.
    Arrived(PathBuf),
}

/// Where a group's own snapshot comes from.
#[derive(Clone)]
pub enum Source {
    /// The flushed state of a partition.
    Partition(Arc<Partition>),
    /// The meta group's dump file.
    Dump(PathBuf),
}

/// The name of the meta group's only file.
const DUMP: &str = "DUMP";

/// An export that is being sent; its links go with it.
pub struct Export {
    /// The folder of links.
    pub dir: PathBuf,
    /// The files.
    pub files: Vec<ReplicaFile>,
    /// What they cover, where that is newer than what openraft knows.
    pub meta: Option<SnapshotMeta>,
}

impl Drop for Export {
    fn drop(&mut self) {
        let dir = std::mem::take(&mut self.dir);
        let remove = move || {
            if let Err(error) = std::fs::remove_dir_all(&dir) {
                tracing::debug!(dir = %dir.display(), %error, "links of a sent snapshot stay until the next start");
            }
        };
        runtime::start_blocking(remove);
    }
}

impl SnapshotData {
    /// Makes links to the files. Blocking.
    pub fn export(&self, ticket: u64) -> io::Result<Export> {
        match self {
            SnapshotData::Own(Source::Partition(partition)) => {
                let dir = partition.exchange_dir().join(format!("out-{ticket:016x}"));
                let mut export = Export {
                    dir,
                    files: Vec::new(),
                    meta: None,
                };
                let (files, applied) = partition.export(&export.dir).map_err(io::Error::other)?;
                export.files = files;
                let position = applied::decode(&applied.payload.encode()?).map_err(io::Error::other)?.position;
                export.meta = Some(position.snapshot_meta());
                Ok(export)
            }
            SnapshotData::Own(Source::Dump(path)) => {
                let dir = path.with_file_name(format!("out-{ticket:016x}"));
                std::fs::create_dir_all(&dir)?;
                let mut export = Export {
                    dir,
                    files: Vec::new(),
                    meta: None,
                };
                let link = export.dir.join(DUMP);
                std::fs::hard_link(path, &link)?;
                let bytes = std::fs::read(&link)?;
                export.files.push(ReplicaFile {
                    name: DUMP.to_owned(),
                    bytes: bytes.len() as u64,
                    checksum: crc32c::crc32c(&bytes),
                });
                Ok(export)
            }
            SnapshotData::Arrived(dir) => Err(io::Error::other(format!(
                "{}: a snapshot that arrived is not sent on",
                dir.display()
            ))),
        }
    }

    /// The dump file of a meta snapshot.
    pub fn dump(&self) -> io::Result<PathBuf> {
        match self {
            SnapshotData::Own(Source::Dump(path)) => Ok(path.clone()),
            SnapshotData::Arrived(dir) => Ok(dir.join(DUMP)),
            SnapshotData::Own(Source::Partition(_)) => Err(io::Error::other("a data snapshot in the meta group")),
        }
    }
}

/// The name of a snapshot's file as peers ask for it.
pub fn file_name(ticket: u64, name: &str) -> String {
    format!("snapshot/{ticket:016x}/{name}")
}

/// Takes a file's name apart. Names within a snapshot have no folders.
pub fn parse_file_name(text: &str) -> Option<(u64, &str)> {
    let (ticket, name) = text.strip_prefix("snapshot/")?.split_once('/')?;
    is_plain(name).then_some((u64::from_str_radix(ticket, 16).ok()?, name))
}

/// Whether a name cannot lead out of its folder.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\\']) && name != "." && name != ".."
}

/// Where the files of a group's snapshots arrive, and what the replica has of them already.
pub enum Place {
    /// A data group's.
    Partition(Arc<Partition>),
    /// The meta group's folder.
    Meta(PathBuf),
}

impl Place {
    /// The group's folder.
    fn root(&self) -> PathBuf {
        match self {
            Place::Partition(partition) => partition.dir().clone(),
            Place::Meta(dir) => dir.clone(),
        }
    }

    fn dir(&self) -> PathBuf {
        match self {
            Place::Partition(partition) => partition.exchange_dir().join("in"),
            Place::Meta(dir) => dir.join("in"),
        }
    }

    /// Where files wait until all are there. Those of a partition may be many, and are still there after a restart.
    fn arrived(&self) -> PathBuf {
        match self {
            Place::Partition(partition) => partition.arrived_dir(),
            Place::Meta(dir) => dir.join("in").join("arrived"),
        }
    }

    /// Makes the folder hold exactly those files of the offer that are here already; the others are returned.
    fn prepare(&self, files: &[ReplicaFile], arrived: &Path) -> io::Result<Vec<ReplicaFile>> {
        let dir = self.dir();
        std::fs::create_dir_all(arrived)?;
        // Links of an earlier attempt; what arrived then is in `arrived`.
        if dir.join("whole").exists() {
            std::fs::remove_dir_all(dir.join("whole"))?;
        }
        std::fs::create_dir_all(dir.join("whole"))?;
        let missing = match self {
            Place::Meta(_) => files.to_vec(),
            Place::Partition(partition) => partition.reuse(files, &dir.join("whole")).map_err(io::Error::other)?,
        };
        // Nothing that no longer belongs to what is offered stays.
        let kept: Vec<String> = missing.iter().map(arrived_name).collect();
        for entry in std::fs::read_dir(arrived)? {
            let entry = entry?;
            if !kept.iter().any(|name| entry.file_name().to_str() == Some(name)) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(missing)
    }
}

/// The file that says up to which log index a snapshot was about to be installed. A crash may come after the state was taken over and
/// before the log knows; then the log ends earlier than the state, and that is no damage.
const INSTALLING: &str = "INSTALLING";

/// Notes durably that a snapshot up to `index` is about to be installed. Blocking.
fn note(dir: &Path, index: u64) -> io::Result<()> {
    let (path, temporary) = (dir.join(INSTALLING), dir.join("INSTALLING.tmp"));
    std::fs::write(&temporary, index.to_string())?;
    std::fs::File::open(&temporary)?.sync_all()?;
    std::fs::rename(&temporary, &path)?;
    std::fs::File::open(dir)?.sync_all()
}

/// Removes what an earlier run left of snapshots on their way to or from the meta group. Blocking.
pub fn clear(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry
            .file_name()
            .to_str()
            .is_some_and(|name| name == "in" || name.starts_with("out-"))
        {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The log index of the last snapshot that was about to be installed. Blocking.
pub fn noted(dir: &Path) -> Option<u64> {
    std::fs::read_to_string(dir.join(INSTALLING)).ok()?.trim().parse().ok()
}

/// A file that arrived is known by what it holds, not by which attempt it came with. A segment and its side-car have one checksum, and may be
/// of one size.
fn arrived_name(file: &ReplicaFile) -> String {
    let end = file.name.split_once('.').map_or("", |(_, end)| end);
    format!("{:08x}-{:x}.{end}", file.checksum, file.bytes)
}

/// The replica's side: gathers the files and hands them to Raft. Returns once they are installed.
pub async fn receive<SM>(
    raft: &Raft<Types, SM>,
    place: Place,
    cluster: &Cluster,
    from: u64,
    offer: Offer,
) -> Result<openraft::raft::SnapshotResponse<Types>, String>
where
    SM: RaftStateMachine<Types, SnapshotData = SnapshotData>,
{
    let failed = |error: io::Error| format!("the snapshot cannot be kept: {error}");
    if let Some(file) = offer.files.iter().find(|file| !is_plain(&file.name)) {
        return Err(format!("{:?} is no name of a snapshot's file", file.name));
    }
    let root = place.root();
    let (whole, arrived) = (place.dir().join("whole"), place.arrived());
    let files = offer.files.clone();
    let missing = {
        let arrived = arrived.clone();
        blocking(move || place.prepare(&files, &arrived)).await.map_err(failed)?
    };
    let bytes: u64 = missing.iter().map(|file| file.bytes).sum();
    let (begun, files) = (Instant::now(), missing.len());
    tracing::info!(group = %offer.group, from, files, bytes, "a snapshot arrives");
    let fetches: Vec<_> = missing
        .into_iter()
        .map(|file| fetch(cluster, from, offer.group, offer.ticket, file, arrived.clone(), whole.clone()))
        .collect();
    let fetched: Vec<Result<(), String>> = futures::stream::StreamExt::collect(futures::stream::StreamExt::buffer_unordered(
        futures::stream::iter(fetches),
        FETCHES,
    ))
    .await;
    fetched.into_iter().collect::<Result<(), String>>()?;
    if let Some(last) = offer.meta.last_log_id {
        blocking(move || note(&root, last.index())).await.map_err(failed)?;
    }
    let snapshot = openraft::Snapshot {
        meta: offer.meta,
        snapshot: SnapshotData::Arrived(whole.clone()),
    };
    let group = offer.group;
    let answer = raft
        .install_full_snapshot(offer.vote, snapshot)
        .await
        .map_err(|error| error.to_string())?;
    blocking(move || {
        std::fs::remove_dir_all(&whole)?;
        std::fs::remove_dir_all(&arrived)
    })
    .await
    .map_err(failed)?;
    cluster.snapshots.count(group, |count| count.installed += 1);
    let duration_ms = begun.elapsed().as_millis() as u64;
    tracing::info!(%group, from, files, bytes, duration_ms, "a snapshot is installed");
    Ok(answer)
}

async fn fetch(
    cluster: &Cluster,
    from: u64,
    group: GroupId,
    ticket: u64,
    file: ReplicaFile,
    arrived: PathBuf,
    whole: PathBuf,
) -> Result<(), String> {
    let kept = arrived.join(arrived_name(&file));
    let size = {
        let kept = kept.clone();
        blocking(move || std::fs::metadata(kept)).await.map(|found| found.len()).ok()
    };
    if size != Some(file.bytes) {
        let name = file_name(ticket, &file.name);
        let coming = kept.with_extension("coming");
        match cluster
            .peers
            .fetch_file(from, &name, &coming)
            .await
            .map_err(|error| error.to_string())?
        {
            Some(bytes) if bytes == file.bytes => cluster.snapshots.count(group, |count| count.fetched_bytes += bytes),
            Some(bytes) => return Err(format!("{name}: {bytes} bytes instead of {}", file.bytes)),
            None => return Err(format!("{name} is not there any more")),
        }
        let to = kept.clone();
        let renamed = blocking(move || std::fs::rename(&coming, &to)).await;
        renamed.map_err(|error| format!("{}: {error}", kept.display()))?;
    }
    let link = whole.join(&file.name);
    let to = link.clone();
    let linked = blocking(move || std::fs::hard_link(&kept, &to)).await;
    linked.map_err(|error| format!("{}: {error}", link.display()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    runtime::blocking(work).await?
}

/// What openraft calls a snapshot of a group.
pub type GroupSnapshot = alias::SnapshotOf<Types, SnapshotData>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_and_its_side_car_arrive_under_two_names() {
        let named = |name: &str| {
            arrived_name(&ReplicaFile {
                name: name.to_owned(),
                bytes: 4096,
                checksum: 7,
            })
        };
        assert_ne!(named("0000000000000047.arrow"), named("0000000000000047.idx.arrow"));
        assert_eq!(named("0000000000000047.arrow"), named("0000000000000048.arrow"));
    }

    #[test]
    fn names_never_lead_out_of_their_folder() {
        assert_eq!(parse_file_name(&file_name(7, "0a.idx.arrow")), Some((7, "0a.idx.arrow")));
        for name in ["", ".", "..", "../x", "/etc/x", "a/b", "a\\b"] {
            assert!(!is_plain(name), "{name:?}");
            assert_eq!(parse_file_name(&file_name(7, name)), None, "{name:?}");
        }
        for text in ["snapshot/", "snapshot/7", "snapshot/x/y", "staged/7/y", ""] {
            assert_eq!(parse_file_name(text), None, "{text:?}");
        }
    }
}
