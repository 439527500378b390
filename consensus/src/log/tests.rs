#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../tests/disk.rs"]
mod switched_disk;

use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use super::disk::{DiskFile, OsDisk};
use super::*;
use crate::error::ConsensusError;
use switched_disk::SwitchedDisk;

const GROUP: GroupId = GroupId(7);

fn open_with(dir: &Path, file_bytes: u64, disk: Arc<dyn Disk>) -> Result<Log> {
    Log::open(LogConfig {
        dir: dir.to_owned(),
        file_bytes,
        may_create: true,
        disk,
    })
}

fn open_sized(dir: &Path, file_bytes: u64) -> Result<Log> {
    open_with(dir, file_bytes, Arc::new(OsDisk))
}

fn open(dir: &Path) -> Result<Log> {
    open_sized(dir, 64 << 10)
}

/// How many entries are there after reopening.
fn count(dir: &Path) -> usize {
    let log = open(dir).unwrap();
    let entries = read(&log).len();
    log.close();
    entries
}

fn record(kind: RecordKind, index: u64, payload: &[u8]) -> Record {
    Record {
        group: GROUP,
        kind,
        index,
        payload: Bytes::copy_from_slice(payload),
    }
}

fn write(log: &Log, records: Vec<Record>) -> Result<(), LogError> {
    let (sender, receiver) = mpsc::channel();
    log.submit(records, Urgency::Now, Some(Box::new(move |result| sender.send(result).unwrap())));
    receiver.recv_timeout(Duration::from_secs(20)).unwrap()
}

fn entry(log: &Log, index: u64, payload: &[u8]) {
    write(log, vec![record(RecordKind::Entry, index, payload)]).unwrap();
}

fn read(log: &Log) -> Vec<(u64, Bytes)> {
    let Some((first, last)) = log.group(GROUP).entries else {
        return Vec::new();
    };
    log.read(GROUP, first..last + 1).unwrap()
}

fn log_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "log"))
        .collect();
    files.sort();
    files
}

/// Where the frames of a log's only file end.
fn frames_end(dir: &Path) -> usize {
    let bytes = fs::read(&log_files(dir)[0]).unwrap();
    bytes.iter().rposition(|&b| b != 0).unwrap() + 1
}

fn is_damage<T>(result: &Result<T>) -> bool {
    matches!(result, Err(ConsensusError::DamagedLog { .. }))
}

#[test]
fn records_come_back_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    write(&log, vec![record(RecordKind::Vote, 0, b"vote 1")]).unwrap();
    entry(&log, 0, b"zero");
    entry(&log, 1, b"one");
    entry(&log, 2, b"two");
    write(
        &log,
        vec![record(RecordKind::Truncate, 2, b""), record(RecordKind::Entry, 2, b"two again")],
    )
    .unwrap();
    write(
        &log,
        vec![record(RecordKind::Vote, 0, b"vote 2"), record(RecordKind::Purge, 0, b"purged 0")],
    )
    .unwrap();
    log.submit(vec![record(RecordKind::Committed, 1, b"committed 1")], Urgency::WithNext, None);
    log.close();
    for _ in 0..2 {
        let log = open(dir.path()).unwrap();
        assert_eq!(read(&log), [(1, Bytes::from("one")), (2, Bytes::from("two again"))]);
        let group = log.group(GROUP);
        assert_eq!(group.vote.unwrap(), "vote 2");
        assert_eq!(group.purged.unwrap(), "purged 0");
        assert_eq!(
            group.committed.unwrap(),
            "committed 1",
            "closing writes what only waited for a next frame"
        );
        log.close();
    }
}

#[test]
fn a_torn_last_frame_is_cut_off_at_every_length() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    entry(&log, 0, b"first");
    entry(&log, 1, b"second");
    let before = frames_end(dir.path()).next_multiple_of(8);
    let marker = fs::read(dir.path().join("SYNCED")).unwrap();
    entry(&log, 2, b"the frame that is torn");
    log.close();
    let path = log_files(dir.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    let end = frames_end(dir.path());
    for cut in before..end {
        let mut torn = whole.clone();
        torn[cut..].fill(0);
        fs::write(&path, &torn).unwrap();
        // The marker as it stood before the torn write was synced.
        fs::write(dir.path().join("SYNCED"), &marker).unwrap();
        let log = open(dir.path()).unwrap();
        assert_eq!(read(&log).len(), 2, "cut at {cut}");
        entry(&log, 2, b"x");
        log.close();
        let log = open(dir.path()).unwrap();
        assert_eq!(read(&log)[2], (2, Bytes::from("x")));
        log.close();
    }
}

