//! What a node answers other nodes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::entry::RaftEntry;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse};
use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, Raft};
use pyralog_storage::{SegmentId, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::cluster::Cluster;
use super::reads::QUESTION_LIMIT;
use super::transactions::Coordinator;
use super::{heartbeats, membership};
use crate::codec;
use crate::log::{GroupId, Log};
use crate::meta::Meta;
use crate::partition::PartitionHandle;
use crate::partition::promise::Promised;
use crate::peer::{Channel, OpenedFile, PeerService};
use crate::raft::observer::Observer;
use crate::raft::proposal::{Proposal, Refusal};
use crate::raft::read_index::read_index;
use crate::raft::retained;
use crate::raft::snapshot::{self, Offer, Place};
use crate::raft::types::{Outcome, Types};
use crate::raft::wire::{self, Answer, JoinRequest, RaftRequest, Request};
use crate::runtime;

/// The groups of this node.
#[derive(Clone)]
pub struct Groups {
    /// The meta group.
    pub meta: Meta,
    /// The data groups, by partition.
    pub partitions: Vec<PartitionHandle>,
    /// Transactions over several of them that begin here.
    pub coordinator: Coordinator,
}

impl Groups {
    /// Starts an observer for each group; the leaders that each of them counts.
    pub fn observe(
        &self,
        log: &Log,
        cluster: Option<&Arc<Cluster>>,
        stop: &watch::Receiver<bool>,
        tasks: &mut Vec<JoinHandle<()>>,
    ) -> Vec<Arc<AtomicU64>> {
        let counts: Vec<Arc<AtomicU64>> = (0..=self.partitions.len()).map(|_| Arc::default()).collect();
        let meta = Observer::new(
            GroupId::META,
            self.meta.raft().clone(),
            log.clone(),
            cluster.cloned(),
            counts[0].clone(),
        );
        tasks.push(runtime::spawn(meta.run(stop.clone())));
        for (partition, count) in self.partitions.iter().zip(&counts[1..]) {
            let raft = partition.work().raft.clone();
            let observer = Observer::new(partition.group(), raft, log.clone(), cluster.cloned(), count.clone());
            tasks.push(runtime::spawn(observer.run(stop.clone())));
        }
        counts
    }
}

/// The service. It answers once it has been given the groups.
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: Arc<Cluster>,
    database: String,
    groups: OnceLock<Groups>,
    /// Held while a snapshot arrives and is installed, by the task that does it: who asked for it may be gone before. One lock for the meta
    /// group, which is small, and one for data.
    installing: [Arc<tokio::sync::Mutex<()>>; 2],
    /// Held while staged segments are looked for, fetched and put in their place, or thrown away.
    staging: tokio::sync::Mutex<()>,
}

impl Service {
    /// A service without groups.
    pub fn new(cluster: Arc<Cluster>, database: String) -> Service {
        Service {
            inner: Arc::new(Inner {
                cluster,
                database,
                groups: OnceLock::new(),
                installing: Default::default(),
                staging: tokio::sync::Mutex::new(()),
            }),
        }
    }

    /// Gives it the groups, once.
    pub fn open(&self, groups: Groups) {
        // A second call would find the first one's groups, which are the same.
        let _ = self.inner.groups.set(groups);
    }
}

impl PeerService for Service {
    fn call(&self, from: u64, request: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let inner = self.inner.clone();
        async move {
            let request = wire::decode(&request).map_err(|error| format!("the request cannot be read: {error}"))?;
            let answer = inner.answer(from, request).await?;
            wire::encode(&answer).map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn open_file(&self, from: u64, name: String) -> BoxFuture<'static, Result<Option<OpenedFile>, String>> {
        let inner = self.inner.clone();
        async move {
            if from == 0 {
                return Err("files are for nodes of the cluster".to_owned());
            }
            match FileName::parse(&name) {
                Some(FileName::Staged { group, segment, part }) => {
                    let storage = inner.partition(group)?.storage().clone();
                    let staged = storage.segment_files(None, segment)[part].clone();
                    if let Some(file) = open_if_there(staged).await? {
                        return Ok(Some(OpenedFile::urgent(file)));
                    }
                    let find = runtime::blocking(move || retained::find(&storage, segment, part));
                    let found = find.await.map_err(|error| error.to_string())?;
                    match found.map_err(|error| error.to_string())? {
                        Some(path) => Ok(open_if_there(path).await?.map(OpenedFile::urgent)),
                        None => Ok(None),
                    }
                }
                Some(FileName::Snapshot { ticket, name }) => match inner.cluster.exported(ticket, &name) {
                    Some(path) => {
                        let pace = Some(inner.cluster.snapshot_pace.clone());
                        Ok(open_if_there(path).await?.map(|file| OpenedFile { file, pace }))
                    }
                    None => Ok(None),
                },
                None => Err(format!("no file is called {name:?}")),
            }
        }
        .boxed()
    }

    fn take(&self, from: u64, channel: Channel) {
        let taken = self
            .inner
            .may_stream(from)
            .and_then(|()| self.inner.cluster.streams.give(from, channel));
        if let Err(reason) = taken {
            tracing::debug!(from, reason, "a stream is not taken");
        }
    }
}

async fn open_if_there(path: PathBuf) -> Result<Option<File>, String> {
    let open = move || match File::open(&path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    };
    runtime::blocking(open).await.map_err(|error| error.to_string())?
}

async fn exists(path: PathBuf) -> Result<bool, String> {
    let look = move || path.try_exists().map_err(|error| format!("{}: {error}", path.display()));
    runtime::blocking(look).await.map_err(|error| error.to_string())?
}

/// The names of the files that nodes fetch from each other.
enum FileName {
    /// Part 0 or 1 of a staged segment.
    Staged { group: GroupId, segment: SegmentId, part: usize },
    /// A file of a snapshot that is being sent.
    Snapshot { ticket: u64, name: String },
}

impl FileName {
    fn staged(group: GroupId, segment: SegmentId, part: usize) -> String {
        format!("staged/{}/{:016x}/{part}", group.0, segment.0)
    }

