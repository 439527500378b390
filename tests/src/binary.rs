//! Where the `pyralog` binary is: `PYRALOG_BIN`, or built by cargo beside the running test.
//!
//! Cargo does not build another package's binary for a test, and a binary that lies there may be old. So it is always built once a
//! test process, in the test's own profile and target directory; that takes no time when it is fresh.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The binary under test.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(find)
}

fn find() -> PathBuf {
    if let Some(given) = std::env::var_os("PYRALOG_BIN") {
        // Cargo runs tests in the package's folder, people write paths from the workspace's root.
        let given = PathBuf::from(given);
        let found = [given.clone(), workspace().join(&given)].into_iter().find(|path| path.is_file());
        return found.unwrap_or_else(|| panic!("PYRALOG_BIN={} is not a file", given.display()));
    }
    let (target, profile) = target_and_profile();
    build(&target, &profile);
    let binary = target.join(&profile).join(format!("pyralog{}", std::env::consts::EXE_SUFFIX));
    assert!(binary.is_file(), "cargo built pyralog-server, but there is no {}", binary.display());
    binary
}

/// This package's folder: where cargo runs it, else where it was built. Clones that share a target directory share its executables.
pub fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// The workspace's root folder.
pub fn workspace() -> PathBuf {
    package().parent().expect("the tests are a member of the workspace").to_path_buf()
}

/// The target directory and the profile's folder, from where this executable lies: `TARGET/PROFILE/deps/NAME`.
fn target_and_profile() -> (PathBuf, String) {
    let executable = std::env::current_exe().expect("own path");
    let profile = executable
        .ancestors()
        .skip(1)
        .find(|dir| !dir.ends_with("deps"))
        .expect("profile folder");
    let name = profile.file_name().expect("profile name").to_string_lossy().into_owned();
    (profile.parent().expect("target folder").to_path_buf(), name)
}

fn build(target: &Path, profile: &str) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(workspace())
        .args(["build", "--quiet", "-p", "pyralog-server", "--bin", "pyralog", "--target-dir"])
        .arg(target);
    if profile != "debug" {
        command.args(["--profile", profile]);
    }
    let status = command.status().expect("cargo runs");
    assert!(status.success(), "cargo could not build pyralog: {status}");
}