#[test]
fn every_flipped_byte_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    entry(&log, 0, b"first");
    write(&log, vec![record(RecordKind::Vote, 0, b"v")]).unwrap();
    entry(&log, 1, b"second");
    let before_last = frames_end(dir.path()).next_multiple_of(8);
    entry(&log, 2, b"third");
    log.close();
    let path = log_files(dir.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    let end = frames_end(dir.path()).next_multiple_of(8);
    let marker = fs::read(dir.path().join("SYNCED")).unwrap();
    for at in 0..end {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x41;
        fs::write(&path, &flipped).unwrap();
        fs::write(dir.path().join("SYNCED"), &marker).unwrap();
        assert!(open(dir.path()).is_err(), "a flip at {at} below the marker must be found");
        // Without a marker only the last frame may go.
        fs::write(&path, &flipped).unwrap();
        fs::remove_file(dir.path().join("SYNCED")).unwrap();
        match open(dir.path()) {
            Ok(log) => {
                assert!(at >= before_last, "a flip at {at} with a valid frame behind it must be found");
                assert_eq!(read(&log).len(), 2);
                log.close();
            }
            Err(_) => assert!(at < before_last, "a bad last frame above the marker is a torn write (flip at {at})"),
        }
    }
    // Flips behind the end, in the zeros, hurt nobody.
    for at in [end, end + 8, end + 100, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x41;
        fs::write(&path, &flipped).unwrap();
        fs::write(dir.path().join("SYNCED"), &marker).unwrap();
        assert_eq!(count(dir.path()), 3);
    }
}

#[test]
fn a_damaged_marker_bounds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    entry(&log, 0, b"first");
    log.close();
    let path = dir.path().join("SYNCED");
    let marker = fs::read(&path).unwrap();
    for at in 0..marker.len() {
        let mut flipped = marker.clone();
        flipped[at] ^= 1;
        fs::write(&path, &flipped).unwrap();
        assert_eq!(count(dir.path()), 1);
    }
}

#[test]
fn a_payload_that_looks_like_a_frame_is_not_taken_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    entry(&log, 0, b"first");
    let before = frames_end(dir.path()).next_multiple_of(8);
    let marker = fs::read(dir.path().join("SYNCED")).unwrap();
    let mut look_alike = Vec::new();
    frame::encode(&mut look_alike, 0, 99, [record(RecordKind::Entry, 5, b"evil")].iter());
    entry(&log, 1, &look_alike);
    log.close();
    let path = log_files(dir.path()).remove(0);
    let mut torn = fs::read(&path).unwrap();
    torn[before] ^= 1;
    fs::write(&path, &torn).unwrap();
    fs::write(dir.path().join("SYNCED"), &marker).unwrap();
    assert_eq!(count(dir.path()), 1);
}

#[test]
fn missing_and_short_files_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_sized(dir.path(), 8 << 10).unwrap();
    for index in 0..40 {
        entry(&log, index, &[index as u8; 1000]);
    }
    log.close();
    let files = log_files(dir.path());
    assert!(files.len() >= 4, "{} files", files.len());
    for (position, file) in files.iter().enumerate() {
        let bytes = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        assert!(is_damage(&open_sized(dir.path(), 8 << 10)), "file {position} is missing");
        // Shorter by its last frame.
        let used = bytes.iter().rposition(|&b| b != 0).unwrap() + 1;
        fs::write(file, &bytes[..used - 1050]).unwrap();
        assert!(is_damage(&open_sized(dir.path(), 8 << 10)), "file {position} is short");
        fs::write(file, &bytes).unwrap();
    }
    assert_eq!(read(&open_sized(dir.path(), 8 << 10).unwrap()).len(), 40);
}

#[test]
fn waiting_writers_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SwitchedDisk::default();
    let log = open_with(dir.path(), 1 << 20, Arc::new(disk.clone())).unwrap();
    disk.0.hold.store(true, Ordering::SeqCst);
    let (sender, receiver) = mpsc::channel();
    for index in 0..100 {
        let sender = sender.clone();
        let done = Box::new(move |result: Result<(), LogError>| sender.send((index, result)).unwrap());
        log.submit(vec![record(RecordKind::Entry, index, b"x")], Urgency::Now, Some(done));
    }
    std::thread::sleep(Duration::from_millis(20));
    assert!(receiver.try_recv().is_err(), "nothing is acknowledged before its sync");
    disk.0.hold.store(false, Ordering::SeqCst);
    let order: Vec<u64> = (0..100)
        .map(|_| {
            let (index, result) = receiver.recv_timeout(Duration::from_secs(10)).unwrap();
            result.unwrap();
            index
        })
        .collect();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
    // The first went alone or with some; all that waited for it share one.
    assert!(log.syncs() <= 2, "{} syncs for 100 writes", log.syncs());
    log.close();
}