    fn parse(name: &str) -> Option<FileName> {
        if let Some((ticket, name)) = snapshot::parse_file_name(name) {
            let name = name.to_owned();
            return Some(FileName::Snapshot { ticket, name });
        }
        let mut parts = name.split('/');
        let (Some("staged"), Some(group), Some(segment), Some(part), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        Some(FileName::Staged {
            group: GroupId(group.parse().ok()?),
            segment: SegmentId(u64::from_str_radix(segment, 16).ok()?),
            part: part.parse().ok().filter(|part| *part < 2)?,
        })
    }
}

impl Inner {
    fn groups(&self) -> Result<&Groups, String> {
        self.groups.get().ok_or_else(|| "the node is opening; try again".to_owned())
    }

    fn partition(&self, group: GroupId) -> Result<&PartitionHandle, String> {
        let found = self.groups()?.partitions.iter().find(|partition| partition.group() == group);
        found.ok_or_else(|| format!("this node has no group {}", group.0))
    }

    /// The error is why a node may open no streams.
    fn may_stream(&self, from: u64) -> Result<(), String> {
        self.cluster.standing.check()?;
        match membership::is_member(&self.groups()?.meta, from) {
            true => Ok(()),
            false => Err(format!("node {from} is not of the cluster")),
        }
    }

    async fn answer(self: &Arc<Self>, from: u64, request: Request) -> Result<Answer, String> {
        let standing = self.cluster.standing.check();
        if matches!(request, Request::Propose(..)) && (self.groups.get().is_none() || standing.is_err()) {
            return Ok(Answer::Propose(Err(Refusal::NotLeader)));
        }
        if let Request::ProposeAll(_, proposals) = &request
            && (self.groups.get().is_none() || standing.is_err())
        {
            return Ok(Answer::ProposeAll(vec![Err(Refusal::NotLeader); proposals.len()]));
        }
        if !matches!(request, Request::Members | Request::Superseded(..)) {
            standing?;
        }
        let groups = self.groups()?;
        if from == 0 && !matches!(request, Request::Join(_) | Request::Members) {
            return Err("only a request to join is answered to a node that is not of the cluster".to_owned());
        }
        Ok(match request {
            Request::Raft(GroupId::META, request) => raft(groups.meta.raft(), request).await?,
            Request::Raft(group, request) => {
                let partition = self.partition(group)?;
                if let RaftRequest::Append(append) = &request {
                    self.fetch_for_append(from, partition, append).await?;
                }
                raft(&partition.work().raft, request).await?
            }
            Request::Install(offer) => Answer::Install(self.install(from, offer).await?),
            Request::Propose(group, proposal) => Answer::Propose(self.propose(from, group, proposal).await?),
            Request::ProposeAll(group, proposals) => {
                let proposals = proposals.into_iter().map(|proposal| self.propose(from, group, proposal));
                Answer::ProposeAll(futures::future::try_join_all(proposals).await?)
            }
            Request::ReadIndex(GroupId::META) => Answer::ReadIndex(read_index(groups.meta.raft()).await?),
            Request::ReadIndex(group) => Answer::ReadIndex(read_index(&self.partition(group)?.work().raft).await?),
            Request::Join(request) => Answer::Join(self.join(groups, request).await?),
            Request::Admit(group, member) => {
                let refused = membership::refused(&groups.meta, &member).await;
                Answer::Admit(match (refused, group) {
                    (Some(refused), _) => refused,
                    (None, GroupId::META) => membership::admit(groups.meta.raft(), &self.cluster.changing, member).await,
                    (None, group) => membership::admit(&self.partition(group)?.work().raft, &self.cluster.changing, member).await,
                })
            }
            Request::Remove(GroupId::META, node) => {
                Answer::Admit(membership::remove(groups.meta.raft(), &self.cluster.changing, node).await)
            }
            Request::Remove(group, node) => {
                let raft = &self.partition(group)?.work().raft;
                Answer::Admit(membership::remove(raft, &self.cluster.changing, node).await)
            }
            Request::Members => Answer::Members(membership::members(&groups.meta)),
            Request::Heartbeats(beats) => Answer::Heartbeats(heartbeats::answer(beats, |group, beat| self.beat(groups, group, beat)).await),
            Request::ReadAt(groups, timestamp, is_given) => {
                let promises = groups.into_iter().map(|group| self.promise(group, timestamp, is_given));
                Answer::ReadAt(futures::future::join_all(promises).await)
            }
            Request::Coordinates(transactions) => {
                let coordinator = &groups.coordinator;
                Answer::Coordinates(
                    transactions
                        .into_iter()
                        .map(|transaction| coordinator.may_commit(transaction))
                        .collect(),
                )
            }
            Request::MayLead(group) => {
                let partition = self.partition(group)?;
                Answer::MayLead(!partition.admission().is_closed() && partition.is_whole())
            }
            Request::Stage(group, staged) => {
                let staged = codec::staged_only(&staged).map_err(|error| error.to_string())?;
                if let Some(staged) = staged {
                    self.fetch_staged(from, self.partition(group)?, &staged).await?;
                }
                Answer::Staged
            }
            Request::Superseded(node, runs) => Answer::Superseded(membership::is_superseded(&groups.meta, node, &runs)?),
        })
    }

