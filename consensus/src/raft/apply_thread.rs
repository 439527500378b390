//! A group's own thread for applying entries: page faults, sled and memtable work stay off the async workers.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::sync::oneshot;

use crate::simulation;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that runs one job after the other, and ends when this is dropped.
pub struct ApplyThread {
    /// `None`: in a simulation each job is run at once.
    jobs: Option<SyncSender<Job>>,
}

impl ApplyThread {
    /// Starts the thread.
    pub fn start(name: &str) -> io::Result<ApplyThread> {
        if simulation::current().is_some() {
            return Ok(ApplyThread { jobs: None });
        }
        // One job at a time: the Raft worker waits for each.
        let (jobs, queue) = sync_channel::<Job>(1);
        std::thread::Builder::new().name(format!("pyralog-{name}")).spawn(move || {
            while let Ok(job) = queue.recv() {
                job();
            }
        })?;
        Ok(ApplyThread { jobs: Some(jobs) })
    }

    /// Runs a job on the thread and waits for its result.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let Some(jobs) = &self.jobs else { return job() };
        let (sender, result) = oneshot::channel();
        let job: Job = Box::new(move || {
            // The waiter is gone only when Raft is shut down.
            let _ = sender.send(job());
        });
        let stopped = || io::Error::other("the apply thread stopped after a panic");
        jobs.try_send(job).map_err(|_| stopped())?;
        result.await.map_err(|_| stopped())?
    }
}
