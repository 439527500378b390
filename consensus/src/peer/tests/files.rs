//! Files: whole, missing, refused, cut off, given up.

use super::*;
use crate::peer::file::NewFile;

fn write(pair: &Pair, name: &str, bytes: usize) -> Vec<u8> {
    let content: Vec<u8> = (0..bytes).map(|i| ((i * 131) >> 5) as u8).collect();
    std::fs::write(pair.dir.path().join(name), &content).unwrap();
    content
}

/// A file of zeros that takes no space, and longer to fetch than the test waits.
fn endless(pair: &Pair, name: &str) {
    let file = std::fs::File::create(pair.dir.path().join(name)).unwrap();
    file.set_len(64 << 30).unwrap();
}

fn begun(to: &Path) -> bool {
    std::fs::metadata(to).is_ok_and(|found| found.len() > 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_arrive_whole() {
    let pair = pair().await;
    for bytes in [0, 1, 1 << 20, 5_000_000] {
        let content = write(&pair, "source", bytes);
        let to = pair.dir.path().join("copy");
        std::fs::write(&to, "what was there before").unwrap();
        let fetched = pair.peers.fetch_file(SERVER, "source", &to).await;
        assert_eq!(fetched, Ok(Some(bytes as u64)));
        assert!(std::fs::read(&to).unwrap() == content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_files_at_once_and_calls_between_them() {
    let pair = pair().await;
    let content = write(&pair, "source", 3_000_000);
    let fetches = (0..2 * FILES_AT_ONCE).map(|n| {
        let (peers, to) = (pair.peers.clone(), pair.dir.path().join(format!("copy{n}")));
        tokio::spawn(async move {
            peers.fetch_file(SERVER, "source", &to).await.unwrap().unwrap();
            std::fs::read(&to).unwrap()
        })
    });
    let fetches: Vec<_> = fetches.collect();
    for _ in 0..50 {
        echo(&pair.peers, b"between").await.unwrap();
    }
    for fetch in fetches {
        assert!(fetch.await.unwrap() == content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_refused_file_leaves_nothing() {
    let pair = pair().await;
    let to = pair.dir.path().join("copy");
    assert_eq!(pair.peers.fetch_file(SERVER, "missing", &to).await, Ok(None));
    let refused = pair.peers.fetch_file(SERVER, "forbidden", &to).await;
    assert_eq!(refused, Err(PeerError::Failed("not for you".to_owned())));
    assert!(!to.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_written_fails_and_the_connection_goes_on() {
    let pair = pair().await;
    write(&pair, "source", 5_000_000);
    let to = pair.dir.path().join("no such directory/copy");
    let failed = pair.peers.fetch_file(SERVER, "source", &to).await;
    assert!(matches!(failed, Err(PeerError::Failed(message)) if message.contains("no such directory")));
    echo(&pair.peers, b"on").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_is_cut_in_the_middle_leaves_no_file() {
    let pair = pair().await;
    endless(&pair, "source");
    let to = pair.dir.path().join("copy");
    let fetch = {
        let (peers, to) = (pair.peers.clone(), to.clone());
        tokio::spawn(async move { peers.fetch_file(SERVER, "source", &to).await })
    };
    until(|| begun(&to)).await;
    pair.serving.stop().await;
    assert!(matches!(fetch.await.unwrap(), Err(PeerError::Lost(_))));
    assert!(!to.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_fetches_end_at_the_server_too_and_leave_no_file() {
    let pair = pair().await;
    endless(&pair, "endless");
    let content = write(&pair, "source", 3_000_000);
    let copy = |n| pair.dir.path().join(format!("copy{n}"));
    // More than the server sends at once, so that it would refuse the last if it still sent the first.
    for to in (1..3 * FILES_AT_ONCE).map(copy) {
        let fetch = pair.peers.fetch_file(SERVER, "endless", &to);
        tokio::select! {
            fetched = fetch => panic!("{fetched:?}"),
            () = until(|| begun(&to)) => {}
        }
    }
    until(|| !(1..3 * FILES_AT_ONCE).map(copy).any(|to| to.exists())).await;
    // At once after another, whose late removal must not take this one's file.
    let to = copy(0);
    let dropped = pair.peers.fetch_file(SERVER, "endless", &to);
    tokio::select! {
        fetched = dropped => panic!("{fetched:?}"),
        () = until(|| begun(&to)) => {}
    }
    assert_eq!(pair.peers.fetch_file(SERVER, "source", &to).await, Ok(Some(3_000_000)));
    sleep(Duration::from_millis(50)).await;
    assert!(std::fs::read(&to).unwrap() == content);
}

#[test]
fn a_file_that_is_not_what_was_sent_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("copy");
    let crc = crc32c::crc32c(b"content");
    for (length, crc, expected) in [(8, crc, "7 of 8 bytes"), (7, crc ^ 1, "checksum")] {
        let mut file = NewFile::create(to.clone()).unwrap();
        file.append(b"con").unwrap();
        file.append(b"tent").unwrap();
        let error = file.finish(length, crc).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!to.exists());
    }
}

#[test]
fn a_dropped_file_does_not_take_its_successor_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("copy");
    let mut first = NewFile::create(to.clone()).unwrap();
    first.append(b"first").unwrap();
    let mut second = NewFile::create(to.clone()).unwrap();
    first.append(b"first").unwrap();
    second.append(b"second").unwrap();
    second.finish(6, crc32c::crc32c(b"second")).unwrap();
    drop(first);
    assert_eq!(std::fs::read(&to).unwrap(), b"second");
}