    /// A promise in one group; `None` if there is none, which who asks tries elsewhere and again.
    async fn promise(&self, group: GroupId, timestamp: Timestamp, is_given: bool) -> Option<Promised> {
        let promise = async { self.partition(group)?.promise(timestamp, is_given).await };
        // Who asked has left by then.
        let answer = tokio::time::timeout(QUESTION_LIMIT, promise).await;
        answer
            .unwrap_or_else(|_| Err("it took too long".to_owned()))
            .unwrap_or_else(|reason| {
                tracing::debug!(group = group.0, reason, "no promise");
                None
            })
    }

    async fn beat(
        &self,
        groups: &Groups,
        group: GroupId,
        beat: AppendEntriesRequest<Types>,
    ) -> Result<AppendEntriesResponse<Types>, String> {
        if !beat.entries.is_empty() {
            return Err("a heartbeat has no entries".to_owned());
        }
        let answer = match group {
            GroupId::META => groups.meta.raft().append_entries(beat).await,
            group => self.partition(group)?.work().raft.append_entries(beat).await,
        };
        answer.map_err(|error| error.to_string())
    }

    async fn install(self: &Arc<Self>, from: u64, offer: Offer) -> Result<SnapshotResponse<Types>, String> {
        let lock = &self.installing[usize::from(offer.group != GroupId::META)];
        let one_at_a_time = lock.clone().lock_owned().await;
        let inner = self.clone();
        // A task of its own: when the connection breaks, Raft may be installing, and the next offer must not touch the files meanwhile.
        let task = runtime::spawn(async move {
            let _one_at_a_time = one_at_a_time;
            let cluster = inner.cluster.as_ref();
            if offer.group == GroupId::META {
                let meta = &inner.groups()?.meta;
                let place = Place::Meta(meta.state().dir().to_owned());
                return snapshot::receive(meta.raft(), place, cluster, from, offer).await;
            }
            let partition = inner.partition(offer.group)?;
            let place = Place::Partition(partition.storage().clone());
            snapshot::receive(&partition.work().raft, place, cluster, from, offer).await
        });
        task.await.map_err(|error| error.to_string())?
    }

