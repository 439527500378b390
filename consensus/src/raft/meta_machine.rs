//! The meta group's state machine over [`MetaState`]. A snapshot is a dump file.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};

use super::apply_thread::ApplyThread;
use super::data_machine::applied;
use super::log_store::LogStore;
use super::snapshot::{GroupSnapshot, SnapshotData, Source};
use super::types::{Command, LogId, Outcome, SnapshotMeta, StoredMembership, Types};
use crate::meta::state::MetaState;
use crate::runtime;
use crate::simulation::{self, Observation};

const BATCH: usize = 256;

/// The state machine.
pub struct MetaMachine {
    state: Arc<MetaState>,
    store: LogStore,
    thread: ApplyThread,
}

impl MetaMachine {
    /// Takes up the meta state at its applied position.
    pub fn new(state: Arc<MetaState>, store: LogStore) -> io::Result<MetaMachine> {
        Ok(MetaMachine {
            state,
            store,
            thread: ApplyThread::start("apply-meta")?,
        })
    }
}

fn apply_all(state: &MetaState, store: &LogStore, batch: Vec<EntryResponder<Types>>) -> io::Result<()> {
    for (entry, responder) in batch {
        let outcome = match &entry.payload {
            EntryPayload::Blank | EntryPayload::Membership(_) => {
                state.advance(&entry)?;
                Outcome::Done
            }
            EntryPayload::Normal(Command::Meta(change)) => match state.apply(&entry, change)? {
                Ok(revision) => Outcome::MetaChanged(revision),
                Err(key) => Outcome::MetaConflict(key),
            },
            EntryPayload::Normal(_) => return Err(io::Error::other("a data command in the meta group's log")),
        };
        simulation::observe(|| applied(store.group(), &entry, &outcome));
        store.applied(entry.index());
        if let Some(responder) = responder {
            responder.send(outcome);
        }
    }
    Ok(())
}

impl RaftStateMachine<Types> for MetaMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = MetaSnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let position = self.state.position();
        Ok((position.log_id, position.membership.as_ref().clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut chunks = entries.ready_chunks(BATCH);
        while let Some(chunk) = chunks.next().await {
            let batch = chunk.into_iter().collect::<io::Result<Vec<_>>>()?;
            if let Some((last, _)) = batch.last() {
                // As for data: a dump must never be ahead of the log.
                self.store.durable(last.index()).await?;
            }
            let (state, store) = (self.state.clone(), self.store.clone());
            self.thread.run(move || apply_all(&state, &store, batch)).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> MetaSnapshotBuilder {
        MetaSnapshotBuilder { state: self.state.clone() }
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let snapshot = snapshot.dump()?;
        let (state, group) = (self.state.clone(), self.store.group());
        let install = move || {
            state.install(&snapshot).map_err(io::Error::other)?;
            if let Some(index) = state.position().index() {
                simulation::observe(|| Observation::Installed { group, index });
            }
            Ok(())
        };
        self.thread.run(install).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<GroupSnapshot>> {
        Ok(self.state.snapshot().map(|(position, snapshot)| openraft::Snapshot {
            meta: position.snapshot_meta(),
            snapshot: SnapshotData::Own(Source::Dump(snapshot)),
        }))
    }
}

/// Writes a dump file.
pub struct MetaSnapshotBuilder {
    state: Arc<MetaState>,
}

impl RaftSnapshotBuilder<Types> for MetaSnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<GroupSnapshot> {
        let state = self.state.clone();
        let (position, snapshot) = runtime::blocking(move || state.write_snapshot()).await?.map_err(io::Error::other)?;
        Ok(openraft::Snapshot {
            meta: position.snapshot_meta(),
            snapshot: SnapshotData::Own(Source::Dump(snapshot)),
        })
    }
}
