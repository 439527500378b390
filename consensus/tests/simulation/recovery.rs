//! Bugs that seeds found in the log's recovery, each as small as it gets.

use std::sync::mpsc::channel;

use pyralog_consensus::log::{GroupId, Log, LogConfig, LogError, Record, RecordKind, Urgency};

use crate::disk::{DiskFault, SimulatedDisk, Syncs};

const GROUP: GroupId = GroupId(3);

fn open(dir: &tempfile::TempDir, disk: &SimulatedDisk) -> Log {
    let config = LogConfig {
        dir: dir.path().to_owned(),
        file_bytes: 16 << 10,
        may_create: true,
        disk: disk.mount(),
    };
    Log::open(config).unwrap()
}

fn write(log: &Log, index: u64) -> Result<(), LogError> {
    let record = Record {
        group: GROUP,
        kind: RecordKind::Entry,
        index,
        payload: format!("entry {index}").into(),
    };
    let (sender, done) = channel();
    log.submit(
        vec![record],
        Urgency::Now,
        Some(Box::new(move |result| sender.send(result).unwrap())),
    );
    done.recv().unwrap()
}

#[test]
fn what_is_read_after_a_kill_outlives_a_power_failure() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), SimulatedDisk::new(1, Syncs::Honest));
    let log = open(&dir, &disk);
    write(&log, 0).unwrap();
    disk.set_fault(Some(DiskFault::SyncFails));
    // Written, and in the system's cache.
    write(&log, 1).unwrap_err();
    disk.kill();
    let log = open(&dir, &disk);
    let read = log.read(GROUP, 0..9).unwrap();
    assert_eq!(read.len(), 2);
    let after = open(&dir, &disk.durable());
    assert_eq!(after.read(GROUP, 0..9).unwrap(), read);
}
