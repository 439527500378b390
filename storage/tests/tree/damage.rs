//! Damaged files: an error or the right rows, never wrong rows, never a panic.

use std::path::{Path, PathBuf};

use pyralog_storage::{Partition, PartitionId};

use crate::harness::{Rows, Store, TABLE, small_options};

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push(path)
        }
    }
    found.sort();
    found
}

/// A flushed partition with segments, delete files and side-cars, and its rows.
fn sample() -> (Store, Rows) {
    let mut store = Store::new(small_options());
    store.put((0..60).map(|i| (i, "first")));
    store.partition.flush().unwrap();
    let held = store.partition.snapshot(None).unwrap();
    store.put((0..60).step_by(3).map(|i| (i, "second")));
    store.delete((0..60).step_by(7));
    store.partition.flush().unwrap();
    drop(held);
    let rows = store.read();
    (store, rows)
}

/// Opens and reads everything; `None` if any of it is refused.
fn try_read(dir: &Path) -> Option<Rows> {
    let partition = Partition::open(PartitionId(0), dir, small_options()).ok()?;
    let view = partition.snapshot(None).ok()?.relation(TABLE).ok()?;
    let mut rows = Rows::new();
    for piece in view.pieces() {
        for batch in 0..piece.batch_count() {
            if let Some(batch) = piece.read(batch, &[0, 1]).ok()? {
                crate::harness::add_to(&mut rows, &batch);
            }
        }
    }
    Some(rows)
}

#[test]
fn every_kind_of_file_notices_flipped_bytes() {
    let (store, rows) = sample();
    let files = files(store.dir.path());
    for extension in ["arrow", "del"] {
        assert!(
            files.iter().any(|file| file.extension().is_some_and(|e| e == extension)),
            "no .{extension} file"
        );
    }
    for file in files {
        let good = std::fs::read(&file).unwrap();
        for at in (0..good.len()).step_by(1 + good.len() / 60) {
            let mut bad = good.clone();
            bad[at] ^= 0x41;
            std::fs::write(&file, &bad).unwrap();
            if let Some(found) = try_read(store.dir.path()) {
                assert_eq!(found, rows, "{} at {at}", file.display());
            }
        }
        std::fs::write(&file, &good).unwrap();
        assert_eq!(try_read(store.dir.path()).as_ref(), Some(&rows));
    }
}

#[test]
fn every_kind_of_file_notices_truncation_and_absence() {
    let (store, rows) = sample();
    for file in files(store.dir.path()) {
        let good = std::fs::read(&file).unwrap();
        for len in (0..good.len()).step_by(1 + good.len() / 20) {
            std::fs::write(&file, &good[..len]).unwrap();
            assert_eq!(try_read(store.dir.path()), None, "{} cut to {len}", file.display());
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(try_read(store.dir.path()), None, "without {}", file.display());
        std::fs::write(&file, &good).unwrap();
        assert_eq!(try_read(store.dir.path()).as_ref(), Some(&rows));
    }
}

#[test]
fn verify_names_the_damaged_file() {
    let (store, _) = sample();
    let segment = files(store.dir.path())
        .into_iter()
        .find(|file| file.to_string_lossy().ends_with(".arrow") && !file.to_string_lossy().contains("idx"))
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // Written anew, not in place: the open partition has the old file mapped.
    std::fs::remove_file(&segment).unwrap();
    std::fs::write(&segment, bytes).unwrap();
    let problems = store.partition.verify().unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].to_string().contains(segment.file_name().unwrap().to_str().unwrap()),
        "{}",
        problems[0]
    );
}

#[test]
fn what_no_manifest_names_is_collected() {
    let (store, rows) = sample();
    let relation = store.dir.path().join("r7");
    let before = files(store.dir.path());
    for name in ["00000000000000ff.arrow", "00000000000000ff.idx.arrow", "00000000000000ff.1.del"] {
        std::fs::write(relation.join(name), b"left by a crash").unwrap();
    }
    std::fs::write(store.dir.path().join("staging/8000000000000001.arrow"), b"left by a crash").unwrap();
    store.partition.collect_garbage().unwrap();
    assert_eq!(files(store.dir.path()), before);
    assert_eq!(store.read(), rows);
}
