//! Background work of one partition: flush full memtables, let the log go up to there, compact.

use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use pyralog_storage::{Partition, StorageError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::pressure::Pressure;
use crate::error::{ConsensusError, Result};
use crate::log::Log;
use crate::node::lock::DirectoryLock;
use crate::raft::data_machine::DataMachine;
use crate::raft::types::Types;
use crate::runtime;

/// How often the log's size is looked at, and a failed flush tried again.
const FLUSH_POLL: Duration = Duration::from_secs(1);
/// How often compaction looks for work without being told.
const COMPACTION_POLL: Duration = Duration::from_secs(10);
/// Longest wait for Raft to take note of a flush.
const PURGE_LIMIT: Duration = Duration::from_secs(10);

/// What the tasks of a partition work on.
#[derive(Clone)]
pub struct Work {
    /// The partition.
    pub partition: Arc<Partition>,
    /// Its group.
    pub raft: Raft<Types, DataMachine>,
    /// Its signals.
    pub pressure: Arc<Pressure>,
    /// The node's log.
    pub log: Log,
    /// Log bytes at which a memtable is flushed though it is not full.
    pub log_limit: u64,
    /// Last index of the log when this node was opened.
    pub recovered: Option<u64>,
    /// Kept alive while a file may be written; gone once the node is closed.
    pub lock: Weak<DirectoryLock>,
}

impl Work {
    /// Starts the tasks. They end when `stop` says so or is dropped.
    pub fn spawn(&self, stop: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
        let flush = self.clone().flush_loop(stop.clone());
        let compact = self.clone().compact_loop(stop.clone());
        vec![runtime::spawn(flush), runtime::spawn(compact)]
    }

    /// Whether everything that the log held when the node was opened is applied, or was cut off.
    pub fn is_past_recovery(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let applied = metrics.last_applied.map(|id| id.index());
        applied >= self.recovered || metrics.last_log_index < self.recovered
    }

    async fn flush_loop(self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|&stop| stop) => return,
                () = self.pressure.flush_due() => {}
                () = tokio::time::sleep(FLUSH_POLL) => {}
            }
            let unflushed = self.partition.applied().index > self.partition.flushed().index;
            let long_log = unflushed && self.log.bytes() > self.log_limit;
            if !self.partition.needs_flush() && !long_log {
                continue;
            }
            match self.flush().await {
                Ok(()) => {}
                Err(error @ ConsensusError::Storage(StorageError::Poisoned { .. })) => {
                    tracing::error!(partition = %self.partition.id(), %error, "flushing ends");
                    self.pressure.flush_failed(error.to_string());
                    return;
                }
                Err(error) => {
                    tracing::error!(partition = %self.partition.id(), %error, "flush failed; it is tried again");
                    self.pressure.flush_failed(error.to_string());
                    tokio::time::sleep(FLUSH_POLL).await;
                }
            }
        }
    }

    async fn compact_loop(self, mut stop: watch::Receiver<bool>) {
        loop {
            let step = self.blocking(|partition| partition.compact_step()).await;
            let idle = match step {
                Ok(did_something) => !did_something,
                Err(error) => {
                    tracing::error!(partition = %self.partition.id(), %error, "compaction failed; it is tried again");
                    true
                }
            };
            if *stop.borrow() {
                return;
            }
            if idle {
                tokio::select! {
                    biased;
                    _ = stop.wait_for(|&stop| stop) => return,
                    () = self.pressure.compaction_due() => {}
                    () = tokio::time::sleep(COMPACTION_POLL) => {}
                }
            }
        }
    }

    /// Flushes the memtable, then purges the log up to there (which lets its old files go).
    pub async fn flush(&self) -> Result<()> {
        self.blocking(|partition| partition.flush()).await?;
        self.pressure.after_flush(&self.partition);
        self.purge().await
    }

    async fn purge(&self) -> Result<()> {
        let flushed = self.partition.flushed().index;
        if flushed == 0 {
            return Ok(());
        }
        // Storage's index is Raft's plus one.
        let target = Some(flushed - 1);
        let stopped = |error: &dyn std::fmt::Display| ConsensusError::Unavailable(error.to_string());
        self.raft.trigger().snapshot().await.map_err(|e| stopped(&e))?;
        // A new snapshot is purged up to by itself. One that Raft knew already (a crash came before the purge) is not.
        self.raft.trigger().purge_log(flushed - 1).await.map_err(|e| stopped(&e))?;
        let purged =
            |metrics: &openraft::RaftMetrics<Types>| metrics.purged.map(|id| id.index()) >= target || metrics.running_state.is_err();
        match self.raft.wait(Some(PURGE_LIMIT)).metrics(purged, "purge after flush").await {
            Ok(metrics) => metrics.running_state.map_err(|e| stopped(&e)),
            Err(openraft::metrics::WaitError::Timeout(..)) => {
                tracing::warn!(partition = %self.partition.id(), "the log is not purged yet; the next flush sees to it");
                Ok(())
            }
            Err(error) => Err(stopped(&error)),
        }
    }

    /// Runs long work on a blocking thread, which keeps the directory locked until it ends.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Partition) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T> {
        let lock = self
            .lock
            .upgrade()
            .ok_or_else(|| ConsensusError::Unavailable("the node is closed".to_owned()))?;
        let partition = self.partition.clone();
        let run = runtime::blocking(move || {
            let result = work(&partition);
            drop(lock);
            result
        });
        Ok(run
            .await
            .map_err(|e| ConsensusError::Unavailable(format!("background work panicked: {e}")))??)
    }
}
