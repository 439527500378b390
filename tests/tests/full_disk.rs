//! A disk that is full: writes fail clearly, reads go on or the node stops before it lies, and nothing acknowledged is lost.
//!
//! The disk is a small tmpfs; where this process may not mount one, the test says that it is skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use pyralog_client::{Client, ErrorKind};
use pyralog_tests::runtime::block_on;
use pyralog_tests::server::{Server, ServerOptions};

/// A tmpfs, unmounted when dropped.
struct SmallDisk {
    folder: PathBuf,
    _scratch: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Option<SmallDisk> {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("disk");
        std::fs::create_dir(&folder).unwrap();
        let mounted = mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], &folder);
        mounted.then_some(SmallDisk { folder, _scratch: scratch })
    }

    fn grow(&self, size: &str) {
        assert!(
            mount(&["-o", &format!("remount,size={size}")], &self.folder),
            "the disk could not be made larger"
        );
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may have a file mapped still.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

fn mount(args: &[&str], folder: &Path) -> bool {
    Command::new("mount")
        .args(args)
        .arg(folder)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Inserts numbered rows of about 64 KB until an error; the last acknowledged number, and the error.
async fn fill(db: &Client, from: i64) -> (i64, pyralog_client::ClientError) {
    for id in from..from + 100_000 {
        // Not compressible, so that the disk fills whatever the log does.
        let sql = "INSERT INTO t SELECT $1, string_agg(CAST(random() AS VARCHAR), '') FROM generate_series(1, 3500)";
        if let Err(error) = db.sql(sql).bind(id).execute().await {
            return (id - 1, error);
        }
    }
    panic!("the disk never filled");
}

#[test]
fn a_full_disk_stops_writes_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount("96m") else {
        println!("skipped: this process may not mount a tmpfs");
        return;
    };
    let mut server = Server::start_with(ServerOptions::default().data_dir(&disk.folder.join("data")).memory_limit("64MB"));
    let acknowledged = block_on(async {
        let db = server.client_with_table("t (id BIGINT PRIMARY KEY, payload VARCHAR)").await;
        let (acknowledged, error) = fill(&db, 1).await;
        println!("{acknowledged} rows, then: {error}");
        assert!(acknowledged > 10, "only {acknowledged} rows fitted");
        assert!(
            matches!(error.kind(), ErrorKind::ResourceExhausted | ErrorKind::Unavailable),
            "{error:?}"
        );
        let text = error.message().to_lowercase();
        assert!(
            text.contains("space") || text.contains("disk"),
            "the error does not speak of the disk: {error}"
        );
        // A second write is refused too, and soon.
        let again = db
            .sql("INSERT INTO t VALUES (-1, 'x')")
            .timeout(std::time::Duration::from_secs(10))
            .execute()
            .await;
        assert!(
            !matches!(again, Err(ref error) if error.kind() == ErrorKind::DeadlineExceeded),
            "{again:?}"
        );
        if server.is_alive() {
            let count: i64 = db.sql("SELECT count(*) FROM t WHERE id > 0").fetch_scalar().await.unwrap();
            assert!(count >= acknowledged, "{count} of {acknowledged} rows can be read on the full disk");
        }
        acknowledged
    });
    server.assert_no_panic();
    server.kill();
    disk.grow("256m");
    server.restart();
    block_on(async {
        let db = server.client().await;
        let row = db
            .sql("SELECT count(*), max(id) FROM t WHERE id > 0")
            .fetch_optional()
            .await
            .unwrap()
            .unwrap();
        let (count, highest) = (row.get::<i64>(0).unwrap(), row.get::<i64>(1).unwrap());
        assert_eq!(count, highest, "there is a gap");
        assert!(
            (acknowledged..=acknowledged + 1).contains(&count),
            "{count} rows, {acknowledged} were acknowledged"
        );
        db.sql("INSERT INTO t VALUES (1000000, 'there is room again')")
            .execute()
            .await
            .unwrap();
        db.sql("CHECKPOINT").execute().await.unwrap();
    });
}