#[test]
fn old_files_go_and_slow_groups_move() {
    let dir = tempfile::tempdir().unwrap();
    let slow = GroupId(1);
    let log = open_sized(dir.path(), 16 << 10).unwrap();
    let slow_record = |kind, index, payload: &[u8]| Record {
        group: slow,
        kind,
        index,
        payload: Bytes::copy_from_slice(payload),
    };
    write(
        &log,
        vec![
            slow_record(RecordKind::Vote, 0, b"slow vote"),
            slow_record(RecordKind::Entry, 0, b"slow entry"),
        ],
    )
    .unwrap();
    for index in 0..200 {
        entry(&log, index, &[index as u8; 1000]);
        if index == 100 {
            write(&log, vec![slow_record(RecordKind::Entry, 1, b"slow entry 1")]).unwrap();
        }
    }
    let full = log.bytes();
    write(&log, vec![record(RecordKind::Purge, 190, b"p190")]).unwrap();
    // The callback comes before collection; one more write comes behind it.
    entry(&log, 200, b"last");
    assert!(log.bytes() < full / 3, "{} of {full} bytes are left", log.bytes());
    let on_disk: u64 = log_files(dir.path()).iter().map(|p| fs::metadata(p).unwrap().len()).sum();
    assert_eq!(log.bytes(), on_disk);
    let assert_kept = |log: &Log, when: &str| {
        assert_eq!(log.group(slow).vote.unwrap(), "slow vote", "{when}");
        assert_eq!(
            log.read(slow, 0..9).unwrap(),
            [(0, Bytes::from("slow entry")), (1, Bytes::from("slow entry 1"))],
            "{when}"
        );
        assert_eq!(read(log).len(), 10, "{when}");
    };
    assert_kept(&log, "open");
    log.close();
    assert_kept(&log, "closed");
    let log = open_sized(dir.path(), 16 << 10).unwrap();
    assert_kept(&log, "reopened");
    log.close();
    // The oldest file that is left must not be missing.
    fs::remove_file(&log_files(dir.path())[0]).unwrap();
    assert!(open_sized(dir.path(), 16 << 10).is_err());
}

#[test]
fn a_record_larger_than_a_file_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    entry(&log, 0, b"small");
    entry(&log, 1, &vec![9; 300 << 10]);
    entry(&log, 2, b"small again");
    log.close();
    let log = open(dir.path()).unwrap();
    assert_eq!(
        read(&log).iter().map(|(_, payload)| payload.len()).collect::<Vec<_>>(),
        [5, 300 << 10, 11]
    );
    log.close();
}

#[test]
fn a_failed_write_or_sync_stops_the_log_and_reads_go_on() {
    for fail_sync in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let disk = SwitchedDisk::default();
        let log = open_with(dir.path(), 64 << 10, Arc::new(disk.clone())).unwrap();
        entry(&log, 0, b"good");
        let fault = if fail_sync { &disk.0.sync_fails } else { &disk.0.torn };
        fault.store(true, Ordering::SeqCst);
        let error = write(&log, vec![record(RecordKind::Entry, 1, b"bad")]).unwrap_err();
        assert!(
            matches!(&error, LogError::Failed(reason) if reason.contains("disk full")),
            "{error}"
        );
        // The cause going away does not bring the log back.
        fault.store(false, Ordering::SeqCst);
        assert_eq!(write(&log, vec![record(RecordKind::Entry, 2, b"later")]), Err(error));
        assert!(log.failure().unwrap().contains("disk full"));
        assert_eq!(read(&log), [(0, Bytes::from("good"))]);
        log.close();
        let log = open(dir.path()).unwrap();
        assert!(!read(&log).iter().any(|(_, payload)| payload == "later"));
        log.close();
    }
}

#[test]
fn an_empty_directory_is_refused_where_there_was_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig {
        dir: dir.path().to_owned(),
        file_bytes: 1 << 20,
        may_create: false,
        disk: Arc::new(OsDisk),
    };
    assert!(is_damage(&Log::open(config)));
}