    /// Takes a proposal of another node if this one leads; it is not forwarded again.
    async fn propose(&self, from: u64, group: GroupId, proposal: Proposal) -> Result<Result<Outcome, Refusal>, String> {
        let groups = self.groups()?;
        // What stops has written nothing of what it refuses: another node will take it.
        let partition = self.partition(if group == GroupId::META { GroupId::data(0) } else { group })?;
        let is_stopping = || partition.admission().is_closed() || partition.work().log.failure().is_some();
        if group == GroupId::META {
            return Ok(match groups.meta.propose_here(proposal).await {
                Err(Refusal::Unavailable(_)) if is_stopping() => Err(Refusal::NotLeader),
                answer => answer,
            });
        }
        let staged = proposal.staged().map_err(|error| error.to_string())?;
        let Some(staged) = staged else {
            return Ok(match partition.propose_here(proposal).await {
                Err(Refusal::Unavailable(_)) if is_stopping() => Err(Refusal::NotLeader),
                answer => answer,
            });
        };
        let answer = match self.fetch_staged(from, partition, &staged).await {
            Ok(()) => partition.propose_here(proposal).await,
            Err(reason) => Err(Refusal::Unavailable(reason)),
        };
        if !matches!(answer, Ok(_) | Err(Refusal::Unknown(_))) {
            // It is in nobody's log, so the files that were fetched for it are nobody's. Gone before the author hears of it, who may bring
            // the same segments again.
            let _alone = self.staging.lock().await;
            let storage = partition.storage().clone();
            let discard = runtime::blocking(move || storage.discard(&staged));
            discard.await.map_err(|error| error.to_string())?;
        }
        match answer {
            Err(Refusal::Unavailable(_)) if is_stopping() => Ok(Err(Refusal::NotLeader)),
            answer => Ok(answer),
        }
    }

    async fn fetch_for_append(&self, from: u64, partition: &PartitionHandle, append: &AppendEntriesRequest<Types>) -> Result<(), String> {
        for entry in &append.entries {
            if let EntryPayload::Normal(command) = &entry.payload
                && let Some((_, encoded)) = command.write()
                && let Some(staged) = codec::staged_only(encoded).map_err(|error| error.to_string())?
            {
                // What is applied has its files, elsewhere than where they arrive. Storage counts from 1. Asked only here, since an apply in
                // progress holds up the answer.
                if entry.index() >= partition.storage().applied().index {
                    self.fetch_staged(from, partition, &staged).await?;
                }
            }
        }
        Ok(())
    }

    /// Brings the files of staged segments here, durably, before anything that names them is acknowledged.
    async fn fetch_staged(&self, from: u64, partition: &PartitionHandle, staged: &pyralog_storage::WriteSet) -> Result<(), String> {
        // A call that was given up may still be at it.
        let _alone = self.staging.lock().await;
        let storage = partition.storage();
        storage.claim(staged);
        let mut folder = None;
        for segment in staged.relations.iter().flat_map(|writes| &writes.staged) {
            for (part, path) in storage.segment_files(None, segment.segment).iter().enumerate() {
                if exists(path.clone()).await? {
                    continue;
                }
                let name = FileName::staged(partition.group(), segment.segment, part);
                let arriving = path.with_extension(format!("arriving{part}"));
                let fetched = self.cluster.peers.fetch_file(from, &name, &arriving).await;
                match fetched.map_err(|error| format!("staged segment {} of node {from}: {error}", segment.segment))? {
                    Some(_) => {
                        let to = path.clone();
                        let rename = runtime::blocking(move || std::fs::rename(&arriving, &to)).await;
                        rename.flatten().map_err(|error| format!("{}: {error}", path.display()))?;
                        folder = path.parent().map(Path::to_owned);
                    }
                    None => return Err(format!("node {from} does not have staged segment {} any more", segment.segment)),
                }
            }
        }
        if let Some(folder) = folder {
            let sync = runtime::blocking(move || File::open(&folder)?.sync_all());
            let synced = sync.await.map_err(|error| error.to_string())?;
            synced.map_err(|error| format!("the names of staged segments cannot be made durable: {error}"))?;
        }
        Ok(())
    }

    async fn join(&self, groups: &Groups, request: JoinRequest) -> Result<Result<wire::Joined, String>, String> {
        let registered = membership::register(&groups.meta, &request).await?;
        if let Ok(node) = &registered {
            tracing::info!(node, address = request.address, "a node joins");
        }
        Ok(registered.map(|node| wire::Joined {
            database: self.database.clone(),
            node,
            partitions: groups.partitions.len() as u32,
            members: membership::members(&groups.meta),
        }))
    }
}

async fn raft<SM: RaftStateMachine<Types>>(raft: &Raft<Types, SM>, request: RaftRequest) -> Result<Answer, String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    Ok(match request {
        RaftRequest::Append(append) => Answer::Append(raft.append_entries(append).await.map_err(|e| failed(&e))?),
        RaftRequest::Vote(vote) => Answer::Vote(raft.vote(vote).await.map_err(|e| failed(&e))?),
        RaftRequest::PreVote(vote) => Answer::Vote(raft.pre_vote(vote).await.map_err(|e| failed(&e))?),
        RaftRequest::TransferLeader(transfer) => {
            Answer::TransferLeader(raft.handle_transfer_leader(transfer).await.map_err(|e| failed(&e))?)
        }
    })
}
