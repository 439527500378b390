//! Data and queries that several projects share, where they are there: the folder `PYRALOG_SHARED`, or `shared` beside the
//! repository. A test that needs them and does not find them says `skipped: no shared data`.

use std::path::PathBuf;

use crate::binary::workspace;

/// The folder, if it is there.
pub fn folder() -> Option<PathBuf> {
    let beside = workspace().parent().map(|parent| parent.join("shared"));
    let given = std::env::var_os("PYRALOG_SHARED").map(PathBuf::from);
    given.or(beside).filter(|folder| folder.is_dir())
}

/// A path in the folder; prints that the test is skipped where it is not there.
pub fn require(path: &str) -> Option<PathBuf> {
    let found = folder().map(|folder| folder.join(path)).filter(|path| path.exists());
    if found.is_none() {
        println!("skipped: no shared data ({path})");
    }
    found
}
